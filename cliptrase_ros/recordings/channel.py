"""What a recording holds, whatever kind of file it is; and how its bytes are unpacked."""

from __future__ import annotations

import bz2
import sys
from collections import Counter
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple, Protocol

import lz4.frame
from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2.metadata import parse_qos

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

# The forms of messages that can be read.
ROS1, ROS2 = 'ros1', 'cdr'
ZSTD_MAGIC = b'\x28\xb5\x2f\xfd'
# Bytes. What says that it is longer, packed or not, is damaged rather than to fill the memory.
LONGEST = 1 << 31


class Channel(NamedTuple):
    """A topic with one type.

    Attributes:
        type: as ROS 2 writes it, such as sensor_msgs/msg/Image.
        definition: of the type and all that it is made of, as it is in the file; '' if it is not.
        qos: profiles of those who published it.
        digest: hash of the type, '' if it is not in the file.
        form: of the messages, such as ROS2.
    """

    topic: str
    type: str
    definition: str = ''
    qos: tuple[Qos, ...] = ()
    digest: str = ''
    form: str = ROS2


class Message(NamedTuple):
    """A message and when it was recorded, in ns."""

    channel: Channel
    time: int
    data: bytes | memoryview


class RecordingFile(Protocol):
    """One file of a recording.

    Attributes:
        counts: how many messages each channel has.
        damage: why this is not the whole file that was to be; '' if nothing is known of that.
    """

    counts: Counter[Channel]
    damage: str

    def messages(self, channels: Collection[Channel]) -> Iterator[Message]:
        """The messages of these channels, by time as far as that is known."""

    def close(self) -> None:
        """Let the file go."""


def offered(durability: QosDurability) -> Qos:
    """Reliable, keep last 1, as the node publishes."""
    # As rmw writes what nobody has set.
    never = QosTime(9223372036, 854775807)
    return Qos(
        QosHistory.KEEP_LAST,
        1,
        QosReliability.RELIABLE,
        durability,
        never,
        never,
        QosLiveliness.AUTOMATIC,
        never,
        avoid_ros_namespace_conventions=False,
    )


OUTPUT = offered(QosDurability.VOLATILE)
LATCHED = offered(QosDurability.TRANSIENT_LOCAL)


def profiles(text: str) -> tuple[Qos, ...]:
    """Quality of service as recorders write it; none if it cannot be read."""
    try:
        return tuple(parse_qos(text))
    except Exception:  # whatever a parser does with text that it does not know
        return ()


class _Plain:
    eof = True

    def decompress(self, data: bytes, _: int) -> bytes:
        return data


_UNPACKERS: dict[str, Any] = {
    '': _Plain,
    'none': _Plain,
    'bz2': bz2.BZ2Decompressor,
    'lz4': lz4.frame.LZ4FrameDecompressor,
    'zstd': zstd.ZstdDecompressor,
}


def unpacked(data: bytes, compression: str, most: int = LONGEST) -> tuple[bytes, bool]:
    """What can be unpacked of data that may be cut off, and whether that is all.

    Args:
        most: how many bytes it may become.

    Raises:
        ValueError: another compression, data that are none of it, or more than `most` bytes.
    """
    if compression not in _UNPACKERS:
        raise ValueError(f'compression {compression!r} is not known')
    unpacker = _UNPACKERS[compression]()
    try:
        # One byte more shows whether there are more.
        content = unpacker.decompress(data, most + 1)
    except (OSError, RuntimeError, zstd.ZstdError) as error:
        raise ValueError(f'{compression} data cannot be unpacked ({error})') from error
    if len(content) > most:
        raise ValueError(f'{compression} data become more than the {most} bytes they should be')
    return content, unpacker.eof
