"""ResCLIP (CVPR 2025, arXiv 2411.15851): residual attention from the middle of the tower.

Shapes: B images, H heads, N = 1 + rows * cols tokens ([CLS] first).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from . import attention
from .recipes import Recipe, Trace, between
from .visual import Tower


@dataclass(frozen=True, eq=False)
class ResClip(Recipe):
    """NACLIP's attention, blended with the mean attention of the middle blocks (RCS).

    Attributes:
        sigma: of NACLIP's neighbourhood, in patches.
        share: lambda, how much of the blend is the middle blocks'.
        gain: tau, the sum of each row of weights.
    """

    sigma: float = 5.0
    share: float = 0.5
    gain: float = 2.0

    def last(self, trace: Trace) -> Tensor:
        block = self.blocks[-1]
        heads = block.heads(trace.x)
        return block.mix(
            self.weights(attention.naclip(heads, trace.grid, self.sigma), trace) @ heads.v
        )

    def weights(self, own: Tensor, trace: Trace) -> Tensor:
        """The last block's own weights blended with those of the middle blocks."""
        middle = sum(trace.maps.values()) / len(trace.maps)
        return self.gain * torch.lerp(own, middle, self.share)


def recipe(tower: Tower, sigma: float, share: float, gain: float) -> ResClip:
    """ResCLIP on a tower of at least 3 blocks; block numbers by depth."""
    maps = frozenset(between(len(tower.blocks), 6, 9))
    return ResClip(tower.blocks, maps=maps, sigma=sigma, share=share, gain=gain)
