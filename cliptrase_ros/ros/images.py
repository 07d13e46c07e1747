"""sensor_msgs/Image <-> numpy, for every encoding that cameras send. Duck-typed: no rclpy here."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np


class ImageError(ValueError):
    """The message does not hold the image that it claims to hold."""


# encoding: (bytes of a channel, channels, OpenCV conversion to RGB or None).
# OpenCV names a Bayer pattern by its second row, ROS by its first.
_COLOR: dict[str, tuple[int, int, int | None]] = {
    'rgb8': (1, 3, None),
    'bgr8': (1, 3, cv2.COLOR_BGR2RGB),
    '8UC3': (1, 3, cv2.COLOR_BGR2RGB),
    'rgba8': (1, 4, cv2.COLOR_RGBA2RGB),
    'bgra8': (1, 4, cv2.COLOR_BGRA2RGB),
    '8UC4': (1, 4, cv2.COLOR_BGRA2RGB),
    'mono8': (1, 1, cv2.COLOR_GRAY2RGB),
    '8UC1': (1, 1, cv2.COLOR_GRAY2RGB),
    'mono16': (2, 1, cv2.COLOR_GRAY2RGB),
    'rgb16': (2, 3, None),
    'bgr16': (2, 3, cv2.COLOR_BGR2RGB),
    'yuv422': (1, 2, cv2.COLOR_YUV2RGB_UYVY),
    'uyvy': (1, 2, cv2.COLOR_YUV2RGB_UYVY),
    'yuv422_yuy2': (1, 2, cv2.COLOR_YUV2RGB_YUY2),
    'yuyv': (1, 2, cv2.COLOR_YUV2RGB_YUY2),
    **{
        f'bayer_{pattern}{8 * size}': (size, 1, code)
        for pattern, code in (
            ('rggb', cv2.COLOR_BayerBG2RGB),
            ('bggr', cv2.COLOR_BayerRG2RGB),
            ('gbrg', cv2.COLOR_BayerGR2RGB),
            ('grbg', cv2.COLOR_BayerGB2RGB),
        )
        for size in (1, 2)
    },
}

_YUV = (cv2.COLOR_YUV2RGB_UYVY, cv2.COLOR_YUV2RGB_YUY2)


def to_rgb(message: Any) -> np.ndarray:
    """The pixels of a sensor_msgs/Image as [H, W, 3] uint8 RGB; 16-bit images lose their low byte.

    Any row step and either endianness. The array may be a view of the message's data.

    Raises:
        ImageError: unknown encoding, no pixels, odd width of a YUV image, or fewer bytes than
            height and step promise.
    """
    height, width, step = message.height, message.width, message.step
    if message.encoding not in _COLOR:
        raise ImageError(
            f'image encoding {message.encoding!r} is not known; send one of {", ".join(_COLOR)}'
        )
    size, channels, conversion = _COLOR[message.encoding]
    row = width * channels * size
    if not height or not width:
        raise ImageError(f'image of {width} x {height} px')
    if step < row or len(message.data) < height * step:
        raise ImageError(
            f'image of {width} x {height} px {message.encoding} needs rows of {row} bytes; it has '
            f'step {step} and {len(message.data)} bytes of data'
        )
    data = np.frombuffer(message.data, np.uint8, height * step).reshape(height, step)[:, :row]
    if conversion in _YUV and width % 2:
        raise ImageError(f'image of {width} px {message.encoding}: the width must be even')
    if size == 2:
        data = data[:, (0 if message.is_bigendian else 1) :: 2]
    pixels = np.ascontiguousarray(data).reshape(height, width, channels)
    return pixels if conversion is None else cv2.cvtColor(pixels, conversion)


def fill(message: Any, pixels: np.ndarray, encoding: str, header: Any) -> Any:
    """Put pixels [H, W] or [H, W, 3] into a sensor_msgs/Image, without padding; the dtype (uint8,
    uint16, float32) is to fit the encoding.

    Returns:
        The message.
    """
    pixels = np.ascontiguousarray(pixels)
    message.header = header
    message.height, message.width = pixels.shape[:2]
    message.encoding = encoding
    message.is_bigendian = 0
    message.step = pixels.strides[0]
    # One copy; assigning bytes checks each of them on some distributions.
    message.data.frombytes(pixels.reshape(-1).view(np.uint8))
    return message
