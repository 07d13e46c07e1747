"""GCLIP (arXiv 2502.06818), reconstructed: its authors published no code.

What is known: attention maps of the blocks where global tokens emerge are fused with the last
block's query-query attention (AMF), and one channel of the feed-forward, which makes values alike,
is re-normalised (CS). Numbers and order of operations here follow what third parties report of the
paper; where they leave a gap, the choice is ours and doc/methods.md says so.
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

# A block has global tokens once its most attended patch gets this many times the median's share.
EMERGING_RATIO = 10.0

_EMERGING: WeakKeyDictionary[Tower, int] = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class GClip(Recipe):
    """Mean attention of the emerging blocks and of the last block's queries, one map for all
    heads; no residual, no feed-forward in the last block."""

    def last(self, trace: Trace) -> Tensor:
        block = self.blocks[-1]
        heads = block.heads(trace.x)
        return block.mix(self.weights(heads, trace) @ heads.v)

    def weights(self, heads: Heads, trace: Trace) -> Tensor:
        """Attention weights [B, 1, N, N]; rows sum to 1."""
        own = attention.weights(attention.query_query(heads, trace.grid))
        return (trace.attention + own).mean(1, keepdim=True) / (len(self.maps) + 1)


def recipe(tower: Tower, block: int = 0, suppression: bool = True) -> GClip:
    """GCLIP on a tower of at least 3 blocks.

    Args:
        block: number of the first of the two blocks whose attention is fused, 1 .. L - 2; 0:
            where global tokens emerge.
        suppression: re-normalise the loudest feed-forward channel from the second of the two
            blocks on.
    """
    first = block or emerging_block(tower)
    blocks = list(tower.blocks)
    if suppression:
        blocks[first:] = [block.suppressed for block in blocks[first:]]
    return GClip(blocks, maps=frozenset({first, first + 1}))


def emerging_block(tower: Tower) -> int:
    """Number of the first block where global tokens emerge, 1 .. L - 2; worked out once a tower.

    The criterion is ours: on a picture of 1/f noise, the first block in which some patch gets
    `EMERGING_RATIO` times the median patch's share of the patches' attention. Where no block
    does, the block at the depth that is reported for ViT-B/16 (7 of 12).
    """
    if tower not in _EMERGING:
        ratios = global_ratios(tower, pink_noise(tower))
        found = (n for n, ratio in enumerate(ratios, 1) if ratio > EMERGING_RATIO)
        last = len(tower.blocks) - 2
        first = min(next(found, by_depth(len(tower.blocks), 6) + 1), last)
        log.info('gclip: global tokens taken to emerge in block %d of %d', first, last + 2)
        _EMERGING[tower] = first
    return _EMERGING[tower]


@torch.no_grad()
def global_ratios(tower: Tower, images: Tensor) -> list[float]:
    """For blocks 1 .. L - 1, the share of attention that the most attended patch gets over that
    of the median patch; mean over heads, patches and images."""
    ratios = []

    def watch(weights: Tensor) -> None:
        mass = weights[:, :, 1:, 1:].float().mean((0, 1, 2))
        ratios.append(float(mass.max() / mass.median()))

    follow(tower, images, Recipe(tower.blocks), watch=watch)
    return ratios


def pink_noise(tower: Tower) -> Tensor:
    """[1, 3, h, w] at the tower's own size: noise with the 1/f spectrum of photographs."""
    height, width = tower.image_size
    noise = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    rows, cols = torch.fft.fftfreq(height), torch.fft.rfftfreq(width)
    frequency = (rows[:, None] ** 2 + cols**2).sqrt()
    frequency[0, 0] = torch.inf
    picture = torch.fft.irfft2(torch.fft.rfft2(noise) / frequency, s=(height, width))
    return (picture / picture.std()).to(tower.device)
