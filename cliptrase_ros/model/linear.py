"""Linear layers in the dtype of a tower."""

from __future__ import annotations

import platform
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from ..runtime import torch_compat


class Linear:
    """factor (x weightᵀ) + bias in the dtype of the tower, followed by silu if `silu` is set.

    On x86 CPUs, bfloat16 weights are packed once into the layout of oneDNN's kernels. F.linear
    packs them in every call, which costs a tenth of a frame. The copy is made at the first use
    without gradients. It does not follow later changes of the weights. (In float32, F.linear does
    not use oneDNN. Its kernel would be faster there too, but it ends the process if memory runs
    out.)

    Args:
        weight: [out, in], read and not changed.
        bias: [out] or None.
        dtype: dtype of the arithmetic and of the result.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        dtype: torch.dtype,
        factor: float = 1.0,
        silu: bool = False,
    ):
        self.weight = weight
        self.bias = bias if bias is None else bias.to(dtype)
        self.dtype = dtype
        self._factor = factor
        self._silu = silu
        self._packable = packable(weight.device, dtype)
        self._kept: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """Map [..., in] of any floating dtype to [..., out]."""
        x = x.to(self.dtype)
        if self._packable and not (torch.is_grad_enabled() or _is_compiling()):
            return torch_compat.linear(x, self._packed, self.bias, self._silu)
        x = F.linear(x, self._cast(), self.bias)
        return F.silu(x) if self._silu else x

    def _cast(self) -> Tensor:
        if torch.is_grad_enabled():
            return self._made()  # a new copy, because a graph of gradients can be used only once
        if self._kept is None:
            self._kept = self._made()
        return self._kept

    def _made(self) -> Tensor:
        weight = self.weight if self._factor == 1 else self.weight * self._factor
        return weight.to(self.dtype)

    @cached_property
    def _packed(self) -> Tensor:
        return torch_compat.laid_out(self._made())


# Torch 2.2 has no is_compiling; `bool` then returns False.
_is_compiling = getattr(torch.compiler, 'is_compiling', bool)


def packable(device: torch.device, dtype: torch.dtype) -> bool:
    """Return True if weights on this device and in this dtype are packed once for oneDNN."""
    return (
        dtype == torch.bfloat16
        and device.type == 'cpu'
        and platform.machine() in ('x86_64', 'AMD64')
        and torch.backends.mkldnn.is_available()
        and torch_compat.lays_out_bfloat16()
    )


def fast_bfloat16(device: torch.device) -> bool:
    """Return True for a CPU that multiplies bfloat16 faster than float32 (AVX512-BF16 or AMX)."""
    return device.type == 'cpu' and torch_compat.has_bfloat16_instructions()
