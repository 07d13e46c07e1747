"""The image tower written out from the weights of an open_clip VisionTransformer.

This is the only file that knows open_clip's attribute names. Nothing is patched and nothing is
hooked: the weights are read, so one model serves every method, image size and thread at once.

Shapes: B images, H heads, N = 1 + rows * cols tokens ([CLS] first), C channels of a head,
D width of the tower, E width of the joint image-text space.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import Heads
from .errors import ShapeError, UnsupportedBackbone

_POSITION_TABLES = 8


class Block:
    """One pre-norm transformer block, taken apart: x + attention(x), then x + feed_forward(x)."""

    # Output channel of the feed-forward whose weights are taken times a factor: (channel, factor).
    _suppressed: tuple[int, float] | None = None

    def __init__(self, block: nn.Module):
        self._norm_1, self._attention = block.ln_1, block.attn
        self._norm_2, self._mlp = block.ln_2, block.mlp
        self._scale_1, self._scale_2 = block.ls_1, block.ls_2

    def heads(self, x: Tensor) -> Heads:
        """Queries, keys, values [B, H, N, C] of the normed tokens x [B, N, D]."""
        batch, tokens, width = x.shape
        qkv = F.linear(
            self._norm_1(x), self._attention.in_proj_weight, self._attention.in_proj_bias
        )
        count = self._attention.num_heads
        q, k, v = qkv.view(batch, tokens, 3, count, width // count).permute(2, 0, 3, 1, 4)
        return Heads(q, k, v)

    def mix(self, values: Tensor) -> Tensor:
        """Attended values [B, H, N, C] back to tokens [B, N, D], before the residual sum."""
        batch, heads, tokens, channels = values.shape
        rows = values.transpose(1, 2).reshape(batch, tokens, heads * channels)
        return self._scale_1(self._attention.out_proj(rows))

    def feed_forward(self, x: Tensor) -> Tensor:
        """The block's second half on x [B, N, D], before the residual sum."""
        hidden = self._mlp(self._norm_2(x))
        if self._suppressed:
            channel, factor = self._suppressed
            bias = self._mlp.c_proj.bias[channel]
            hidden[..., channel] = (hidden[..., channel] - bias) * factor + bias
        return self._scale_2(hidden)

    @cached_property
    def suppressed(self) -> Block:
        """This block with the loudest channel of its feed-forward at the loudness of the others.

        The row of the output weights with the largest norm is taken times the mean norm of the
        others over its own, as in GCLIP's channel suppression (reconstructed, see gclip.py). The
        shared weights stay as they are.
        """
        norms = self._mlp.c_proj.weight.float().norm(dim=1)
        channel = int(norms.argmax())
        others = (norms.sum() - norms[channel]) / (len(norms) - 1)
        block = copy.copy(self)
        block._suppressed = channel, float(others / norms[channel])
        return block

    def forward(self, x: Tensor) -> Tensor:
        """The block as the model has it."""
        return self.finish(x, F.scaled_dot_product_attention(*self.heads(x)))

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """The block's output for its input x [B, N, D] and attended values [B, H, N, C]."""
        x = x + self.mix(attended)
        return x + self.feed_forward(x)


