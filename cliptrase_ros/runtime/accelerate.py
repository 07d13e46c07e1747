"""Faster functions of tensors, for shapes that are used repeatedly.

There are two ways, which can be combined. `Compiled` lets torch.compile rewrite a function.
`Replayed` records all kernels of a call on CUDA and launches them at once. Both change results by
rounding at most. If compiling or capturing fails, the failure is logged and the plain function
runs.
"""

from __future__ import annotations

import inspect
import logging
import statistics
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from . import memory, torch_compat

log = logging.getLogger(__name__)

# Limit for each function. The images of a robot have one size, or one for each camera.
SHAPES = 8
# torch.compile gives up on a piece of code after this number of versions.
_VERSIONS = 256
_TURNS = 5

_TO_BE_CAPTURED = 'to be captured'

Function = Callable[..., Any]


class Compiled:
    """A function compiled for each shape of its arguments, if that is measurably faster.

    The first call of a shape compiles, which takes about a minute, and compares the times. Only the
    first `SHAPES` shapes are compiled; later ones run plainly. Thread-safe.

    Args:
        function: takes tensors, returns anything, and has no side effects. If it is a method, its
            owner is not kept alive, because the owner holds this object.
        name: name in the log.
    """

    def __init__(self, function: Function, name: str):
        self._function = _weakly(function)
        self._name = name
        self._lock = threading.Lock()
        self._chosen: dict[Hashable, Function | None] = {}

    def __call__(self, *args: Tensor) -> Any:
        key = _key(args)
        with self._lock:
            if key not in self._chosen:
                full = len(self._chosen) >= SHAPES
                self._chosen[key] = None if full else self._choose(args)
        return (self._chosen[key] or self._function())(*args)

    def _choose(self, args: tuple[Tensor, ...]) -> Function | None:
        """Return the compiled function, or None if the plain one is faster or compiling fails."""
        name = f'{self._name} for {" and ".join(_size(x) for x in args)}'
        plain = self._function()
        plain(*args)  # fills the caches for this shape
        log.info('compiling %s', name)
        try:
            with torch_compat.versions_allowed(_VERSIONS):
                compiled = torch.compile(plain, dynamic=False)
                compiled(*args)
                plain_s, compiled_s = compare([plain, compiled], args)
        except Exception as error:
            if memory.is_shortage(error):
                raise
            reason = str(error).strip().partition('\n')[0]
            log.warning('%s is not compiled: %s', name, reason)
            return None
        kept = compiled_s < plain_s
        times = f'{1e3 * compiled_s:.1f} ms compiled, {1e3 * plain_s:.1f} ms plain'
        log.info('%s: %s; %s', name, times, 'compiled is kept' if kept else 'plain is kept')
        return compiled if kept else None


def compare(functions: list[Function], args: tuple[Tensor, ...]) -> list[float]:
    """Return the median seconds of a call of each function.

    The functions are called in turn. The first call of each does not count.
    """
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(1 + _TURNS):
        for function, own in zip(functions, times, strict=True):
            start = time.perf_counter()
            function(*args)
            if args[0].is_cuda:
                torch.cuda.synchronize(args[0].device)
            own.append(time.perf_counter() - start)
    return [statistics.median(own[1:]) for own in times]


