"""Connected components, in a number of steps that is known before."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..runtime.host import may_look

EXACT_IN_FLOAT32 = 1 << 24


def components(nearest: Callable[[Tensor], Tensor], member: Tensor, largest: int) -> Tensor:
    """The smallest member [N] of the component of each member; N for what is no member.

    Numbers 0 .. N are float32, or float64 where that would not hold them exactly. In each round
    every fragment of a component hooks onto the smallest root of those that it touches, itself
    included, and all pointers are followed to their ends. A fragment that neither hooks nor is
    hooked onto has the smaller root of its neighbours beside it in the next round, and hooks then:
    so two rounds at least halve the fragments of a component, and 2 log2 of their first number are
    enough.

    Args:
        nearest: numbers [N] -> [N], the smallest number in each member's neighbourhood, of which
            it is part itself. The neighbourhood is mutual between members.
        member: [N] bool.
        largest: no component has more members.
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
