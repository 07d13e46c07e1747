"""Whether work could be captured in a CUDA graph, found out without a GPU.

Tensors that have a device, a shape and a dtype but no numbers stand for those on a GPU. Whatever
needs a number of one, or a shape that depends on one, raises; so does whatever takes a tensor from
the host to the device or back.
"""

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map


class OneDevice(TorchDispatchMode):
    """Refuses operators whose tensors are on several devices."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        tensors = [x for x in tree_leaves((args, kwargs, result)) if isinstance(x, Tensor)]
        devices = {x.device.type for x in tensors}
        assert devices <= {'cuda'}, f'{func}: tensors on {sorted(devices)}'
        return result


def on_gpu(*arguments):
    """Arguments whose tensors are replaced by such that have no numbers; inside `FakeTensorMode`
    only."""

    def empty(x):
        if not isinstance(x, Tensor):
            return x
        return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device='cuda')

    return tree_map(empty, arguments)


def capture(function, *arguments):
    """Run a function of tensors, tuples of them and other values as if all were on a GPU; what it
    returns has shapes and dtypes only.

    Raises:
        AssertionError: a tensor moves, or is made on the host.
        DataDependentOutputException, DynamicOutputShapeException: the host would have to look.
    """
    with FakeTensorMode():
        arguments = on_gpu(*arguments)
        with OneDevice():
            return function(*arguments)
