"""From the semantic correlation of patches to regions of the image (CLIPtrase, 2407.08268).

Steps and constants are those of the official code; all of it runs on the device.

Shapes: N = rows * cols patches, R regions.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .host import may_look
from .resample import Enlarge, bands

# N: (eps, min_samples) as published, for 224 and 336 px at patch 16.
PUBLISHED = {196: (0.7, 3), 441: (1.1, 7)}

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
    index = torch.arange(count, device=rows.device)
    # Float64 and centring keep distances near eps on the right side of it.
    x = rows.double()
    x = x - x.mean(0)
    square = (x * x).sum(1)
    near = square[:, None] + square - 2 * (x @ x.T) <= eps * eps
    near.fill_diagonal_(True)
    core = near.sum(1) >= min_samples

    # Each core point holds the smallest index known in its component; `count` stands for none.
    root = torch.where(core, index, count)
    to_core = near & core
    while True:
        nearest = torch.where(to_core, root, count).amin(1)
        if bool((nearest >= root)[core].all()):
            break
        hooked = root[core].clamp(max=count - 1)
        root = root.scatter_reduce(0, hooked, nearest[core], 'amin')
        root = torch.where(core, torch.minimum(root, nearest), count)
        root = torch.where(core, root[root.clamp(max=count - 1)], count)

    number = (core & (root == index)).cumsum(0) - 1
    return torch.where(nearest < count, number[nearest.clamp(max=count - 1)], -1)


def region_count(labels: Tensor) -> int:
    """How many clusters or regions there are room for: labels of any shape, int64, -1 is none.
    Exact, but at least 1, where the host may look; else `MOST_REGIONS`."""
    return max(1, int(labels.max()) + 1) if may_look(labels) else MOST_REGIONS


def median_filter(maps: Tensor, size: int) -> Tensor:
    """Median over size x size pixels of maps [R, h, w]; borders mirror the edge pixel too
    (scipy's mode 'reflect'). `size` is odd."""
    if size == 1:
        return maps
    height, width = maps.shape[-2:]
    padded = maps[:, _mirror(height, size // 2, maps.device)]
    padded = padded[:, :, _mirror(width, size // 2, maps.device)]
    neighbours = F.unfold(padded[:, None], size)
    return neighbours.median(1).values.view(-1, height, width)


def _mirror(length: int, border: int, device: torch.device) -> Tensor:
    index = torch.arange(-border, length + border, device=device) % (2 * length)
    return torch.minimum(index, 2 * length - 1 - index)


def region_maps(
    affinity: Tensor, labels: Tensor, grid: tuple[int, int], upsampling: int = 4, median: int = 7
) -> Tensor:
    """How much each patch belongs to each cluster: smooth maps [R, rows * u, cols * u].

    A cluster's map is the mean of its members' affinity rows, enlarged bilinearly and median
    filtered. R is 0 if every patch is noise.
    """
    count = int(labels.max()) + 1
    if count == 0:
        return affinity.new_zeros(0, grid[0] * upsampling, grid[1] * upsampling)
    member = (labels == torch.arange(count, device=labels.device)[:, None]).to(affinity.dtype)
    maps = (member @ affinity / member.sum(1, keepdim=True)).view(1, count, *grid)
    if upsampling > 1:
        maps = F.interpolate(maps, scale_factor=upsampling, mode='bilinear', align_corners=False)
    return median_filter(maps[0], median)


def regions(maps: Tensor, size: tuple[int, int], enlarge: Enlarge = bands) -> Tensor:
    """The region [H, W] int64 of every pixel: the strongest of the maps [R, h, w] there.

    Pixels of patches that are noise join a region as well.
    """
    result = torch.empty(size, dtype=torch.long, device=maps.device)
    for rows, band in enlarge(maps, size):
        result[rows] = band.max(0).indices
    return result
