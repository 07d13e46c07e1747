"""MCAP files without an index, for example from a recorder that was killed.

The file is read record by record up to its end. The package mcap parses the records. Its
StreamReader is not used: it returns nothing from a chunk that is cut off or damaged, and allocates
whatever length a field claims.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Generator, Iterator
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, TypeVar

from mcap import records
from mcap.data_stream import ReadDataStream
from mcap.exceptions import EndOfFile
from mcap.opcode import Opcode

from .channel import Channel, Message, profiles
from .compression import LONGEST, unpacked
from .ros1 import ros2_type
from .scan import Scan, taken

MAGIC = b'\x89MCAP0\r\n'
_READ = (Opcode.SCHEMA, Opcode.CHANNEL, Opcode.MESSAGE, Opcode.CHUNK, Opcode.FOOTER)
_DEFINITIONS = ('ros1msg', 'ros2msg', 'ros2idl')
# Kind and length, before the content of a record.
_HEAD = struct.Struct('<BQ')
# Bytes of a footer without kind and length.
_FOOTER = 20

_Record = TypeVar('_Record', bound=records.McapRecord)


def has_index(path: Path) -> bool:
    """Return whether the file was closed and has a summary."""
    length = _FOOTER + len(MAGIC)
    with path.open('rb') as file:
        if file.seek(0, os.SEEK_END) < length:
            return False
        file.seek(-length, os.SEEK_END)
        footer = _parsed(records.Footer.read, file.read(_FOOTER))
        return file.read() == MAGIC and footer.summary_start > 0


class McapScan(Scan):
    """A RecordingFile of an MCAP file."""

    magic = MAGIC

    def __init__(self, path: Path):
        self._schemas: dict[int, records.Schema] = {}
        self._ended = False
        super().__init__(path)

    def _cut(self) -> str:
        return '' if self._ended else 'it is cut off: its footer is missing'

    def _read(self, file: BinaryIO, size: int) -> Generator[Message, None, bool]:
        for kind, content, whole in _records(file, size):
            if kind == Opcode.CHUNK:
                yield from self._in_chunk(partial(_chunk, content, whole), whole)
            if not whole:
                return False
            if kind == Opcode.SCHEMA:
                schema = _parsed(records.Schema.read, content)
                self._schemas[schema.id] = schema
            elif kind == Opcode.CHANNEL:
                self._take_channel(_parsed(records.Channel.read, content))
            elif kind == Opcode.MESSAGE:
                message = _parsed(partial(records.Message.read, length=len(content)), content)
                yield Message(self._channels[message.channel_id], message.log_time, message.data)
            elif kind == Opcode.FOOTER:
                self._ended = True
                break
        return True

    def _take_channel(self, channel: records.Channel) -> None:
        schema = self._schemas.get(channel.schema_id)
        known = schema if schema and schema.encoding in _DEFINITIONS else None
        self._channels[channel.id] = Channel(
            channel.topic,
            ros2_type(schema.name) if schema else '',
            known.data.decode() if known else '',
            profiles(channel.topic, channel.metadata.get('offered_qos_profiles', '')),
            form=channel.message_encoding,
        )


def _records(file: BinaryIO, size: int) -> Iterator[tuple[int, bytes, bool]]:
    """Yield (kind, content, whether the content is complete) of each record."""
    while len(head := file.read(_HEAD.size)) == _HEAD.size:
        kind, length = _HEAD.unpack(head)
        if kind in _READ:
            yield kind, *taken(file, length, size)
        elif length <= size - file.tell():
            # Skip without reading: attachments may have any length.
            file.seek(length, os.SEEK_CUR)
        else:
            break
    if head:
        yield head[0], b'', False


def _parsed(read: Callable[[ReadDataStream], _Record], content: bytes) -> _Record:
    """Parse a record from its content. Nothing beyond it is read, whatever lengths it claims.

    Raises:
        ValueError: the content is shorter than its fields claim.
    """
    try:
        return read(ReadDataStream(BytesIO(content)))
    except (EndOfFile, OverflowError, struct.error) as error:
        raise ValueError(f'a record of {len(content)} bytes is shorter than its fields') from error


def _chunk(content: bytes, whole: bool) -> tuple[bytes, bool]:
    """Return (the records of a chunk as far as they exist, whether that is all).

    Raises:
        ValueError: the chunk is damaged.
    """
    chunk = _parsed(records.Chunk.read, content)
    length, checksum = chunk.uncompressed_size, chunk.uncompressed_crc
    found, complete = unpacked(chunk.data, chunk.compression, min(length, LONGEST))
    if not (whole and complete):
        return found, False
    if len(found) != length or (checksum and zlib.crc32(found) != checksum):
        raise ValueError('the size or checksum of a chunk does not match')
    return found, True
