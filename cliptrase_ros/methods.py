"""The methods: which attention the last block uses and what it keeps of itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from . import attention
from .visual import Tower


@dataclass(frozen=True)
class Method:
    """How the last block is run."""

    rule: attention.Rule
    residual: bool
    feed_forward: bool
    source: str


METHODS = {
    'clip': Method(
        attention.clip,
        residual=True,
        feed_forward=True,
        source='CLIP (arXiv 2103.00020): the tower as it is, every patch through ln_post and proj',
    ),
    'cliptrase': Method(
        attention.cliptrase,
        residual=True,
        feed_forward=True,
        source='CLIPtrase (arXiv 2407.08268), attention as in the official code',
    ),
}


class Encoded(NamedTuple):
    """What a method makes of images: tokens [B, N, D] after the last block, before ln_post, and,
    if asked for, the semantic correlation [B, N, N] of the last block but one."""

    tokens: Tensor
    correlation: Tensor | None


def run(tower: Tower, images: Tensor, method: Method, correlation: bool = False) -> Encoded:
    """Encode normalised images [B, 3, h, w] with a method.

    Every block but the last runs as in the model. CLIPtrase reads its semantic correlation off
    the last block but one on the way.
    """
    *early, penultimate, last = tower.blocks
    x = tower.embed(images)
    for block in early:
        x = block.forward(x)

    heads = penultimate.heads(x)
    similar = attention.semantic_correlation(heads) if correlation else None
    x = penultimate.forward(x, heads)

    heads = last.heads(x)
    mixed = last.mix(method.rule(heads) @ heads.v)
    x = x + mixed if method.residual else mixed
    if method.feed_forward:
        x = x + last.feed_forward(x)
    return Encoded(x, similar)
