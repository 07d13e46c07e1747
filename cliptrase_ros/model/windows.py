"""How an image is cut for the tower: working size, sliding windows, and how their scores merge."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def working_size(height: int, width: int, short_side: int, multiple: int = 1) -> tuple[int, int]:
    """(height, width) with the short side at `short_side` px and the aspect kept, both rounded to
    a multiple and at least one multiple."""
    scale = short_side / min(height, width)

    def rounded(side: int) -> int:
        return max(1, round(side * scale / multiple)) * multiple

    return rounded(height), rounded(width)


# Of the long side, in the sliding protocol.
LONGEST = 2048


def sliding_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """(height, width) to which the sliding protocol of SCLIP (arXiv 2312.01597) resizes an image:
    the short side at `short_side` px, unless the long one were above 2048 then; as mmcv rounds."""
    scale = min(short_side / min(height, width), LONGEST / max(height, width))
    return int(height * scale + 0.5), int(width * scale + 0.5)


def window_starts(length: int, window: int, stride: int) -> list[int]:
    """Offsets of windows along one axis; the last one is shifted inside, so all are whole."""
    last = max(0, length - window)
    return [*range(0, last, stride), last]


def window_offsets(size: tuple[int, int], window: int, stride: int) -> list[tuple[int, int]]:
    """(top, left) of every window over an image of `size` (height, width)."""
    height, width = size
    tops, lefts = (window_starts(n, window, stride) for n in (height, width))
    return [(top, left) for top in tops for left in lefts]


def merge(
    logits: Tensor, offsets: list[tuple[int, int]], window: int, size: tuple[int, int]
) -> Tensor:
    """Logits [T, Q, h, w] of T windows -> [Q, height, width]: each enlarged to its window
    bilinearly, overlaps averaged (the sliding protocol of SCLIP, arXiv 2312.01597)."""
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
    """Windows [T, 3, window, window] of an image [3, height, width]."""
    return torch.stack(
        [image[:, top : top + window, left : left + window] for top, left in offsets]
    )
