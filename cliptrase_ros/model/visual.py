"""Our own forward pass of the image tower, with the weights of an open_clip VisionTransformer.

No other file of the engine knows the names inside open_clip's image tower. The model is not patched
or hooked. We only read its weights, so one model serves all methods, image sizes and threads.

Shapes: B images, H heads, N = 1 + rows * cols tokens ([CLS] first), C channels of a head,
D width of the tower, E width of the joint image-text space.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from functools import cached_property
from typing import Any, NoReturn, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ShapeError, UnsupportedBackbone
from .attention import Grid, Heads, Term, attend
from .linear import Linear

_POSITION_TABLES = 8
# QuickGELU is x sigmoid(1.702 x).
_QUICK = 1.702


class Block:
    """One pre-norm transformer block, in steps: x + attention(x), then x + feed_forward(x).

    Linear layers and attention run in `dtype`. x, the norms and the sums are float32 (float64 if
    `dtype` is float64), because rounding the sums of all blocks causes most of the error of low
    precision.
    """

    # (channel, factor): scales the weights of this output channel of the feed-forward.
    _suppressed: tuple[int, float] | None = None

    def __init__(self, block: Any, dtype: torch.dtype):
        attention, mlp, self._wide = block.attn, block.mlp, wide(dtype)
        self._count: int = attention.num_heads
        self._norm_1, self._norm_2, self._scale_1, self._scale_2 = (
            _cast(module, self._wide) for module in (block.ln_1, block.ln_2, block.ls_1, block.ls_2)
        )
        self._qkv = Linear(attention.in_proj_weight, attention.in_proj_bias, dtype)
        self._out = Linear(attention.out_proj.weight, attention.out_proj.bias, dtype)
        # x sigmoid(c x) is silu(c x) / c, one operation instead of three. The factors go into the
        # weights, but only if these are copied to another dtype anyway.
        quick = type(mlp.gelu).__name__ == 'QuickGELU' and dtype != mlp.c_fc.weight.dtype
        c = _QUICK if quick else 1.0
        self._fc = Linear(mlp.c_fc.weight, c * mlp.c_fc.bias, dtype, factor=c, silu=quick)
        self._gelu: nn.Module = nn.Identity() if quick else mlp.gelu
        self._proj = Linear(mlp.c_proj.weight, mlp.c_proj.bias, dtype, factor=1 / c)

    def heads(self, x: Tensor) -> Heads:
        """Norm the tokens x [B, N, D]; return their queries, keys, values [B, H, N, C]."""
        qkv = self._qkv(self._norm_1(x)).unflatten(-1, (3, self._count, -1))
        return Heads(*qkv.permute(2, 0, 3, 1, 4))

    def mix(self, values: Tensor) -> Tensor:
        """Project attended values [B, H, N, C] to tokens [B, N, D], before the residual sum."""
        return self._scale_1(self._out(values.transpose(1, 2).flatten(2)).to(self._wide))

    def feed_forward(self, x: Tensor) -> Tensor:
        """Run the block's second half on x [B, N, D], before the residual sum."""
        hidden = self._proj(self._gelu(self._fc(self._norm_2(x)))).to(self._wide)
        if self._suppressed:
            channel, factor = self._suppressed
            bias = 0.0 if self._proj.bias is None else self._proj.bias[channel]
            hidden[..., channel] = (hidden[..., channel] - bias) * factor + bias
        return self._scale_2(hidden)

    @cached_property
    def suppressed(self) -> Block:
        """This block with the largest channel of its feed-forward scaled down.

        The row of the output weights with the largest norm is multiplied by the mean norm of the
        other rows and divided by its own norm, as in GCLIP's channel suppression (reconstructed,
        see gclip.py). The shared weights do not change.
        """
        norms = self._proj.weight.float().norm(dim=1)
        channel = int(norms.argmax())
        others = (norms.sum() - norms[channel]) / (len(norms) - 1)
        block = copy.copy(self)
        block._suppressed = channel, float(others / norms[channel])
        return block

    def forward(self, x: Tensor) -> Tensor:
        """Run the block as in the original model."""
        heads = self.heads(x)
        return self.finish(x, attend([Term(heads.q, heads.k)], heads.v))

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """Return the block's output for its input x [B, N, D] and attended values [B, H, N, C]."""
        x = x + self.mix(attended)
        return x + self.feed_forward(x)


