"""MCAP files that have no index, such as those of a recorder that was killed: all records in the
order of the file, up to where it ends (https://mcap.dev/spec)."""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from collections.abc import Collection, Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from rosbags.rosbag2.metadata import parse_qos

from .channel import Channel, Message, unpacked
from .ros1 import ros2_type

MAGIC = b'\x89MCAP0\r\n'
FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK = 2, 3, 4, 5, 6
# Bytes before the records of a chunk; no name of a compression is longer than 4.
CHUNK_HEAD = 44


class McapScan:
    """A Source of an MCAP file, read once from beginning to end to know what it holds."""

    def __init__(self, path: Path):
        self.path = path
        self.counts: Counter[Channel] = Counter()
        self.damage = 'it is cut off: it has no end'
        self._schemas: dict[int, tuple[str, str]] = {}
        self._channels: dict[int, Channel] = {}
        for message in self._messages():
            self.counts[message.channel] += 1
        self.counts.update(dict.fromkeys(self._channels.values(), 0))

    def messages(self, channels: Collection[Channel]) -> Iterator[Message]:
        """The messages of these channels, in the order of the file."""
        return (message for message in self._messages() if message.channel in channels)

    def close(self) -> None:
        """Nothing is open between two readings."""

    def _messages(self) -> Iterator[Message]:
        with self.path.open('rb') as file:
            file.seek(len(MAGIC))
            try:
                yield from self._read(file, self.path.stat().st_size)
            except (ValueError, KeyError, struct.error) as error:
                self.damage = f'it is damaged ({type(error).__name__}: {error})'

    def _read(self, file: BinaryIO, size: int) -> Iterator[Message]:
        for kind, content, whole in _records(file, size):
            if kind == CHUNK and len(content) > CHUNK_HEAD:
                packed, whole = _chunk(content, whole)
                yield from self._read(BytesIO(packed), len(packed))
            if not whole:
                return
            if kind == SCHEMA:
                number, name, form, text = _fields('H###', content)
                self._schemas[number] = name.decode(), _definition(form, text)
            elif kind == CHANNEL:
                self._take_channel(content)
            elif kind == MESSAGE:
                number, _, time = struct.unpack_from('<HIQ', content)
                yield Message(self._channels[number], time, content[22:])
            elif kind == FOOTER:
                self.damage = ''
                return

    def _take_channel(self, content: bytes) -> None:
        number, schema, topic, form, metadata = _fields('HH###', content)
        kind, definition = self._schemas.get(schema, ('', ''))
        pairs = _pairs(metadata)
        qos = tuple(parse_qos(pairs.get(b'offered_qos_profiles', b'').decode()))
        self._channels[number] = Channel(
            topic.decode(), ros2_type(kind), definition, qos, form=form.decode()
        )


def _records(file: BinaryIO, size: int) -> Iterator[tuple[int, bytes, bool]]:
    """(kind, content, whether it is all there) of each record."""
    while len(head := file.read(9)) == 9:
        kind, length = struct.unpack('<BQ', head)
        content = file.read(min(length, size))
        yield kind, content, len(content) == length


def _chunk(content: bytes, whole: bool) -> tuple[bytes, bool]:
    """The records of a chunk, or what is there of them, and whether that is all.

    Raises:
        ValueError: they are not what was written.
    """
    _, _, length, checksum, compression, _ = _fields('QQQI#Q', content)
    packed = content[40 + len(compression) :]
    records, complete = unpacked(packed, compression.decode())
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
