"""From the semantic correlation of patches to regions of the image (CLIPtrase, 2407.08268).

Steps and constants are those of the official code; all of it runs on the device.

Shapes: N = rows * cols patches, R regions.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..runtime.host import may_look
from .components import components
from .median import median_filter
from .resample import NOWHERE, Enlarge, bands

# N: (eps, min_samples) as published, for 224 and 336 px at patch 16.
PUBLISHED = {196: (0.7, 3), 441: (1.1, 7)}

# Distances are found in so many blocks of rows.
BLOCKS = 4

# Where the host may not look how many clusters there are, so many have room for a region each; of
# more, those with the highest numbers have none of their own.
MOST_REGIONS = 64


def dbscan_parameters(patches: int) -> tuple[float, int]:
    """(eps, min_samples) for a grid of N patches.

    The published pairs where there is one. Elsewhere 0.05 sqrt(N) and max(3, 0.0155 N), which
    fit both pairs: a row has N entries, so distances grow with sqrt(N) and neighbours with N.
    """
    if patches in PUBLISHED:
        return PUBLISHED[patches]
    return 0.05 * math.sqrt(patches), max(3, round(0.0155 * patches))


def denoised_affinity(correlation: Tensor, weight: float = 1.0) -> Tensor:
    """Affinity of patches [N, N] >= 0 from the correlation of all tokens [1 + N, 1 + N].

    The correlation of [CLS] with each patch marks the 'global' patches, which look alike
    everywhere; it is taken off every row, and what falls below 0 is cut.
    """
    return (correlation[1:, 1:] - weight * correlation[:1, 1:]).clamp_min(0)


def dbscan(rows: Tensor, eps: float, min_samples: int) -> Tensor:
    """DBSCAN with the Euclidean metric on rows [N, M]: labels [N] int64, -1 is noise.

    Equal to scikit-learn's DBSCAN, numbering and border points included: clusters are numbered
    by their first core point, and a border point joins the lowest-numbered cluster near it.
    """
    count = len(rows)
    near = within(rows, eps)
    core = near.sum(1) >= min_samples
    far = torch.where(near, 0.0, count)

    def nearest(root: Tensor) -> Tensor:
        return torch.maximum(far, root).amin(1)

    root = components(nearest, core, count)
    first = core & (root == torch.arange(count, device=rows.device))
    number = F.pad(first.cumsum(0) - 1, (0, 1), value=-1)
    return number.index_select(0, nearest(root).long())


def within(rows: Tensor, eps: float) -> Tensor:
    """Which rows [N, M] lie within the distance eps of each other: [N, N] bool."""
    # Float64 and centring keep distances near eps on the right side of it.
    x = rows.double()
    x = x - x.mean(0)
    square = (x * x).sum(1)
    left = (eps * eps - square)[:, None]
    near = torch.zeros(len(x), len(x), dtype=torch.bool, device=x.device)
    # Only from each block on to the right: the other half is its mirror image.
    for top in range(0, len(x), step := -(-len(x) // BLOCKS)):
        block = slice(top, top + step)
        right = torch.addmm(square[top:], x[block], x[top:].T, alpha=-2)
        near[block, top:] = right <= left[block]
    near = near.triu(1)
    return (near | near.T).fill_diagonal_(True)


def region_count(labels: Tensor) -> int:
    """How many clusters or regions there are room for: labels of any shape, int64, -1 is none.
    Exact, but at least 1, where the host may look; else `MOST_REGIONS`."""
    return max(1, int(labels.max()) + 1) if may_look(labels) else MOST_REGIONS


def region_maps(
    affinity: Tensor, labels: Tensor, grid: tuple[int, int], upsampling: int = 4, median: int = 7
) -> Tensor:
    """How much each patch belongs to each cluster: smooth maps [R, rows * u, cols * u].

    A cluster's map is the mean of its members' affinity rows, enlarged bilinearly and median
    filtered. R is `region_count`; a map without a cluster is `NOWHERE`.
    """
    number = torch.arange(region_count(labels), device=labels.device)[:, None]
    member = (labels == number).to(affinity.dtype)
    members = member.sum(1, keepdim=True)
    maps = (member @ affinity / members.clamp(min=1)).view(1, -1, *grid)
    if upsampling > 1:
        maps = F.interpolate(maps, scale_factor=upsampling, mode='bilinear', align_corners=False)
    maps = median_filter(maps[0], median)
    return torch.where(members[..., None] > 0, maps, NOWHERE)


def regions(maps: Tensor, size: tuple[int, int], enlarge: Enlarge = bands) -> Tensor:
    """The region [H, W] int64 of every pixel: the strongest of the maps [R, h, w] there, the first
    of several; -1 where no map is of a cluster, which is everywhere then.

    Pixels of patches that are noise join a region as well.
    """
    ranks = torch.arange(len(maps), 0, -1, dtype=torch.float32, device=maps.device)[:, None, None]
    best, rank = torch.empty(2, *size, device=maps.device)
    for rows, band in enlarge(maps, size):
        torch.amax(band, 0, out=best[rows])
        torch.amax(band.eq_(best[rows]).mul_(ranks), 0, out=rank[rows])
    return torch.where(best > NOWHERE / 2, len(maps) - rank, -1).long()
