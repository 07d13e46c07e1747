"""A median filter that sorts whole maps against each other.

A sorted stack is a list of tensors of one shape. At each place, the values rise along the list.
The only operations are the minimum and the maximum of two tensors, so the result is exact.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import torch
from torch import Tensor

Stack = list[Tensor]


def median_filter(maps: Tensor, size: int) -> Tensor:
    """Return the median over size x size pixels of maps [R, h, w]. `size` is odd.

    At the border, pixels are mirrored, including the edge pixel (scipy's mode 'reflect').
    """
    if size == 1:
        return maps
    rows, cols = (_mirror(side, size // 2, maps.device) for side in maps.shape[1:])
    # Rows become the first axis: slices along it are contiguous, and are read fast.
    padded = maps.transpose(0, 1).index_select(0, rows).index_select(2, cols)
    across = _windows([padded], size, 2, merged)
    return _windows(across, size, 0, lambda a, b: [median(a, b)])[0].transpose(0, 1)


def merged(a: Stack, b: Stack) -> Stack:
    """Merge two stacks with Batcher's odd-even merge (Knuth, TAOCP 3, 5.3.4)."""
    if not a or not b:
        return a + b
    if len(a) == len(b) == 1:
        return [torch.minimum(a[0], b[0]), torch.maximum(a[0], b[0])]
    first, *even = merged(a[::2], b[::2])
    odd = merged(a[1::2], b[1::2])
    result = [first]
    for x, y in zip(odd, even, strict=False):
        result += [torch.minimum(x, y), torch.maximum(x, y)]
    pairs = min(len(odd), len(even))
    return result + odd[pairs:] + even[pairs:]


def median(a: Stack, b: Stack) -> Tensor:
    """Return the median of all values of two stacks, which hold an odd number of values together.

    A candidate for the lower half is the first i values of one stack and the first values of the
    other. The median is the smallest of the maxima of all candidates.
    """
    half = (len(a) + len(b) + 1) // 2

    def top(i: int) -> Tensor:
        ends = a[i - 1 : i] if i else []
        ends += b[half - i - 1 : half - i] if i < half else []
        return ends[0] if len(ends) == 1 else torch.maximum(*ends)

    return reduce(torch.minimum, map(top, range(max(0, half - len(b)), min(len(a), half) + 1)))


def _windows(stack: Stack, size: int, axis: int, last: Callable[[Stack, Stack], Stack]) -> Stack:
    """Return the stacks of each `size` (odd) neighbours along an axis, from those of each alone.

    Two equal stacks are merged into stacks of 2, 4, ... neighbours. The binary digits of the size
    say which of these are joined. The last join uses `last`.
    """
    part, width = stack, 1
    while 2 * width <= size:
        stack = _joined(stack, stack, width, axis, merged)
        width *= 2
        if size & width:
            part = _joined(stack, part, width, axis, merged if 2 * width <= size else last)
    return part


def _joined(
    a: Stack, b: Stack, step: int, axis: int, join: Callable[[Stack, Stack], Stack]
) -> Stack:
    """Join two stacks, with the second one shifted by `step` places along an axis."""
    length = b[0].shape[axis] - step
    return join([x.narrow(axis, 0, length) for x in a], [x.narrow(axis, step, length) for x in b])


def _mirror(length: int, border: int, device: torch.device) -> Tensor:
    index = torch.arange(-border, length + border, device=device) % (2 * length)
    return torch.minimum(index, 2 * length - 1 - index)
