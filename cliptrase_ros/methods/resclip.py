"""ResCLIP (CVPR 2025, arXiv 2411.15851), as in its official code.

It has two parts. Residual cross-correlation (RCS) blends the attention of the last block with that
of middle blocks. Semantic feedback refinement (SFR) takes the labels of a first pass to find which
patches belong together. The last block then runs once more, with this in its attention.

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

# Inverse temperature of the probabilities in the first pass.
SCALE = 40.0
# Sigma of the Gaussian along the rows of the semantic map, in patches.
BLUR_SIGMA = 5.0


@dataclass(frozen=True, eq=False)
class ResClip(Recipe):
    """NACLIP's attention, blended with the mean attention of the middle blocks.

    Attributes:
        sigma: sigma of NACLIP's neighbourhood, in patches.
        share: lambda_rcs, the share of the middle blocks in the blend.
        gain: tau_rcs, the sum of each row of weights.
        feedback_share: lambda_sfr, the share of semantics in the mixture with key similarity.
        feedback_gain: tau_sfr, factor of that mixture.
    """

    sigma: float = 5.0
    share: float = 0.4
    gain: float = 2.0
    feedback_share: float = 0.7
    feedback_gain: float = 1.8

    def last(self, trace: Trace, semantics: Tensor | None = None) -> Tensor:
        """Return the tokens [B, 1 + N, D] before ln_post.

        Args:
            semantics: [B, 1 + N, 1 + N] from `semantic_map`; None: no feedback.
        """
        block = self.blocks[-1]
        heads = block.heads(trace.x)
        return block.mix(self.weights(heads, trace, semantics) @ heads.v)

    def weights(self, heads: Heads, trace: Trace, semantics: Tensor | None = None) -> Tensor:
        """Return the attention weights [B, H, 1 + N, 1 + N]; rows sum to tau_rcs."""
        logits = attention.similarity(heads.k, heads.k)
        if semantics is not None:
            semantics = semantics[:, None].to(logits.dtype)
            logits = self.feedback_gain * logits.lerp(semantics, self.feedback_share)
        omega = attention.neighbourhood(trace.grid, self.sigma, logits.device, logits.dtype)
        own = attention.softmax(logits + omega)
        return self.gain * own.lerp(trace.attention / len(self.maps), self.share)


def middle(tower: Tower) -> frozenset[int]:
    """Return the numbers of the blocks whose attention is blended in. They depend on the depth."""
    return frozenset(between(len(tower.blocks), 6, 9))


def feedback(
    features: Tensor, words: DeviceWords, images: Tensor, patch: int, threshold: float
) -> Tensor:
    """Return the `semantic_map` of the patch labels from the features of a first pass.

    Args:
        features: [B, rows, cols, E] of the first pass.
        words: the vocabulary on the device of the features.
        images, threshold: see `first_labels`.
        patch: side of a patch in pixels.
    """
    scores = voting.cosines(features, words.embeddings).movedim(-1, 1)
    # In `first_labels`, background is 0 and the classes are 1 .. K.
    owner = (words.queries.owner + 1) % (words.queries.classes + 1)
    return semantic_map(first_labels(scores, images, owner, patch, threshold))


def first_labels(
    scores: Tensor, images: Tensor, owner: Tensor, patch: int, threshold: float
) -> Tensor:
    """Return the label of each patch in the first pass: [B, rows, cols] int64, 0 for background.

    Args:
        scores: [B, Q, rows, cols] cosines.
        images: [B, 3, h, w], the input of the tower, in any range.
        owner: [Q] the label of each query.
        threshold: in 0..1; a pixel gets label 0 if no query reaches this probability. (In the
            official code that is class 0, which is the background if there is one.)
    """
    pixels = []
    for maps, image in zip(scores, images, strict=True):
        maps = refine.pamr(enlarged(maps, size_of(image)), image)
        best, query = (SCALE * maps).softmax(0).max(0)
        pixels.append(torch.where(best < threshold, 0, owner[query]))
    return patch_labels(torch.stack(pixels), patch)


def patch_labels(pixels: Tensor, patch: int) -> Tensor:
    """Return the most frequent label of each patch (ties: the lowest), [B, rows, cols].

    Args:
        pixels: labels [B, rows * patch, cols * patch] int64.
    """
    batch, height, width = pixels.shape
    cells = pixels.view(batch, height // patch, patch, width // patch, patch)
    # If several are equally frequent, torch's mode takes the lowest.
    return cells.transpose(2, 3).flatten(3).mode(-1).values


def semantic_map(labels: Tensor) -> Tensor:
    """Return how much patches belong together by their labels [B, rows, cols].

    The result is [B, 1 + N, 1 + N] in 0..1, 0 for [CLS]. Two patches with the same label have 1, or
    less if the path from one to the other leaves this label. The map is then blurred along the
    rows, normalised to row sums 1, and divided by its largest value.
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
    """Return [B, N, N] bool: true if the path from patch i to patch j keeps the label of i.

    The official code checks the points start (1 - t) + end t, rounded, for t = k / farthest and
    k = 0 .. steps. For all pairs except the most distant ones this is only the start of the path.
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
    """Return the Chebyshev distance [N, N] of the patches (moves of a chess king)."""
    at = attention.places(grid, device)
    return (at[:, None] - at).abs().amax(-1)


@lru_cache(maxsize=4)
def _blur(count: int, device: torch.device) -> Tensor:
    """Return the symmetric matrix [count, count] of a Gaussian blur with zero padding."""
    length = min(int(6 * BLUR_SIGMA + 1), count)
    reach = (length - 1) // 2
    index = torch.arange(count, dtype=torch.float32, device=device)
    offset = index[:, None] - index
    kernel = torch.exp(-(offset**2) / (2 * BLUR_SIGMA**2)) * (offset.abs() <= reach)
    total = 1 + 2 * sum(math.exp(-(n**2) / (2 * BLUR_SIGMA**2)) for n in range(1, reach + 1))
    return kernel / total
