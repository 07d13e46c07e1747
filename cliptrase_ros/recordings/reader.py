"""A recording of ROS 1 or ROS 2, of one file or several, as messages of ROS 2; what is cut off or
damaged is read as far as it goes."""

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
    """A RecordingFile of a whole file, which rosbags has opened and reads by its index."""

    damage = ''

    def __init__(self, reader: rosbag1.Reader | rosbag2.Reader):
        self._reader = reader
        self._channels = {connection.id: _channel(connection) for connection in reader.connections}
        self.counts: Counter[Channel] = Counter()
        for connection in reader.connections:
            self.counts[self._channels[connection.id]] += connection.msgcount

    def messages(self, channels: Collection[Channel]) -> Iterator[Message]:
        """The messages of these channels, by time."""
        asked = [c for c in self._reader.connections if self._channels[c.id] in channels]
        if not asked:  # which rosbags takes for all
            return
        for connection, time, data in self._reader.messages(asked):
            yield Message(self._channels[connection.id], time, data)

    def close(self) -> None:
        """Let the file go."""
        self._reader.close()


def _channel(connection: Any) -> Channel:
    """Of a connection of rosbags."""
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
    """A recording that is open; a context manager.

    Attributes:
        path: of the file or folder.
        counts: how many messages are to come of each channel; one for each topic and type of ROS 2.
        problems: sentences about what cannot be used; grow while messages are read.

    Raises:
        PictureError: there is none, or nothing of it can be read.
    """

    def __init__(self, path: Path):
        self.path = path
        self.problems: list[str] = []
        self._stack = ExitStack()
        # Messages that could be read, and not converted.
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
        """The messages of a channel that can be read."""
        return self._converted({channel}, lambda sentence: None)

    def messages(self) -> Iterator[Message]:
        """All messages, by time as far as that is known."""
        until, read = 0, 0
        for message in self._converted(set(self.counts), self.problems.append):
            until, read = max(until, message.time), read + 1
            yield message
        missing = sum(self.counts.values()) - read - sum(self._lost.values())
        if missing > 0 and not any(file.damage for _, file in self._files):
            self.problems.append(f'{self.path}: {missing} of its messages cannot be found')
        for path, file in self._files:
            if file.damage:
                told = f'; {read} messages until {moment(until)} were read' if read else ''
                self.problems.append(f'{path}: {file.damage}{told}')

    def _converted(
        self, channels: Collection[Channel], tell: Callable[[str], None]
    ) -> Iterator[Message]:
        """The messages of these channels; `tell` gets a sentence on what cannot be used."""
        asked = {own for own, (channel, _) in self._routes.items() if channel in channels}
        lost = self._lost = Counter()
        for _, file in self._files:
            for own, time, data in _guarded(file, asked):
                channel, convert = self._routes[own]
                try:
                    if not 0 <= time < 2**63:
                        raise ValueError('its time is none')
                    data = convert(data)
                except Exception as error:  # whatever a converter does with damaged data
                    if channel not in lost:
                        tell(
                            f'{channel.topic}: a message of {moment(time)} is no '
                            f'{channel.type} and left out ({error})'
                        )
                    lost[channel] += 1
                else:
                    yield Message(channel, time, data)
        for channel, number in lost.items():
            if number > 1:
                tell(f'{channel.topic}: {number} messages are left out like that')

    def _routed(self) -> dict[Channel, tuple[Channel, Convert]]:
        """Own channel -> channel of ROS 2 and what makes messages such; counts those."""
        found: Counter[Channel] = Counter()
        for _, file in self._files:
            found.update(file.counts)
        routes: dict[Channel, tuple[Channel, Convert]] = {}
        targets: dict[tuple[str, str], Channel] = {}
        for own, count in found.items():
            try:
                target, convert = _route(own)
            except ConversionError as error:
                self.problems.append(f'{own.topic} ({own.type}) is left out: {error}')
                continue
            # Several who published one topic become one.
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
                f'{self.path} holds no recording: neither metadata.yaml nor .mcap or .db3 files'
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
            raise PictureError(f'{path} is a folder; expected a file of messages')
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
    raise ConversionError(f'its messages are {channel.form!r}, not of ROS')


def moment(time: int) -> str:
    """A time in ns as people read it, UTC."""
    seconds, rest = divmod(time, 10**9)
    try:
        day = datetime.fromtimestamp(seconds, timezone.utc)
    except (ValueError, OverflowError, OSError):
        return f'{seconds}.{rest:09d}'
    return f'{day:%Y-%m-%d %H:%M:%S}.{rest // 10**6:03d} ({seconds}.{rest:09d})'


def _uncompressed(data: Data) -> Data:
    """A message that the recorder has compressed by itself, which no metadata need tell."""
    return unpacked(data, 'zstd')[0] if data[:4] == ZSTD_MAGIC else data


def _guarded(file: RecordingFile, channels: Collection[Channel]) -> Iterator[Message]:
    """The messages up to where they cannot be read."""
    try:
        yield from file.messages(channels)
    except Exception as error:  # rosbags checks little of damaged files
        file.damage = f'it is damaged ({reason(error)})'


def _opened(path: Path, original: Path) -> RecordingFile:
    """A file, by what it begins with."""
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
        raise PictureError(f'{original}: nothing of it can be read ({error})') from error
    what = 'holds none' if magic else 'is empty'
    raise PictureError(
        f'{original} {what}; expected a recording: a .bag of ROS 1, or a folder, an .mcap or a '
        '.db3 of ROS 2'
    )


def _indexed(
    kind: ModuleType,
    make: Callable[[Path], rosbag1.Reader | rosbag2.Reader],
    path: Path,
    original: Path,
) -> Indexed | None:
    """A file by its index, unless that is missing, as it often is, or damaged."""
    try:
        if not kind.has_index(path):
            return None
        reader = make(path)
        reader.open()
        if isinstance(reader, rosbag2.Reader) and not getattr(reader.storage, 'chunks', ()):
            # rosbags would give up where times go back.
            reader.close()
            return None
        return Indexed(reader)
    except Exception as error:  # rosbags checks little of damaged files
        log.warning(
            '%s: its index cannot be used (%s); all records are read', original, reason(error)
        )
        return None


def _paths(folder: Path) -> list[Path]:
    """The files of a recording of ROS 2 in their order."""
    metadata = folder / 'metadata.yaml'
    try:
        told = yaml.safe_load(metadata.read_text())
        names = told['rosbag2_bagfile_information']['relative_file_paths']
        if not (names and isinstance(names, list)):
            raise ValueError('it names no files')
        return [folder / PurePath(name).name for name in names]
    except FileNotFoundError:
        pass  # it is written at the end
    except Exception as error:  # whatever a parser does with damaged text
        log.warning('%s cannot be used (%s); all files are read', metadata, reason(error))
    found = [p for p in folder.iterdir() if p.name.removesuffix('.zstd').endswith(SUFFIXES)]
    return sorted(found, key=lambda path: _natural(path.name))


def _natural(name: str) -> list[str | int]:
    """So that 10 comes after 9."""
    return [int(part) if part.isdigit() else part for part in re.split(r'(\d+)', name)]
