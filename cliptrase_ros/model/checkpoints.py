"""Weights in files and folders, read by what they hold, whatever their names are.

No code of a file is run: only tensors, numbers, text and containers of them are unpickled.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import pickle
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from .. import files
from ..errors import WeightsError
from ..runtime import torch_compat
from . import beside, clip_names, file_kinds, torchscript

# Metadata key of files of `cliptrase download`: the model. Weights do not show their activation.
MADE_FOR = 'open_clip model'
# The usual names in folders, the first one wins.
NAMES = (
    'open_clip_model.safetensors',
    'open_clip_pytorch_model.bin',
    'model.safetensors',
    'model.safetensors.index.json',
    'pytorch_model.bin',
    'pytorch_model.bin.index.json',
)
# Classes of TorchScript modules -> QuickGELU or not.
_ACTIVATIONS = {'QuickGELU': True, 'GELU': False}


@dataclass(frozen=True)
class Checkpoint:
    """Tensors of a CLIP model, and what the file and its folder say about it.

    Attributes:
        file: the weights file.
        state: tensors under the names of OpenAI's CLIP.
        made_for: the open_clip model that it was saved for; None: not said.
        about: what the files beside say; see `beside.About`.
    """

    file: Path
    state: dict[str, Tensor]
    made_for: str | None
    about: beside.About


@dataclass(frozen=True)
class _Content:
    """What one file holds: nested dicts with tensors; None: it does not say."""

    tree: dict[str, Any]
    quick_gelu: bool | None = None
    made_for: str | None = None


def read(path: Path, sha256: str | None = None) -> Checkpoint:
    """Read a file or a folder of weights.

    Args:
        sha256: expected, in hexadecimal; None: not checked.

    Raises:
        WeightsError: there is no such file, it is damaged, or it holds something else.
    """
    file = weights_file(path)
    with _named(file):
        if sha256 and (found := _digest(file)) != sha256.strip().lower():
            raise WeightsError(
                f'has SHA-256 {found}, expected {sha256}; the file is damaged or it is another file'
            )
        if re.search(r'-\d{5}-of-\d{5}', file.name):
            raise WeightsError(
                'is one of several parts: set weights to the folder with all parts and their index'
            )
        tree: dict[str, Any] = {}
        for part in _parts(file):
            content = _content(part)
            tree.update(content.tree)
        state, openai = clip_names.find(tree)
    about = beside.read(file.parent) if file.name in NAMES or path.is_dir() else beside.About()
    if openai or content.quick_gelu is not None:
        about = replace(about, quick_gelu=openai or content.quick_gelu)
    return Checkpoint(file, state, content.made_for, about)


@contextlib.contextmanager
def _named(file: Path) -> Iterator[None]:
    """Put the name of the file before the errors of the block."""
    try:
        yield
    except WeightsError as error:
        raise WeightsError(f'weights: {file} {error}') from error
    except OSError as error:
        raise WeightsError(f'weights: {file} cannot be read ({first_line(error)})') from error


def weights_file(path: Path) -> Path:
    """Return the weights file of a folder in the hub's layout; a file as it is.

    Raises:
        WeightsError: there is no such file, or the folder has none or several.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise WeightsError(f'weights: no file {path}{_hint(path)}')
    reference = path / 'refs' / 'main'  # a repository in the hub's cache
    if reference.is_file():
        path = path / 'snapshots' / reference.read_text().strip()
    for name in NAMES:
        if (path / name).is_file():
            return path / name
    files = sorted(file for file in path.glob('*') if file.is_file())
    found = [file for file in files if file_kinds.is_weights(file)]
    if len(found) == 1:
        return found[0]
    what = 'several files of weights' if found else 'no file of weights'
    names = ', '.join(file.name for file in found or files) or 'nothing'
    raise WeightsError(f'weights: the folder {path} holds {what} ({names}); name one file')


def _hint(path: Path) -> str:
    if path.is_symlink():
        return f': it is a link to {path.readlink()}, which does not exist (copy with cp -L)'
    if re.match(r'https?:', str(path)):
        return ': an address cannot be read; download the file and give its path'
    if re.fullmatch(r'[\w.-]+/[\w.-]+', str(path)) and not path.parent.exists():
        return f'. If this is a repository of the hub with open_clip weights: model hf-hub:{path}'
    return ''


