"""Running a tower: the earlier blocks unchanged, the last one by the recipe of a method.

Shapes: B images, H heads, N = 1 + rows * cols tokens ([CLS] first), D width of the tower. Blocks
are numbered 1 .. L, as the papers do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from . import attention
from .attention import Grid, Rule
from .visual import Block, Tower


class Trace(NamedTuple):
    """Results of the earlier blocks that the last one needs.

    Attributes:
        x: [B, N, D] output of block L - 1.
        grid: (rows, cols) of patches.
        states: output [B, N, D] of each block in `Recipe.states`.
        attention: the sum of the weights [B, H, N, N] of the blocks in `Recipe.maps`; shape [0] if
            there are no such blocks.
    """

    x: Tensor
    grid: Grid
    states: dict[int, Tensor]
    attention: Tensor

    def of(self, n: int) -> Trace:
        """Return the trace of image n alone."""
        one = slice(n, n + 1)
        states = {number: x[one] for number, x in self.states.items()}
        return Trace(self.x[one], self.grid, states, self.attention[one])

    @staticmethod
    def joined(parts: Sequence[Trace]) -> Trace:
        """Join the traces of several passes. All images must have one size."""
        first = parts[0]
        states = {
            number: torch.cat([part.states[number] for part in parts]) for number in first.states
        }
        total = torch.cat([part.attention for part in parts])
        return Trace(torch.cat([part.x for part in parts]), first.grid, states, total)


@dataclass(frozen=True, eq=False)
class Recipe:
    """A method on one tower.

    Attributes:
        blocks: all blocks, 1 .. L.
        states: numbers of the blocks whose outputs are kept, below L.
        maps: numbers of the blocks whose attention weights are added up, below L.
    """

    blocks: Sequence[Block]
    states: frozenset[int] = frozenset()
    maps: frozenset[int] = frozenset()

    def last(self, trace: Trace) -> Tensor:
        """Return the tokens [B, N, D] that go into ln_post."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class LastBlock(Recipe):
    """A last block with another attention, and optionally without residual or feed-forward.

    Attributes:
        rule: its attention; None: every token keeps its own value.
        residual: add the input of the block to the result of the attention.
        feed_forward: run the block's second half.
    """

    rule: Rule | None = None
    residual: bool = True
    feed_forward: bool = True

    def last(self, trace: Trace) -> Tensor:
        block = self.blocks[-1]
        heads = block.heads(trace.x)
        values = heads.v
        if self.rule is not None:
            values = attention.attend(self.rule(heads, trace.grid), values)
        x = block.mix(values)
        if self.residual:
            x = trace.x + x
        return x + block.feed_forward(x) if self.feed_forward else x


def unchanged(tower: Tower) -> Recipe:
    """Return the recipe that runs the tower unchanged."""
    return LastBlock(tower.blocks, rule=attention.clip)


def run(tower: Tower, images: Tensor, recipe: Recipe) -> Tensor:
    """Run a recipe on normalised images [B, 3, h, w]; return tokens [B, N, D] before ln_post."""
    trace, _ = follow(tower, images, recipe)
    return recipe.last(trace)


def follow(
    tower: Tower,
    images: Tensor,
    recipe: Recipe,
    correlation: bool = False,
    watch: Callable[[Tensor], None] | None = None,
) -> tuple[Trace, Tensor | None]:
    """Run normalised images [B, 3, h, w] through all blocks except the last one.

    Args:
        correlation: also return the semantic correlation, instead of None.
        watch: called with the attention weights [B, H, N, N] of each block below L in turn. The
            weights are not kept.

    Returns:
        The input of the last block, and the semantic correlation [B, N, N] of block L - 1.
    """
    x = tower.embed(images)
    grid = tower.grid(images)
    states: dict[int, Tensor] = {}
    total: Tensor | None = None
    similar: Tensor | None = None
    *earlier, _ = recipe.blocks
    for number, block in enumerate(earlier, 1):
        heads = block.heads(x)
        if correlation and number == len(earlier):
            similar = attention.semantic_correlation(heads)
        terms = attention.clip(heads, grid)
        if watch or number in recipe.maps:
            weights = attention.weights(terms)
            attended = weights @ heads.v
            if watch:
                watch(weights)
            if number in recipe.maps:
                total = weights if total is None else total + weights
        else:
            attended = attention.attend(terms, heads.v)
        x = block.finish(x, attended)
        if number in recipe.states:
            states[number] = x
    return Trace(x, grid, states, x.new_empty(0) if total is None else total), similar


def by_depth(blocks: int, twelfths: int) -> int:
    """Return the number of the block at the depth `twelfths` / 12 of a tower with `blocks` blocks.

    The published block numbers are for towers with 12 blocks, such as B/16. On other towers we use
    the same share of the depth; no results for these are published.
    """
    return max(1, round(blocks * twelfths / 12))


def between(blocks: int, first: int, last: int) -> range:
    """Return the numbers of the blocks that correspond to blocks `first` to `last` of B/16."""
    end = by_depth(blocks, last)
    return range(min(round(blocks * (first - 1) / 12) + 1, end), end + 1)
