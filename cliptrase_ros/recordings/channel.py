"""Channels and messages of a recording, independent of the file format."""

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

# The serialisation formats of messages that can be read.
ROS1, ROS2 = 'ros1', 'cdr'
# The serialised bytes of a message.
Data = bytes | memoryview


class Channel(NamedTuple):
    """A topic with one type.

    Attributes:
        type: as ROS 2 writes it, such as sensor_msgs/msg/Image.
        definition: of the type and its nested types, as in the file; '' if the file has none.
        qos: profiles of the publishers.
        digest: hash of the type; '' if the file has none.
        form: serialisation format of the messages, such as ROS2.
    """

    topic: str
    type: str
    definition: str = ''
    qos: tuple[Qos, ...] = ()
    digest: str = ''
    form: str = ROS2


class Message(NamedTuple):
    """A message and its recording time in ns."""

    channel: Channel
    time: int
    data: Data


class RecordingFile(Protocol):
    """One file of a recording.

    Attributes:
        counts: how many messages each channel has.
        damage: why the file is incomplete; '' if no damage is known.
    """

    counts: Counter[Channel]
    damage: str

    def messages(self, channels: Collection[Channel]) -> Iterator[Message]:
        """Yield the messages of these channels, by time if the file allows it."""

    def close(self) -> None:
        """Close the file."""


def offered(durability: QosDurability) -> Qos:
    """Return a QoS profile as the node publishes: reliable, keep last 1."""
    # The value that rmw writes for an unset duration.
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
    """Return the type and message of an error in one line, cut after 200 characters."""
    return f'{type(error).__name__}: {" ".join(str(error).split())[:200]}'


# Cached because files are read more than once, and one warning is enough.
@lru_cache(maxsize=256)
def profiles(topic: str, text: str) -> tuple[Qos, ...]:
    """Return the QoS profiles of a topic from the recorder's text; () if it cannot be parsed."""
    try:
        return tuple(parse_qos(text))
    except Exception as error:  # a parser may raise anything on unknown text
        log.warning(
            '%s: cannot read its quality of service profiles: not copied (%s)', topic, reason(error)
        )
        return ()
