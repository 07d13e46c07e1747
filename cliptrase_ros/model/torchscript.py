"""Tensors of a TorchScript archive, such as the files that OpenAI published, without running it.

`torch.jit.load` is deprecated, and it runs code of the archive while it loads. Here the archive's
pickle may only make tensors and empty objects. The layout of the archive:
https://pytorch.org/docs/stable/notes/serialization.html and torch/csrc/jit/serialization.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_DTYPES = {
    'HalfStorage': torch.float16,
    'BFloat16Storage': torch.bfloat16,
    'FloatStorage': torch.float32,
    'DoubleStorage': torch.float64,
    'ByteStorage': torch.uint8,
    'CharStorage': torch.int8,
    'ShortStorage': torch.int16,
    'IntStorage': torch.int32,
    'LongStorage': torch.int64,
    'BoolStorage': torch.bool,
}


class _Object:
    """Attributes of a module in the archive."""


def read(path: Path) -> tuple[dict[str, Any], set[str]]:
    """Return (nested dict of the attributes, names of the modules' classes).

    Raises:
        pickle.UnpicklingError: the archive wants something else than tensors and modules.
        Other errors: the archive is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        reader = _Reader(archive)
        return _as_dict(reader.load()), reader.classes


def _as_dict(value: Any) -> Any:
    if isinstance(value, _Object):
        return {name: _as_dict(inner) for name, inner in vars(value).items()}
    return value


class _Reader(pickle.Unpickler):
    """An unpickler that calls nothing outside this module, except an OrderedDict."""

    def __init__(self, archive: zipfile.ZipFile):
        main = next(n for n in archive.namelist() if n.split('/')[1:] == ['data.pkl'])
        super().__init__(io.BytesIO(archive.read(main)))
        self._archive, self._folder = archive, main.removesuffix('data.pkl')
        self._storages: dict[str, Tensor] = {}
        self.classes: set[str] = set()

    def find_class(self, module: str, name: str) -> Any:
        if module.split('.')[0] == '__torch__':
            self.classes.add(name)
            return _Object
        if module == 'torch' and name in _DTYPES:
            return _DTYPES[name]
        if module == 'torch.jit._pickle':  # marks the type of a list
            return _first
        known: dict[tuple[str, str], Callable] = {
            ('torch._utils', '_rebuild_tensor_v2'): _tensor,
            ('collections', 'OrderedDict'): OrderedDict,
        }
        if (module, name) not in known:
            raise pickle.UnpicklingError(f'GLOBAL {module}.{name}')
        return known[module, name]

    def persistent_load(self, reference: Any) -> Tensor:
        """Return a storage, one-dimensional. `reference`: ('storage', dtype, key, place, size)."""
        _, dtype, key, _, _ = reference
        if key not in self._storages:
            content = bytearray(self._archive.read(f'{self._folder}data/{key}'))
            empty = torch.empty(0, dtype=dtype)
            self._storages[key] = torch.frombuffer(content, dtype=dtype) if content else empty
        return self._storages[key]


def _tensor(storage: Tensor, offset: int, size: tuple, stride: tuple, *_: Any) -> Tensor:
    return storage.as_strided(size, stride, offset)


def _first(value: Any, *_: Any) -> Any:
    return value
