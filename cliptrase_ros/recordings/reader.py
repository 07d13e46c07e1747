"""Reader of a ROS 1 or ROS 2 recording, one file or several, that yields ROS 2 messages. Files that
are cut off or damaged are read as far as possible."""

from __future__ import annotations

import logging
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path, PurePath
from types import ModuleType
from typing import Any

import yaml
from rosbags import rosbag1, rosbag2

from ..errors import PictureError
from . import mcap, ros1, sqlite
from .channel import ROS1, ROS2, Channel, Data, Message, RecordingFile, reason
from .compression import ZSTD_MAGIC, unpack_file, unpacked
from .convert import ConversionError, Convert, to_ros2

log = logging.getLogger(__name__)

SUFFIXES = ('.mcap', '.db3')


class Indexed:
    """A RecordingFile of a complete file that rosbags reads by its index."""

    damage = ''

    def __init__(self, reader: rosbag1.Reader | rosbag2.Reader):
        self._reader = reader
        self._channels = {connection.id: _channel(connection) for connection in reader.connections}
        self.counts: Counter[Channel] = Counter()
        for connection in reader.connections:
            self.counts[self._channels[connection.id]] += connection.msgcount

    def messages(self, channels: Collection[Channel]) -> Iterator[Message]:
        """Yield the messages of these channels, by time."""
        asked = [c for c in self._reader.connections if self._channels[c.id] in channels]
        if not asked:  # rosbags takes an empty list for all
            return
        for connection, time, data in self._reader.messages(asked):
            yield Message(self._channels[connection.id], time, data)

    def close(self) -> None:
        """Close the file."""
        self._reader.close()


def _channel(connection: Any) -> Channel:
    """Return the channel of a rosbags connection."""
    if hasattr(connection.ext, 'latching'):
        latched = bool(connection.ext.latching)
        return ros1.channel_of(
            connection.topic, connection.msgtype, connection.msgdef.data, latched
        )
    return Channel(
        connection.topic,
        connection.msgtype,
        connection.msgdef.data,
        tuple(connection.ext.offered_qos_profiles),
        connection.digest,
        connection.ext.serialization_format,
    )


class Recording:
    """An open recording; a context manager.

    Attributes:
        path: of the file or folder.
        counts: expected number of messages of each channel. Each topic and ROS 2 type is one
            channel.
        problems: sentences about what cannot be used; more are added while messages are read.

    Raises:
        PictureError: there is no recording, or nothing can be read from it.
    """

    def __init__(self, path: Path):
        self.path = path
        self.problems: list[str] = []
        self._stack = ExitStack()
        # Messages that could be read but not converted.
        self._lost: Counter[Channel] = Counter()
        try:
            self._files = self._open_all()
        except BaseException:
            self._stack.close()
            raise
        self.counts: Counter[Channel] = Counter()
        self._routes = self._routed()

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def of(self, channel: Channel) -> Iterator[Message]:
        """Yield the messages of a channel that can be read."""
        return self._converted({channel}, lambda sentence: None)

    def messages(self) -> Iterator[Message]:
        """Yield all messages, by time if the files allow it."""
        until, read = 0, 0
        for message in self._converted(set(self.counts), self.problems.append):
            until, read = max(until, message.time), read + 1
            yield message
        missing = sum(self.counts.values()) - read - sum(self._lost.values())
        if missing > 0 and not any(file.damage for _, file in self._files):
            self.problems.append(f'{self.path}: {missing} messages of its index cannot be found')
        for path, file in self._files:
            if file.damage:
                told = f'; {read} messages until {moment(until)} were read' if read else ''
                self.problems.append(f'{path}: {file.damage}{told}')

    def _converted(
        self, channels: Collection[Channel], tell: Callable[[str], None]
    ) -> Iterator[Message]:
        """Yield the messages of these channels; report what cannot be used by `tell`."""
        asked = {own for own, (channel, _) in self._routes.items() if channel in channels}
        lost = self._lost = Counter()
        for _, file in self._files:
            for own, time, data in _guarded(file, asked):
                channel, convert = self._routes[own]
                try:
                    if not 0 <= time < 2**63:
                        raise ValueError('its time is out of range')
                    data = convert(data)
                except Exception as error:  # a converter may raise anything on damaged data
                    if channel not in lost:
                        tell(
                            f'{channel.topic}: skipped the message of {moment(time)}: not a valid '
                            f'{channel.type} ({error})'
                        )
                    lost[channel] += 1
                else:
                    yield Message(channel, time, data)
        for channel, number in lost.items():
            if number > 1:
                tell(f'{channel.topic}: skipped {number} such messages in total')

    def _routed(self) -> dict[Channel, tuple[Channel, Convert]]:
        """Map each channel of the files to its ROS 2 channel and converter; fill `counts`."""
        found: Counter[Channel] = Counter()
        for _, file in self._files:
            found.update(file.counts)
        routes: dict[Channel, tuple[Channel, Convert]] = {}
        targets: dict[tuple[str, str], Channel] = {}
        for own, count in found.items():
            try:
                target, convert = _route(own)
            except ConversionError as error:
                self.problems.append(f'{own.topic} ({own.type}) is skipped: {error}')
                continue
            # Several publishers of one topic become one channel.
            target = targets.setdefault((target.topic, target.type), target)
            routes[own] = target, convert
            self.counts[target] += count
        return routes

    def _open_all(self) -> list[tuple[Path, RecordingFile]]:
        if not self.path.is_dir():
            return [(self.path, self._open(self.path))]
        paths = _paths(self.path)
        if not paths:
            raise PictureError(
                f'{self.path} holds no recording: no metadata.yaml, .mcap or .db3 file'
            )
        opened = []
        for path in paths:
            try:
                opened.append((path, self._open(path)))
            except (PictureError, FileNotFoundError, PermissionError) as error:
                self.problems.append(str(error))
        if not opened:
            raise PictureError('; '.join(self.problems))
        return opened

    def _open(self, path: Path) -> RecordingFile:
        if path.is_dir():
            raise PictureError(f'{path} is a folder; expected a file with messages')
        cut = ''
        original = path
        if path.suffix == '.zstd':
            folder = self._stack.enter_context(tempfile.TemporaryDirectory())
            path = Path(folder) / path.stem
            cut = unpack_file(original, path)
        file = _opened(path, original)
        self._stack.callback(file.close)
        if cut and not file.damage:
            file.damage = cut
        return file


