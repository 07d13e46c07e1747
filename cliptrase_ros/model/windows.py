"""Cutting an image for the tower: working size, sliding windows, and merging of their scores."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def working_size(height: int, width: int, short_side: int, multiple: int = 1) -> tuple[int, int]:
    """Return (height, width) with the short side at `short_side` px and the same aspect ratio.

    Both are rounded to a multiple of `multiple`, and are at least one multiple.
    """
    scale = short_side / min(height, width)

    def rounded(side: int) -> int:
        return max(1, round(side * scale / multiple)) * multiple

    return rounded(height), rounded(width)


# Limit of the long side in the sliding protocol, in px.
LONGEST = 2048


def sliding_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """Return (height, width) to which the sliding protocol resizes an image.

    The short side becomes `short_side` px, or less if the long side would exceed 2048 px. The
    protocol is that of SCLIP (arXiv 2312.01597); rounding is that of mmcv.
    """
    scale = min(short_side / min(height, width), LONGEST / max(height, width))
    return int(height * scale + 0.5), int(width * scale + 0.5)


def window_starts(length: int, window: int, stride: int) -> list[int]:
    """Return the offsets of windows along one axis.

    The last window is shifted to end at the border, so that all windows are whole.
    """
    last = max(0, length - window)
    return [*range(0, last, stride), last]


def window_offsets(size: tuple[int, int], window: int, stride: int) -> list[tuple[int, int]]:
    """Return (top, left) of every window over an image of `size` (height, width)."""
    height, width = size
    tops, lefts = (window_starts(n, window, stride) for n in (height, width))
    return [(top, left) for top in tops for left in lefts]


def merge(
    logits: Tensor, offsets: list[tuple[int, int]], window: int, size: tuple[int, int]
) -> Tensor:
    """Merge logits [T, Q, h, w] of T windows into [Q, height, width].

    Each is enlarged bilinearly to the size of its window; overlaps are averaged (the sliding
    protocol of SCLIP, arXiv 2312.01597).
    """
    total = logits.new_zeros(logits.shape[1], *size)
    visits = logits.new_zeros(size)
    for tile, (top, left) in zip(logits, offsets, strict=True):
        area = (slice(top, top + window), slice(left, left + window))
        total[:, area[0], area[1]] += F.interpolate(
            tile[None], size=(window, window), mode='bilinear', align_corners=False
        )[0]
        visits[area] += 1
    return total / visits


def crop(image: Tensor, offsets: list[tuple[int, int]], window: int) -> Tensor:
    """Return the windows [T, 3, window, window] of an image [3, height, width]."""
    return torch.stack(
        [image[:, top : top + window, left : left + window] for top, left in offsets]
    )
