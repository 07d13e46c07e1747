"""A check, without a GPU, of whether work could be captured in a CUDA graph.

Fake tensors replace those on a GPU; they have a device, a shape and a dtype but no numbers. An
operation raises if it needs a number of a tensor, or a shape that depends on one. It also raises if
it moves a tensor between host and device.
"""

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map


class OneDevice(TorchDispatchMode):
    """A mode that refuses operators with tensors that are not on the GPU."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        tensors = [x for x in tree_leaves((args, kwargs, result)) if isinstance(x, Tensor)]
        devices = {x.device.type for x in tensors}
        assert devices <= {'cuda'}, f'{func}: tensors on {sorted(devices)}'
        return result


def on_gpu(*arguments):
    """Replace the tensors of the arguments by fake tensors on the GPU. Call it only inside
    `FakeTensorMode`."""

    def empty(x):
        if not isinstance(x, Tensor):
            return x
        return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device='cuda')

    return tree_map(empty, arguments)


def capture(function, *arguments):
    """Run a function as if all its tensors were on a GPU; return its result as fake tensors.

    Args:
        arguments: tensors, tuples of them, and other values.

    Raises:
        AssertionError: a tensor is moved, or made on the host.
        DataDependentOutputException, DynamicOutputShapeException: the host would need a value of a
            tensor, so the work would need a synchronisation.
    """
    with FakeTensorMode():
        arguments = on_gpu(*arguments)
        with OneDevice():
            return function(*arguments)
