"""Attention rules: which tokens each patch of the last block attends to.

A rule maps the projections of one block to terms. A term names the two tensors to compare. The
attention of terms is computed in one of two ways: `weights` returns the weights for callers that
read them; `attend` fuses the weights with the values.

Shapes: B images, H heads, N = 1 + rows * cols tokens ([CLS] first), C channels of a head.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, reduce
from operator import add
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

# 4 MB of bfloat16. Weights of this size stay in the CPU cache between their three uses.
_PIECE_ELEMENTS = 1 << 21


class Heads(NamedTuple):
    """Queries, keys and values of one block, each [B, H, N, C]."""

    q: Tensor
    k: Tensor
    v: Tensor


class Term(NamedTuple):
    """softmax(x yᵀ / sqrt(C) + bias): x, y [B, H, N, C]; bias [N, N], or None for 0."""

    x: Tensor
    y: Tensor
    bias: Tensor | None = None


Grid = tuple[int, int]
# (heads, (rows, cols)) -> terms; their attention is added up.
Rule = Callable[[Heads, Grid], Sequence[Term]]


def weights(terms: Sequence[Term]) -> Tensor:
    """Return the sum of the attention weights [B, H, N, N] of the terms."""
    return added(
        softmax(similarity(x, y) if bias is None else similarity(x, y) + bias)
        for x, y, bias in terms
    )


def attend(terms: Sequence[Term], values: Tensor) -> Tensor:
    """Return `weights(terms) @ values` [B, H, N, C] without storing all weights at once."""
    return added(_fused(term, values) for term in terms)


def added(parts: Iterable[Tensor]) -> Tensor:
    """Return the sum of one or more tensors."""
    return reduce(add, parts)


def _fused(term: Term, values: Tensor) -> Tensor:
    if values.device.type == 'cpu' and values.dtype == torch.bfloat16:
        # On the CPU in bfloat16, torch's fused kernel is slower than matrix products.
        return _in_pieces(term, values)
    return F.scaled_dot_product_attention(term.x, term.y, values, attn_mask=term.bias)


def _in_pieces(term: Term, values: Tensor) -> Tensor:
    """Compute `attend` for one term, a few heads at a time."""
    x, y, v = (of.flatten(0, 1) for of in (term.x, term.y, values))
    step = max(1, _PIECE_ELEMENTS // (x.shape[1] * y.shape[1]))
    pieces = zip(*(of.split(step) for of in (x, y, v)), strict=True)
    rows = [weights([Term(a, b, term.bias)]) @ c for a, b, c in pieces]
    return torch.cat(rows).view(values.shape)


def similarity(x: Tensor, y: Tensor) -> Tensor:
    """Return the scaled dot products x yᵀ / sqrt(C) [..., N, N]."""
    return (x * x.shape[-1] ** -0.5) @ y.transpose(-2, -1)


def softmax(logits: Tensor) -> Tensor:
    """Return the softmax over the last axis. torch computes it in float32 and rounds the result."""
    return torch.softmax(logits, -1)


def clip(heads: Heads, grid: Grid) -> Sequence[Term]:
    """Return CLIP's own attention of queries to keys; rows sum to 1."""
    return [Term(heads.q, heads.k)]


def query_query(heads: Heads, grid: Grid) -> Sequence[Term]:
    """Return the attention of queries to queries, as in ClearCLIP (arXiv 2407.12442).

    Rows sum to 1.
    """
    return [Term(heads.q, heads.q)]


def key_key(heads: Heads, grid: Grid) -> Sequence[Term]:
    """Return the attention of keys to keys; rows sum to 1."""
    return [Term(heads.k, heads.k)]


def sclip(heads: Heads, grid: Grid) -> Sequence[Term]:
    """Return the correlative self-attention of SCLIP (arXiv 2312.01597).

    Queries to queries plus keys to keys: the sum of two softmaxes; rows sum to 2.
    """
    return [*query_query(heads, grid), *key_key(heads, grid)]


def cliptrase(heads: Heads, grid: Grid) -> Sequence[Term]:
    """Return the sum of the self-correlations of queries, keys and values; rows sum to 3.

    CLIPtrase (arXiv 2407.08268), section 3, as in its official code.
    """
    return [Term(x, x) for x in heads]


def cliptrase_paper(heads: Heads, grid: Grid) -> Sequence[Term]:
    """Return one softmax of the mean similarity of queries, keys and values; rows sum to 1.

    CLIPtrase (arXiv 2407.08268), as drawn in its figure.
    """
    # Concatenated rows have 3 C channels. Their product is the sum of the three similarities, and
    # is divided by sqrt(3 C).
    rows = torch.cat(heads, -1)
    return [Term(rows * len(heads) ** -0.5, rows)]


def naclip(heads: Heads, grid: Grid, sigma: float = 5.0) -> Sequence[Term]:
    """Return softmax(k kᵀ / sqrt(C) + omega): keys to keys, and a patch prefers its neighbours.

    NACLIP (arXiv 2404.08181), with the sigma of its official code; rows sum to 1.
    """
    keys = heads.k
    return [Term(keys, keys, neighbourhood(grid, sigma, keys.device, keys.dtype))]


@lru_cache(maxsize=4)
def neighbourhood(
    grid: Grid, sigma: float, device: torch.device | None = None, dtype: torch.dtype | None = None
) -> Tensor:
    """Return NACLIP's omega [N, N] for a grid.

    It is exp(-d² / (2 sigma²)) for two patches at a distance of d patches, and 0 if one of the two
    tokens is [CLS]. With an infinite sigma the table is 0, which gives plain k-k attention. (A
    constant 1 between patches would only lower the weight of [CLS].)
    """
    rows, cols = grid
    table = torch.zeros(1 + rows * cols, 1 + rows * cols, device=device)
    if math.isfinite(sigma):
        at = places(grid, device)
        distance = (at[:, None] - at).norm(dim=-1)
        table[1:, 1:] = torch.exp(-(distance**2) / (2 * sigma**2))
    return table.to(dtype)


def places(grid: Grid, device: torch.device | None = None) -> Tensor:
    """Return (row, column) of each patch, [rows * cols, 2] float32."""
    rows, cols = (torch.arange(n, dtype=torch.float32, device=device) for n in grid)
    return torch.cartesian_prod(rows, cols)


def semantic_correlation(heads: Heads) -> Tensor:
    """Return the cosine of each token with each token, [B, N, N] in -1..1.

    It is the mean over queries, keys, values and heads. CLIPtrase (arXiv 2407.08268); the official
    code takes it from the second-to-last block.
    """
    batch, _, tokens, _ = heads.q.shape
    units = [F.normalize(x.float(), dim=-1) for x in heads]
    # One product of concatenated rows gives the mean over heads and projections.
    rows = torch.cat([u.transpose(1, 2).reshape(batch, tokens, -1) for u in units], -1)
    return rows @ rows.transpose(-2, -1) / (len(heads) * heads.q.shape[1])
