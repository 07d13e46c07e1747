"""Unpacking of data that may be cut off, up to a size limit.

The one-shot functions of lz4 and zstd, which rosbags and mcap call, return nothing if the data are
cut off, and do not limit the memory that they fill.
"""

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
# Bytes. A record that claims to be longer, packed or not, counts as damaged, so that it does not
# fill the memory.
LONGEST = 1 << 31
# Bytes that are unpacked at a time: the largest block of zstd, so that all data before the damage
# are kept.
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
    except (OSError, RuntimeError, zstd.ZstdError) as error:
        raise ValueError(f'{compression} data cannot be unpacked ({error})') from error
    if len(content) > most:
        raise ValueError(f'{compression} data unpack to more than the expected {most} bytes')
    return content, unpacker.eof


def unpack_file(path: Path, target: Path) -> str:
    """Unpack a zstd file as far as possible; return '' or why the result may be incomplete.

    Raises:
        PictureError: nothing can be unpacked.
    """
    with path.open('rb') as file, target.open('wb') as out:
        try:
            cut = '' if _unpack(file, out) else 'it is cut off'
        except zstd.ZstdError as error:
            cut = f'it cannot be unpacked to its end ({error})'
        if cut and file.tell() and not out.tell():
            raise PictureError(f'{path}: nothing can be unpacked: {cut}')
    return cut


def _unpack(file: BinaryIO, out: BinaryIO) -> bool:
    """Unpack zstd frames in small pieces; return whether the last frame is complete.

    Raises:
        zstd.ZstdError: the data are not valid zstd.
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
