"""Depth images of compressed_depth_image_transport, and depth in plain 16-bit PNG.

The layout is that of the package compressed_depth_image_transport (image_transport_plugins): a
header of 12 bytes (int32 that is not used, float32 a and b), then a PNG or RVL data. uint16 depth
is stored unchanged. float32 depth is stored as the integer part of a / depth + b, 0 if not valid.
RVL: Wilson, Fast Lossless Depth Image Compression, ISS 2017.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from ..errors import ImageError
from . import signatures
from .compressed import decoded
from .encodings import DEPTH_ENCODINGS

_HEADER = struct.Struct('<iff')
# Columns and rows before RVL data.
_SIZE = struct.Struct('<II')
# RVL stores a row of zeros in a few bytes. So damaged data can claim any size.
MAX_PIXELS = 2**26


def depth(message: Any) -> np.ndarray:
    """Return the depth of a sensor_msgs/CompressedImage as [H, W] uint16 (mm) or float32 (m, NaN
    if not valid).

    Raises:
        ImageError: the data are no depth, or are cut off or corrupt.
    """
    data, kind, encoding = _parts(message)
    stored = _rvl(data[_HEADER.size :]) if kind == 'RVL' else _png(data)
    if DEPTH_ENCODINGS[encoding] == np.uint16:
        return stored
    _, a, b = _HEADER.unpack_from(data)
    if data.startswith(signatures.PNG) or not (0 < a < np.inf and np.isfinite(b)):
        raise ImageError(
            f'compressed depth with format {message.format!r} has no quantisation in its header; '
            'expected data of compressed_depth_image_transport'
        )
    with np.errstate(divide='ignore'):
        metres = np.float32(a) / (stored.astype(np.float32) - np.float32(b))
    metres[stored == 0] = np.nan
    return metres


def size(message: Any) -> tuple[int, int] | None:
    """Return (H, W) of a message without decoding it, or None if it cannot be read."""
    try:
        data, kind, _ = _parts(message)
        at = data.index(b'IHDR') + 4 if kind == 'PNG' else _HEADER.size
        width, height = struct.unpack_from('>II' if kind == 'PNG' else '<II', data, at)
    except (ImageError, ValueError, struct.error):
        return None
    return height, width


def _parts(message: Any) -> tuple[bytes, str, str]:
    """Return the data, PNG or RVL, and the encoding of the depth image."""
    data = bytes(message.data)
    start = f'compressed depth with format {message.format!r} '
    encoding, _, packing = message.format.partition(';')
    kind = signatures.kind_of(data)
    if kind in ('PNG', 'compressedDepth'):
        packed = 'PNG'
    elif 'rvl' in packing.lower():
        packed = 'RVL'
    else:
        raise ImageError(
            f'{start}holds {kind or "no known data"}; expected a 16-bit PNG or RVL, as '
            'compressed_depth_image_transport sends them. JPEG cannot hold depth'
        )
    names = {name.lower(): name for name in DEPTH_ENCODINGS}
    encoding = names.get(encoding.strip().lower(), '')
    if not encoding and kind == 'PNG':
        encoding = '16UC1'
    if not encoding:
        raise ImageError(
            f'{start}does not say how depth is stored; expected a format that begins with '
            f'{", ".join(DEPTH_ENCODINGS)}, such as "16UC1; compressedDepth png"'
        )
    return data, packed, encoding


def _png(data: bytes) -> np.ndarray:
    pixels = decoded(data[data.index(signatures.PNG) :], 'PNG')
    if pixels.ndim != 2 or pixels.dtype != np.uint16:
        raise ImageError(
            f'compressed depth has pixels of {pixels.dtype}, shape {list(pixels.shape)}; expected '
            'one channel of 16 bits'
        )
    return pixels


def _rvl(data: bytes) -> np.ndarray:
    """Decode RVL to [H, W] uint16.

    The data are numbers: how many zeros follow, how many other pixels follow, and for each of these
    its difference from the one before.
    """
    if len(data) < _SIZE.size:
        raise ImageError(f'{len(data)} bytes of RVL data are cut off')
    width, height = _SIZE.unpack_from(data)
    if not 0 < width * height <= MAX_PIXELS:
        raise ImageError(
            f'RVL data of {width} x {height} px are corrupt; expected 1 to {MAX_PIXELS} pixels'
        )
    numbers = _variable_length(data[_SIZE.size :])
    pixels = np.zeros(width * height, np.int64)
    filled = np.zeros(width * height, bool)
    pixel = at = 0
    while pixel < len(pixels) and at + 1 < len(numbers):
        zeros, others = numbers[at : at + 2].tolist()
        pixel, at = pixel + zeros, at + 2
        found = numbers[at : at + others]
        if pixel + others > len(pixels) or len(found) < others:
            break
        pixels[pixel : pixel + others] = (found >> 1) ^ -(found & 1)
        filled[pixel : pixel + others] = True
        pixel, at = pixel + others, at + others
    if pixel != len(pixels):
        raise ImageError(f'{len(data)} bytes of RVL data are cut off or corrupt')
    pixels[filled] = np.cumsum(pixels[filled])
    return pixels.astype(np.uint16).reshape(height, width)


def _variable_length(data: bytes) -> np.ndarray:
    """Return the numbers in RVL data as int64.

    Each has three bits in every half byte, the lowest first. The fourth bit says that more follow.
    Half bytes are in little-endian words of 32 bits, the highest first.
    """
    words = np.frombuffer(data[: len(data) // 4 * 4], '<u4')
    halves = (
        (words[:, None] >> np.arange(28, -1, -4, dtype=np.uint32) & 15).ravel().astype(np.int64)
    )
    last = np.flatnonzero(halves < 8)
    if not len(last):
        return halves[:0]
    first = np.concatenate(([0], last[:-1] + 1))
    halves = halves[: last[-1] + 1]
    place = np.arange(len(halves)) - np.repeat(first, last - first + 1)
    if place.max() > 10:
        raise ImageError(f'{len(data)} bytes of RVL data are corrupt')
    return np.add.reduceat((halves & 7) << 3 * place, first)
