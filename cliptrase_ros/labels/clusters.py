"""From the semantic correlation of patches to regions of the image (CLIPtrase, 2407.08268).

Steps and constants are those of the official code. Everything runs on the device.

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

# Number of blocks of rows in which distances are computed.
BLOCKS = 4

# On a GPU the number of clusters is unknown without a synchronisation: reserve this many regions.
# Further clusters, those with the highest numbers, get no region of their own.
MOST_REGIONS = 64


def dbscan_parameters(patches: int) -> tuple[float, int]:
    """Return (eps, min_samples) for a grid of N patches.

    These are the published pairs if there is one for N. Otherwise they are 0.05 sqrt(N) and
    max(3, 0.0155 N), which fit both pairs: a row has N entries, so distances grow with sqrt(N) and
    the number of neighbours grows with N.
    """
    if patches in PUBLISHED:
        return PUBLISHED[patches]
    return 0.05 * math.sqrt(patches), max(3, round(0.0155 * patches))


def denoised_affinity(correlation: Tensor) -> Tensor:
    """Return the affinity of patches [N, N] >= 0 from the correlation of tokens [1 + N, 1 + N].

    The correlation of [CLS] with each patch marks the 'global' patches, which look alike
    everywhere. It is subtracted from every row, and negative values become 0.
    """
    return (correlation[1:, 1:] - correlation[:1, 1:]).clamp_min(0)


def dbscan(rows: Tensor, eps: float, min_samples: int) -> Tensor:
    """Run DBSCAN with the Euclidean metric on rows [N, M]. Return labels [N] int64, -1 is noise.

    The result equals that of scikit-learn's DBSCAN, including numbering and border points: clusters
    are numbered by their first core point, and a border point joins the near cluster with the
    lowest number.
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
    """Return [N, N] bool: true if two of the rows [N, M] are within the distance eps."""
    # Float64 and centring make the comparison correct for distances near eps.
    x = rows.double()
    x = x - x.mean(0)
    square = (x * x).sum(1)
    left = (eps * eps - square)[:, None]
    near = torch.zeros(len(x), len(x), dtype=torch.bool, device=x.device)
    # Only the upper half is computed; the lower half is its mirror image.
    for top in range(0, len(x), step := -(-len(x) // BLOCKS)):
        block = slice(top, top + step)
        right = torch.addmm(square[top:], x[block], x[top:].T, alpha=-2)
        near[block, top:] = right <= left[block]
    near = near.triu(1)
    return (near | near.T).fill_diagonal_(True)


def region_count(labels: Tensor) -> int:
    """Return the number of clusters or regions to reserve for labels (any shape, int64, -1: none).

    It is the exact number, but at least 1, if `may_look` allows it. Otherwise it is `MOST_REGIONS`.
    """
    return max(1, int(labels.max()) + 1) if may_look(labels) else MOST_REGIONS


def region_maps(
    affinity: Tensor, labels: Tensor, grid: tuple[int, int], upsampling: int = 4, median: int = 7
) -> Tensor:
    """Return smooth maps [R, rows * u, cols * u] of how much each patch belongs to each cluster.

    The map of a cluster is the mean of its members' affinity rows, enlarged bilinearly by
    u = `upsampling` and median filtered. R is `region_count`. Maps without a cluster hold
    `NOWHERE`.
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
    """Return the region [H, W] int64 of every pixel: the largest of the maps [R, h, w] there.

    Ties: the first map. If no map has a cluster, all pixels get -1. Pixels of noise patches join a
    region as well.
    """
    ranks = torch.arange(len(maps), 0, -1, dtype=torch.float32, device=maps.device)[:, None, None]
    best, rank = torch.empty(2, *size, device=maps.device)
    for rows, band in enlarge(maps, size):
        torch.amax(band, 0, out=best[rows])
        torch.amax(band.eq_(best[rows]).mul_(ranks), 0, out=rank[rows])
    return torch.where(best > NOWHERE / 2, len(maps) - rank, -1).long()
