"""The SQLite files of ROS 2 (.db3), also those that are cut off, or whose newest messages are still
in the write-ahead log of a recorder that was killed."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from urllib.parse import quote

from .channel import Channel, Message, profiles

MAGIC = b'SQLite format 3\0'


class Sqlite:
    """A Source of a .db3 file.

    Raises:
        sqlite3.DatabaseError: not even the topics can be read.
    """

    def __init__(self, path: Path):
        log = path.with_name(f'{path.name}-wal')
        # Without a log nothing is to be locked, and the folder may be one that nobody can write to.
        mode = 'mode=ro' if log.is_file() and log.stat().st_size else 'immutable=1'
        uri = f'file:{quote(str(path.resolve()))}?{mode}'
        self._database = sqlite3.connect(uri, uri=True, check_same_thread=False)
        self.damage = ''
        try:
            try:
                self._topics = self._read_topics()
                found = dict(
                    self._rows('SELECT topic_id, COUNT(*) FROM messages GROUP BY topic_id')
                )
                self.counts = Counter({c: found.get(n, 0) for n, c in self._topics.items()})
            except sqlite3.DatabaseError as error:
                self._open_damaged(error)
        except BaseException:
            self.close()
            raise

    def _open_damaged(self, error: sqlite3.DatabaseError) -> None:
        """As far as it goes; how many messages there are is found by reading them."""
        self.damage = f'it is cut off or damaged ({error})'
        # Lets SQLite open a file that is shorter than it should be.
        self._database.execute('PRAGMA writable_schema=ON')
        self._topics = self._read_topics()
        channels = self._topics.values()
        self.counts = Counter(message.channel for message in self.messages(channels))
        self.counts.update(dict.fromkeys(channels, 0))

    def messages(self, channels: Collection[Channel]) -> Iterator[Message]:
        """The messages of these channels, by time, or of a damaged file by number."""
        numbers = [str(n) for n, channel in self._topics.items() if channel in channels]
        # An index may be cut off, too; messages are numbered as they came.
        order = 'id' if self.damage else 'timestamp, id'
        try:
            for number, time, data in self._database.execute(
                'SELECT topic_id, timestamp, data FROM messages '
                f'WHERE topic_id IN ({",".join(numbers)}) ORDER BY {order}'
            ):
                yield Message(self._topics[number], time, data)
        except sqlite3.DatabaseError as error:
            self.damage = f'it is cut off or damaged ({error})'

    def close(self) -> None:
        """Let the file go."""
        self._database.close()

    def _read_topics(self) -> dict[int, Channel]:
        there = {row[1] for row in self._rows('PRAGMA table_info(topics)')}
        columns = (
            'id',
            'name',
            'type',
            'serialization_format',
            'offered_qos_profiles' if 'offered_qos_profiles' in there else "''",
            'type_description_hash' if 'type_description_hash' in there else "''",
        )
        definitions = self._read_definitions()
        return {
            number: Channel(topic, kind, definitions.get(kind, ''), profiles(qos), digest, form)
            for number, topic, kind, form, qos, digest in self._rows(
                f'SELECT {", ".join(columns)} FROM topics ORDER BY id'
            )
        }

    def _read_definitions(self) -> dict[str, str]:
        """Text by type; files before ROS 2 Iron have none."""
        if not self._rows("SELECT 1 FROM sqlite_master WHERE name = 'message_definitions'"):
            return {}
        columns = 'topic_type, encoded_message_definition'
        return dict(self._rows(f'SELECT {columns} FROM message_definitions'))

    def _rows(self, query: str) -> list[tuple]:
        return self._database.execute(query).fetchall()