def sha256_of(path: Path) -> str:
    """Return the SHA-256 in hexadecimal. Of a folder: of its weights file.

    Of weights in several parts: of the parts one after another, in the order of their names.
    """
    file = weights_file(path)
    with _named(file):
        return _digest(file)


def _digest(file: Path) -> str:
    digest = hashlib.sha256()
    for part in _parts(file):
        digest.update(part.read_bytes())
    return digest.hexdigest()


def _parts(file: Path) -> list[Path]:
    """Return the files that an index names, in the order of their names; or only the file."""
    with file.open('rb') as opened:
        if not opened.read(64).lstrip().startswith(b'{'):
            return [file]
    try:
        named = set(json.loads(file.read_bytes())['weight_map'].values())
        parts = [file.parent / name for name in sorted(named)]
    except (ValueError, KeyError, TypeError, AttributeError):
        return [file]
    lost = [part.name for part in parts if part.parent != file.parent or not part.is_file()]
    if lost or not parts:
        raise WeightsError(f'names {", ".join(lost) or "no part"}, not beside it: copy all parts')
    return parts


def _content(file: Path) -> _Content:
    kind = file_kinds.kind_of(file)
    if kind == 'safetensors':
        return _safetensors(file)
    try:
        if kind == 'torchscript':
            tree, classes = torchscript.read(file)
            known = classes & _ACTIVATIONS.keys()
            return _Content(tree, _ACTIVATIONS[known.pop()] if len(known) == 1 else None)
        # Opened here: given a path, torch decides by the suffix too.
        with torch_compat.harmless_classes_allowed(), file.open('rb') as opened:
            tree = torch.load(opened, map_location='cpu', weights_only=True)
        return _Content(tree if isinstance(tree, dict) else {})
    except pickle.UnpicklingError as error:
        named = re.search(r'GLOBAL ([\w.]+)', str(error))
        raise WeightsError(
            f'holds more than tensors ({named[1] if named else first_line(error)}), and its code '
            'is not run; where you trust it, save its state dict alone, or as .safetensors'
        ) from error
    except Exception as error:  # torch's reader raises anything for a damaged file
        raise WeightsError(
            f'is damaged or cut off ({first_line(error)}). Download it again'
        ) from error


def _safetensors(file: Path) -> _Content:
    try:
        with safe_open(file, 'pt') as opened:
            made_for = (opened.metadata() or {}).get(MADE_FOR)
        return _Content(load_file(file), made_for=made_for)
    except SafetensorError as error:
        size, expected = file.stat().st_size, _expected_size(file)
        if size < expected:
            raise WeightsError(
                f'is damaged: it is cut off, {size:,} of at least {expected:,} bytes are there. '
                'Download it again'
            ) from error
        raise WeightsError(f'is damaged ({first_line(error)}). Download it again') from error


def _expected_size(file: Path) -> int:
    """Return the least bytes that a safetensors file should have, by its header; 0 if unknown."""
    with file.open('rb') as opened:
        length = int.from_bytes(opened.read(8), 'little')
        header = opened.read(length)
    if len(header) < length:
        return 8 + length
    try:
        ends = [t['data_offsets'][1] for n, t in json.loads(header).items() if n != '__metadata__']
        return 8 + length + max(ends, default=0)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return 0


def first_line(error: BaseException) -> str:
    """Return the first sentence of the error. The rest may hold advice that is wrong here."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return textwrap.shorten(line.split('. ')[0].rstrip('.'), 160, placeholder=' ...')


def save_weights(state: dict[str, Tensor], path: Path, model: str) -> str:
    """Write a state dict as .safetensors, with the model's name in it. Return its SHA-256."""
    tensors = {key: value.clone().contiguous() for key, value in state.items()}
    with files.whole(path) as part:
        try:
            save_file(tensors, part, metadata={MADE_FOR: model})
        except SafetensorError as error:
            raise OSError(f'{path} cannot be written ({first_line(error)})') from error
    return sha256_of(path)
