"""ROS 2 SQLite files (.db3), read with the standard library's sqlite3.

The reader of rosbags is not used: it ignores the write-ahead log of a recorder that was killed, it
cannot open a file that is cut off, and it does not notice malformed rows.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from urllib.parse import quote

from .channel import Channel, Message, profiles

MAGIC = b'SQLite format 3\0'
BROKEN = sqlite3.DatabaseError, ValueError, KeyError
# SQLite allows a value of any type in any column.
_USABLE = "typeof(topic_id) = 'integer' AND typeof(timestamp) = 'integer' AND typeof(data) = 'blob'"


class Sqlite:
    """A RecordingFile of a .db3 file.

    Raises:
        sqlite3.DatabaseError, ValueError: the topics cannot be read.
    """

    def __init__(self, path: Path):
        log = path.with_name(f'{path.name}-wal')
        # Without a write-ahead log no lock is needed, and the folder may be read-only.
        mode = 'mode=ro' if log.is_file() and log.stat().st_size else 'immutable=1'
        self._database = _connected(path, mode)
        self._folder: tempfile.TemporaryDirectory | None = None
        self.damage = ''
        # Whether the file is damaged; the number of malformed topics.
        self._torn, self._odd = False, 0
        try:
            try:
                if path.stat().st_size % _page_size(path):
                    raise ValueError('its last page is incomplete')
                self._topics = self._read_topics()
                self._count()
            except BROKEN as error:
                self._open_damaged(path, error)
        except BaseException:
            self.close()
            raise

    def _count(self) -> None:
        rows = self._rows(
            f'SELECT topic_id, SUM({_USABLE}), COUNT(*) FROM messages GROUP BY topic_id'
        )
        found = {number: usable for number, usable, _ in rows}
        self.counts = Counter({c: 0 for c in self._topics.values()})
        for number, channel in self._topics.items():
            self.counts[channel] += found.get(number, 0)
        lost = sum(count for _, _, count in rows) - sum(self.counts.values())
        if lost or self._odd:
            self.damage = f'{lost} messages and {self._odd} topics are malformed'

    def _open_damaged(self, path: Path, error: Exception) -> None:
        """Open a damaged file; count its messages by reading them."""
        self.damage, self._torn = f'it is cut off or damaged ({error})', True
        size, page = path.stat().st_size, _page_size(path)
        if size % page:
            # SQLite would read zeros for the missing part of the page.
            self._database.close()
            self._folder = tempfile.TemporaryDirectory()
            copy = Path(self._folder.name, 'cut.db3')
            shutil.copyfile(path, copy)
            os.truncate(copy, size - size % page)
            self._database = _connected(copy, 'immutable=1')
        # Without this, SQLite refuses a file that is shorter than its header says.
        self._database.execute('PRAGMA writable_schema=ON')
        self._topics = self._read_topics()
        channels = self._topics.values()
        self.counts = Counter(message.channel for message in self.messages(channels))
        self.counts.update(dict.fromkeys(channels, 0))

    def messages(self, channels: Collection[Channel]) -> Iterator[Message]:
        """Yield the messages of these channels by time; of a damaged file by id."""
        numbers = [n for n, channel in self._topics.items() if channel in channels]
        # In a damaged file the time index may be cut off too. Ids follow the order of arrival.
        order = 'id' if self._torn else 'timestamp, id'
        try:
            for number, time, data in self._database.execute(
                'SELECT topic_id, timestamp, data FROM messages '
                f'WHERE topic_id IN ({",".join("?" * len(numbers))}) AND {_USABLE} '
                f'ORDER BY {order}',
                numbers,
            ):
                yield Message(self._topics[number], time, data)
        except BROKEN as error:
            self.damage, self._torn = f'it is cut off or damaged ({error})', True

    def close(self) -> None:
        """Close the file and delete its temporary copy."""
        self._database.close()
        if self._folder:
            self._folder.cleanup()

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
        rows = self._rows(f'SELECT {", ".join(columns)} FROM topics ORDER BY id')
        topics = {}
        for number, topic, kind, form, qos, digest in rows:
            if isinstance(number, int) and all(isinstance(x, str) for x in (topic, kind, form)):
                definition = definitions.get(kind, '')
                digest = digest if isinstance(digest, str) else ''
                topics[number] = Channel(
                    topic, kind, definition, profiles(topic, qos), digest, form
                )
        self._odd = len(rows) - len(topics)
        return topics

    def _read_definitions(self) -> dict[str, str]:
        """Return {type: definition}. Files from before ROS 2 Iron have no definitions."""
        if not self._rows("SELECT 1 FROM sqlite_master WHERE name = 'message_definitions'"):
            return {}
        columns = 'topic_type, encoded_message_definition'
        rows = self._rows(f'SELECT {columns} FROM message_definitions')
        return {kind: text for kind, text in rows if isinstance(text, str)}

    def _rows(self, query: str) -> list[tuple]:
        return self._database.execute(query).fetchall()


def _connected(path: Path, mode: str) -> sqlite3.Connection:
    uri = f'file:{quote(str(path.resolve()))}?{mode}'
    return sqlite3.connect(uri, uri=True, check_same_thread=False)


def _page_size(path: Path) -> int:
    with path.open('rb') as file:
        size = int.from_bytes(file.read(18)[16:], 'big')
    return 65536 if size in (0, 1) else size
