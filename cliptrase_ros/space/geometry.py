"""Depth images, pinhole cameras, and which pixel of one image is which of another.

Pixel centres are integers. Images of one camera (colour, labels, depth registered to it) show the
same view at different sizes, so a pixel's place in one is a scale and a shift away from that in
another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from ..errors import ShapeError

# What sensors write where they are blinded or out of range.
SATURATED_MM = 65535


@dataclass(frozen=True)
class Pinhole:
    """A camera without distortion, in pixels: focal lengths and principal point."""

    fx: float
    fy: float
    cx: float
    cy: float

    def moved(self, move: np.ndarray) -> Pinhole:
        """The camera of the image whose pixels are `move` [2, 3] of (x, y, 1) in this one's."""
        (sx, _, tx), (_, sy, ty) = move.tolist()
        return Pinhole(sx * self.fx, sy * self.fy, sx * self.cx + tx, sy * self.cy + ty)

    def rays(self, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """x / z [W] of each column and y / z [H] of each row, float32, read-only; size (H, W)."""
        return _rays(self, size)


@lru_cache(maxsize=16)
def _rays(camera: Pinhole, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = (np.arange(side, dtype=np.float64) for side in size)
    x = ((columns - camera.cx) / camera.fx).astype(np.float32)
    y = ((rows - camera.cy) / camera.fy).astype(np.float32)
    for rays in (x, y):
        rays.flags.writeable = False  # whoever asks again gets the same ones
    return x, y


def metres(
    depth: np.ndarray, nearest_m: float = 0.0, farthest_m: float = float('inf')
) -> np.ndarray:
    """A depth image as [H, W] float32 in metres, NaN where it is not valid (REP 118).

    Args:
        depth: [H, W] uint16 in mm, 0 and 65535 not valid; or float32 in metres, anything not
            finite or not above 0 not valid.
        nearest_m, farthest_m: what lies outside of this range is not valid either.

    Raises:
        ShapeError: another shape or dtype.
    """
    if depth.ndim != 2 or depth.dtype not in (np.uint16, np.float32):
        raise ShapeError(
            f'depth: expected [H, W] uint16 in mm or float32 in m, got {list(depth.shape)} '
            f'{depth.dtype}'
        )
    if depth.dtype == np.uint16:
        # Not times 0.001: that makes some depths a little larger, and 3000 mm more than 3 m.
        result = np.divide(depth, 1000, dtype=np.float32)
        bad = (depth == 0) | (depth == SATURATED_MM)
    else:
        result = depth.copy()
        bad = ~((depth > 0) & (depth < np.inf))  # NaN compares as False
    if nearest_m > 0:
        bad |= result < nearest_m
    if farthest_m < float('inf'):
        bad |= result > farthest_m
    result[bad] = np.nan
    return result


def resized(source: tuple[int, int], target: tuple[int, int]) -> np.ndarray:
    """[2, 3]: pixels (x, y, 1) of an image of size `source` (H, W) -> those of the same view at
    size `target`."""
    sy, sx = (new / old for new, old in zip(target, source, strict=True))
    return np.array([[sx, 0, (sx - 1) / 2], [0, sy, (sy - 1) / 2]])


def inverse(move: np.ndarray) -> np.ndarray:
    """The way back of a scale and shift [2, 3]."""
    return np.linalg.inv(_square(move))[:2]


def after(second: np.ndarray, first: np.ndarray) -> np.ndarray:
    """[2, 3]: first one scale and shift, then the other."""
    return _square(second)[:2] @ _square(first)


def _square(move: np.ndarray) -> np.ndarray:
    return np.vstack([move, (0, 0, 1)])


def to_image(info: Any, image_size: tuple[int, int]) -> np.ndarray:
    """[3, 3]: pixels of a calibration -> of the camera's images of a size (H, W), cropped and
    binned.

    Args:
        info: sensor_msgs/CameraInfo.
    """
    roi = info.roi
    sx = image_size[1] / (roi.width or info.width)
    sy = image_size[0] / (roi.height or info.height)
    return np.array(
        [
            [sx, 0, (sx - 1) / 2 - sx * roi.x_offset],
            [0, sy, (sy - 1) / 2 - sy * roi.y_offset],
            [0, 0, 1],
        ]
    )


def moved_calibration(
    info: Any, image_size: tuple[int, int], matrix: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """K [9] and P [12] of a picture made from a camera's image; crop and binning are worked in.

    Args:
        info: sensor_msgs/CameraInfo of the camera.
        image_size: (H, W) of its images.
        matrix: [2, 3], pixel centres of the image -> of the picture; see Segmenter.view_geometry.
    """
    move = _square(matrix) @ to_image(info, image_size)
    k, p = np.reshape(info.k, (3, 3)), np.reshape(info.p, (3, 4))
    return (move @ k).ravel(), (move @ p).ravel()


def looked_up(
    image: np.ndarray, move: np.ndarray, size: tuple[int, int], outside: float
) -> np.ndarray:
    """Another view of an image by nearest pixel, so that no value is made up: [H, W], maybe the
    image itself. Of two pixels that are as near, the right and lower one.

    Args:
        image: [h, w].
        move: [2, 3], pixels (x, y, 1) of the image -> of the result.
        size: (H, W) of the result.
        outside: what pixels get that are not in the image.
    """
    back = inverse(move)
    if image.shape == tuple(size) and np.allclose(back, np.eye(3)[:2]):
        return image
    rows, columns = (
        np.floor(back[axis, axis] * np.arange(side) + back[axis, 2] + 0.5).astype(np.intp)
        for side, axis in zip(size, (1, 0), strict=True)
    )
    inside = [
        (place >= 0) & (place < side)
        for place, side in zip((rows, columns), image.shape, strict=True)
    ]
    result = image[rows.clip(0, image.shape[0] - 1)][:, columns.clip(0, image.shape[1] - 1)]
    result[~(inside[0][:, None] & inside[1])] = outside
    return result


def same_view(size: Sequence[int], other: Sequence[int], tolerance: float = 0.02) -> bool:
    """Whether two sizes (H, W) have one aspect, as those of one view must; `tolerance` is the part
    of it that they may differ by. What has no pixels has no view."""
    one, two = size[0] * other[1], size[1] * other[0]
    return abs(one - two) < tolerance * max(one, two)
