"""MCAP files that have no index, such as those of a recorder that was killed: all records in the
order of the file, up to where it ends (https://mcap.dev/spec)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Generator, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

from .channel import Channel, Message, profiles
from .compression import LONGEST, unpacked
from .ros1 import ros2_type
from .scan import Scan, taken

MAGIC = b'\x89MCAP0\r\n'
FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK = 2, 3, 4, 5, 6


class McapScan(Scan):
    """A RecordingFile of an MCAP file."""

    magic = MAGIC

    def __init__(self, path: Path):
        self._schemas: dict[int, tuple[str, str]] = {}
        self._ended = False
        super().__init__(path)

    def _cut(self) -> str:
        return '' if self._ended else 'it is cut off: it has no end'

    def _read(self, file: BinaryIO, size: int) -> Generator[Message, None, bool]:
        for kind, content, whole in _records(file, size):
            if kind == CHUNK:
                yield from self._in_chunk(partial(_chunk, content, whole), whole)
            if not whole:
                return False
            if kind == SCHEMA:
                number, name, form, text = _fields('H###', content)
                self._schemas[number] = name.decode(), _definition(form, text)
            elif kind == CHANNEL:
                self._take_channel(content)
            elif kind == MESSAGE:
                number, _, time = struct.unpack_from('<HIQ', content)
                yield Message(self._channels[number], time, content[22:])
            elif kind == FOOTER:
                self._ended = True
                break
        return True

    def _take_channel(self, content: bytes) -> None:
        number, schema, topic, form, metadata = _fields('HH###', content)
        kind, definition = self._schemas.get(schema, ('', ''))
        pairs = _pairs(metadata)
        qos = profiles(pairs.get(b'offered_qos_profiles', b'').decode(errors='replace'))
        self._channels[number] = Channel(
            topic.decode(), ros2_type(kind), definition, qos, form=form.decode()
        )


def _records(file: BinaryIO, size: int) -> Iterator[tuple[int, bytes, bool]]:
    """(kind, content, whether it is all there) of each record."""
    while head := file.read(9):
        if len(head) < 9:
            yield head[0], b'', False
            return
        kind, length = struct.unpack('<BQ', head)
        if kind in (FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK):
            yield kind, *taken(file, length, size)
        elif length <= size - file.tell():
            # Attachments may be of any length.
            file.seek(length, 1)
        else:
            yield kind, b'', False
            return


def _chunk(content: bytes, whole: bool) -> tuple[bytes, bool]:
    """The records of a chunk, or what is there of them, and whether that is all.

    Raises:
        ValueError: they are not what was written.
    """
    _, _, length, checksum, compression, _ = _fields('QQQI#Q', content)
    packed = content[40 + len(compression) :]
    records, complete = unpacked(packed, compression.decode(), min(length, LONGEST))
    if not (whole and complete):
        return records, False
    if len(records) != length or (checksum and zlib.crc32(records) != checksum):
        raise ValueError('the checksum of a chunk does not fit')
    return records, True


def _fields(form: str, content: bytes) -> list:
    """Numbers as in struct, and # for bytes with their length before them."""
    values, place = [], 0
    for kind in form:
        number = struct.Struct('<I' if kind == '#' else f'<{kind}')
        (value,) = number.unpack_from(content, place)
        place += number.size
        if kind == '#':
            value, place = content[place : place + value], place + value
        values.append(value)
    return values


def _pairs(content: bytes) -> dict[bytes, bytes]:
    pairs = {}
    while content:
        name, value = _fields('##', content)
        pairs[name] = value
        content = content[8 + len(name) + len(value) :]
    return pairs


def _definition(form: bytes, text: bytes) -> str:
    return text.decode() if form in (b'ros1msg', b'ros2msg', b'ros2idl') else ''
