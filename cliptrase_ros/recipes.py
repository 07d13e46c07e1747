"""Running a tower: the earlier blocks as they are, the last one by a method's recipe.

Shapes: B images, H heads, N = 1 + rows * cols tokens ([CLS] first), D width of the tower. Blocks
are numbered 1 .. L, as the papers do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from . import attention
from .attention import Grid, Rule
from .visual import Block, Tower


class Trace(NamedTuple):
    """What the earlier blocks left for the last one.

    Attributes:
        x: [B, N, D] output of block L - 1.
        grid: (rows, cols) of patches.
        states: output [B, N, D] of each block that the recipe asked for.
        maps: attention weights [B, H, N, N] of each block that the recipe asked for.
    """

    x: Tensor
    grid: Grid
    states: dict[int, Tensor]
    maps: dict[int, Tensor]

    def of(self, n: int) -> Trace:
        """That of image n alone."""
        states, maps = ({k: x[n : n + 1] for k, x in d.items()} for d in (self.states, self.maps))
        return Trace(self.x[n : n + 1], self.grid, states, maps)

    @staticmethod
    def joined(parts: Sequence[Trace]) -> Trace:
        """That of the images of several passes at one size."""
        if len(parts) == 1:
            return parts[0]
        states, maps = (
            {k: torch.cat([d[k] for d in dicts]) for k in dicts[0]}
            for dicts in ([p.states for p in parts], [p.maps for p in parts])
        )
        return Trace(torch.cat([p.x for p in parts]), parts[0].grid, states, maps)


@dataclass(frozen=True, eq=False)
class Recipe:
    """A method on one tower.

    Attributes:
        blocks: all blocks, 1 .. L.
        states: numbers of the blocks whose outputs are to be kept, below L.
        maps: numbers of the blocks whose attention weights are to be kept, below L.
    """

    blocks: Sequence[Block]
    states: frozenset[int] = frozenset()
    maps: frozenset[int] = frozenset()

    def last(self, trace: Trace) -> Tensor:
        """Tokens [B, N, D] as they go into ln_post."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class LastBlock(Recipe):
    """The last block with another attention, and with or without the rest of it.

    Attributes:
        rule: its attention; None: every token keeps its own value.
        residual: add the block's input to what attention yields.
        feed_forward: run the block's second half.
    """

    rule: Rule | None = None
    residual: bool = True
    feed_forward: bool = True

    def last(self, trace: Trace) -> Tensor:
        block = self.blocks[-1]
        heads = block.heads(trace.x)
        mixed = heads.v if self.rule is None else self.rule(heads, trace.grid) @ heads.v
        x = block.mix(mixed)
        if self.residual:
            x = trace.x + x
        return x + block.feed_forward(x) if self.feed_forward else x


def unchanged(tower: Tower) -> Recipe:
    """The tower as it is."""
    return LastBlock(tower.blocks, rule=attention.clip)


class Encoded(NamedTuple):
    """What a recipe makes of images: tokens [B, N, D] before ln_post; the semantic correlation
    [B, N, N] of block L - 1, if asked for; and what the last block worked on."""

    tokens: Tensor
    correlation: Tensor | None
    trace: Trace


def run(
    tower: Tower,
    images: Tensor,
    recipe: Recipe,
    correlation: bool = False,
    watch: Callable[[Tensor], None] | None = None,
) -> Encoded:
    """Encode normalised images [B, 3, h, w].

    Args:
        correlation: also yield the semantic correlation.
        watch: called with the attention weights [B, H, N, N] of each block below L in turn, none
            of which is kept.
    """
    x = tower.embed(images)
    grid = tuple(side // tower.patch for side in images.shape[-2:])
    states, maps, similar = {}, {}, None
    *earlier, _ = recipe.blocks
    for number, block in enumerate(earlier, 1):
        heads = block.heads(x)
        if correlation and number == len(earlier):
            similar = attention.semantic_correlation(heads)
        if watch or number in recipe.maps:
            weights = attention.clip(heads, grid)
            attended = weights @ heads.v
            if watch:
                watch(weights)
            if number in recipe.maps:
                maps[number] = weights
        else:
            attended = F.scaled_dot_product_attention(*heads)
        x = block.finish(x, attended)
        if number in recipe.states:
            states[number] = x
    trace = Trace(x, grid, states, maps)
    return Encoded(recipe.last(trace), similar, trace)


def by_depth(blocks: int, twelfths: int) -> int:
    """The number of the block at this depth: that of B/16's block `twelfths`, of its 12.

    The published block numbers are those of towers with 12 blocks; on others the same share of
    the depth is taken, which nobody published results for.
    """
    return max(1, round(blocks * twelfths / 12))


def between(blocks: int, first: int, last: int) -> range:
    """Numbers of the blocks that take the place of B/16's blocks `first` to `last`."""
    end = by_depth(blocks, last)
    return range(min(round(blocks * (first - 1) / 12) + 1, end), end + 1)
