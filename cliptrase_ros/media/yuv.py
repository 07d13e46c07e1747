"""YUV images whose luma (Y) and colours (U, V) are in separate planes, such as NV12 and I420."""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np

from ..errors import ImageError


class Planes(NamedTuple):
    """How an encoding stores colours after the plane of luma.

    Attributes:
        rows, columns: how many rows and columns of luma share a sample of U and V.
        paired: U and V alternate in one plane; otherwise each has a plane.
        v_first: V comes before U.
    """

    rows: int
    columns: int
    paired: bool
    v_first: bool = False


_I420 = Planes(2, 2, paired=False)
_I422 = Planes(1, 2, paired=False)
_I444 = Planes(1, 1, paired=False)
# The first three are those of Jazzy's image_encodings.hpp; cameras also send the others.
PLANES = {
    'nv12': Planes(2, 2, paired=True),
    'nv21': Planes(2, 2, paired=True, v_first=True),
    'nv24': Planes(1, 1, paired=True),
    'nv42': Planes(1, 1, paired=True, v_first=True),
    'nv16': Planes(1, 2, paired=True),
    'nv61': Planes(1, 2, paired=True, v_first=True),
    **dict.fromkeys(('yuv420', 'yuv420p', 'i420', 'iyuv', 'yu12'), _I420),
    'yv12': _I420._replace(v_first=True),
    **dict.fromkeys(('yuv422p', 'i422'), _I422),
    **dict.fromkeys(('yuv444p', 'i444'), _I444),
}


def to_rgb(message: Any, planes: Planes) -> np.ndarray:
    """Return the pixels of a sensor_msgs/Image as [H, W, 3] uint8 RGB.

    The result is that of OpenCV: BT.601, limited range (Y 16..235), colours not interpolated. Odd
    sizes are allowed.

    Raises:
        ImageError: there are no pixels, the step is shorter than a row of luma, or the data are
            shorter than all planes.
    """
    height, width = message.height, message.width
    stride = _stride(message, planes)
    data = np.frombuffer(message.data, np.uint8)
    luma = data[: height * stride].reshape(height, stride)[:, :width]
    rows, pitch = _colour_shape(height, stride, planes)
    colour = data[height * stride :][: rows * pitch * 2]
    # [rows, pitch, 2]
    colour = (
        colour.reshape(rows, pitch, 2)
        if planes.paired
        else np.moveaxis(colour.reshape(2, rows, pitch), 0, 2)
    )
    colour = colour[:, : -(-width // planes.columns), :: -1 if planes.v_first else 1]
    if planes.rows == 2:
        rgb = _from_420(luma, colour)
    elif planes.columns == 2:
        rgb = _from_422(luma, colour)
    else:
        rgb = _from_422(luma.repeat(2, axis=1), colour)[:, ::2]
    return np.ascontiguousarray(rgb)


def _from_420(luma: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Convert luma [H, W] and colours [ceil(H / 2), ceil(W / 2), 2] to RGB."""
    height, width = luma.shape
    if height % 2 or width % 2:
        luma = np.pad(luma, ((0, height % 2), (0, width % 2)), 'edge')
    rgb = cv2.cvtColorTwoPlane(luma, np.ascontiguousarray(colour), cv2.COLOR_YUV2RGB_NV12)
    return rgb[:height, :width]


def _from_422(luma: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Convert luma [H, W] and colours [H, ceil(W / 2), 2] to RGB."""
    height, width = luma.shape
    packed = np.empty((height, 2 * colour.shape[1], 2), np.uint8)
    packed[:, :width, 0] = luma
    packed[:, width:, 0] = luma[:, -1:]
    packed[..., 1] = colour.reshape(height, -1)
    return cv2.cvtColor(packed, cv2.COLOR_YUV2RGB_YUY2)[:, :width]


def _colour_shape(height: int, stride: int, planes: Planes) -> tuple[int, int]:
    """Return the number of rows of U and V, and of samples in each, including padding."""
    return -(-height // planes.rows), -(-stride // planes.columns)


def _size(height: int, stride: int, planes: Planes) -> int:
    rows, pitch = _colour_shape(height, stride, planes)
    return height * stride + 2 * rows * pitch


def _stride(message: Any, planes: Planes) -> int:
    """Return the bytes from one row of luma to the next. Rows of U and V are padded alike.

    `step` usually counts a row of luma. Some drivers count the bytes of all planes instead, or take
    two or three channels. They do not pad rows.
    """
    height, width, step = message.height, message.width, message.step
    if not height or not width:
        raise ImageError(f'image of {width} x {height} px has no pixels')
    given, tight = len(message.data), _size(height, width, planes)
    if step < width or given < tight:
        raise ImageError(
            f'image of {width} x {height} px {message.encoding} needs rows of {width} bytes of '
            f'luma and {tight} bytes in total; it has step {step} and {given} bytes of data'
        )
    if given == tight:
        return width
    if given >= _size(height, step, planes):
        return step
    if step in (2 * width, 3 * width) or step * height == tight:
        return width
    raise ImageError(
        f'image of {width} x {height} px {message.encoding} with step {step} needs '
        f'{_size(height, step, planes)} bytes; it has {given} bytes of data'
    )
