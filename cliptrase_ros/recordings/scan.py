"""What MCAP files and bags of ROS 1 without an index have in common: all records in the order of
the file, up to where it ends. No reader of rosbags or mcap goes on after a chunk that is damaged,
or says what was damaged."""

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
    """A RecordingFile, read once from beginning to end to know what it holds."""

    # What the file begins with, before its records.
    magic: bytes

    def __init__(self, path: Path):
        self.path = path
        self._channels: dict[object, Channel] = {}
        # What is wrong, as far as the file has been read.
        self._error = ''
        self._broken = 0
        self.counts: Counter[Channel] = Counter()
        for message in self._messages():
            self.counts[message.channel] += 1
        self.counts.update(dict.fromkeys(self._channels.values(), 0))
        broken = f'{self._broken} of its chunks are damaged' if self._broken else ''
        self.damage = '; '.join(filter(None, (self._error or self._cut(), broken)))

    def messages(self, channels: Collection[Channel]) -> Iterator[Message]:
        """The messages of these channels, in the order of the file."""
        return (message for message in self._messages() if message.channel in channels)

    def close(self) -> None:  # noqa: B027, nothing for subclasses to do either
        """Nothing is open between two readings."""

    @abstractmethod
    def _cut(self) -> str:
        """Why a file that could be read to its end is not whole; '' if it is."""

    @abstractmethod
    def _read(self, file: BinaryIO, size: int) -> Generator[Message, None, bool]:
        """The messages of the records in a file, or in a chunk, of at most `size` bytes; and
        whether the last one is all there.

        Raises:
            ValueError, KeyError, ReaderError, MemoryError: a record is none.
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
        """The messages of a chunk as far as they go; the next chunk does not need them.

        Args:
            unpack: gives the records, and whether these are all.
            whole: whether the chunk is all there.
        """
        try:
            records, complete = unpack()
            complete &= yield from self._read(BytesIO(records), len(records))
        except BROKEN:
            complete = False
        self._broken += whole and not complete


def taken(file: BinaryIO, length: int, size: int) -> tuple[bytes, bool]:
    """So many bytes of a file of `size` bytes, or what is there of them, and whether it is all.

    Raises:
        ValueError: no record is as long as that.
    """
    if length > LONGEST:
        raise ValueError(f'a record of {length} bytes; none has more than {LONGEST}')
    # Memory is taken for all that is asked for; and a file may have grown since.
    content = file.read(min(length, max(0, size - file.tell())))
    return content, len(content) == length
