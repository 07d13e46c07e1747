"""Shorter start and end of a process.

It skips imports of packages that are never used, and a search through memory at the end.
"""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any


@contextmanager
def imports_of(*packages: str) -> Iterator[None]:
    """Give stand-ins for imports of these packages, and of modules below them, in the block.

    Modules that imported a stand-in keep it after the block. Its names can be called, subclassed,
    asked for attributes, and passed to isinstance and issubclass: then the real package is
    imported. A stand-in has every name, also names that the real package lacks; using such a name
    is an error. Imports after the block give the real package. Packages that are already imported,
    or not installed, are not replaced.
    """
    sys.meta_path.insert(0, _Finder([p for p in packages if p not in sys.modules and find_spec(p)]))
    try:
        yield
    finally:
        _end()


class _Finder(MetaPathFinder, Loader):
    def __init__(self, packages: Sequence[str]):
        self._packages = packages

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if any(f'{name}.'.startswith(f'{package}.') for package in self._packages):
            return ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Module(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: a stand-in has no code."""


class _Module(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith('__'):
            raise AttributeError(name)
        return _Name(self.__name__, name)


class _Name:
    """A name of a module that is not imported yet."""

    def __init__(self, module: str, name: str):
        self._module, self._name = module, name

    def _real(self) -> Any:
        if '_found' not in vars(self):
            _end()  # within the block, the import would find the stand-in instead
            self._found = getattr(import_module(self._module), self._name)
        return self._found

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._real()(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__'):  # copying and inspection ask for these; do not import for them
            raise AttributeError(name)
        return getattr(self._real(), name)

    def __mro_entries__(self, bases: tuple) -> tuple:
        return (self._real(),)

    def __instancecheck__(self, thing: Any) -> bool:
        return isinstance(thing, self._real())

    def __subclasscheck__(self, kind: type) -> bool:
        return issubclass(kind, self._real())


def _end() -> None:
    """End the deferral: remove all stand-ins, so that imports from now on are real."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Finder)]
    for name in [n for n, module in list(sys.modules.items()) if isinstance(module, _Module)]:
        module = sys.modules.pop(name)
        parent, _, child = name.rpartition('.')
        if vars(sys.modules.get(parent, module)).get(child) is module:
            delattr(sys.modules[parent], child)


def leave_memory_at_the_end() -> None:
    """Let the operating system free the memory when the process ends.

    Otherwise Python would first search through all objects that torch has created. Only a program
    should call this, not a library.
    """
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)
