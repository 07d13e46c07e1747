"""Patch scores to labels: softmax over words, votes of regions, synonyms and background.

Shapes: Q queries (one per prompt and background word), K classes, R regions; maps of logits
[Q, h, w] are enlarged to the size (H, W) of the labels. Regions [H, W] are int64, -1 where a pixel
is in none. Labels here are the numbers of classes, 0 .. K - 1, and K for any background word; ids
come later.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from ..runtime.host import may_look
from .clusters import region_count
from .queries import Queries
from .resample import Bands, Enlarge, band_elements, bands, bilinear_matrix, picker, size_of


def cosines(features: Tensor, embeddings: Tensor) -> Tensor:
    """Cosine of features [..., E] with unit word embeddings [Q, E]: [..., Q] float32."""
    features = features.float()
    return features / features.norm(dim=-1, keepdim=True) @ embeddings.T


def label_pixels(
    maps: Tensor, size: tuple[int, int], queries: Queries, enlarge: Enlarge = bands
) -> tuple[Tensor, Tensor]:
    """Labels [H, W] int32 and confidence [H, W] of logits [Q, h, w].

    Each pixel takes the class of its best query (ties: the first query), and its confidence is
    the probability of that query.
    """
    labels, _, confidence = _strongest(enlarge(_relative(maps), size), queries)
    return labels, confidence


def label_votes(maps: Tensor, regions: Tensor, queries: Queries) -> tuple[Tensor, Tensor]:
    """Labels [H, W] int32 and confidence [H, W] of logits [Q, h, w]: `label_pixels`, then every
    region [H, W] takes its most frequent class.

    The confidence is the pixel's own probability of the label that it ends up with: the largest
    among those of the label's prompts. Where background words outvote a pixel's class it is of no
    meaning.
    """
    maps, size = _relative(maps), size_of(regions)
    labels, best, share = _strongest(bands(maps, size), queries)
    voted = majority(labels, regions, queries.classes + 1)
    # The scores of all words are gone; those of the voted label are looked up, prompt by prompt.
    prompts = queries.prompts[voted.clamp(max=queries.classes - 1)]
    pickers = [picker(maps[column], size) for column in prompts.T]
    for rows, region in _rows_of(regions):
        member, own = region.clamp(min=0), labels[rows]
        label = torch.where(region < 0, own, _at(voted, member))
        logit = pickers[0](rows, member)
        for pick in pickers[1:]:
            logit = torch.maximum(logit, pick(rows, member))
        behind = (logit - best[rows]).clamp_(max=0).masked_fill_(label == own, 0)
        share[rows] *= behind.exp2_()
        labels[rows] = label
    return labels, share


def _relative(maps: Tensor) -> Tensor:
    """Logits [Q, h, w] that compete as these do: to base 2, whose powers are the cheaper ones, and
    less the best of each patch, so that large ones keep the digits that decide."""
    return (maps - maps.amax(0)) * math.log2(math.e)


def _strongest(scores: Bands, queries: Queries) -> tuple[Tensor, Tensor, Tensor]:
    """Of logits to base 2 in bands: the class [H, W] int32 of the best query, its logit, and its
    probability. K where logits are not numbers.

    One pass over a band while it is in the cache. The best logit of each pixel is taken off before
    any power, so that none overflows and the best has the power 1, whatever the logits. Equal are
    logits that no power tells apart, which is to say within 2^-25.
    """
    owner = queries.owner
    # Of several best queries the first has the highest rank; 0 is none at all.
    ranks = torch.arange(len(owner), 0, -1, dtype=torch.float32, device=owner.device)
    ranks = ranks[:, None, None]
    of_rank = F.pad(owner.flip(0), (1, 0), value=queries.classes).int()
    labels = torch.empty(scores.size, dtype=torch.int32, device=owner.device)
    best, total = torch.empty(2, *scores.size, device=owner.device)
    for rows, band in scores:
        torch.amax(band, 0, out=best[rows])
        torch.sum(band.sub_(best[rows]).exp2_(), 0, out=total[rows])
        # A maximum with its place costs several times as much as these three.
        labels[rows] = _at(of_rank, band.eq_(1).mul_(ranks).amax(0).int())
    return labels, best, total.reciprocal_()


def _at(table: Tensor, index: Tensor) -> Tensor:
    """table[index] of a table [n]; several times as fast on the CPU."""
    return table.index_select(0, index.flatten()).view(index.shape)


def majority(labels: Tensor, regions: Tensor, classes: int) -> Tensor:
    """The most frequent label [R] int32 of each region of [H, W], the lowest of several; labels
    [H, W] in 0 .. classes - 1."""
    # Pixels of no region vote in a row of their own.
    votes = torch.zeros(region_count(regions) + 1, classes, dtype=torch.int32, device=labels.device)
    for rows, region in _rows_of(regions):
        pairs = ((region + 1) * classes + labels[rows]).flatten()
        votes.view(-1).scatter_add_(0, pairs, votes.new_ones(1).expand_as(pairs))
    return votes[1:].argmax(1).int()


def _rows_of(regions: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Regions [H, W] a few rows at a time, so that what is made of them stays in the cache."""
    step = max(1, band_elements(regions.device) // regions.shape[1])
    for top in range(0, len(regions), step):
        rows = slice(top, top + step)
        yield rows, regions[rows]


def label_regions(maps: Tensor, regions: Tensor, queries: Queries) -> tuple[Tensor, Tensor]:
    """Labels [H, W] int32 and confidence [H, W] of logits [Q, h, w]: their mean over the pixels of
    each region [H, W] decides, so that a region has one label and one confidence. Pixels of no
    region have their own."""
    means = region_means(maps, regions)
    labels = queries.owner[means.argmax(0)].int()
    confidence = probability(means, queries.owner, labels)
    member = regions.clamp(min=0)
    of_region = _at(labels, member), _at(confidence, member)
    if not _may_stray(regions):
        return of_region
    own, out = label_pixels(maps, size_of(regions), queries), regions < 0
    return torch.where(out, own[0], of_region[0]), torch.where(out, own[1], of_region[1])


def _may_stray(regions: Tensor) -> bool:
    """Whether pixels of [H, W] may be in no region; known for certain where the host may look."""
    return not may_look(regions) or bool((regions < 0).any())


def region_means(maps: Tensor, regions: Tensor) -> Tensor:
    """Logits [Q, R] of each region of [H, W]: the mean over its pixels of the enlarged maps
    [Q, h, w]; 0 if it has none.

    Enlarging is linear, and so is the mean: the weight of each patch in each region is found
    first, so that the cost does not grow with the number of words.
    """
    count, device = region_count(regions), maps.device
    number = torch.arange(count, device=device)[:, None, None]
    size, grid = size_of(regions), size_of(maps)
    down, across = (bilinear_matrix(*pair, device) for pair in zip(grid, size, strict=True))
    weights = torch.zeros(count, *grid, device=device)
    members = Bands(
        lambda rows: (regions[rows] == number).float(), count, size, band_elements(device)
    )
    for rows, member in members:
        weights += down[rows].T @ (member @ across)
    # The weights of a pixel sum to 1, so those of a region to its number of pixels.
    weights /= weights.sum((1, 2), keepdim=True).clamp(min=1)
    return maps.flatten(1) @ weights.flatten(1).T


def probability(logits: Tensor, owner: Tensor, labels: Tensor) -> Tensor:
    """Probability of each given label: softmax of logits [Q, ...] over all queries, then the
    largest among those of the label's class. labels [...] -> [...] in 0..1."""
    mine = owner.view(-1, *[1] * labels.dim()) == labels
    best = torch.where(mine, logits, -torch.inf).amax(0)
    return (best - logits.logsumexp(0)).exp()


def confidence(scores: Bands, owner: Tensor, labels: Tensor) -> Tensor:
    """`probability` [H, W] of the label of each pixel, of logits [Q, H, W] in bands."""
    result = torch.empty(scores.size, device=owner.device)
    for rows, band in scores:
        result[rows] = probability(band, owner, labels[rows])
    return result


def covering(labels: Tensor, classes: int, share: float) -> Tensor:
    """[K] bool: which of the classes have more than this share of the pixels that have any;
    labels [H, W] in 0 .. K, K being background."""
    counts = torch.zeros(classes + 1, device=labels.device)
    flat = labels.flatten().long()
    counts.scatter_add_(0, flat, counts.new_ones(1).expand_as(flat))
    return counts[:-1] > share * counts[:-1].sum()


def margins(scores: Bands, owner: Tensor, labels: Tensor) -> Tensor:
    """How far the label of each pixel leads all other classes: [H, W], in the units of the logits
    [Q, H, W] in bands; infinite where there is no other class.

    All background words together are one class.
    """
    result = torch.empty(scores.size, device=owner.device)
    for rows, band in scores:
        result[rows] = lead(band, owner, labels[rows])
    return result


def region_margins(maps: Tensor, regions: Tensor, owner: Tensor, labels: Tensor) -> Tensor:
    """`margins` [H, W] of logits [Q, h, w] where each region of [H, W] has one label: those of its
    mean scores, since a region stands or falls as one. Pixels of no region have their own."""
    means = region_means(maps, regions)
    of_region = labels.new_zeros(1 + means.shape[1])
    of_region.scatter_(0, (1 + regions).flatten(), labels.flatten())
    result = _at(lead(means, owner, of_region[1:]), regions.clamp(min=0))
    if not _may_stray(regions):
        return result
    own = margins(bands(maps, size_of(regions)), owner, labels)
    return torch.where(regions < 0, own, result)


def lead(logits: Tensor, owner: Tensor, labels: Tensor) -> Tensor:
    """The best logit of each given label less the best of the other classes: logits [Q, ...],
    labels [...] -> [...]."""
    mine = owner.view(-1, *[1] * labels.dim()) == labels
    best, rival = (torch.where(of, logits, -torch.inf).amax(0) for of in (mine, ~mine))
    return best - rival
