"""Writer of a new ROS 2 recording, a folder with MCAP: the old channels unchanged, and new ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rosbags.interfaces import Connection, Qos
from rosbags.rosbag2 import StoragePlugin, Writer

from .. import files
from ..errors import PictureError
from . import output_messages
from .channel import Channel, Message
from .convert import described
from .reader import Recording


@contextmanager
def written(target: Path) -> Iterator[Writer]:
    """Yield a writer. Its recording appears as `target` at the end; after an error nothing is
    left."""
    with files.whole(target) as part:
        # The files of a recording have the name of its folder.
        folder = part / target.name
        # Metadata version 8, because Humble cannot read the QoS of version 9.
        with Writer(folder, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
            yield writer
        for file in folder.iterdir():
            file.rename(part / file.name)
        folder.rmdir()


class Output:
    """The new recording: the old channels unchanged, and new topics."""

    def __init__(self, recording: Recording, writer: Writer):
        self._writer = writer
        self._old = {channel: self._connect(channel) for channel in recording.counts}
        self._new: dict[str, Connection] = {}
        self.counts: Counter[str] = Counter()

    def add(self, topic: str, kind: str, qos: Qos) -> None:
        """Add a new topic.

        Raises:
            PictureError: the old recording already has this topic.
        """
        if any(channel.topic == topic for channel in self._old):
            raise PictureError(
                f'the recording already has the topic {topic}; choose another name for the new '
                'topics with --prefix'
            )
        definition, _ = output_messages.STORE.generate_msgdef(kind, ros_version=2)
        digest = output_messages.STORE.hash_rihs01(kind)
        self._new[topic] = self._connect(Channel(topic, kind, definition, (qos,), digest))
        self.counts[topic] = 0

    def _connect(self, channel: Channel) -> Connection:
        definition, digest = described(channel.type, channel.definition, channel.digest)
        connection = self._writer.add_connection(
            channel.topic,
            channel.type,
            msgdef=definition,
            rihs01=digest or 'unknown',
            serialization_format=channel.form,
            offered_qos_profiles=channel.qos,
        )
        if not digest:
            # rosbags requires a hash. Recordings from before ROS 2 Iron have none: write ''.
            connection = connection._replace(digest='')
            self._writer.connections[-1] = connection
        return connection

    def copy(self, message: Message) -> None:
        """Write a message of the old recording unchanged."""
        self._writer.write(self._old[message.channel], message.time, message.data)

    def write(self, topic: str, time: int, message: Any) -> None:
        """Write a new message."""
        self._writer.write(self._new[topic], time, output_messages.serialize(message))
        self.counts[topic] += 1