def _route(channel: Channel) -> tuple[Channel, Convert]:
    if channel.form == ROS2:
        return channel, _uncompressed
    if channel.form == ROS1:
        return to_ros2(channel)
    raise ConversionError(f'its messages are {channel.form!r}, not ROS messages')


def moment(time: int) -> str:
    """Return a time in ns as readable text, in UTC."""
    seconds, rest = divmod(time, 10**9)
    try:
        day = datetime.fromtimestamp(seconds, timezone.utc)
    except (ValueError, OverflowError, OSError):
        return f'{seconds}.{rest:09d}'
    return f'{day:%Y-%m-%d %H:%M:%S}.{rest // 10**6:03d} ({seconds}.{rest:09d})'


def _uncompressed(data: Data) -> Data:
    """Unpack a message that the recorder compressed on its own. Metadata may not mention it."""
    return unpacked(data, 'zstd')[0] if data[:4] == ZSTD_MAGIC else data


def _guarded(file: RecordingFile, channels: Collection[Channel]) -> Iterator[Message]:
    """Yield the messages up to the first that cannot be read; note the damage."""
    try:
        yield from file.messages(channels)
    except Exception as error:  # rosbags checks damaged files little and may raise anything
        file.damage = f'it is damaged ({reason(error)})'


def _opened(path: Path, original: Path) -> RecordingFile:
    """Open a file by its first bytes."""
    with path.open('rb') as file:
        magic = file.read(16)
    try:
        if magic.startswith(mcap.MAGIC):
            return _indexed(mcap, rosbag2.Reader, path, original) or mcap.McapScan(path)
        if magic.startswith(ros1.MAGIC):
            return _indexed(ros1, rosbag1.Reader, path, original) or ros1.Ros1Scan(path)
        if magic.startswith(sqlite.MAGIC):
            return sqlite.Sqlite(path)
    except sqlite.BROKEN as error:
        raise PictureError(f'{original}: nothing can be read ({error})') from error
    what = 'is not a recording' if magic else 'is empty'
    raise PictureError(
        f'{original} {what}; expected a ROS 1 .bag, or a ROS 2 folder, .mcap or .db3'
    )


def _indexed(
    kind: ModuleType,
    make: Callable[[Path], rosbag1.Reader | rosbag2.Reader],
    path: Path,
    original: Path,
) -> Indexed | None:
    """Open a file by its index; return None if the index is missing (this is common) or
    damaged."""
    try:
        if not kind.has_index(path):
            return None
        reader = make(path)
        reader.open()
        if isinstance(reader, rosbag2.Reader) and not getattr(reader.storage, 'chunks', ()):
            # rosbags would stop where times go back.
            reader.close()
            return None
        return Indexed(reader)
    except Exception as error:  # rosbags checks damaged files little and may raise anything
        log.warning(
            '%s: cannot use its index (%s): reading all records instead', original, reason(error)
        )
        return None


def _paths(folder: Path) -> list[Path]:
    """Return the files of a ROS 2 recording in their order."""
    metadata = folder / 'metadata.yaml'
    try:
        told = yaml.safe_load(metadata.read_text())
        names = told['rosbag2_bagfile_information']['relative_file_paths']
        if not (names and isinstance(names, list)):
            raise ValueError('relative_file_paths must be a list of files')
        return [folder / PurePath(name).name for name in names]
    except FileNotFoundError:
        pass  # the recorder writes it when it closes the recording
    except Exception as error:  # a parser may raise anything on damaged text
        log.warning('%s cannot be used (%s): reading all files instead', metadata, reason(error))
    found = [p for p in folder.iterdir() if p.name.removesuffix('.zstd').endswith(SUFFIXES)]
    return sorted(found, key=lambda path: _natural(path.name))


def _natural(name: str) -> list[str | int]:
    """Return a sort key that puts 10 after 9."""
    return [int(part) if part.isdigit() else part for part in re.split(r'(\d+)', name)]
