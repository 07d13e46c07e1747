"""GCLIP (arXiv 2502.06818), reconstructed: its authors published no code.

Known parts: attention maps of the blocks where global tokens emerge are fused with the query-query
attention of the last block (AMF). One channel of the feed-forward, which makes values similar, is
re-normalised (CS). The numbers and the order of operations follow reports of third parties about
the paper. The reports have gaps; there the choice is ours, and doc/methods.md says so.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ..model import attention
from ..model.attention import Heads
from ..model.recipes import Recipe, Trace, by_depth, follow
from ..model.visual import Tower

log = logging.getLogger(__name__)

# A block has global tokens if its most attended patch gets more than this many times the attention
# of the median patch.
EMERGING_RATIO = 10.0

_EMERGING: WeakKeyDictionary[Tower, int] = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class GClip(Recipe):
    """The mean of the attention of the emerging blocks and of the last block's queries.

    One map for all heads; no residual and no feed-forward in the last block.
    """

    def last(self, trace: Trace) -> Tensor:
        block = self.blocks[-1]
        heads = block.heads(trace.x)
        return block.mix(self.weights(heads, trace) @ heads.v)

    def weights(self, heads: Heads, trace: Trace) -> Tensor:
        """Return the attention weights [B, 1, N, N]; rows sum to 1."""
        own = attention.weights(attention.query_query(heads, trace.grid))
        return (trace.attention + own).mean(1, keepdim=True) / (len(self.maps) + 1)


def recipe(tower: Tower, block: int | None = None, suppression: bool = True) -> GClip:
    """Return the recipe of GCLIP for a tower of at least 3 blocks.

    Args:
        block: number of the first of the two blocks whose attention is fused, 1 .. L - 2; None: the
            block where global tokens emerge.
        suppression: re-normalise the largest feed-forward channel of the second of the two blocks
            and of all later blocks.
    """
    first = emerging_block(tower) if block is None else block
    blocks = list(tower.blocks)
    if suppression:
        blocks[first:] = [block.suppressed for block in blocks[first:]]
    return GClip(blocks, maps=frozenset({first, first + 1}))


def emerging_block(tower: Tower) -> int:
    """Return the number of the first block where global tokens emerge, 1 .. L - 2.

    The criterion is ours: on a picture of 1/f noise, the first block in which some patch gets more
    than `EMERGING_RATIO` times the attention of the median patch. If there is no such block, use
    the depth that is reported for ViT-B/16 (7 of 12). It is computed once for each tower.
    """
    if tower not in _EMERGING:
        ratios = global_ratios(tower, pink_noise(tower))
        found = (n for n, ratio in enumerate(ratios, 1) if ratio > EMERGING_RATIO)
        last = len(tower.blocks) - 2
        first = min(next(found, by_depth(len(tower.blocks), 6) + 1), last)
        log.info('gclip: assuming that global tokens emerge in block %d of %d', first, last + 2)
        _EMERGING[tower] = first
    return _EMERGING[tower]


@torch.no_grad()
def global_ratios(tower: Tower, images: Tensor) -> list[float]:
    """Return, for blocks 1 .. L - 1, attention to the most attended patch / to the median patch.

    Attention is the mean over heads, patches and images.
    """
    ratios = []

    def watch(weights: Tensor) -> None:
        mass = weights[:, :, 1:, 1:].float().mean((0, 1, 2))
        ratios.append(float(mass.max() / mass.median()))

    follow(tower, images, Recipe(tower.blocks), watch=watch)
    return ratios


def pink_noise(tower: Tower) -> Tensor:
    """Return noise with the 1/f spectrum of photographs, [1, 3, h, w] at the tower's own size."""
    height, width = tower.image_size
    noise = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    rows, cols = torch.fft.fftfreq(height), torch.fft.rfftfreq(width)
    frequency = (rows[:, None] ** 2 + cols**2).sqrt()
    frequency[0, 0] = torch.inf
    picture = torch.fft.irfft2(torch.fft.rfft2(noise) / frequency, s=(height, width))
    return (picture / picture.std()).to(tower.device)
