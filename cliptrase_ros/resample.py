"""Bilinear enlargement as two small matrix products, a band of rows at a time.

Scores live on the patch grid and labels at image size. Bands keep the C x H x W volume in
between from ever existing whole.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

# 4 MB of float32: a band stays in the cache while it is read several times.
BAND_ELEMENTS = 1 << 20


def bilinear_matrix(source: int, target: int, device: torch.device | None = None) -> Tensor:
    """Weights [target, source] of bilinear resizing with half-pixel centres; rows sum to 1.

    The same samples as torch's `interpolate(mode='bilinear', align_corners=False)`.
    """
    at = (torch.arange(target, dtype=torch.float64) + 0.5) * (source / target) - 0.5
    at = at.clamp(0, source - 1)
    low = at.floor().long()
    high = (low + 1).clamp(max=source - 1)
    fraction = at - low
    matrix = torch.zeros(target, source, dtype=torch.float64)
    index = torch.arange(target)
    matrix[index, low] += 1 - fraction
    matrix[index, high] += fraction
    return matrix.to(device, torch.float32)


def bands(
    maps: Tensor, size: tuple[int, int], elements: int = BAND_ELEMENTS
) -> Iterator[tuple[slice, Tensor]]:
    """Enlarge maps [M, h, w] to `size` (H, W) bilinearly, yielding (rows, [M, len(rows), W]).

    A band holds at most about `elements` numbers, and at least one row.
    """
    count, source_rows, source_cols = maps.shape
    height, width = size
    wide = maps @ bilinear_matrix(source_cols, width, maps.device).T
    down = bilinear_matrix(source_rows, height, maps.device)
    step = max(1, elements // (count * width))
    for top in range(0, height, step):
        rows = slice(top, min(top + step, height))
        yield rows, down[rows] @ wide
