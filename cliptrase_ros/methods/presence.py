"""Which words are in the picture: a score in 0..1 for each class.

Shapes: Q queries, K classes, N = rows * cols patches. `owner` [Q] says which class a query speaks
for: 0 .. K-1, and K for a background word.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..labels.components import components
from ..model import attention
from ..model.recipes import Trace
from ..model.visual import Block, Tower

# As published: MaskCLIP's, and TagCLIP's for COCO-Stuff, whose words are things and surfaces as a
# robot's are (0.5 for things alone).
THRESHOLDS = {'denoise': 0.5, 'tagclip': 0.1}


def probabilities(logits: Tensor, owner: Tensor, classes: int) -> Tensor:
    """Softmax of logits [Q, ...] over all queries, added up for each class: [K, ...].

    Added up, because two prompts of one class share its probability: neither need be large.
    """
    shares = logits.float().softmax(0)
    sums = shares.new_zeros(classes + 1, *shares.shape[1:])
    return sums.index_add_(0, owner, shares)[:classes]


def denoise(logits: Tensor, owner: Tensor, classes: int) -> Tensor:
    """How probable each class [K] is where it is most probable; logits [Q, h, w].

    MaskCLIP's prompt denoising (arXiv 2112.01071).
    """
    return probabilities(logits, owner, classes).flatten(1).amax(1)


class Evidence(NamedTuple):
    """What TagCLIP asks of one image before any word is.

    Attributes:
        values: [rows, cols, E] features of patches that keep their own values in the last block.
        attention: [N, N], see `PatchAttention`.
    """

    values: Tensor
    attention: Tensor


class PatchAttention:
    """Which patches belong together by the attention of all blocks: DMAR of TagCLIP.

    arXiv 2312.12828. Takes the attention of one block after the other, since all of them at once
    are large.

    Args:
        depth: number of blocks L.
    """

    def __init__(self, depth: int):
        self._needed = -(-depth // 3)
        # The official code is for 12 blocks: 4 votes, and the mean of blocks 9 to 11.
        self._averaged = range(min(2 * depth // 3 + 1, depth - 1), depth)
        self._block = 0
        self._votes: Tensor  # from the first block on
        self._sum: Tensor  # from the first of the averaged ones on

    def add(self, weights: Tensor) -> None:
        """The attention [B, H, 1 + N, 1 + N] of the next block."""
        self._block += 1
        patches = weights[:, :, 1:, 1:].mean(1, dtype=torch.float32)
        votes = (patches > patches.mean((1, 2), keepdim=True)).to(torch.uint8)
        self._votes = votes if self._block == 1 else self._votes + votes
        if self._block in self._averaged:
            self._sum = patches if self._block == self._averaged[0] else self._sum + patches

    def attention(self) -> Tensor:
        """[B, N, N]: the mean attention of the late blocks, 0 where fewer than a third of all
        blocks had more than their mean."""
        mean = self._sum / len(self._averaged)
        return mean.masked_fill(self._votes < self._needed, 0.0)


def evidence(
    tower: Tower, blocks: Sequence[Block], trace: Trace, belonging: PatchAttention
) -> list[Evidence]:
    """What TagCLIP asks of each image [B], from what the blocks below the last one left.

    Args:
        belonging: has seen the attention of all blocks but the last.
    """
    last = blocks[-1]
    heads = last.heads(trace.x)
    belonging.add(attention.weights(attention.clip(heads, trace.grid)))
    values = tower.project(last.finish(trace.x, heads.v))[:, 1:].float()
    values = values.unflatten(1, trace.grid)
    return [Evidence(*one) for one in zip(values, belonging.attention(), strict=True)]


def tagclip(probability: Tensor, attention: Tensor) -> Tensor:
    """Score of each class [K] as a share of the best one's, so that that has 1.

    TagCLIP (arXiv 2312.12828) up to its last step: patches ask the patches that they belong to,
    then once more only those in boxes around where the class is above its own mean.

    Args:
        probability: [K, rows, cols] of each class at each patch, each with its own value only.
        attention: [N, N], see `PatchAttention`.
    """
    coarse = probability.flatten(1)
    refined = coarse @ attention.T
    above = refined > refined.mean(1, keepdim=True)
    inside = boxes(above.view(probability.shape)).flatten(1)
    scores = ((coarse * inside) @ attention.T).amax(1)
    best = scores.max()
    # Where no patch belongs to any other (a picture of one patch), nothing is known.
    return torch.where(best > 0, scores / best, 1.0)


def boxes(mask: Tensor) -> Tensor:
    """[K, rows, cols] bool, true in the bounding box of each part of mask [K, rows, cols] whose
    patches touch, corners included."""
    classes, height, width = mask.shape
    part = _parts(mask).flatten()
    count, device = mask.numel(), mask.device
    row = torch.arange(height, device=device)[:, None].expand(mask.shape).flatten()
    col = torch.arange(width, device=device).expand(mask.shape).flatten()
    # A place for each number that a part may have; the last one takes what is in no part.
    low = torch.full((2, count + 1), max(height, width), device=device)
    high = torch.zeros(2, count + 1, dtype=torch.long, device=device)
    place, index = torch.stack([row, col]), part.expand(2, -1)
    top, left = low.scatter_reduce(1, index, place, 'amin')[:, :-1]
    bottom, right = high.scatter_reduce(1, index, 1 + place, 'amax')[:, :-1]
    # Corners count up and down, so that the sums along both axes count the boxes of each patch.
    # What is no part's number has no box.
    found = (bottom > 0).long()
    owner = torch.arange(count, device=device) // (height * width)
    corners = torch.zeros(classes, height + 1, width + 1, dtype=torch.long, device=device)
    for y, x, sign in ((top, left, 1), (bottom, right, 1), (top, right, -1), (bottom, left, -1)):
        at = (owner * (height + 1) + y * found) * (width + 1) + x * found
        corners.view(-1).scatter_add_(0, at, sign * found)
    return corners.cumsum(1).cumsum(2)[:, :-1, :-1] > 0


def _parts(mask: Tensor) -> Tensor:
    """[K, rows, cols] int64: patches that touch have one number, the smallest of their places in
    0 .. K rows cols - 1, others different ones; K rows cols is none."""

    def nearest(numbers: Tensor) -> Tensor:
        numbers = numbers.view(-1, 1, *mask.shape[1:])
        return -F.max_pool2d(-numbers, 3, stride=1, padding=1).flatten()

    return components(nearest, mask.flatten(), mask[0].numel()).view(mask.shape).long()
