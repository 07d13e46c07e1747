"""Patch scores to labels: softmax over words, votes of regions, synonyms and background.

Shapes: Q queries (one per prompt and background word), K classes, R regions, (H, W) the labels;
scores come enlarged to them, in bands. `owner` [Q] says which class a query speaks for: 0 .. K-1,
and K for a background word. Labels here are these numbers; ids come later.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .resample import Bands


def cosines(features: Tensor, embeddings: Tensor) -> Tensor:
    """Cosine of features [..., E] with unit word embeddings [Q, E]: [..., Q] float32."""
    features = features.float()
    return features / features.norm(dim=-1, keepdim=True) @ embeddings.T


def probability(logits: Tensor, owner: Tensor, labels: Tensor) -> Tensor:
    """Probability of each given label: softmax of logits [Q, ...] over all queries, then the
    largest among those of the label's class. labels [...] -> [...] in 0..1."""
    mine = owner.view(-1, *[1] * labels.dim()) == labels
    best = torch.where(mine, logits, -torch.inf).amax(0)
    return (best - logits.logsumexp(0)).exp()


def label_pixels(
    scores: Bands, owner: Tensor, regions: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Labels [H, W] int64 and confidence [H, W] from logits [Q, H, W] in bands.

    Each pixel takes the class of its best query. With regions [H, W] every region then takes its
    most frequent class (ties: the first class). The confidence is the pixel's own probability
    of the label it ends up with.
    """
    labels = torch.empty(scores.size, dtype=torch.long, device=owner.device)
    confidence = torch.empty(scores.size, device=owner.device)
    for rows, band in scores:
        best, query = band.max(0)  # on the CPU several times as fast as argmax
        labels[rows] = owner[query]
        if regions is None:
            confidence[rows] = (best - band.logsumexp(0)).exp()
    if regions is not None:
        labels = majority(labels, regions, int(owner.max()) + 1)
        for rows, band in scores:
            confidence[rows] = probability(band, owner, labels[rows])
    return labels, confidence


def majority(labels: Tensor, regions: Tensor, classes: int) -> Tensor:
    """Labels [H, W] with every region [H, W] set to its most frequent label (ties: the lowest)."""
    pairs = regions.flatten() * classes + labels.flatten()
    count = int(regions.max()) + 1
    votes = torch.bincount(pairs, minlength=count * classes).view(count, classes)
    return votes.argmax(1)[regions]


def label_regions(scores: Bands, owner: Tensor, regions: Tensor) -> tuple[Tensor, Tensor]:
    """Labels [H, W] int64 and confidence [H, W]: logits [Q, H, W] in bands, averaged over the
    pixels of each region [H, W] first, so that a region has one label and one confidence."""
    means = region_means(scores, regions)
    labels = owner[means.argmax(0)]
    confidence = probability(means, owner, labels)
    return labels[regions], confidence[regions]


def region_means(scores: Bands, regions: Tensor) -> Tensor:
    """Logits [Q, R] of each region of [H, W]: the mean of its pixels, 0 if it has none."""
    count = int(regions.max()) + 1
    number = torch.arange(count, device=regions.device)[:, None]
    sums = torch.zeros(count, scores.count, device=regions.device)
    for rows, band in scores:
        member = (regions[rows].flatten() == number).to(band.dtype)
        sums += member @ band.flatten(1).T
    pixels = torch.bincount(regions.flatten(), minlength=count).clamp(min=1)
    return (sums / pixels[:, None]).T


def margins(scores: Bands, owner: Tensor, labels: Tensor, regions: Tensor | None = None) -> Tensor:
    """How far the label of each pixel leads all other classes: [H, W], in the units of the logits
    [Q, H, W]; infinite where there is no other class.

    All background words together are one class. With regions [H, W], whose labels were voted, a
    pixel has the margin of its region's mean scores: a region stands or falls as one.
    """
    if regions is not None:
        means = region_means(scores, regions)
        of_region = labels.new_zeros(means.shape[1])
        of_region[regions] = labels
        return lead(means, owner, of_region)[regions]
    result = torch.empty(scores.size, device=owner.device)
    for rows, band in scores:
        result[rows] = lead(band, owner, labels[rows])
    return result


def lead(logits: Tensor, owner: Tensor, labels: Tensor) -> Tensor:
    """The best logit of each given label less the best of the other classes: logits [Q, ...],
    labels [...] -> [...]."""
    mine = owner.view(-1, *[1] * labels.dim()) == labels
    best, rival = (torch.where(of, logits, -torch.inf).amax(0) for of in (mine, ~mine))
    return best - rival
