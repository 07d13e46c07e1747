"""Private and new names of torch. Each is used in one function, which also works without it.

Torch 2.14 has all of them. Torch 2.2 has all except those of `has_bfloat16_instructions` and
`harmless_classes_allowed`, and only the older name of `versions_allowed`. No other module uses
private names of torch.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from importlib import import_module
from typing import Any

import numpy
import torch
from torch import Tensor


class _NoMode:
    """Replaces TorchDispatchMode if torch lacks it.

    Raises:
        RuntimeError: always, when it is created. Work is then not captured as a CUDA graph; it
            runs plainly.
    """

    def __init__(self) -> None:
        raise RuntimeError('this version of torch has no TorchDispatchMode')


DispatchMode: Any = _NoMode
with suppress(ImportError):
    from torch.utils._python_dispatch import TorchDispatchMode

    DispatchMode = TorchDispatchMode

# The package of torch.compile, whose import can be deferred. If a torch version uses another name,
# nothing is deferred.
COMPILER = 'torch._dynamo'


def versions_allowed(number: int) -> AbstractContextManager:
    """Return a context in which torch.compile makes up to `number` versions of a piece of code.

    If this limit cannot be set, torch's own limit holds. Code that needs more versions runs
    plainly.
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
    """Return True if `laid_out` and `linear` work with this torch and CPU.

    They do not if a name is missing. torch.nn.functional.linear then gives the same result, but
    takes longer.
    """
    names = '_reorder_linear_weight', '_linear_pointwise', '_is_mkldnn_bf16_supported'
    if not all(hasattr(torch.ops.mkldnn, name) for name in names):
        return False
    return torch.ops.mkldnn._is_mkldnn_bf16_supported()


def laid_out(weight: Tensor) -> Tensor:
    """Pack a weight [out, in] bfloat16 into the layout of oneDNN's kernels."""
    return torch.ops.mkldnn._reorder_linear_weight(weight)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool) -> Tensor:
    """Return x weightᵀ + bias, followed by silu if asked. `weight` comes from `laid_out`."""
    after = 'swish' if silu else 'none'
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, after, [], '')


def has_bfloat16_instructions() -> bool:
    """Return True if the CPU has AVX512-BF16 or AMX.

    If torch cannot tell, return False: then float32 is used, which works everywhere.
    """
    public: Callable[[], dict] | None = getattr(torch.cpu, 'get_capabilities', None)
    if public:
        return any(public().get(name, False) for name in ('avx512_bf16', 'amx_tile'))
    older = '_is_avx512_bf16_supported', '_is_amx_tile_supported'
    return any(getattr(torch.cpu, name, bool)() for name in older)


def harmless_classes_allowed() -> AbstractContextManager:
    """Return a context in which torch.load reads more classes that training programs save.

    Only values: command lines (argparse.Namespace) and numbers of NumPy. Torch before 2.6 refuses
    them with `weights_only`, or knows them under one name only.
    """
    allowed: Any = getattr(torch.serialization, 'safe_globals', None)
    if not allowed or not hasattr(torch.serialization, 'get_unsafe_globals_in_checkpoint'):
        return nullcontext()
    scalar: Any = numpy.float64(0).__reduce__()[0]
    types = [type(numpy.dtype(name)) for name in ('f8', 'f4', 'f2', 'i8', 'i4', 'u1', '?')]
    # NumPy 1 and 2 save different names.
    names = [(scalar, f'numpy.{core}.multiarray.scalar') for core in ('core', '_core')]
    return allowed([argparse.Namespace, numpy.dtype, *types, *names])
