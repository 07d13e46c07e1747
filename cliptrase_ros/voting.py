"""Patch scores to labels: softmax over words, votes of regions, synonyms and background.

Shapes: Q queries (one per prompt and background word), K classes, R regions, (h, w) the grid of
the scores, (H, W) the labels. `owner` [Q] says which class a query speaks for: 0 .. K-1, and K for
a background word. Labels here are these numbers; ids come later.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .resample import bands


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
    logits: Tensor, owner: Tensor, size: tuple[int, int], regions: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Labels [H, W] int64 and confidence [H, W] from logits [Q, h, w].

    Each pixel takes the class of its best query. With regions [H, W] every region then takes its
    most frequent class (ties: the first class). The confidence is the pixel's own probability
    of the label it ends up with.
    """
    labels = torch.empty(size, dtype=torch.long, device=logits.device)
    confidence = torch.empty(size, device=logits.device)
    for rows, band in bands(logits, size):
        best, query = band.max(0)  # on the CPU several times as fast as argmax
        labels[rows] = owner[query]
        if regions is None:
            confidence[rows] = (best - band.logsumexp(0)).exp()
    if regions is not None:
        labels = majority(labels, regions, int(owner.max()) + 1)
        for rows, band in bands(logits, size):
            confidence[rows] = probability(band, owner, labels[rows])
    return labels, confidence


def majority(labels: Tensor, regions: Tensor, classes: int) -> Tensor:
    """Labels [H, W] with every region [H, W] set to its most frequent label (ties: the lowest)."""
    pairs = regions.flatten() * classes + labels.flatten()
    count = int(regions.max()) + 1
    votes = torch.bincount(pairs, minlength=count * classes).view(count, classes)
    return votes.argmax(1)[regions]


def label_regions(
    logits: Tensor, owner: Tensor, size: tuple[int, int], regions: Tensor
) -> tuple[Tensor, Tensor]:
    """Labels [H, W] int64 and confidence [H, W]: logits [Q, h, w] averaged over the pixels of
    each region [H, W] first, so that a region has one label and one confidence."""
    count = int(regions.max()) + 1
    number = torch.arange(count, device=regions.device)[:, None]
    sums = logits.new_zeros(count, len(logits))
    for rows, band in bands(logits, size):
        member = (regions[rows].flatten() == number).to(band.dtype)
        sums += member @ band.flatten(1).T
    pixels = torch.bincount(regions.flatten(), minlength=count).clamp(min=1)
    means = (sums / pixels[:, None]).T
    labels = owner[means.argmax(0)]
    confidence = probability(means, owner, labels)
    return labels[regions], confidence[regions]
