"""Bags of ROS 1 that have no index, such as those of a recorder that was killed: all records in the
order of the file, up to where it ends (https://wiki.ros.org/Bags/Format/2.0)."""

from __future__ import annotations

import struct
from collections.abc import Generator, Iterator
from functools import partial
from typing import BinaryIO

from .channel import LATCHED, ROS1, Channel, Message
from .compression import LONGEST, unpacked
from .scan import Scan, taken

MAGIC = b'#ROSBAG V2.0\n'
MESSAGE, CHUNK, CONNECTION = b'\x02', b'\x05', b'\x07'


def ros2_type(name: str) -> str:
    """sensor_msgs/Image -> sensor_msgs/msg/Image; what is so already stays."""
    package, slash, kind = name.partition('/')
    return f'{package}/msg/{kind}' if slash and '/' not in kind else name


def ros2_topic(name: str) -> str:
    """A topic of ROS 1 as ROS 2 has it: from the root, no empty parts."""
    return '/' + '/'.join(part for part in name.split('/') if part)


def channel_of(topic: str, kind: str, definition: str, latched: bool) -> Channel:
    """A connection of a ROS 1 bag."""
    qos = (LATCHED,) if latched else ()
    return Channel(ros2_topic(topic), ros2_type(kind), definition, qos, form=ROS1)


class Ros1Scan(Scan):
    """A RecordingFile of a bag of ROS 1."""

    magic = MAGIC

    def _cut(self) -> str:
        return 'it was not closed by the recorder, or is cut off'

    def _read(self, file: BinaryIO, size: int) -> Generator[Message, None, bool]:
        for header, data, whole in _records(file, size):
            kind = header[b'op']
            if kind == CHUNK:
                yield from self._in_chunk(partial(_chunk, header, data), whole)
            if not whole:
                return False
            if kind == CONNECTION:
                more = _header(data)
                self._channels[header[b'conn']] = channel_of(
                    header[b'topic'].decode(),
                    more[b'type'].decode(),
                    more[b'message_definition'].decode(),
                    more.get(b'latching') == b'1',
                )
            elif kind == MESSAGE:
                seconds, nanoseconds = struct.unpack('<II', header[b'time'])
                time = seconds * 10**9 + nanoseconds
                yield Message(self._channels[header[b'conn']], time, data)
        return True


def _records(file: BinaryIO, size: int) -> Iterator[tuple[dict[bytes, bytes], bytes, bool]]:
    """(header, data, whether it is all there) of each record."""
    while length := file.read(4):
        header, whole = _sized(file, length, size)
        if not whole:
            yield {b'op': b''}, b'', False
            return
        data, whole = _sized(file, file.read(4), size)
        yield _header(header), data, whole


def _sized(file: BinaryIO, length: bytes, size: int) -> tuple[bytes, bool]:
    if len(length) < 4:
        return b'', False
    return taken(file, *struct.unpack('<I', length), size)


def _chunk(header: dict[bytes, bytes], data: bytes) -> tuple[bytes, bool]:
    """The records of a chunk as far as they are there, and whether that is all."""
    (size,) = struct.unpack('<I', header[b'size'])
    return unpacked(data, header[b'compression'].decode(), min(size, LONGEST))


def _header(content: bytes) -> dict[bytes, bytes]:
    fields, place = {}, 0
    while place < len(content):
        (length,) = struct.unpack_from('<I', content, place)
        name, _, value = content[place + 4 : place + 4 + length].partition(b'=')
        fields[name] = value
        place += 4 + length
    return fields
