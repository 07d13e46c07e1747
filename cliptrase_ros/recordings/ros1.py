"""Bags of ROS 1 that have no index, such as those of a recorder that was killed: all records in the
order of the file, up to where it ends (https://wiki.ros.org/Bags/Format/2.0)."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Collection, Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from .channel import LATCHED, ROS1, Channel, Message, unpacked

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


class Ros1Scan:
    """A Source of a bag of ROS 1, read once from beginning to end to know what it holds."""

    def __init__(self, path: Path):
        self.path = path
        self.counts: Counter[Channel] = Counter()
        self.damage = 'it was not closed by the recorder, or is cut off'
        self._channels: dict[bytes, Channel] = {}
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
        for header, data, whole in _records(file, size):
            kind = header[b'op']
            if kind == CHUNK:
                records, complete = unpacked(data, header[b'compression'].decode())
                whole = whole and complete
                yield from self._read(BytesIO(records), len(records))
            if not whole:
                return
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


def _records(file: BinaryIO, size: int) -> Iterator[tuple[dict[bytes, bytes], bytes, bool]]:
    """(header, data, whether the data are all there) of each record whose header is."""
    while True:
        header, whole = _sized(file, size)
        if not whole:
            return
        data, whole = _sized(file, size)
        yield _header(header), data, whole


def _sized(file: BinaryIO, size: int) -> tuple[bytes, bool]:
    length = file.read(4)
    if len(length) < 4:
        return b'', False
    (length,) = struct.unpack('<I', length)
    content = file.read(min(length, size))
    return content, len(content) == length


def _header(content: bytes) -> dict[bytes, bytes]:
    fields, place = {}, 0
    while place < len(content):
        (length,) = struct.unpack_from('<I', content, place)
        name, _, value = content[place + 4 : place + 4 + length].partition(b'=')
        fields[name] = value
        place += 4 + length
    return fields
