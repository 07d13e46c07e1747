"""ROS 1 bags without an index, for example from a recorder that was killed.

The file is read record by record up to its end. rosbags parses the headers of the records. Its
Reader is not used: it cannot open a bag without an index.
"""

from __future__ import annotations

import struct
from collections.abc import Generator
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from rosbags.rosbag1.reader import Header, RecordType

from .channel import LATCHED, ROS1, Channel, Message
from .compression import LONGEST, unpacked
from .scan import Scan, taken

MAGIC = b'#ROSBAG V2.0\n'


def ros2_type(name: str) -> str:
    """Return a type name as ROS 2 writes it: sensor_msgs/Image -> sensor_msgs/msg/Image."""
    package, slash, kind = name.partition('/')
    return f'{package}/msg/{kind}' if slash and '/' not in kind else name


def ros2_topic(name: str) -> str:
    """Return a ROS 1 topic as ROS 2 writes it: absolute, no empty parts."""
    return '/' + '/'.join(part for part in name.split('/') if part)


def channel_of(topic: str, kind: str, definition: str, latched: bool) -> Channel:
    """Return the channel of a connection of a ROS 1 bag."""
    qos = (LATCHED,) if latched else ()
    return Channel(ros2_topic(topic), ros2_type(kind), definition, qos, form=ROS1)


def has_index(path: Path) -> bool:
    """Return whether the file was closed and is not cut off before its index."""
    size = path.stat().st_size
    with path.open('rb') as file:
        file.seek(len(MAGIC))
        content, _ = _sized(file, file.read(4), size)
        return 0 < _header(content).get_uint64('index_pos') < size


class Ros1Scan(Scan):
    """A RecordingFile of a ROS 1 bag."""

    magic = MAGIC

    def _cut(self) -> str:
        return 'it is cut off or was not closed by the recorder'

    def _read(self, file: BinaryIO, size: int) -> Generator[Message, None, bool]:
        while length := file.read(4):
            content, whole = _sized(file, length, size)
            if not whole:
                return False
            header = _header(content)
            kind = header.get_uint8('op')
            data, whole = _sized(file, file.read(4), size)
            if kind == RecordType.CHUNK:
                yield from self._in_chunk(partial(_chunk, header, data), whole)
            if not whole:
                return False
            if kind == RecordType.CONNECTION:
                self._take_connection(header, _header(data))
            elif kind == RecordType.MSGDATA:
                channel = self._channels[header.get_uint32('conn')]
                yield Message(channel, header.get_time('time'), data)
        return True

    def _take_connection(self, header: Header, more: Header) -> None:
        self._channels[header.get_uint32('conn')] = channel_of(
            header.get_string('topic'),
            more.get_string('type'),
            more.get_string('message_definition'),
            more.get('latching') == b'1',
        )


def _sized(file: BinaryIO, length: bytes, size: int) -> tuple[bytes, bool]:
    if len(length) < 4:
        return b'', False
    return taken(file, struct.unpack('<I', length)[0], size)


def _header(content: bytes) -> Header:
    """Parse the fields of a header.

    Raises:
        ReaderError, ValueError: the content is not a header.
    """
    return Header.read(BytesIO(struct.pack('<I', len(content)) + content))


def _chunk(header: Header, data: bytes) -> tuple[bytes, bool]:
    """Return (the records of a chunk as far as they exist, whether that is all)."""
    most = min(header.get_uint32('size'), LONGEST)
    return unpacked(data, header.get_string('compression'), most)