class Replayed:
    """A function captured as a CUDA graph for each shape of its arguments; plain on other devices.

    The first call of a shape runs plainly, the second one captures, and all later ones replay. The
    graphs of the last `SHAPES` shapes are kept. Results are copies: later calls do not overwrite
    them. Thread-safe.

    Args:
        function: takes tensors, returns a tree of tensors, tuples, lists, dicts and constants. It
            must not read values of tensors on the host. If it is a method, its owner is not kept
            alive, because the owner holds this object.
        name: name in the log.
    """

    def __init__(self, function: Function, name: str):
        self._function = _weakly(function)
        self._name = name
        self._lock = threading.Lock()
        self._graphs: OrderedDict[Hashable, Function | str | None] = OrderedDict()

    def __call__(self, *args: Tensor) -> Any:
        if not args[0].is_cuda:
            return self._function()(*args)
        return self._replayed(_key(args), args)

    def _replayed(self, key: Hashable, args: tuple[Tensor, ...]) -> Any:
        with self._lock:
            if key not in self._graphs:
                result = self._function()(*args)  # fills the caches for this shape
                self._remember(key, _TO_BE_CAPTURED)
                return result
            graph = self._graphs[key]
            if isinstance(graph, str):  # to be captured
                graph = self._captured(args)
                self._remember(key, graph)
            self._graphs.move_to_end(key)
            return (graph or self._function())(*args)

    def _captured(self, args: tuple[Tensor, ...]) -> Function | None:
        try:
            return captured(self._function(), args)
        except RuntimeError as error:
            if memory.is_shortage(error):
                self._graphs.clear()  # the graphs may hold the memory that is missing
                raise
            reason = str(error).strip().partition('\n')[0]
            log.warning('%s runs without a CUDA graph: %s', self._name, reason)
            return None

    def _remember(self, key: Hashable, graph: Function | str | None) -> None:
        self._graphs[key] = graph
        while len(self._graphs) > SHAPES:
            self._graphs.popitem(last=False)


def captured(function: Function, args: tuple[Tensor, ...]) -> Function:
    """Return the function as a CUDA graph, for arguments with these shapes.

    Raises:
        RuntimeError: the function cannot be captured.
    """
    own = [x.clone() for x in args]
    # Not during the capture: under a dispatch mode torch does not run compiled code.
    with Outside() as outside:
        function(*own)
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize(args[0].device)
    # Thread-local, because other threads may encode words at the same time.
    with torch.cuda.graph(graph, capture_error_mode='thread_local'):
        result = function(*own)

    return _Recorded(graph, own, result, outside.read)


@dataclass(frozen=True, eq=False)
class _Recorded:
    """A recorded call, which can be replayed with other arguments of the same shapes.

    Attributes:
        graph: the recorded kernels.
        arguments, result: the tensors that the graph reads and writes.
        reads: other tensors that it reads, such as tables of a cache. They are kept here because
            the cache may drop them.
    """

    graph: torch.cuda.CUDAGraph
    arguments: Sequence[Tensor]
    result: Any
    reads: Sequence[Tensor]

    def __call__(self, *args: Tensor) -> Any:
        for mine, given in zip(self.arguments, args, strict=True):
            mine.copy_(given)
        self.graph.replay()
        return _mapped(Tensor.clone, self.result)


class Outside(torch_compat.DispatchMode):
    """Collects the tensors that operations read but did not create.

    Attributes:
        read: one tensor of each storage.
    """

    def __init__(self):
        super().__init__()
        self.read: list[Tensor] = []
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Function, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        for x in _tensors((args, kwargs)):
            if _storage(x) not in self._known:
                self._known.add(_storage(x))
                self.read.append(x)
        result = func(*args, **(kwargs or {}))
        self._known.update(map(_storage, _tensors(result)))
        return result


def _weakly(function: Function) -> Callable[[], Function]:
    """Return a getter of the function. It holds only a weak reference to the owner of a method."""
    if not inspect.ismethod(function):
        return lambda: function
    # It never returns None, because the owner itself makes the call.
    method: Callable[[], Any] = weakref.WeakMethod(function)
    return method


def _mapped(change: Function, tree: Any) -> Any:
    """Apply `change` to all tensors of a tree.

    A tree consists of tensors, tuples (also named ones), lists, dicts and constants.
    """
    if isinstance(tree, Tensor):
        return change(tree)
    if isinstance(tree, dict):
        return {key: _mapped(change, value) for key, value in tree.items()}
    if isinstance(tree, (tuple, list)):
        parts = [_mapped(change, part) for part in tree]
        return type(tree)(*parts) if hasattr(tree, '_fields') else type(tree)(parts)
    return tree


def _tensors(tree: Any) -> list[Tensor]:
    found: list[Tensor] = []
    _mapped(found.append, tree)
    return found


def _storage(x: Tensor) -> int:
    return x.untyped_storage().data_ptr()  # 0 if the tensor is empty: there is nothing to read


def _key(args: tuple[Tensor, ...]) -> Hashable:
    return tuple((x.shape, x.dtype, x.device) for x in args)


def _size(x: Tensor) -> str:
    return ' x '.join(str(side) for side in x.shape)
