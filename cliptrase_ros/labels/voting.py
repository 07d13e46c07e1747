"""From patch scores to labels: softmax over words, votes of regions, synonyms and background.

Shapes: Q queries (one per prompt and background word), K classes, R regions. Maps of logits
[Q, h, w] are enlarged to the size (H, W) of the labels. Regions [H, W] are int64, -1 for a pixel in
no region. Labels here are the numbers of classes, 0 .. K - 1, and K for any background word. Ids
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
    """Return the cosines [..., Q] float32 of features [..., E] and unit word embeddings [Q, E]."""
    features = features.float()
    return features / features.norm(dim=-1, keepdim=True) @ embeddings.T


def label_pixels(
    maps: Tensor, size: tuple[int, int], queries: Queries, enlarge: Enlarge = bands
) -> tuple[Tensor, Tensor]:
    """Return labels [H, W] int32 and confidence [H, W] of logits [Q, h, w].

    Each pixel takes the class of its best query (ties: the first query). Its confidence is the
    probability of that query.
    """
    labels, _, confidence = _strongest(enlarge(_relative(maps), size), queries)
    return labels, confidence


def label_votes(maps: Tensor, regions: Tensor, queries: Queries) -> tuple[Tensor, Tensor]:
    """Return labels [H, W] int32 and confidence [H, W] of logits [Q, h, w].

    The steps are: `label_pixels`, then every region of [H, W] takes its most frequent class. The
    confidence is the pixel's own probability of its final label: the largest among the label's
    prompts. It has no meaning if background words outvote the class of a pixel.
    """
    maps, size = _relative(maps), size_of(regions)
    labels, best, share = _strongest(bands(maps, size), queries)
    voted = majority(labels, regions, queries.classes + 1)
    # The scores of all words are not stored: compute those of the voted label, prompt by prompt.
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
    """Return logits [Q, h, w] of the same softmax, to base 2 and minus the best of each patch.

    Powers of 2 are cheaper. Without the best logit, large logits keep the digits that decide.
    """
    return (maps - maps.amax(0)) * math.log2(math.e)


def _strongest(scores: Bands, queries: Queries) -> tuple[Tensor, Tensor, Tensor]:
    """Return the class [H, W] int32 of the best query, its logit and its probability.

    There is one pass over a band while it is in the cache. The best logit of each pixel is
    subtracted before powers are computed: no power overflows, and the best one is always 1. Logits
    count as equal if their powers are equal, that is, if they are within 2^-25.

    Args:
        scores: logits to base 2, in bands. The class is K if logits are not numbers.
    """
    owner = queries.owner
    # If several queries are best, the first one has the highest rank. Rank 0 means no query.
    ranks = torch.arange(len(owner), 0, -1, dtype=torch.float32, device=owner.device)
    ranks = ranks[:, None, None]
    of_rank = F.pad(owner.flip(0), (1, 0), value=queries.classes).int()
    labels = torch.empty(scores.size, dtype=torch.int32, device=owner.device)
    best, total = torch.empty(2, *scores.size, device=owner.device)
    for rows, band in scores:
        torch.amax(band, 0, out=best[rows])
        torch.sum(band.sub_(best[rows]).exp2_(), 0, out=total[rows])
        # A maximum with its index costs several times as much as these three operations.
        labels[rows] = _at(of_rank, band.eq_(1).mul_(ranks).amax(0).int())
    return labels, best, total.reciprocal_()


def _at(table: Tensor, index: Tensor) -> Tensor:
    """Return table[index] of a table [n]. It is several times as fast on the CPU."""
    return table.index_select(0, index.flatten()).view(index.shape)


def majority(labels: Tensor, regions: Tensor, classes: int) -> Tensor:
    """Return the most frequent label [R] int32 of each region of [H, W] (ties: the lowest).

    `labels` [H, W] are in 0 .. classes - 1.
    """
    # Pixels of no region vote in a separate row.
    votes = torch.zeros(region_count(regions) + 1, classes, dtype=torch.int32, device=labels.device)
    for rows, region in _rows_of(regions):
        pairs = ((region + 1) * classes + labels[rows]).flatten()
        votes.view(-1).scatter_add_(0, pairs, votes.new_ones(1).expand_as(pairs))
    return votes[1:].argmax(1).int()


def _rows_of(regions: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield regions [H, W] a few rows at a time, so that results for them stay in the cache."""
    step = max(1, band_elements(regions.device) // regions.shape[1])
    for top in range(0, len(regions), step):
        rows = slice(top, top + step)
        yield rows, regions[rows]


def label_regions(maps: Tensor, regions: Tensor, queries: Queries) -> tuple[Tensor, Tensor]:
    """Return labels [H, W] int32 and confidence [H, W] of logits [Q, h, w].

    The mean of the logits over the pixels of each region of [H, W] decides: a region has one label
    and one confidence. Pixels of no region have their own.
    """
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
    """Return True if pixels of [H, W] may be in no region. It is certain if `may_look` is true."""
    return not may_look(regions) or bool((regions < 0).any())


def region_means(maps: Tensor, regions: Tensor) -> Tensor:
    """Return the logits [Q, R] of each region of [H, W].

    They are the mean of the enlarged maps [Q, h, w] over the pixels of the region; 0 if it has no
    pixels. Enlarging and mean are both linear. So the weight of each patch in each region is
    computed first, and the cost does not grow with the number of words.
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
    # The weights of a pixel sum to 1, so the weights of a region sum to its number of pixels.
    weights /= weights.sum((1, 2), keepdim=True).clamp(min=1)
    return maps.flatten(1) @ weights.flatten(1).T


def probability(logits: Tensor, owner: Tensor, labels: Tensor) -> Tensor:
    """Return the probability [...] in 0..1 of each given label [...].

    It is the softmax of logits [Q, ...] over all queries, then the largest one of the label's
    class.
    """
    mine = owner.view(-1, *[1] * labels.dim()) == labels
    best = torch.where(mine, logits, -torch.inf).amax(0)
    return (best - logits.logsumexp(0)).exp()


def confidence(scores: Bands, owner: Tensor, labels: Tensor) -> Tensor:
    """Return the `probability` [H, W] of the label of each pixel. Scores: logits [Q, H, W]."""
    result = torch.empty(scores.size, device=owner.device)
    for rows, band in scores:
        result[rows] = probability(band, owner, labels[rows])
    return result


def covering(labels: Tensor, classes: int, share: float) -> Tensor:
    """Return [K] bool: true for classes with more than this share of all pixels with a class.

    `labels` [H, W] are in 0 .. K; K is background.
    """
    counts = torch.zeros(classes + 1, device=labels.device)
    flat = labels.flatten().long()
    counts.scatter_add_(0, flat, counts.new_ones(1).expand_as(flat))
    return counts[:-1] > share * counts[:-1].sum()


def margins(scores: Bands, owner: Tensor, labels: Tensor) -> Tensor:
    """Return how far the label of each pixel leads all other classes, [H, W].

    The unit is that of the logits [Q, H, W] in bands. It is infinite if there is no other class.
    All background words together are one class.
    """
    result = torch.empty(scores.size, device=owner.device)
    for rows, band in scores:
        result[rows] = lead(band, owner, labels[rows])
    return result


def region_margins(maps: Tensor, regions: Tensor, owner: Tensor, labels: Tensor) -> Tensor:
    """Return the `margins` [H, W] of logits [Q, h, w] if each region of [H, W] has one label.

    A region has the margin of its mean scores, because it keeps or loses its label as a whole.
    Pixels of no region have their own.
    """
    means = region_means(maps, regions)
    of_region = labels.new_zeros(1 + means.shape[1])
    of_region.scatter_(0, (1 + regions).flatten(), labels.flatten())
    result = _at(lead(means, owner, of_region[1:]), regions.clamp(min=0))
    if not _may_stray(regions):
        return result
    own = margins(bands(maps, size_of(regions)), owner, labels)
    return torch.where(regions < 0, own, result)


def lead(logits: Tensor, owner: Tensor, labels: Tensor) -> Tensor:
    """Return the best logit of each given label minus the best logit of the other classes.

    Shapes: logits [Q, ...], labels [...] -> [...].
    """
    mine = owner.view(-1, *[1] * labels.dim()) == labels
    best, rival = (torch.where(of, logits, -torch.inf).amax(0) for of in (mine, ~mine))
    return best - rival
