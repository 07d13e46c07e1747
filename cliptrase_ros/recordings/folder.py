"""The files of a recording that is a folder. metadata.yaml names them and gives their order, but
people rename, pack, unpack, move and copy files."""

from __future__ import annotations

import glob
import hashlib
import logging
import re
from collections.abc import Iterable
from pathlib import Path, PureWindowsPath
from typing import NamedTuple

import yaml

from ..errors import PictureError
from ..media import pictures
from . import mcap, sqlite
from .channel import reason
from .compression import head_of

log = logging.getLogger(__name__)

METADATA = 'metadata.yaml'
_PACKED = re.compile(r'\.(zstd?|lz4|gz|bz2|xz)$', re.IGNORECASE)
_SUFFIX = re.compile(r'\.(mcap|db3)$', re.IGNORECASE)
# Bytes by which files are compared. They include the first message, and so its time.
_COMPARED = 1 << 20
# Shorter files are not copies of each other: they may be all that is left of two files.
_LEAST = 1 << 10
# How many names a sentence lists.
_LISTED = 8

# A file, and other files with the same content, packed or not.
Copies = list[Path]


class Contents(NamedTuple):
    """The files of a folder.

    Attributes:
        parts: of the recording.
        ordered: whether they are in the order of recording; otherwise they are in order of names.
        told: a sentence about files that metadata.yaml names and the folder lacks, or the other way
            round; ''.
        lost: whether messages are lost by that for sure.
        messages: how many messages the recording has by metadata.yaml; None if it does not say.
    """

    parts: list[Copies]
    ordered: bool
    told: str = ''
    lost: bool = False
    messages: int | None = None


def has_recording(folder: Path) -> bool:
    """Return whether a folder holds metadata.yaml or a file with messages."""
    return (folder / METADATA).is_file() or any(map(_is_part, folder.iterdir()))


def contents(folder: Path) -> Contents:
    """Return the files of a recording.

    Raises:
        PictureError: there are none.
        OSError: the folder cannot be read.
    """
    names, messages = _metadata(folder / METADATA)
    extra = _parts(filter(_is_part, folder.iterdir()))
    parts: list[Copies] = []
    missing = []
    for name in names:
        if _named(name, parts):
            continue
        part = _named(name, extra)
        if part:
            extra.remove(part)
        else:
            part = _elsewhere(name, folder)
        if part:
            parts.append(part)
        else:
            missing.append(_last(name))
    if not (parts or extra):
        raise PictureError(_nothing(folder, missing))
    if names:
        return _compared(folder / METADATA, parts, missing, extra)._replace(messages=messages)
    ordered = len({_numberless(part) for part in extra}) == 1
    if not ordered:
        log.warning('%s: these files are read as one recording: %s', folder, _names(extra))
    return Contents(extra, ordered)


def _compared(
    metadata: Path, parts: list[Copies], missing: list[str], extra: list[Copies]
) -> Contents:
    """Decide about the files that metadata.yaml does not name."""
    if missing:
        instead = f'the folder holds {_names(extra)} instead' if extra else 'which the folder lacks'
        told = f'{metadata} names {_listed(missing)}, {instead}'
        return Contents([*parts, *extra], not extra, told, len(missing) > len(extra))
    known = {_numberless(part) for part in parts}
    more = [part for part in extra if _numberless(part) in known]
    others = [part for part in extra if part not in more]
    said = []
    if more:
        said.append(f'{metadata} does not name {_names(more)}, read as well')
    if others:
        said.append(
            f'{metadata} does not name {_names(others)}, not read; delete metadata.yaml to read '
            'all files'
        )
    return Contents([*parts, *more], not more, '; '.join(said), bool(others))


def _metadata(path: Path) -> tuple[list[str], int | None]:
    """Return (the files that metadata.yaml names, the number of messages); ([], None) if it cannot
    be used."""
    try:
        told = yaml.safe_load(path.read_bytes())['rosbag2_bagfile_information']
        names, messages = told['relative_file_paths'], told.get('message_count')
        if not (names and isinstance(names, list) and all(map(_last, names))):
            raise ValueError('relative_file_paths must be a list of files')
        return names, messages if isinstance(messages, int) else None
    except FileNotFoundError:
        pass  # the recorder writes it when it closes the recording
    except Exception as error:  # a parser may raise anything on damaged text
        log.warning('%s cannot be used (%s): reading all files instead', path, reason(error))
    return [], None


