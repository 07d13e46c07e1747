"""Bilinear enlargement as two small matrix products, one band of rows at a time.

Scores are on the patch grid, labels are at image size. With bands, the C x H x W volume between
them is never stored as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

# 1 MB of float32 for each thread: each core's share of a band stays in the core's cache while it is
# read several times. With such small bands, a GPU would mostly wait for work: its bands are larger.
BAND_ELEMENTS = 1 << 18
BAND_ELEMENTS_ON_GPU = 1 << 23

# A finite stand-in for -inf (0 * inf is NaN): a map with this value is never the largest one.
NOWHERE = -1e30

# A slice of rows -> [M, len(rows), W].
Rows = Callable[[slice], Tensor]


def positions(source: int, target: int, device: torch.device | None = None) -> Tensor:
    """Return where the centres of `target` pixels lie on a side of `source` pixels, [target].

    Values are float64 in 0 .. source - 1. Integers are the centres of source pixels.
    """
    at = (torch.arange(target, dtype=torch.float64, device=device) + 0.5) * (source / target)
    return (at - 0.5).clamp(0, source - 1)


def bilinear_matrix(source: int, target: int, device: torch.device | None = None) -> Tensor:
    """Return the weights [target, source] of bilinear resizing with half-pixel centres.

    Rows sum to 1. The samples are those of torch's `interpolate(mode='bilinear',
    align_corners=False)`.
    """
    place = torch.arange(source, dtype=torch.float64, device=device)
    distance = (positions(source, target, device)[:, None] - place).abs()
    return (1 - distance).clamp_min(0).float()


def enlarger(maps: Tensor, size: tuple[int, int]) -> Rows:
    """Return a function rows -> [M, len(rows), W] of maps [M, h, w] enlarged to `size` (H, W).

    The enlargement is bilinear.
    """
    source = maps.shape[1]
    wide = maps @ bilinear_matrix(maps.shape[2], size[1], maps.device).T
    down = bilinear_matrix(source, size[0], maps.device)

    def rows_of(rows: slice) -> Tensor:
        # Only the source rows around these rows have non-zero weights; see `positions`.
        first, last = (
            int(max(0, (row + 0.5) * (source / size[0]) - 0.5))
            for row in (rows.start, rows.stop - 1)
        )
        near = slice(first, last + 2)
        return down[rows, near] @ wide[:, near]

    return rows_of


def enlarged(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Enlarge maps [M, h, w] to `size` (H, W) bilinearly. Return all of them, [M, H, W]."""
    return enlarger(maps, size)(slice(0, size[0]))


def picker(maps: Tensor, size: tuple[int, int]) -> Callable[[slice, Tensor], Tensor]:
    """Return a function that picks, at each pixel, the value of one of the enlarged maps.

    Maps [M, h, w] are enlarged to `size` (H, W) bilinearly. The function takes rows, and the number
    [len(rows), W] of the map at each pixel, 0 .. M - 1. It returns [len(rows), W].
    """
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
    """Return (H, W) of maps [..., H, W]."""
    height, width = maps.shape[-2:]
    return height, width


class Bands:
    """M maps of `size` (H, W) that are never stored as a whole.

    Iterating yields (rows, [M, len(rows), W]) from top to bottom. This can be repeated. The reader
    may overwrite each band. A band holds about `elements` numbers at most, and at least one row.
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
    """Return the number of values in a band on a device."""
    if device.type == 'cpu':
        return BAND_ELEMENTS * torch.get_num_threads()
    return BAND_ELEMENTS_ON_GPU


def bands(maps: Tensor, size: tuple[int, int], elements: int | None = None) -> Bands:
    """Enlarge maps [M, h, w] to `size` (H, W) bilinearly, in bands."""
    elements = elements or band_elements(maps.device)
    return Bands(enlarger(maps, size), len(maps), size, elements)


# Enlarges maps [M, h, w] to a size (H, W): `bands`, or a rule that follows the picture's edges.
Enlarge = Callable[[Tensor, tuple[int, int]], Bands]
