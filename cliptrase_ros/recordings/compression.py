"""Unpacking of data that may be cut off, up to a size limit.

The one-shot functions of lz4 and zstd, which rosbags and mcap call, return nothing if the data are
cut off, and do not limit the memory that they fill.
"""

from __future__ import annotations

import bz2
import lzma
import re
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import lz4.frame

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ZSTD_MAGIC = b'\x28\xb5\x2f\xfd'
# Bytes. A record that claims to be longer, packed or not, counts as damaged, so that it does not
# fill the memory.
LONGEST = 1 << 31
# Bytes that are unpacked at a time: the largest block of zstd, so that all data before the damage
# are kept.
_PIECE = 1 << 17
# The first bytes of a packed file. A file of zstd may begin with a skippable frame (pzstd does).
_MAGICS = {
    'zstd': rb'\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18',
    'lz4': rb'\x04\x22\x4d\x18',
    'gzip': rb'\x1f\x8b\x08',
    'bz2': rb'BZh[1-9]1AY&SY',
    'xz': rb'\xfd7zXZ\x00',
}
_BROKEN = OSError, RuntimeError, EOFError, zstd.ZstdError, lzma.LZMAError, zlib.error


class _Plain:
    eof = True

    def decompress(self, data: bytes, _: int) -> bytes:
        return data


class _Gzip:
    """zlib's decompressor with the interface of the others."""

    def __init__(self):
        self._inner = zlib.decompressobj(16 + zlib.MAX_WBITS)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, most: int) -> bytes:
        content = self._inner.decompress(self._inner.unconsumed_tail + data, most)
        self.needs_input = len(content) < most
        return content


_UNPACKERS: dict[str, Any] = {
    '': _Plain,
    'none': _Plain,
    'bz2': bz2.BZ2Decompressor,
    'lz4': lz4.frame.LZ4FrameDecompressor,
    'zstd': zstd.ZstdDecompressor,
    'gzip': _Gzip,
    'xz': lzma.LZMADecompressor,
}


def unpacked(data: bytes | memoryview, compression: str, most: int = LONGEST) -> tuple[bytes, bool]:
    """Unpack data that may be cut off; return (what could be unpacked, whether that is all).

    Args:
        most: limit of the unpacked size in bytes.

    Raises:
        ValueError: the compression is unknown, the data do not have it, or they unpack to more
            than `most` bytes.
    """
    if compression not in _UNPACKERS:
        raise ValueError(f'compression {compression!r} is not known; expected bz2, lz4 or zstd')
    unpacker = _UNPACKERS[compression]()
    try:
        # The one extra byte shows whether the data exceed the limit.
        content = unpacker.decompress(data, most + 1)
    except _BROKEN as error:
        raise ValueError(f'{compression} data cannot be unpacked ({error})') from error
    if len(content) > most:
        raise ValueError(f'{compression} data unpack to more than the expected {most} bytes')
    return content, unpacker.eof


def packing(head: bytes) -> str:
    """Return the compression of a file by its first 16 bytes, or ''."""
    return next((kind for kind, magic in _MAGICS.items() if re.match(magic, head)), '')


class _Pieces:
    """The unpacked content of a file of one or several frames, in small pieces.

    Attributes:
        cut: at the end, '' or why the content may be incomplete.
    """

    def __init__(self, file: BinaryIO, kind: str):
        self._file, self._kind = file, kind
        self.cut = ''

    def __iter__(self) -> Iterator[bytes]:
        unpacker = _UNPACKERS[self._kind]()
        packed = b''
        while True:
            if not packed and (unpacker.eof or unpacker.needs_input):
                packed = self._file.read(_PIECE)
                if not packed:
                    self.cut = '' if unpacker.eof else 'it is cut off'
                    return
            if unpacker.eof:
                unpacker = _UNPACKERS[self._kind]()
            try:
                piece = unpacker.decompress(packed, _PIECE)
            except _BROKEN as error:
                self.cut = f'it cannot be unpacked to its end ({self._kind}: {error})'
                return
            packed = unpacker.unused_data or b''
            yield piece


def head_of(path: Path, size: int) -> bytes:
    """Return the first bytes of a file, unpacked if it is packed; fewer if it ends before.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open('rb') as file:
        head = file.read(size)
        kind = packing(head)
        if kind:
            file.seek(0)
            head = b''
            for piece in _Pieces(file, kind):
                head += piece
                if len(head) >= size:
                    break
    return head[:size]


def unpack_file(path: Path, target: Path, kind: str) -> str:
    """Unpack a file as far as possible; return '' or why the result may be incomplete.

    Args:
        kind: see `packing`.

    Raises:
        ValueError: nothing can be unpacked.
    """
    with path.open('rb') as file, target.open('wb') as out:
        pieces = _Pieces(file, kind)
        for piece in pieces:
            out.write(piece)
        if pieces.cut and not out.tell():
            raise ValueError(f'nothing can be unpacked: {pieces.cut}')
    return pieces.cut
