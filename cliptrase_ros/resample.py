"""Bilinear enlargement as two small matrix products, a band of rows at a time.

Scores live on the patch grid and labels at image size. Bands keep the C x H x W volume in
between from ever existing whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

# 4 MB of float32: a band stays in the cache while it is read several times.
BAND_ELEMENTS = 1 << 20

# A slice of rows -> [M, len(rows), W].
Rows = Callable[[slice], Tensor]


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


def enlarger(maps: Tensor, size: tuple[int, int]) -> Rows:
    """Enlarge maps [M, h, w] to `size` (H, W) bilinearly: a function rows -> [M, len(rows), W]."""
    source = maps.shape[1]
    wide = maps @ bilinear_matrix(maps.shape[2], size[1], maps.device).T
    down = bilinear_matrix(source, size[0], maps.device)

    def rows_of(rows: slice) -> Tensor:
        # Only the source rows around these have weights that are not 0.
        first, last = (int((row + 0.5) * source / size[0] - 0.5) for row in (rows.start, rows.stop))
        near = slice(max(0, first - 1), last + 2)
        return down[rows, near] @ wide[:, near]

    return rows_of


def enlarged(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps [M, h, w] enlarged to `size` (H, W) bilinearly, as a whole: [M, H, W]."""
    return enlarger(maps, size)(slice(0, size[0]))


class Bands:
    """M maps of `size` (H, W) that never exist whole: iterating, as often as wanted, yields
    (rows, [M, len(rows), W]) from top to bottom.

    A band holds at most about `elements` numbers, and at least one row.
    """

    def __init__(
        self, rows_of: Rows, count: int, size: tuple[int, int], elements: int = BAND_ELEMENTS
    ):
        self.count = count
        self.size = size
        self._rows_of = rows_of
        self._step = max(1, elements // (count * size[1]))

    def __iter__(self) -> Iterator[tuple[slice, Tensor]]:
        for top in range(0, self.size[0], self._step):
            rows = slice(top, min(top + self._step, self.size[0]))
            yield rows, self._rows_of(rows)


def bands(maps: Tensor, size: tuple[int, int], elements: int = BAND_ELEMENTS) -> Bands:
    """Maps [M, h, w] enlarged to `size` (H, W) bilinearly, in bands."""
    return Bands(enlarger(maps, size), len(maps), size, elements)


# How maps [M, h, w] become maps of a size (H, W): `bands`, or a rule with an eye on the picture.
Enlarge = Callable[[Tensor, tuple[int, int]], Bands]
