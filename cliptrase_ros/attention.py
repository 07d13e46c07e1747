"""Attention rules: what a patch of the last block looks at.

A rule maps the projections of one block to attention weights; rules are pure functions.

Shapes: B images, H heads, N = 1 + rows * cols tokens ([CLS] first), C channels of a head.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Heads(NamedTuple):
    """Queries, keys and values of one block, each [B, H, N, C]."""

    q: Tensor
    k: Tensor
    v: Tensor


Rule = Callable[[Heads], Tensor]


def softmax_attention(x: Tensor, y: Tensor) -> Tensor:
    """softmax(x yᵀ / sqrt(C)) [B, H, N, N]; rows sum to 1. The softmax runs in float32."""
    logits = (x * x.shape[-1] ** -0.5) @ y.transpose(-2, -1)
    return torch.softmax(logits, -1, dtype=torch.float32).to(x.dtype)


def clip(heads: Heads) -> Tensor:
    """CLIP's own attention of queries to keys; rows sum to 1."""
    return softmax_attention(heads.q, heads.k)


def cliptrase(heads: Heads) -> Tensor:
    """Self-correlation of queries, keys and values, added up; rows sum to 3.

    CLIPtrase (arXiv 2407.08268), section 3. The official code adds the three softmaxes, where
    the paper's figure takes one softmax of the mean similarity; this is the official code's form.
    """
    return sum(softmax_attention(x, x) for x in heads)


def semantic_correlation(heads: Heads) -> Tensor:
    """Cosine of tokens to tokens, mean over queries, keys, values and heads: [B, N, N] in -1..1.

    CLIPtrase (arXiv 2407.08268); the official code takes it from the last block but one.
    """
    batch, _, tokens, _ = heads.q.shape
    units = [F.normalize(x.float(), dim=-1) for x in heads]
    # The mean over heads and projections is one product of the rows laid side by side.
    rows = torch.cat([u.transpose(1, 2).reshape(batch, tokens, -1) for u in units], -1)
    return rows @ rows.transpose(-2, -1) / (len(heads) * heads.q.shape[1])
