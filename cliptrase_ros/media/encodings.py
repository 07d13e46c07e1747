"""Conversion between sensor_msgs/Image and numpy, for all that cameras send.

Duck-typed, without ROS. For encodings that cv_bridge converts, the arrays equal those of cv_bridge.
bridge.py chooses between the two. yuv.py reads the encodings with several planes.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import cv2
import numpy as np

from ..errors import ImageError, did_you_mean
from . import yuv


class Encoding(NamedTuple):
    """Bytes per channel, number of channels, and OpenCV's conversion to RGB if one is needed."""

    size: int
    channels: int
    conversion: int | None


# OpenCV names a Bayer pattern by its second row, ROS by its first.
BAYER = {
    f'bayer_{pattern}{8 * size}': Encoding(size, 1, code)
    for pattern, code in (
        ('rggb', cv2.COLOR_BayerBG2RGB),
        ('bggr', cv2.COLOR_BayerRG2RGB),
        ('gbrg', cv2.COLOR_BayerGR2RGB),
        ('grbg', cv2.COLOR_BayerGB2RGB),
    )
    for size in (1, 2)
}
_YUV = {
    'yuv422': Encoding(1, 2, cv2.COLOR_YUV2RGB_UYVY),
    'uyvy': Encoding(1, 2, cv2.COLOR_YUV2RGB_UYVY),
    'yuv422_yuy2': Encoding(1, 2, cv2.COLOR_YUV2RGB_YUY2),
    'yuyv': Encoding(1, 2, cv2.COLOR_YUV2RGB_YUY2),
    'yuy2': Encoding(1, 2, cv2.COLOR_YUV2RGB_YUY2),
    'yvyu': Encoding(1, 2, cv2.COLOR_YUV2RGB_YVYU),
}
COLOR = {
    'rgb8': Encoding(1, 3, None),
    'bgr8': Encoding(1, 3, cv2.COLOR_BGR2RGB),
    'rgba8': Encoding(1, 4, cv2.COLOR_RGBA2RGB),
    'bgra8': Encoding(1, 4, cv2.COLOR_BGRA2RGB),
    'rgb16': Encoding(2, 3, None),
    'bgr16': Encoding(2, 3, cv2.COLOR_BGR2RGB),
    'rgba16': Encoding(2, 4, cv2.COLOR_RGBA2RGB),
    'bgra16': Encoding(2, 4, cv2.COLOR_BGRA2RGB),
}
ENCODINGS = {
    **COLOR,
    'mono8': Encoding(1, 1, cv2.COLOR_GRAY2RGB),
    'mono16': Encoding(2, 1, cv2.COLOR_GRAY2RGB),
    '8UC1': Encoding(1, 1, cv2.COLOR_GRAY2RGB),
    '8UC3': Encoding(1, 3, cv2.COLOR_BGR2RGB),
    '8UC4': Encoding(1, 4, cv2.COLOR_BGRA2RGB),
    '16UC3': Encoding(2, 3, cv2.COLOR_BGR2RGB),
    '16UC4': Encoding(2, 4, cv2.COLOR_BGRA2RGB),
    **_YUV,
    **BAYER,
}

# uint16 in millimetres and float32 in metres (REP 118). OpenNI's drivers call the first mono16.
DEPTH_ENCODINGS: dict[str, np.dtype] = {
    '16UC1': np.dtype(np.uint16),
    'mono16': np.dtype(np.uint16),
    '32FC1': np.dtype(np.float32),
}
# Drivers write some names in capitals.
_NAMES = {name.lower(): name for name in (*ENCODINGS, *yuv.PLANES)}
# OpenCV's types: numbers whose meaning a message does not tell.
_NUMBERS = re.compile('(8|16|32|64)[USF]C[0-9]*')


def name_of(encoding: str) -> str:
    """Return the encoding as this package writes it, or '' if images of it cannot be read."""
    return _NAMES.get(encoding.strip().lower(), '')


def _known(encoding: str) -> str:
    """Return the same as `name_of`.

    Raises:
        ImageError: images of this encoding cannot be read.
    """
    name = name_of(encoding)
    if name:
        return name
    plain = [known for known in _NAMES.values() if known not in BAYER]
    why = 'is not known'
    if _NUMBERS.fullmatch(encoding):
        why = 'holds numbers of unknown meaning, such as depth, and no camera image'
    raise ImageError(
        f'image encoding {encoding!r} {why}; send one of {", ".join(plain)}, '
        f'bayer_(rggb, bggr, gbrg, grbg)(8, 16).{did_you_mean(encoding, _NAMES.values())}'
    )


