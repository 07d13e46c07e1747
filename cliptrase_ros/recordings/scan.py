"""Common base for MCAP files and ROS 1 bags without an index: all records are read in file order.

The readers of rosbags and mcap stop at a damaged chunk and do not say what was damaged.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from rosbags.rosbag1 import ReaderError

from .channel import Channel, Message, reason
from .compression import LONGEST

BROKEN = ValueError, KeyError, ReaderError, MemoryError


class Scan(ABC):
    """A RecordingFile that is first read from beginning to end to count its messages."""

    # The first bytes of the file, before its records.
    magic: bytes

    def __init__(self, path: Path):
        self.path = path
        self._channels: dict[object, Channel] = {}
        # The damage found so far.
        self._error = ''
        self._broken = 0
        self.counts: Counter[Channel] = Counter()
        for message in self._messages():
            self.counts[message.channel] += 1
        self.counts.update(dict.fromkeys(self._channels.values(), 0))
        broken = f'{self._broken} of its chunks are damaged' if self._broken else ''
        self.damage = '; '.join(filter(None, (self._error or self._cut(), broken)))

    def messages(self, channels: Collection[Channel]) -> Iterator[Message]:
        """Yield the messages of these channels, in the order of the file."""
        return (message for message in self._messages() if message.channel in channels)

    def close(self) -> None:  # noqa: B027, subclasses have nothing to close either
        """Do nothing: no file is open between two readings."""

    @abstractmethod
    def _cut(self) -> str:
        """Return why a file that could be read to its end is incomplete; '' if it is complete."""

    @abstractmethod
    def _read(self, file: BinaryIO, size: int) -> Generator[Message, None, bool]:
        """Yield the messages in a file or chunk of at most `size` bytes; return whether the last
        record is complete.

        Raises:
            ValueError, KeyError, ReaderError, MemoryError: a record is damaged.
        """

    def _messages(self) -> Iterator[Message]:
        self._broken = 0
        with self.path.open('rb') as file:
            file.seek(len(self.magic))
            try:
                yield from self._read(file, self.path.stat().st_size)
            except BROKEN as error:
                self._error = f'it is damaged ({reason(error)})'

    def _in_chunk(
        self, unpack: Callable[[], tuple[bytes, bool]], whole: bool
    ) -> Generator[Message, None, None]:
        """Yield the messages of a chunk up to its damage. The next chunk can still be read.

        Args:
            unpack: returns (the records, whether these are all).
            whole: whether the file holds the whole chunk.
        """
        try:
            records, complete = unpack()
            complete &= yield from self._read(BytesIO(records), len(records))
        except BROKEN:
            complete = False
        self._broken += whole and not complete


def taken(file: BinaryIO, length: int, size: int) -> tuple[bytes, bool]:
    """Read `length` bytes of a file of `size` bytes; return (what exists of them, whether that is
    all).

    Raises:
        ValueError: `length` is over the limit of a record.
    """
    if length > LONGEST:
        raise ValueError(f'a record of {length} bytes is over the limit of {LONGEST} bytes')
    # read() allocates all that is asked for, and the file may have grown since `size` was taken.
    content = file.read(min(length, max(0, size - file.tell())))
    return content, len(content) == length
