"""Functions of tensors made faster for shapes that come again and again.

Two ways, which go together: `Compiled` has torch.compile rewrite a function, and `Replayed` records
all kernels of a call on CUDA and launches them at once. Neither changes a result by more than
rounding, and neither is a reason to fail: what cannot be done is logged, and the plain function
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

# Of each function. A robot's images keep one size, or as many as it has cameras.
SHAPES = 8
# torch.compile gives up on a piece of code after so many versions of it.
_VERSIONS = 256
_TURNS = 5

_TO_BE_CAPTURED = 'to be captured'

Function = Callable[..., Any]


class Compiled:
    """A function compiled for each shape of its arguments, where that proves to be faster.

    The first call of a shape compiles, which takes a minute or so, and compares; later shapes than
    the first `SHAPES` stay plain. Safe between threads.

    Args:
        function: of tensors, to anything; without side effects. The owner of a method is not kept
            alive, since it keeps this object.
        name: for the log.
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
        """The compiled function, or None where the plain one is better."""
        name = f'{self._name} for {" and ".join(_size(x) for x in args)}'
        plain = self._function()
        plain(*args)  # makes what is cached by shape
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
    """Median seconds of a call of each function, in turn, after one more call of each."""
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
    """A function captured as a CUDA graph for each shape of its arguments; plain elsewhere.

    The first call of a shape runs plainly, the second one captures, and all others replay; the
    graphs of the last `SHAPES` shapes are kept. Results are copies, so they stay what they are.
    Safe between threads.

    Args:
        function: of tensors, to a tree of tensors, tuples, lists, dicts and constants; it must not
            read a tensor's values on the host. The owner of a method is not kept alive, since it
            keeps this object.
        name: for the log.
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
                result = self._function()(*args)  # makes what is cached by shape
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
                self._graphs.clear()  # their memory may be what is missing
                raise
            reason = str(error).strip().partition('\n')[0]
            log.warning('%s runs without a CUDA graph: %s', self._name, reason)
            return None

    def _remember(self, key: Hashable, graph: Function | str | None) -> None:
        self._graphs[key] = graph
        while len(self._graphs) > SHAPES:
            self._graphs.popitem(last=False)


def captured(function: Function, args: tuple[Tensor, ...]) -> Function:
    """The function as a CUDA graph for arguments like these.

    Raises:
        RuntimeError: it cannot be captured.
    """
    own = [x.clone() for x in args]
    # Before it and not in it: nothing that is compiled runs under a mode.
    with Outside() as outside:
        function(*own)
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize(args[0].device)
    # Other threads may encode words meanwhile.
    with torch.cuda.graph(graph, capture_error_mode='thread_local'):
        result = function(*own)

    return _Recorded(graph, own, result, outside.read)


@dataclass(frozen=True, eq=False)
class _Recorded:
    """A recorded call, to be replayed with other arguments of the same shapes.

    Attributes:
        graph: what was recorded.
        arguments, result: where it reads and writes them.
        reads: what else it reads, such as tables in a cache, which may drop them meanwhile.
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
    """Collects the tensors that work reads and does not make.

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
    """Gives the function; a method only as long as its owner lives."""
    if not inspect.ismethod(function):
        return lambda: function
    # Not None: it is the owner that calls.
    method: Callable[[], Any] = weakref.WeakMethod(function)
    return method


def _mapped(change: Function, tree: Any) -> Any:
    """A tree of tensors, tuples (also with names), lists, dicts and constants, its tensors
    changed."""
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
    return x.untyped_storage().data_ptr()  # of empty ones 0; there is nothing to read in them


def _key(args: tuple[Tensor, ...]) -> Hashable:
    return tuple((x.shape, x.dtype, x.device) for x in args)


def _size(x: Tensor) -> str:
    return ' x '.join(str(side) for side in x.shape)
