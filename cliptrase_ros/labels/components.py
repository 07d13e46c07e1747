"""Connected components, in a number of steps that is known in advance."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..runtime.host import may_look

EXACT_IN_FLOAT32 = 1 << 24


def components(nearest: Callable[[Tensor], Tensor], member: Tensor, largest: int) -> Tensor:
    """Return, for each member, the smallest member [N] of its component; N for non-members.

    Numbers 0 .. N are float32, or float64 if float32 cannot hold them exactly.

    In each round, every fragment of a component hooks onto the smallest root among the fragments
    that it touches and itself. Then all pointers are followed to their ends. If a fragment neither
    hooks nor is hooked onto, its neighbours have hooked onto smaller roots. So it touches a smaller
    root in the next round, and hooks then. Two rounds therefore at least halve the number of
    fragments of a component, and 2 log2 of the initial number are enough.

    Args:
        nearest: numbers [N] -> [N], the smallest number in the neighbourhood of each member. The
            neighbourhood includes the member itself, and is mutual between members.
        member: [N] bool.
        largest: upper bound of the number of members of a component.
    """
    count = len(member)
    dtype = torch.float32 if count < EXACT_IN_FLOAT32 else torch.float64
    place = torch.arange(count + 1, dtype=dtype, device=member.device)
    root = torch.where(member, place[:-1], count)
    halvings = math.ceil(math.log2(largest)) if largest > 1 else 0
    for _ in range(2 * halvings):
        least = torch.where(member, nearest(root), count)
        if may_look(root) and torch.equal(least, root):
            break
        to = place.scatter_reduce(0, root.long(), least, 'amin')
        # Pointers lead to smaller numbers only, so each jump halves the way to their ends.
        for _ in range(halvings):
            to = to.index_select(0, to.long())
        root = to.index_select(0, root.long())
    return root
