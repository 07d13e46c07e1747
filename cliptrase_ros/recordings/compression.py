"""Unpack data as far as they go and no further than allowed. What lz4 and zstd offer for whole
data, and rosbags and mcap call, gives nothing of data that are cut and fills the memory with
whatever becomes of them."""

from __future__ import annotations

import bz2
import sys
from pathlib import Path
from typing import Any, BinaryIO

import lz4.frame

from ..errors import PictureError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ZSTD_MAGIC = b'\x28\xb5\x2f\xfd'
# Bytes. What says that it is longer, packed or not, is damaged rather than to fill the memory.
LONGEST = 1 << 31
# Bytes that are unpacked at a time, a block of zstd at most: what comes before damage is kept.
_PIECE = 1 << 17


class _Plain:
    eof = True

    def decompress(self, data: bytes, _: int) -> bytes:
        return data


_UNPACKERS: dict[str, Any] = {
    '': _Plain,
    'none': _Plain,
    'bz2': bz2.BZ2Decompressor,
    'lz4': lz4.frame.LZ4FrameDecompressor,
    'zstd': zstd.ZstdDecompressor,
}


def unpacked(data: bytes | memoryview, compression: str, most: int = LONGEST) -> tuple[bytes, bool]:
    """What can be unpacked of data that may be cut off, and whether that is all.

    Args:
        most: how many bytes it may become.

    Raises:
        ValueError: another compression, data that are none of it, or more than `most` bytes.
    """
    if compression not in _UNPACKERS:
        raise ValueError(f'compression {compression!r} is not known')
    unpacker = _UNPACKERS[compression]()
    try:
        # One byte more shows whether there are more.
        content = unpacker.decompress(data, most + 1)
    except (OSError, RuntimeError, zstd.ZstdError) as error:
        raise ValueError(f'{compression} data cannot be unpacked ({error})') from error
    if len(content) > most:
        raise ValueError(f'{compression} data become more than the {most} bytes they should be')
    return content, unpacker.eof


def unpack_file(path: Path, target: Path) -> str:
    """Unpack a file of zstd as far as that goes: '', or why there may be more.

    Raises:
        PictureError: nothing of it can be unpacked.
    """
    with path.open('rb') as file, target.open('wb') as out:
        try:
            cut = '' if _unpack(file, out) else 'it is cut off'
        except zstd.ZstdError as error:
            cut = f'it cannot be unpacked to its end ({error})'
        if cut and file.tell() and not out.tell():
            raise PictureError(f'{path}: nothing of it can be unpacked: {cut}')
    return cut


def _unpack(file: BinaryIO, out: BinaryIO) -> bool:
    """Unpack zstd frames, a little at a time: whether the last one is all there.

    Raises:
        zstd.ZstdError: what comes is none.
    """
    unpacker = zstd.ZstdDecompressor()
    packed = b''
    while True:
        if not packed and (unpacker.eof or unpacker.needs_input):
            packed = file.read(_PIECE)
            if not packed:
                return unpacker.eof
        if unpacker.eof:
            unpacker = zstd.ZstdDecompressor()
        out.write(unpacker.decompress(packed, _PIECE))
        packed = unpacker.unused_data
