"""One file of a recording, opened by its content. Its name does not matter."""

from __future__ import annotations

import logging
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

from rosbags import rosbag1, rosbag2

from ..errors import PictureError
from . import mcap, ros1, sqlite
from .channel import Channel, Message, RecordingFile, reason
from .compression import packing, unpack_file

log = logging.getLogger(__name__)

# How often a file may be packed: `zstd` of a file that the recorder has packed already.
_LAYERS = 3
# First bytes of files that people take for a recording, and what to do with them.
_OTHERS = {
    b'PK\x03\x04': 'a ZIP archive: unpack it first',
    b'7z\xbc\xaf\x27\x1c': 'a 7z archive: unpack it first',
    b'version https://git-lfs': "a Git LFS pointer: run 'git lfs pull' to get the recording",
    b'<!DOCTYPE': 'a web page: download the recording again',
    b'<html': 'a web page: download the recording again',
    b'rosbag2_bagfile_information': 'a description of a recording: give the folder that holds it',
}
# A tar archive has its mark after the name of its first file.
_TAR, _TAR_AT = b'ustar', 257


class Indexed:
    """A RecordingFile of a complete file that rosbags reads by its index."""

    damage = ''

    def __init__(self, reader: Any):
        self._reader = reader
        self._channels = {connection.id: _channel(connection) for connection in reader.connections}
        self.counts: Counter[Channel] = Counter()
        for connection in reader.connections:
            self.counts[self._channels[connection.id]] += connection.msgcount

    def messages(self, channels: Collection[Channel]) -> Iterator[Message]:
        """Yield the messages of these channels, by time."""
        asked = [c for c in self._reader.connections if self._channels[c.id] in channels]
        if not asked:  # rosbags takes an empty list for all
            return
        for connection, time, data in self._reader.messages(asked):
            yield Message(self._channels[connection.id], time, data)

    def close(self) -> None:
        """Close the file."""
        self._reader.close()


def _channel(connection: Any) -> Channel:
    """Return the channel of a rosbags connection."""
    if hasattr(connection.ext, 'latching'):
        latched = bool(connection.ext.latching)
        return ros1.channel_of(
            connection.topic, connection.msgtype, connection.msgdef.data, latched
        )
    return Channel(
        connection.topic,
        connection.msgtype,
        connection.msgdef.data,
        tuple(connection.ext.offered_qos_profiles),
        connection.digest,
        connection.ext.serialization_format,
    )


def open_file(path: Path, stack: ExitStack) -> RecordingFile:
    """Open a file; the stack closes it and deletes its unpacked copy.

    Raises:
        PictureError: it is not a recording, or nothing can be read.
        OSError: it cannot be read.
    """
    if path.is_dir():
        raise PictureError(f'{path} is a folder; expected a file with messages')
    place, cut = path, ''
    for _ in range(_LAYERS):
        with place.open('rb') as file:
            kind = packing(file.read(16))
        if not kind:
            break
        target = Path(stack.enter_context(tempfile.TemporaryDirectory()), 'recording')
        try:
            cut = unpack_file(place, target, kind) or cut
        except ValueError as error:
            raise PictureError(f'{path}: {error}') from error
        place = target
    opened = _opened(place, path)
    stack.callback(opened.close)
    opened.damage = opened.damage or cut
    return opened


def _opened(path: Path, original: Path) -> RecordingFile:
    """Open an unpacked file by its first bytes."""
    with path.open('rb') as file:
        head = file.read(512)
    try:
        if head.startswith(mcap.MAGIC):
            reader = rosbag2.Reader.STORAGE_PLUGINS['.mcap'](path)
            return _indexed(mcap, reader, path, original) or mcap.McapScan(path)
        if head.startswith(ros1.MAGIC):
            return _indexed(ros1, rosbag1.Reader(path), path, original) or ros1.Ros1Scan(path)
        if head.startswith(sqlite.MAGIC):
            return sqlite.Sqlite(path)
    except sqlite.BROKEN as error:
        raise PictureError(f'{original}: nothing can be read ({error})') from error
    raise PictureError(f'{original} {_what(head)}')


def _what(head: bytes) -> str:
    if head[_TAR_AT:].startswith(_TAR):
        return 'is a tar archive: unpack it first'
    for magic, what in _OTHERS.items():
        if head.lstrip().startswith(magic):
            return f'is {what}'
    what = 'is not a recording' if head else 'is empty'
    return f'{what}; expected a ROS 1 .bag, or a ROS 2 folder, .mcap or .db3'


def _indexed(kind: ModuleType, reader: Any, path: Path, original: Path) -> Indexed | None:
    """Open a file by its index; return None if the index is missing (this is common) or
    damaged."""
    try:
        if not kind.has_index(path):
            return None
        reader.open()
        if kind is mcap and not reader.chunks:
            # rosbags would stop where times go back.
            reader.close()
            return None
        return Indexed(reader)
    except Exception as error:  # rosbags checks damaged files little and may raise anything
        log.warning(
            '%s: cannot use its index (%s): reading all records instead', original, reason(error)
        )
        return None
