"""Names of torch that are not public, each in one function that can do without it.

Torch 2.14 has them all. Torch 2.2 has all but those of `has_bfloat16_instructions`, and of
`versions_allowed` only the older. No other module uses such a name.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from importlib import import_module
from typing import Any

import torch
from torch import Tensor


class _NoMode:
    """Stands for the base of modes that see each operation, where torch lacks it.

    Raises:
        RuntimeError: as soon as one is made; no work is captured as a CUDA graph then, and it runs
            plainly.
    """

    def __init__(self) -> None:
        raise RuntimeError('this torch does not show what is read')


DispatchMode: Any = _NoMode
with suppress(ImportError):
    from torch.utils._python_dispatch import TorchDispatchMode

    DispatchMode = TorchDispatchMode

# What torch.compile is made of; imports of it can be put off. Where it has another name nothing is.
COMPILER = 'torch._dynamo'


def versions_allowed(number: int) -> AbstractContextManager:
    """Within it torch.compile makes so many versions of a piece of code before it gives up.

    Where that cannot be set torch's own limit holds: what needs more versions runs plainly.
    """
    try:
        config = import_module(f'{COMPILER}.config')
    except ImportError:
        return nullcontext()
    for name in ('recompile_limit', 'cache_size_limit'):  # the second is the older name
        if hasattr(config, name) and hasattr(config, 'patch'):
            return config.patch({name: number})
    return nullcontext()


def lays_out_bfloat16() -> bool:
    """Whether `laid_out` and `linear` work here, on this torch and CPU.

    Where a name is missing they do not; torch.nn.functional.linear gives the same and takes longer.
    """
    names = '_reorder_linear_weight', '_linear_pointwise', '_is_mkldnn_bf16_supported'
    if not all(hasattr(torch.ops.mkldnn, name) for name in names):
        return False
    return torch.ops.mkldnn._is_mkldnn_bf16_supported()


def laid_out(weight: Tensor) -> Tensor:
    """A weight [out, in] bfloat16 as oneDNN's kernels want it."""
    return torch.ops.mkldnn._reorder_linear_weight(weight)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool) -> Tensor:
    """x weightᵀ + bias with a weight that is laid out, and silu of it if so asked."""
    after = 'swish' if silu else 'none'
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, after, [], '')


def has_bfloat16_instructions() -> bool:
    """Whether the CPU has AVX512-BF16 or AMX.

    Where torch cannot say: no; then float32 is used, which is right everywhere.
    """
    public: Callable[[], dict] | None = getattr(torch.cpu, 'get_capabilities', None)
    if public:
        return any(public().get(name, False) for name in ('avx512_bf16', 'amx_tile'))
    older = '_is_avx512_bf16_supported', '_is_amx_tile_supported'
    return any(getattr(torch.cpu, name, bool)() for name in older)
