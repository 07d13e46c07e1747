"""Bilinear enlargement as two small matrix products, a band of rows at a time.

Scores live on the patch grid and labels at image size. Bands keep the C x H x W volume in
between from ever existing whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

# 1 MB of float32 a thread: a core's share of a band stays in its own cache while it is read several
# times. A GPU would wait for work more often than for its memory, and gets larger bands.
BAND_ELEMENTS = 1 << 18
BAND_ELEMENTS_ON_GPU = 1 << 23

# What a map holds that shall be the largest nowhere: far below any other, and yet finite, since 0
# times infinity is no number.
NOWHERE = -1e30

# A slice of rows -> [M, len(rows), W].
Rows = Callable[[slice], Tensor]


def positions(source: int, target: int, device: torch.device | None = None) -> Tensor:
    """Where the centres [target] of pixels are on a side of `source` pixels: float64 in
    0 .. source - 1, integers being the centres there."""
    at = (torch.arange(target, dtype=torch.float64, device=device) + 0.5) * (source / target)
    return (at - 0.5).clamp(0, source - 1)


def bilinear_matrix(source: int, target: int, device: torch.device | None = None) -> Tensor:
    """Weights [target, source] of bilinear resizing with half-pixel centres; rows sum to 1.

    The same samples as torch's `interpolate(mode='bilinear', align_corners=False)`.
    """
    place = torch.arange(source, dtype=torch.float64, device=device)
    distance = (positions(source, target, device)[:, None] - place).abs()
    return (1 - distance).clamp_min(0).float()


def enlarger(maps: Tensor, size: tuple[int, int]) -> Rows:
    """Enlarge maps [M, h, w] to `size` (H, W) bilinearly: a function rows -> [M, len(rows), W]."""
    source = maps.shape[1]
    wide = maps @ bilinear_matrix(maps.shape[2], size[1], maps.device).T
    down = bilinear_matrix(source, size[0], maps.device)

    def rows_of(rows: slice) -> Tensor:
        # Only the source rows around these have weights that are not 0; see `positions`.
        first, last = (
            int(max(0, (row + 0.5) * (source / size[0]) - 0.5))
            for row in (rows.start, rows.stop - 1)
        )
        near = slice(first, last + 2)
        return down[rows, near] @ wide[:, near]

    return rows_of


def enlarged(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps [M, h, w] enlarged to `size` (H, W) bilinearly, as a whole: [M, H, W]."""
    return enlarger(maps, size)(slice(0, size[0]))


def picker(maps: Tensor, size: tuple[int, int]) -> Callable[[slice, Tensor], Tensor]:
    """Of maps [M, h, w], enlarged to `size` (H, W) bilinearly, one at each pixel: a function of
    rows and which [len(rows), W] of the maps it is there, 0 .. M - 1 -> [len(rows), W]."""
    height, width = maps.shape[1], size[1]
    wide = (maps @ bilinear_matrix(maps.shape[2], width, maps.device).T).flatten()
    at = positions(height, size[0], maps.device)[:, None]
    low = at.long()
    high = (low + 1).clamp(max=height - 1)
    share = (at - low).float()
    across = torch.arange(width, device=maps.device)

    def pick(rows: slice, which: Tensor) -> Tensor:
        start = which * (height * width) + across
        # Several times as fast on the CPU as `take`.
        upper, lower = (
            wide.index_select(0, (start + width * row[rows]).flatten()).view(which.shape)
            for row in (low, high)
        )
        return torch.lerp(upper, lower, share[rows])

    return pick


def size_of(maps: Tensor) -> tuple[int, int]:
    """(H, W) of maps [..., H, W]."""
    height, width = maps.shape[-2:]
    return height, width


class Bands:
    """M maps of `size` (H, W) that never exist whole: iterating, as often as wanted, yields
    (rows, [M, len(rows), W]) from top to bottom, each band for the reader to overwrite.

    A band holds at most about `elements` numbers, and at least one row.
    """

    def __init__(self, rows_of: Rows, count: int, size: tuple[int, int], elements: int):
        self.count = count
        self.size = size
        self._rows_of = rows_of
        self._step = max(1, elements // (count * size[1]))

    def __iter__(self) -> Iterator[tuple[slice, Tensor]]:
        for top in range(0, self.size[0], self._step):
            rows = slice(top, min(top + self._step, self.size[0]))
            yield rows, self._rows_of(rows)


def band_elements(device: torch.device) -> int:
    """How many numbers a band has on a device."""
    if device.type == 'cpu':
        return BAND_ELEMENTS * torch.get_num_threads()
    return BAND_ELEMENTS_ON_GPU


def bands(maps: Tensor, size: tuple[int, int], elements: int | None = None) -> Bands:
    """Maps [M, h, w] enlarged to `size` (H, W) bilinearly, in bands."""
    elements = elements or band_elements(maps.device)
    return Bands(enlarger(maps, size), len(maps), size, elements)


# How maps [M, h, w] become maps of a size (H, W): `bands`, or a rule with an eye on the picture.
Enlarge = Callable[[Tensor, tuple[int, int]], Bands]
