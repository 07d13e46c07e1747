"""What a recording holds, whatever kind of file it is."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterator
from functools import lru_cache
from typing import NamedTuple, Protocol

from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2.metadata import parse_qos

log = logging.getLogger(__name__)

# The forms of messages that can be read.
ROS1, ROS2 = 'ros1', 'cdr'
# Of a message.
Data = bytes | memoryview


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
    data: Data


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


def reason(error: Exception) -> str:
    """What an error is and says, in one line that is not too long."""
    return f'{type(error).__name__}: {" ".join(str(error).split())[:200]}'


# Files are read more than once; one warning is enough.
@lru_cache(maxsize=256)
def profiles(topic: str, text: str) -> tuple[Qos, ...]:
    """Quality of service of a topic as recorders write it; none if it cannot be read."""
    try:
        return tuple(parse_qos(text))
    except Exception as error:  # whatever a parser does with text that it does not know
        log.warning(
            '%s: its quality of service cannot be read and is left out (%s)', topic, reason(error)
        )
        return ()