class Tower:
    """Images -> tokens -> joint space, for any grid of patches.

    Args:
        visual: an open_clip VisionTransformer. It is read, never changed.
        dtype: arithmetic; other than the visual's own, the weights are copied.
        position_offset: see Settings.position_offset.

    Raises:
        UnsupportedBackbone: the visual is not a native VisionTransformer with a class token.
    """

    def __init__(
        self, visual: nn.Module, dtype: torch.dtype | None = None, position_offset: float = 0.1
    ):
        _require_native(visual)
        own = visual.conv1.weight.dtype
        if dtype is not None and dtype != own:
            visual = copy.deepcopy(visual).to(dtype)
        self._visual = visual
        self.position_offset = position_offset
        self._positions: OrderedDict[tuple[int, int], Tensor] = OrderedDict()
        self.blocks = [Block(block) for block in visual.transformer.resblocks]
        self.dtype = visual.conv1.weight.dtype
        self.device = visual.conv1.weight.device
        self.patch = visual.conv1.kernel_size[0]
        self.image_size = tuple(side * self.patch for side in visual.grid_size)

    def embed(self, images: Tensor) -> Tensor:
        """Normalised images [B, 3, rows * patch, cols * patch] -> tokens [B, N, D].

        Raises:
            ShapeError: a side is not a multiple of the patch.
        """
        height, width = images.shape[-2:]
        if height % self.patch or width % self.patch or not height or not width:
            raise ShapeError(
                f'image of {height} x {width} px: sides must be multiples of {self.patch} px'
            )
        visual = self._visual
        grid = (height // self.patch, width // self.patch)
        # As a product and not as a convolution: on CUDA that would be TF32, far from float32.
        pixels = F.unfold(images.to(self.dtype), self.patch, stride=self.patch).transpose(1, 2)
        tokens = F.linear(pixels, visual.conv1.weight.flatten(1), visual.conv1.bias)
        cls = visual.class_embedding.to(self.dtype).expand(len(images), 1, -1)
        tokens = torch.cat([cls, tokens], 1) + self._position_table(grid)
        return visual.ln_pre(tokens)

    def project(self, tokens: Tensor) -> Tensor:
        """Tokens [B, N, D] of the last block -> joint space [B, N, E], not normalised."""
        tokens = self._visual.ln_post(tokens)
        return tokens if self._visual.proj is None else tokens @ self._visual.proj

    def pool(self, tokens: Tensor) -> Tensor:
        """The image embedding [B, E] that the model itself makes of its last tokens [B, N, D]."""
        if self._visual.pool_type == 'tok':
            return self.project(tokens)[:, 0]
        if self._visual.final_ln_after_pool:
            return self.project(tokens[:, 1:].mean(1, keepdim=True))[:, 0]
        return self.project(tokens)[:, 1:].mean(1)

    def _position_table(self, grid: tuple[int, int]) -> Tensor:
        """Position embeddings [N, D] for the grid; cached, since a robot's images keep one size."""
        table = self._positions.get(grid)
        if table is None:
            table = self._resize_positions(grid)
            self._positions[grid] = table
            while len(self._positions) > _POSITION_TABLES:
                self._positions.popitem(last=False)
        return table

    def _resize_positions(self, grid: tuple[int, int]) -> Tensor:
        trained = tuple(self._visual.grid_size)
        table = self._visual.positional_embedding
        if grid == trained:
            return table.to(self.dtype)
        cls, patches = table[:1].float(), table[1:].float()
        patches = patches.view(1, *trained, -1).permute(0, 3, 1, 2)
        if self.position_offset:
            scale = [(n + self.position_offset) / m for n, m in zip(grid, trained, strict=True)]
            patches = F.interpolate(patches, scale_factor=scale, mode='bicubic')
        else:
            patches = F.interpolate(patches, size=grid, mode='bicubic')
        return torch.cat([cls, patches.flatten(2)[0].T]).to(self.dtype)


def _require_native(visual: nn.Module) -> None:
    """Refuse what the written-out forward pass does not cover, naming what is missing."""

    def refuse(reason: str):
        raise UnsupportedBackbone(
            f'{type(visual).__name__}: {reason}. The methods need a native open_clip '
            "VisionTransformer with a class token, such as 'ViT-B-16-quickgelu'."
        )

    needed = ('conv1', 'class_embedding', 'positional_embedding', 'transformer', 'ln_post')
    missing = [name for name in needed if not hasattr(visual, name)]
    if missing:
        refuse(f'no {", ".join(missing)} (a ResNet or timm tower?)')
    if not isinstance(visual.conv1, nn.Conv2d):
        refuse('patches are not made by a convolution')
    kernel, stride = visual.conv1.kernel_size, visual.conv1.stride
    if kernel != stride or kernel[0] != kernel[1]:
        refuse(f'patches of {kernel} px with stride {stride} are no squares side by side')
    if getattr(visual, 'attn_pool', None) is not None:
        refuse('attention pooling puts patches into another space than the image')
    if visual.pool_type not in ('tok', 'avg'):
        refuse(f'pooling {visual.pool_type!r} makes no image embedding')
    if len(visual.transformer.resblocks) < 2:
        refuse('fewer than two blocks')
    for block in visual.transformer.resblocks:
        attention = getattr(block, 'attn', None)
        if not isinstance(attention, nn.MultiheadAttention) or attention.in_proj_weight is None:
            refuse('its attention is not torch.nn.MultiheadAttention')