def row_bytes(message: Any) -> int:
    """Return the bytes per row of a sensor_msgs/Image with one plane, without padding.

    Raises:
        ImageError: the encoding is unknown, there are no pixels, a YUV image has an odd width, or
            the data are shorter than height and step require.
    """
    name = _known(message.encoding)
    size, channels, _ = ENCODINGS[name]
    row = _checked_row(message, channels * size)
    if name in _YUV and message.width % 2:
        raise ImageError(f'image of {message.width} px {message.encoding}: the width must be even')
    return row


def _checked_row(message: Any, pixel_bytes: int, what: str = 'image') -> int:
    height, width, step = message.height, message.width, message.step
    row = width * pixel_bytes
    if not height or not width:
        raise ImageError(f'{what} of {width} x {height} px has no pixels')
    if step < row or len(message.data) < height * step:
        raise ImageError(
            f'{what} of {width} x {height} px {message.encoding} needs rows of {row} bytes; it has '
            f'step {step} and {len(message.data)} bytes of data'
        )
    return row


def depth(message: Any) -> np.ndarray:
    """Return the pixels of a depth image as [H, W] uint16 (mm) or float32 (m).

    Any row step and either byte order are accepted. The array may be a view of the message's data.

    Raises:
        ImageError: the encoding is not one of depth, there are no pixels, or the data are shorter
            than height and step require.
    """
    if message.encoding not in DEPTH_ENCODINGS:
        raise ImageError(
            f'depth encoding {message.encoding!r} is not known; send one of '
            f'{", ".join(DEPTH_ENCODINGS)}'
        )
    kind = DEPTH_ENCODINGS[message.encoding]
    _checked_row(message, kind.itemsize, 'depth image')
    pixels = np.ndarray(
        (message.height, message.width),
        kind.newbyteorder('>' if message.is_bigendian else '<'),
        message.data,
        strides=(message.step, kind.itemsize),
    )
    return np.ascontiguousarray(pixels, kind)


def to_rgb(message: Any) -> np.ndarray:
    """Return the pixels of a sensor_msgs/Image as [H, W, 3] uint8 RGB; 16-bit values are divided by
    257 and rounded.

    Any row step and either byte order are accepted. The array may be a view of the message's data.
    YUV is taken as BT.601 in the limited range (Y 16..235), as OpenCV and cv_bridge take it.

    Raises:
        ImageError: see row_bytes.
    """
    name = _known(message.encoding)
    if name in yuv.PLANES:
        return yuv.to_rgb(message, yuv.PLANES[name])
    row_bytes(message)
    size, channels, conversion = ENCODINGS[name]
    pixels = np.ndarray(
        (message.height, message.width, channels),
        np.uint8 if size == 1 else '>u2' if message.is_bigendian else '<u2',
        message.data,
        strides=(message.step, channels * size, size),
    )
    return rgb8(np.ascontiguousarray(pixels, pixels.dtype.newbyteorder('=')), conversion)


def rgb8(pixels: np.ndarray, conversion: int | None) -> np.ndarray:
    """Convert [H, W, C] uint8 or uint16 to [H, W, 3] uint8 RGB. Like cv_bridge, reduce 16 bits to 8
    last."""
    if conversion is not None:
        pixels = cv2.cvtColor(pixels, conversion)
    return pixels if pixels.dtype == np.uint8 else cv2.convertScaleAbs(pixels, alpha=1 / 257)


def fill_image(message: Any, pixels: np.ndarray, encoding: str, header: Any) -> Any:
    """Put pixels [H, W] or [H, W, 3] into a sensor_msgs/Image, without padding. The dtype (uint8,
    uint16, float32) must fit the encoding.

    Returns:
        The message.
    """
    pixels = np.ascontiguousarray(pixels)
    message.header = header
    message.height, message.width = pixels.shape[:2]
    message.encoding = encoding
    message.is_bigendian = 0
    message.step = pixels.strides[0]
    # frombytes makes one copy. On some distributions, assigning bytes checks each of them.
    message.data.frombytes(pixels.reshape(-1).view(np.uint8))
    return message