def _is_part(path: Path) -> bool:
    """Return whether a file has the name or the content of a ROS 2 recording."""
    if path.name.startswith('.') or path.suffix.lower() in pictures.SUFFIXES:
        return False
    if _SUFFIX.search(_plain(path.name)):
        return True
    try:
        head = head_of(path, 1 << 12) if path.is_file() else b''
    except OSError:
        return False
    # Other programs use SQLite, too.
    tables = b'topics' in head and b'messages' in head
    return head.startswith(mcap.MAGIC) or (head.startswith(sqlite.MAGIC) and tables)


def _parts(paths: Iterable[Path]) -> list[Copies]:
    """Return the files in order of names; copies together, the one that is not packed first."""
    files = sorted(paths, key=lambda path: (path.name != _plain(path.name), len(path.name)))
    found: dict[str, Copies] = {}
    for path in files:
        head = _head(path) if len(files) > 1 else b''
        key = hashlib.sha256(head).hexdigest() if len(head) >= _LEAST else str(path)
        same = (it for it in found.values() if _plain(it[0].name) == _plain(path.name))
        part = found.get(key) or next((it for it in same if _cut_off(head, _head(it[0]))), [])
        part.append(path)
        found.setdefault(key, part)
    parts = {id(part): part for part in found.values()}.values()
    return sorted(parts, key=lambda part: _natural(part[0].name))


def _head(path: Path) -> bytes:
    try:
        return head_of(path, _COMPARED)
    except OSError:
        return b''


def _cut_off(one: bytes, other: bytes) -> bool:
    """Return whether one of two files may be the other one, cut off."""
    return one.startswith(other) or other.startswith(one)


def _named(name: str, parts: list[Copies]) -> Copies | None:
    """Return the part with this name, packed or not; the file with this very name comes first."""
    name = _last(name)
    for part in parts:
        fits = [path for path in part if _plain(path.name) == _plain(name)]
        if fits:
            part.sort(key=lambda path: (path.name != name, path not in fits))
            return part
    return None


def _elsewhere(name: str, folder: Path) -> Copies | None:
    """Return the file at the very path in metadata.yaml, or one folder below."""
    below = sorted(folder.glob(f'*/{glob.escape(_last(name))}'))
    return next(([path] for path in (folder / name, *below) if path.is_file()), None)


def _nothing(folder: Path, missing: list[str]) -> str:
    there = sorted(folder.iterdir())
    what = f'metadata.yaml names {_listed(missing)}, but ' if missing else ''
    bags = [path.name for path in there if '.bag' in path.suffixes]
    inner = [path.name for path in there if path.is_dir() and has_recording(path)]
    hint = f'; give one of {_listed([*bags, *inner])}' if bags or inner else ''
    return f'{folder}: {what}the folder holds no recording (no .mcap or .db3 file){hint}'


def _last(name: str) -> str:
    """Return the last part of a path of Linux or Windows."""
    return PureWindowsPath(name).name


def _plain(name: str) -> str:
    """Return a file's name without the suffixes of packed files."""
    while name != (shorter := _PACKED.sub('', name)):
        name = shorter
    return name


def _numberless(part: Copies) -> str:
    """Return a name that is the same for all files of a split recording."""
    return re.sub(r'\d+', '0', _plain(part[0].name))


def _natural(name: str) -> list[str | int]:
    """Return a sort key that puts 10 after 9."""
    return [int(part) if part.isdigit() else part for part in re.split(r'(\d+)', name)]


def _names(parts: list[Copies]) -> str:
    return _listed([part[0].name for part in parts])


def _listed(names: list[str]) -> str:
    more = f' and {len(names) - _LISTED} more' if len(names) > _LISTED else ''
    return ', '.join(names[:_LISTED]) + more
