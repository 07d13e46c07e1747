"""ResCLIP (CVPR 2025, arXiv 2411.15851), as its official code has it.

Two parts. Residual cross-correlation (RCS): the last block's attention is blended with that of
middle blocks. Semantic feedback refinement (SFR): labels of a first pass say which patches belong
together, and the last block runs once more with that in its attention.

Shapes: B images, H heads, N = rows * cols patches, 1 + N tokens with [CLS] first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ..labels import refine, voting
from ..labels.queries import DeviceWords
from ..labels.resample import enlarged, size_of
from ..model import attention
from ..model.attention import Grid, Heads
from ..model.recipes import Recipe, Trace, between
from ..model.visual import Tower

# Inverse temperature of the first pass's probabilities.
SCALE = 40.0
# Of the Gaussian along the rows of the semantic map, in patches.
BLUR_SIGMA = 5.0


@dataclass(frozen=True, eq=False)
class ResClip(Recipe):
    """NACLIP's attention, blended with the mean attention of the middle blocks.

    Attributes:
        sigma: of NACLIP's neighbourhood, in patches.
        share: lambda_rcs, how much of the blend is the middle blocks'.
        gain: tau_rcs, the sum of each row of weights.
        feedback_share: lambda_sfr, how much of the similarity of keys gives way to semantics.
        feedback_gain: tau_sfr, factor of that mixture.
    """

    sigma: float = 5.0
    share: float = 0.4
    gain: float = 2.0
    feedback_share: float = 0.7
    feedback_gain: float = 1.8

    def last(self, trace: Trace, semantics: Tensor | None = None) -> Tensor:
        """Tokens [B, 1 + N, D] before ln_post.

        Args:
            semantics: [B, 1 + N, 1 + N] of `semantic_map`; None: without feedback.
        """
        block = self.blocks[-1]
        heads = block.heads(trace.x)
        return block.mix(self.weights(heads, trace, semantics) @ heads.v)

    def weights(self, heads: Heads, trace: Trace, semantics: Tensor | None = None) -> Tensor:
        """Attention weights [B, H, 1 + N, 1 + N]; rows sum to tau_rcs."""
        logits = attention.similarity(heads.k, heads.k)
        if semantics is not None:
            semantics = semantics[:, None].to(logits.dtype)
            logits = self.feedback_gain * logits.lerp(semantics, self.feedback_share)
        omega = attention.neighbourhood(trace.grid, self.sigma, logits.device, logits.dtype)
        own = attention.softmax(logits + omega)
        return self.gain * own.lerp(trace.attention / len(self.maps), self.share)


def middle(tower: Tower) -> frozenset[int]:
    """The numbers of the blocks whose attention is blended in, by the depth of the tower."""
    return frozenset(between(len(tower.blocks), 6, 9))


def feedback(
    features: Tensor, words: DeviceWords, images: Tensor, patch: int, threshold: float
) -> Tensor:
    """The `semantic_map` of the labels that a first pass's features give the patches.

    Args:
        features: [B, rows, cols, E]; words, threshold, images: see `first_labels`.
    """
    scores = voting.cosines(features, words.embeddings).movedim(-1, 1)
    # Background comes first there, and the classes 1 .. K after it.
    owner = (words.queries.owner + 1) % (words.queries.classes + 1)
    return semantic_map(first_labels(scores, images, owner, patch, threshold))


def first_labels(
    scores: Tensor, images: Tensor, owner: Tensor, patch: int, threshold: float
) -> Tensor:
    """What the first pass takes each patch for: [B, rows, cols] int64, 0 for background.

    Args:
        scores: [B, Q, rows, cols] cosines.
        images: [B, 3, h, w] as the tower saw them, any range.
        owner: [Q] the label of each query.
        threshold: pixels of which no query is as probable, in 0..1, get label 0. (In the official
            code that is class 0, which is the background where there is one.)
    """
    pixels = []
    for maps, image in zip(scores, images, strict=True):
        maps = refine.pamr(enlarged(maps, size_of(image)), image)
        best, query = (SCALE * maps).softmax(0).max(0)
        pixels.append(torch.where(best < threshold, 0, owner[query]))
    return patch_labels(torch.stack(pixels), patch)


def patch_labels(pixels: Tensor, patch: int) -> Tensor:
    """The most frequent label of each patch (ties: the lowest): pixels [B, rows * patch,
    cols * patch] int64 -> [B, rows, cols]."""
    batch, height, width = pixels.shape
    cells = pixels.view(batch, height // patch, patch, width // patch, patch)
    # torch's mode takes the lowest of several.
    return cells.transpose(2, 3).flatten(3).mode(-1).values


def semantic_map(labels: Tensor) -> Tensor:
    """How much patches belong together by their labels [B, rows, cols]: [B, 1 + N, 1 + N] in
    0..1, 0 for [CLS].

    1 for two patches of one label, less if the way from one to the other leaves it; then blurred
    along the rows, normalised to row sums 1, and divided by the largest value.
    """
    grid = size_of(labels)
    flat = labels.flatten(1)
    same = (flat[:, :, None] == flat[:, None]).float()
    steps, farthest = _steps(grid, labels.device), max(max(grid) - 1, 1)
    faded = same * torch.exp(-steps / farthest)
    linked = torch.where(_connected(flat, grid, steps, farthest), same, faded)
    blurred = linked @ _blur(flat.shape[1], labels.device)
    rows = blurred / (blurred.sum(-1, keepdim=True) + 1e-8)
    result = rows.new_zeros(len(rows), *(1 + n for n in rows.shape[1:]))
    result[:, 1:, 1:] = rows / rows.amax((1, 2), keepdim=True)
    return result


def _connected(flat: Tensor, grid: Grid, steps: Tensor, farthest: int) -> Tensor:
    """Whether the way from patch i to patch j keeps the label of i: [B, N, N] bool.

    The official code looks at the points start (1 - t) + end t, rounded, for t = k / farthest and
    k = 0 .. steps: for all but the most distant pairs that is the beginning of the way.
    """
    rows, cols = (torch.arange(n, dtype=torch.float32, device=flat.device) for n in grid)
    connected = torch.ones(len(flat), *steps.shape, dtype=torch.bool, device=flat.device)
    for k in range(1, farthest + 1):
        t = k / farthest
        row, col = ((n[:, None] * (1 - t) + n * t).round().long() for n in (rows, cols))
        # Both ends' rows and columns: [rows, cols, rows, cols] -> [N, N].
        at = (row[:, None, :, None] * grid[1] + col[None, :, None, :]).reshape(steps.shape)
        connected &= (flat[:, at] == flat[:, :, None]) | (steps < k)
    return connected


@lru_cache(maxsize=4)
def _steps(grid: Grid, device: torch.device) -> Tensor:
    """Steps [N, N] of a king from patch to patch."""
    at = attention.places(grid, device)
    return (at[:, None] - at).abs().amax(-1)


@lru_cache(maxsize=4)
def _blur(count: int, device: torch.device) -> Tensor:
    """A Gaussian along `count` places, zeros outside, as a symmetric matrix [count, count]."""
    length = min(int(6 * BLUR_SIGMA + 1), count)
    reach = (length - 1) // 2
    index = torch.arange(count, dtype=torch.float32, device=device)
    offset = index[:, None] - index
    kernel = torch.exp(-(offset**2) / (2 * BLUR_SIGMA**2)) * (offset.abs() <= reach)
    total = 1 + 2 * sum(math.exp(-(n**2) / (2 * BLUR_SIGMA**2)) for n in range(1, reach + 1))
    return kernel / total
