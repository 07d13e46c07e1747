"""Reader of a ROS 1 or ROS 2 recording, one file or several, that yields ROS 2 messages. Files that
are cut off or damaged are read as far as possible."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path

from ..errors import PictureError
from . import folder
from .channel import ROS1, ROS2, Channel, Data, Message, RecordingFile, reason
from .compression import ZSTD_MAGIC, unpacked
from .convert import ConversionError, Convert, to_ros2
from .opening import open_file

log = logging.getLogger(__name__)

# Errors of one file. The other files are read.
UNREADABLE = PictureError, FileNotFoundError, PermissionError


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
            return [(self.path, open_file(self.path, self._stack))]
        found = folder.contents(self.path)
        opened: list[tuple[Path, RecordingFile]] = []
        for paths in found.parts:
            try:
                opened.append(self._open_part(paths))
            except UNREADABLE as error:
                self.problems.append(str(error))
        if not opened:
            raise PictureError('; '.join(filter(None, (found.told, *self.problems))))
        if not found.ordered:
            opened = _by_time(opened)
        self._tell_difference(found, [file for _, file in opened])
        return opened

    def _open_part(self, paths: list[Path]) -> tuple[Path, RecordingFile]:
        """Open the first of these copies that is complete; otherwise the one with most messages."""
        opened: list[tuple[Path, RecordingFile]] = []
        errors: list[Exception] = []
        for path in paths:
            try:
                opened.append((path, open_file(path, self._stack)))
            except UNREADABLE as error:
                errors.append(error)
            else:
                if not opened[-1][1].damage:
                    return opened[-1]
        if not opened:
            raise errors[0]
        return max(opened, key=lambda entry: _quality(entry[1]))

    def _tell_difference(self, found: folder.Contents, opened: list[RecordingFile]) -> None:
        """Report how the folder differs from its metadata.yaml."""
        read = sum(sum(file.counts.values()) for file in opened)
        short = found.messages is not None and read < found.messages
        damage = self.problems or any(file.damage for file in opened)
        said = found.told
        if short and not damage:
            counted = f'counts {found.messages} messages, the files hold {read}'
            said = f'{said}; it {counted}' if said else f'{self.path / folder.METADATA} {counted}'
        if found.told and (found.lost or short):
            self.problems.append(said)
        elif said:
            log.warning('%s', said)


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
    """Unpack a message that the recorder compressed on its own. Metadata may not mention it.

    Raises:
        ValueError: it cannot be unpacked, or not to its end.
    """
    if data[:4] != ZSTD_MAGIC:
        return data
    content, whole = unpacked(data, 'zstd')
    if not whole:
        raise ValueError('its zstd data are cut off')
    return content


def _by_time(opened: list[tuple[Path, RecordingFile]]) -> list[tuple[Path, RecordingFile]]:
    """Sort files by their first message; of files that begin with the same one keep the best. (The
    others may be converted to another format, or compressed.)"""
    found: dict[tuple, tuple[Path, RecordingFile]] = {}
    for path, file in sorted(opened, key=lambda entry: _quality(entry[1])):
        first = next(_guarded(file, file.counts), None)
        found[(first.time, first.channel.topic) if first else (0, path)] = path, file
    return [found[key] for key in sorted(found, key=lambda key: key[0])]


def _quality(file: RecordingFile) -> tuple[bool, int]:
    return not file.damage, sum(file.counts.values())


def _guarded(file: RecordingFile, channels: Collection[Channel]) -> Iterator[Message]:
    """Yield the messages up to the first that cannot be read; note the damage."""
    try:
        yield from file.messages(channels)
    except Exception as error:  # rosbags checks damaged files little and may raise anything
        file.damage = f'it is damaged ({reason(error)})'
