"""SC-CLIP (Self-Calibrated CLIP, IEEE TIP 2025, arXiv 2411.15869), as in its official code.

Shapes: B images, N = rows * cols patches without [CLS], D width of the tower.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..model import attention
from ..model.attention import Grid, Heads, Term
from ..model.recipes import Recipe, Trace, between, by_depth
from ..model.visual import Tower

NEIGHBOURS = 30
CONTAMINATION = 0.05


@dataclass(frozen=True, eq=False)
class ScClip(Recipe):
    """Repairs anomalous tokens, and adjusts features and attention by earlier features.

    The adjustment uses the similarity of earlier features. A second pass runs on the sum of many
    blocks.

    Attributes:
        middle: number of the block whose features steer attention (9 of 12).
        low: number of the block whose features smooth the result (4 of 12).
        levels: numbers of the blocks that are added up for the second pass (4 .. 10 of 12).
        paper_form: use the attention of the paper instead of that of the code.
        beta: when features are averaged, similarities below this count as 0.
        sharpness: factor of the similarities in the attention.
        cls_share: share of the [CLS] token of block L - 1 that is added to every patch.
    """

    middle: int = 0
    low: int = 0
    levels: Sequence[int] = ()
    paper_form: bool = False
    beta: float = 0.4
    sharpness: float = 3.0
    cls_share: float = 0.3

    def last(self, trace: Trace) -> Tensor:
        cls, patches = trace.x[:, :1], trace.x[:, 1:]
        odd = anomalies(patches)
        patches = repaired(patches, odd, trace.grid)
        middle = repaired(trace.states[self.middle][:, 1:], odd, trace.grid)
        low = trace.states[self.low][:, 1:]
        similar, smooth = cosines(middle), averaging(cosines(low), self.beta)
        steering, smooth = self.steering(similar), smooth.to(cls.dtype)

        patches = averaging(similar, self.beta).to(cls.dtype) @ patches
        x = smooth @ (self._attend(patches, steering) + self.cls_share * cls)
        levels = attention.added(trace.states[number] for number in self.levels)
        again = self._attend(levels[:, 1:], steering) + self.cls_share * levels[:, :1]
        return torch.cat([cls, x + smooth @ again], 1)

    def _attend(self, patches: Tensor, steering: Tensor) -> Tensor:
        """Run the last block's attention on patches [B, N, D], without residual or feed-forward."""
        block = self.blocks[-1]
        heads = block.heads(patches)
        return block.mix(self.weights(heads, steering) @ heads.v)

    def weights(self, heads: Heads, steering: Tensor) -> Tensor:
        """Return the attention weights [B, H, N, N]; rows sum to 1, in the paper's form to 2."""
        own = attention.weights([Term(heads.k, heads.k)])
        both = own + steering[:, None].to(own.dtype)
        return both if self.paper_form else both / 2

    def steering(self, similar: Tensor) -> Tensor:
        """Return the part of the weights [B, N, N] from similarities [B, N, N]; rows sum to 1."""
        if self.paper_form:
            return torch.softmax(similar, -1)
        centred = self.sharpness * (similar - similar.mean((1, 2), keepdim=True))
        dropped = centred < 0
        # A patch is never less similar to itself than the mean. But if all patches are alike,
        # rounding may drop it.
        dropped.diagonal(dim1=1, dim2=2).fill_(False)
        return torch.softmax(centred.masked_fill(dropped, -torch.inf), -1)


def recipe(tower: Tower, paper_form: bool = False) -> ScClip:
    """Return the recipe of SC-CLIP for a tower of at least 3 blocks.

    The depth of the tower gives the block numbers.
    """
    depth = len(tower.blocks)
    middle, low, levels = by_depth(depth, 9), by_depth(depth, 4), between(depth, 4, 10)
    return ScClip(
        tower.blocks,
        states=frozenset({middle, low, *levels}),
        middle=middle,
        low=low,
        levels=tuple(levels),
        paper_form=paper_form,
    )


def cosines(x: Tensor) -> Tensor:
    """Return the cosine of each row of x [B, N, D] with each row: [B, N, N] float32."""
    unit = F.normalize(x.float(), dim=-1)
    return unit @ unit.transpose(1, 2)


def averaging(similar: Tensor, beta: float) -> Tensor:
    """Return the weights [B, N, N] of an average over similar tokens.

    Entries below beta are 0; rows sum to 1 (to 0 if no token is similar).
    """
    kept = similar.masked_fill(similar < beta, 0)
    return kept / (kept.sum(-1, keepdim=True) + 1e-6)


def outlier_factors(x: Tensor, neighbours: int = NEIGHBOURS) -> Tensor:
    """Return the local outlier factor [B, N] of tokens x [B, N, D].

    This is the simple form of the official code: with kd the squared distance to the k-th nearest
    other token, the mean of kd_i / kd_j over the k nearest tokens j.
    """
    x = x.float()
    x = x - x.mean(1, keepdim=True)  # changes no distance, and reduces rounding errors
    square = (x * x).sum(-1)
    distance = square[:, :, None] + square[:, None] - 2 * x @ x.transpose(1, 2)
    distance.diagonal(dim1=1, dim2=2).fill_(-torch.inf)  # itself is first, despite rounding
    near = distance.topk(min(neighbours + 1, x.shape[1]), largest=False)
    radius = near.values[..., -1].clamp(min=1e-12)  # tokens may be equal
    others = torch.gather(radius[:, None].expand_as(distance), 2, near.indices[..., 1:])
    return (radius[..., None] / others).mean(-1)


def anomalies(x: Tensor) -> Tensor:
    """Return which tokens of x [B, N, D] are anomalous, [B, N] bool.

    These are the tokens whose outlier factor is above the 95 % quantile.
    """
    factors = outlier_factors(x)
    return factors > factors.quantile(1 - CONTAMINATION, dim=1, keepdim=True)


def repaired(x: Tensor, odd: Tensor, grid: Grid) -> Tensor:
    """Return x [B, N, D] with each odd token [B, N] replaced by the mean of its neighbours.

    The mean is over those of the up to 8 neighbours on the grid that are not odd. If all of them
    are odd, the token does not change.
    """
    batch, _, width = x.shape
    valid = (~odd).to(x.dtype).view(batch, 1, *grid)
    maps = x.transpose(1, 2).reshape(batch, width, *grid)
    # Means over 3 x 3, zero-padded; their ratio is the mean over the valid tokens.
    total = F.avg_pool2d(maps * valid, 3, 1, 1)
    share = F.avg_pool2d(valid, 3, 1, 1)
    mean = (total / share.clamp(min=1e-6)).flatten(2).transpose(1, 2)
    replace = odd & (share.flatten(1) > 0)
    return torch.where(replace[..., None], mean, x)
