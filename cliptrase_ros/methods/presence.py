"""Which words are in the picture: a score in 0..1 for each class.

Shapes: Q queries, K classes, N = rows * cols patches. `owner` [Q] is the class of each query:
0 .. K-1, and K for a background word.
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

# The published thresholds of MaskCLIP, and of TagCLIP for COCO-Stuff. The words of COCO-Stuff are
# things and surfaces, like the words of a robot. (TagCLIP uses 0.5 for things alone.)
THRESHOLDS = {'denoise': 0.5, 'tagclip': 0.1}


def probabilities(logits: Tensor, owner: Tensor, classes: int) -> Tensor:
    """Return the softmax of logits [Q, ...] over all queries, summed for each class: [K, ...].

    The sum is needed because two prompts of one class share its probability: both may be small.
    """
    shares = logits.float().softmax(0)
    sums = shares.new_zeros(classes + 1, *shares.shape[1:])
    return sums.index_add_(0, owner, shares)[:classes]


def denoise(logits: Tensor, owner: Tensor, classes: int) -> Tensor:
    """Return the largest probability of each class [K] over all places of logits [Q, h, w].

    MaskCLIP's prompt denoising (arXiv 2112.01071).
    """
    return probabilities(logits, owner, classes).flatten(1).amax(1)


class Evidence(NamedTuple):
    """Data of one image that TagCLIP needs; it does not depend on the words.

    Attributes:
        values: [rows, cols, E] features of patches that keep their own values in the last block.
        attention: [N, N], see `PatchAttention`.
    """

    values: Tensor
    attention: Tensor


class PatchAttention:
    """Finds which patches belong together, from the attention of all blocks: DMAR of TagCLIP.

    Source: arXiv 2312.12828. It takes the attention of one block after the other, because the
    attention of all blocks together is large.

    Args:
        depth: number of blocks L.
    """

    def __init__(self, depth: int):
        self._needed = -(-depth // 3)
        # The official code is for 12 blocks: 4 votes, and the mean of blocks 9 to 11.
        self._averaged = range(min(2 * depth // 3 + 1, depth - 1), depth)
        self._block = 0
        self._votes: Tensor  # set by the first block
        self._sum: Tensor  # set by the first averaged block

    def add(self, weights: Tensor) -> None:
        """Add the attention [B, H, 1 + N, 1 + N] of the next block."""
        self._block += 1
        patches = weights[:, :, 1:, 1:].mean(1, dtype=torch.float32)
        votes = (patches > patches.mean((1, 2), keepdim=True)).to(torch.uint8)
        self._votes = votes if self._block == 1 else self._votes + votes
        if self._block in self._averaged:
            self._sum = patches if self._block == self._averaged[0] else self._sum + patches

    def attention(self) -> Tensor:
        """Return the mean attention of the late blocks, [B, N, N].

        An entry is 0 if it is above the mean of its block in fewer than a third of all blocks.
        """
        mean = self._sum / len(self._averaged)
        return mean.masked_fill(self._votes < self._needed, 0.0)


def evidence(
    tower: Tower, blocks: Sequence[Block], trace: Trace, belonging: PatchAttention
) -> list[Evidence]:
    """Return the evidence of each image [B], from the results of the blocks below the last one.

    Args:
        belonging: already holds the attention of all blocks except the last.
    """
    last = blocks[-1]
    heads = last.heads(trace.x)
    belonging.add(attention.weights(attention.clip(heads, trace.grid)))
    values = tower.project(last.finish(trace.x, heads.v))[:, 1:].float()
    values = values.unflatten(1, trace.grid)
    return [Evidence(*one) for one in zip(values, belonging.attention(), strict=True)]


def tagclip(probability: Tensor, attention: Tensor) -> Tensor:
    """Return the score of each class [K], divided by the score of the best class.

    TagCLIP (arXiv 2312.12828) without its last step. First, each patch takes the probabilities of
    the patches that it belongs to. Then this is repeated with only those patches that lie in boxes
    around the places where the class is above its own mean.

    Args:
        probability: [K, rows, cols] of each class at each patch, from the patch's own value only.
        attention: [N, N], see `PatchAttention`.
    """
    coarse = probability.flatten(1)
    refined = coarse @ attention.T
    above = refined > refined.mean(1, keepdim=True)
    inside = boxes(above.view(probability.shape)).flatten(1)
    scores = ((coarse * inside) @ attention.T).amax(1)
    best = scores.max()
    # If no patch belongs to another one (a picture of one patch), nothing is known: keep all words.
    return torch.where(best > 0, scores / best, 1.0)


def boxes(mask: Tensor) -> Tensor:
    """Return [K, rows, cols] bool, true in the bounding box of each part of mask [K, rows, cols].

    A part is a set of patches that touch, also at corners.
    """
    classes, height, width = mask.shape
    part = _parts(mask).flatten()
    count, device = mask.numel(), mask.device
    row = torch.arange(height, device=device)[:, None].expand(mask.shape).flatten()
    col = torch.arange(width, device=device).expand(mask.shape).flatten()
    # One place for each possible number of a part; the last place is for patches in no part.
    low = torch.full((2, count + 1), max(height, width), device=device)
    high = torch.zeros(2, count + 1, dtype=torch.long, device=device)
    place, index = torch.stack([row, col]), part.expand(2, -1)
    top, left = low.scatter_reduce(1, index, place, 'amin')[:, :-1]
    bottom, right = high.scatter_reduce(1, index, 1 + place, 'amax')[:, :-1]
    # Add +1 and -1 at the corners of each box: the cumulative sums along both axes then count the
    # boxes at each patch. A number that no part uses has no box.
    found = (bottom > 0).long()
    owner = torch.arange(count, device=device) // (height * width)
    corners = torch.zeros(classes, height + 1, width + 1, dtype=torch.long, device=device)
    for y, x, sign in ((top, left, 1), (bottom, right, 1), (top, right, -1), (bottom, left, -1)):
        at = (owner * (height + 1) + y * found) * (width + 1) + x * found
        corners.view(-1).scatter_add_(0, at, sign * found)
    return corners.cumsum(1).cumsum(2)[:, :-1, :-1] > 0


def _parts(mask: Tensor) -> Tensor:
    """Return the number of the part of each patch, [K, rows, cols] int64.

    Patches that touch have the same number: the smallest of their places in 0 .. K rows cols - 1.
    Patches in no part have K rows cols.
    """

    def nearest(numbers: Tensor) -> Tensor:
        numbers = numbers.view(-1, 1, *mask.shape[1:])
        return -F.max_pool2d(-numbers, 3, stride=1, padding=1).flatten()

    return components(nearest, mask.flatten(), mask[0].numel()).view(mask.shape).long()