class Tower:
    """Image tower: images -> tokens -> joint space, for any grid of patches.

    Args:
        visual: an open_clip VisionTransformer. It is read, never changed.
        dtype: dtype of the blocks, see `Block`; the dtype of `visual` if None.
        position_offset: see Settings.position_offset.

    Raises:
        UnsupportedBackbone: `visual` is not a native VisionTransformer with a class token.
    """

    def __init__(
        self, visual: nn.Module, dtype: torch.dtype | None = None, position_offset: float = 0.1
    ):
        _require_native(visual)
        # Any, because torch types every attribute of a module as a tensor or a module.
        self._visual = parts = cast(Any, visual)
        self.dtype: torch.dtype = dtype or parts.conv1.weight.dtype
        self._wide = wide(self.dtype)
        self.position_offset = position_offset
        self._positions: OrderedDict[Grid, Tensor] = OrderedDict()
        self._embedding: Tensor = parts.conv1.weight.flatten(1).to(self._wide)
        self._norm_pre = _cast(parts.ln_pre, self._wide)
        self._norm_post = _cast(parts.ln_post, self._wide)
        self._joint: Tensor | None = None if parts.proj is None else parts.proj.to(self._wide)
        self.blocks = [Block(block, self.dtype) for block in parts.transformer.resblocks]
        self.device: torch.device = parts.conv1.weight.device
        self.patch: int = parts.conv1.kernel_size[0]
        rows, cols = parts.grid_size
        self._trained: Grid = rows, cols
        self.image_size = rows * self.patch, cols * self.patch

    def with_offset(self, position_offset: float) -> Tower:
        """Return the tower with another `position_offset`. All weights are shared."""
        if position_offset == self.position_offset:
            return self
        tower = copy.copy(self)
        tower.position_offset = position_offset
        tower._positions = OrderedDict()
        return tower

    def grid(self, images: Tensor) -> Grid:
        """Return (rows, columns) of the patches of images [..., height, width]."""
        height, width = images.shape[-2:]
        return height // self.patch, width // self.patch

    def embed(self, images: Tensor, positions: Tensor | None = None) -> Tensor:
        """Embed normalised images [B, 3, rows * patch, cols * patch] as tokens [B, N, D].

        Args:
            positions: [N, D] or [B, N, D], position embeddings for images that are parts of larger
                ones; `position_table` of the grid if None.

        Raises:
            ShapeError: a side is not a multiple of the patch.
        """
        height, width = images.shape[-2:]
        if height % self.patch or width % self.patch or not height or not width:
            raise ShapeError(
                f'image of {height} x {width} px: sides must be multiples of {self.patch} px'
            )
        visual = self._visual
        grid = self.grid(images)
        # A matrix product: on CUDA a convolution would run in TF32, which is far from float32.
        pixels = images.to(self._wide).unflatten(3, (grid[1], -1)).unflatten(2, (grid[0], -1))
        pixels = pixels.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
        tokens = F.linear(pixels, self._embedding, visual.conv1.bias)
        cls = visual.class_embedding.to(self._wide).expand(len(images), 1, -1)
        table = self.position_table(grid) if positions is None else positions
        return self._norm_pre(torch.cat([cls, tokens], 1) + table)

    def project(self, tokens: Tensor) -> Tensor:
        """Map tokens [B, N, D] of the last block to the joint space [B, N, E], not normalised."""
        tokens = self._norm_post(tokens)
        return tokens if self._joint is None else tokens @ self._joint

    def pool(self, tokens: Tensor) -> Tensor:
        """Return the image embedding [B, E] as the model itself computes it.

        Args:
            tokens: [B, N, D] of the last block.
        """
        if self._visual.pool_type == 'tok':
            return self.project(tokens)[:, 0]
        if self._visual.final_ln_after_pool:
            return self.project(tokens[:, 1:].mean(1, keepdim=True))[:, 0]
        return self.project(tokens)[:, 1:].mean(1)

    def position_table(self, grid: Grid) -> Tensor:
        """Return the position embeddings [N, D] for the grid.

        They are cached, because the images of a robot keep one size.
        """
        table = self._positions.get(grid)
        if table is None:
            table = self._resize_positions(grid)
            self._positions[grid] = table
            while len(self._positions) > _POSITION_TABLES:
                self._positions.popitem(last=False)
        return table

    def _resize_positions(self, grid: Grid) -> Tensor:
        trained, table = self._trained, self._visual.positional_embedding
        if grid == trained:
            return table.to(self._wide)
        cls, patches = table[:1].float(), table[1:].float()
        patches = patches.view(1, *trained, -1).permute(0, 3, 1, 2)
        if self.position_offset:
            scale = [(n + self.position_offset) / m for n, m in zip(grid, trained, strict=True)]
            patches = F.interpolate(patches, scale_factor=scale, mode='bicubic')
        else:
            patches = F.interpolate(patches, size=grid, mode='bicubic')
        return torch.cat([cls, patches.flatten(2)[0].T]).to(self._wide)


def wide(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of sums and norms for arithmetic in `dtype`: at least float32."""
    return torch.promote_types(dtype, torch.float32)


def _cast(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Return the module with parameters of this dtype: itself or a copy."""
    same = all(parameter.dtype == dtype for parameter in module.parameters())
    return module if same else copy.deepcopy(module).to(dtype)


def _require_native(visual: Any) -> None:
    """Raise UnsupportedBackbone, with the reason, if our forward pass does not cover the tower."""

    def refuse(reason: str) -> NoReturn:
        raise UnsupportedBackbone(
            f'{type(visual).__name__}: {reason}. The methods need a native open_clip '
            "VisionTransformer with a class token, such as 'ViT-B-16-quickgelu'."
        )

    needed = ('conv1', 'class_embedding', 'positional_embedding', 'transformer', 'ln_post')
    missing = [name for name in needed if not hasattr(visual, name)]
    if missing:
        refuse(f'no {", ".join(missing)} (a ResNet or timm tower?)')
    if not isinstance(visual.conv1, nn.Conv2d):
        refuse('its patches are not embedded by a convolution')
    kernel, stride = visual.conv1.kernel_size, visual.conv1.stride
    if kernel != stride or kernel[0] != kernel[1]:
        refuse(f'patches of {kernel} px with stride {stride}; expected squares side by side')
    if getattr(visual, 'attn_pool', None) is not None:
        refuse('with attention pooling, patches are not in the embedding space of the image')
    if visual.pool_type not in ('tok', 'avg'):
        refuse(f"pooling {visual.pool_type!r} gives no image embedding; expected 'tok' or 'avg'")
    if len(visual.transformer.resblocks) < 2:
        refuse('it has fewer than two blocks')
    for block in visual.transformer.resblocks:
        attention = getattr(block, 'attn', None)
        if not isinstance(attention, nn.MultiheadAttention) or attention.in_proj_weight is None:
            refuse('its attention is not torch.nn.MultiheadAttention')
        if not all(hasattr(block.mlp, name) for name in ('c_fc', 'gelu', 'c_proj')):
            refuse('its feed-forward is not c_fc, gelu, c_proj')
