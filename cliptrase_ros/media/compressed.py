"""Conversion between sensor_msgs/CompressedImage and numpy. Duck-typed, without ROS.

The first bytes of the data say what they are. `format` only says in which order the channels are.
"""

from __future__ import annotations

import io
import re
from typing import Any

import cv2
import numpy as np
from PIL import Image

from ..errors import ImageError
from . import signatures
from .encodings import BAYER, COLOR, rgb8

_VIDEO = re.compile('[hx][._]?26[345]|hevc|avc|av1|vp[89]|mpeg-?[24]', re.IGNORECASE)
_DEPTH = re.compile('compresseddepth', re.IGNORECASE)


def to_rgb(message: Any) -> np.ndarray:
    """Return the pixels of a sensor_msgs/CompressedImage as [H, W, 3] uint8 RGB.

    The order of channels follows from `format` as compressed_image_transport's subscriber reads it:
    '<encoding>; jpeg compressed <what was compressed>'. Any other `format` means the usual order.
    Alpha is dropped, 16-bit values are divided by 257 and rounded. An EXIF orientation is ignored,
    because camera_info and depth do not follow it.

    Raises:
        ImageError: the data are no picture, or cannot be decoded.
    """
    data = bytes(message.data)
    pixels = decoded(data, _kind(data, message.format))
    encoding, _, packing = message.format.lower().rpartition(';')
    compressed = (*packing.split(), '', '', '')[2]
    if pixels.ndim == 2:
        # 'compressed mono8': the publisher converted the Bayer mosaic to grey before compression.
        mosaic = encoding.strip() in BAYER and compressed != 'mono8'
        return rgb8(pixels, BAYER[encoding.strip()].conversion if mosaic else cv2.COLOR_GRAY2RGB)
    rgb = encoding.strip() in COLOR and not compressed.startswith('bgr')
    if pixels.shape[2] == 4:
        return rgb8(pixels, cv2.COLOR_RGBA2RGB if rgb else cv2.COLOR_BGRA2RGB)
    return rgb8(pixels, None if rgb else cv2.COLOR_BGR2RGB)


def may_have_colour(format: str) -> bool:
    """Return True unless `format` names a video, depth or an encoding without colour."""
    encoding = format.partition(';')[0].strip().lower()
    grey = encoding.startswith(('mono', '8uc1', '16uc1', '32fc1'))
    return not (grey or _VIDEO.search(format) or _DEPTH.search(format))


def _kind(data: bytes, format: str) -> str:
    """Return the kind of picture.

    Raises:
        ImageError: it is not one that can be read.
    """
    kind = signatures.kind_of(data)
    if kind in signatures.PICTURES:
        return kind
    start = f'compressed image with format {format!r} '
    wanted = f'expected {", ".join(signatures.PICTURES)}'
    if not data:
        raise ImageError(f'{start}has no data; {wanted}')
    if kind == 'compressedDepth' or (not kind and _DEPTH.search(format)):
        raise ImageError(
            f'{start}holds depth and no colours: give its topic as the depth topic, and the topic '
            'of the camera images as the image topic'
        )
    named = _VIDEO.search(format)
    video = f'{named[0]} video' if named and not kind else kind
    if video.endswith('video'):
        raise ImageError(
            f'{start}holds {video}, and one message of a video is not a whole picture; {wanted}. '
            'Decode it first, or publish the images with compressed_image_transport'
        )
    what = kind or f'unknown data that begin with {data[:8].hex(" ")}'
    raise ImageError(f'{start}holds {what}; {wanted}')


def decoded(data: bytes, kind: str) -> np.ndarray:
    """Decode a picture of `signatures.PICTURES`.

    Returns:
        [H, W], or [H, W, 3 or 4] with blue first; uint8 or uint16.

    Raises:
        ImageError: the data are cut off or corrupt, have other numbers, or need a package that is
            not installed.
    """
    if kind in signatures.BY_PILLOW:
        return _by_pillow(data, kind)
    # OpenCV 4.6 fills the missing part of a JPEG with grey instead of failing. So check that an end
    # marker (FFD9) follows the last start of a scan (FFDA).
    cut = kind == 'JPEG' and data.rfind(b'\xff\xd9') < data.rfind(b'\xff\xda')
    try:
        pixels = None if cut else cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        pixels = None
    if pixels is None:
        raise ImageError(f'{len(data)} bytes of {kind} data are cut off or corrupt')
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ImageError(
            f'{kind} image of {pixels.dtype} numbers; expected 8 or 16 bits for each channel'
        )
    return pixels


def _by_pillow(data: bytes, kind: str) -> np.ndarray:
    missing = signatures.prepare_pillow(kind)
    if missing:
        raise ImageError(missing)
    try:
        with Image.open(io.BytesIO(data)) as picture:
            return np.asarray(picture.convert('RGB'))[..., ::-1]
    except Exception as error:  # on damaged data Pillow's decoders may raise anything
        raise ImageError(f'{len(data)} bytes of {kind} data are cut off or corrupt') from error


def to_jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    """Encode [H, W, 3] uint8 RGB as a JPEG, uint8 [n]; quality 0..100.

    The result fits `data.frombytes` of a CompressedImage of format 'rgb8; jpeg compressed bgr8'.
    """
    bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    return cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
