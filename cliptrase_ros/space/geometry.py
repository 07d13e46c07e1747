"""Depth images, pinhole cameras, and the mapping of pixels between images.

Pixel centres are integers. Images of one camera (colour, labels, depth registered to it) show the
same view at different sizes. So a scale and a shift map the pixels of one image to those of
another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from ..errors import ShapeError

# Sensors write this value if they are blinded or out of range.
SATURATED_MM = 65535


@dataclass(frozen=True)
class Pinhole:
    """Camera without distortion: focal lengths and principal point, in pixels."""

    fx: float
    fy: float
    cx: float
    cy: float

    def moved(self, move: np.ndarray) -> Pinhole:
        """Return the camera of another image. `move` [2, 3] maps pixels (x, y, 1) to that image."""
        (sx, _, tx), (_, sy, ty) = move.tolist()
        return Pinhole(sx * self.fx, sy * self.fy, sx * self.cx + tx, sy * self.cy + ty)

    def rays(self, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Return x / z [W] of each column and y / z [H] of each row, float32, read-only.

        Args:
            size: (H, W).
        """
        return _rays(self, size)


@lru_cache(maxsize=16)
def _rays(camera: Pinhole, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = (np.arange(side, dtype=np.float64) for side in size)
    x = ((columns - camera.cx) / camera.fx).astype(np.float32)
    y = ((rows - camera.cy) / camera.fy).astype(np.float32)
    for rays in (x, y):
        rays.flags.writeable = False  # they are cached: later calls return the same arrays
    return x, y


def metres(
    depth: np.ndarray, nearest_m: float = 0.0, farthest_m: float = float('inf')
) -> np.ndarray:
    """Return a depth image as [H, W] float32 in metres; invalid pixels become NaN (REP 118).

    Args:
        depth: [H, W] uint16 in mm, where 0 and 65535 are not valid; or float32 in metres, where
            values that are not finite or not above 0 are not valid.
        nearest_m, farthest_m: depths outside this range are not valid either.

    Raises:
        ShapeError: the shape or the dtype is another.
    """
    if depth.ndim != 2 or depth.dtype not in (np.uint16, np.float32):
        raise ShapeError(
            f'depth: expected [H, W] uint16 in mm or float32 in m, got {list(depth.shape)} '
            f'{depth.dtype}'
        )
    if depth.dtype == np.uint16:
        # Times 0.001 would make some depths a little too large: 3000 mm would be more than 3 m.
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
    """Return the matrix [2, 3] that maps pixels (x, y, 1) of an image to the same view resized.

    Args:
        source, target: sizes (H, W) before and after.
    """
    sy, sx = (new / old for new, old in zip(target, source, strict=True))
    return np.array([[sx, 0, (sx - 1) / 2], [0, sy, (sy - 1) / 2]])


def inverse(move: np.ndarray) -> np.ndarray:
    """Return the inverse of a scale and shift [2, 3]."""
    return np.linalg.inv(_square(move))[:2]


def after(second: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Return the scale and shift [2, 3] that does `first` and then `second`."""
    return _square(second)[:2] @ _square(first)


def _square(move: np.ndarray) -> np.ndarray:
    return np.vstack([move, (0, 0, 1)])


def shown(info: Any, image_size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return (x, y, width, height) of the part of a full image that the camera's images show.

    It is the region of interest. Some drivers fill it in and publish full images all the same: an
    image of exactly the full size shows everything.

    Args:
        info: sensor_msgs/CameraInfo.
        image_size: (H, W) of the images.
    """
    roi, full = info.roi, (info.height, info.width)
    if (not roi.width and not roi.height) or image_size in (full, _binned(info, full)):
        return 0, 0, info.width, info.height
    return roi.x_offset, roi.y_offset, roi.width or info.width, roi.height or info.height


def _binned(info: Any, size: tuple[int, int]) -> tuple[int, int]:
    return size[0] // max(1, info.binning_y), size[1] // max(1, info.binning_x)


def calibrated_size(info: Any) -> tuple[int, int]:
    """Return (H, W) of the images that a calibration is for, after crop and binning.

    Args:
        info: sensor_msgs/CameraInfo.
    """
    return _binned(info, (info.roi.height or info.height, info.roi.width or info.width))


def fits(info: Any, image_size: tuple[int, int]) -> bool:
    """Return True if a calibration is for these images, or for the same view in another size.

    Binning and resizing keep the aspect, except for less than one pixel of the smaller size. Other
    sizes come from a crop that the calibration does not know, or from another camera.

    Args:
        info: sensor_msgs/CameraInfo.
        image_size: (H, W) of the images.
    """
    _, _, width, height = shown(info, image_size)
    sizes = (height, width), _binned(info, (height, width))
    return any(_resizes(size, image_size) for size in sizes)


def _resizes(size: tuple[int, int], other: tuple[int, int]) -> bool:
    return 0 not in size and abs(size[0] * other[1] - size[1] * other[0]) < max(*size, *other)


def to_image(info: Any, image_size: tuple[int, int]) -> np.ndarray:
    """Return the matrix [3, 3] that maps pixels of a calibration to pixels of the camera's images.

    It accounts for the crop, the binning and the size of the images.

    Args:
        info: sensor_msgs/CameraInfo.
        image_size: (H, W) of the images.
    """
    x, y, width, height = shown(info, image_size)
    sx, sy = image_size[1] / width, image_size[0] / height
    return np.array(
        [
            [sx, 0, (sx - 1) / 2 - sx * x],
            [0, sy, (sy - 1) / 2 - sy * y],
            [0, 0, 1],
        ]
    )


def moved_calibration(
    info: Any, image_size: tuple[int, int], matrix: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return K [9] and P [12] of a picture that is made from a camera's image.

    They account for the crop and the binning of the image.

    Args:
        info: sensor_msgs/CameraInfo of the camera.
        image_size: (H, W) of its images.
        matrix: [2, 3], maps pixel centres of the image to the picture; see
            Segmenter.view_geometry.
    """
    move = _square(matrix) @ to_image(info, image_size)
    k, p = np.reshape(info.k, (3, 3)), np.reshape(info.p, (3, 4))
    return (move @ k).ravel(), (move @ p).ravel()


def looked_up(
    image: np.ndarray, move: np.ndarray, size: tuple[int, int], outside: float
) -> np.ndarray:
    """Return another view [H, W] of an image; each pixel gets the value of the nearest pixel.

    So no new values appear. If two pixels are equally near, the right or lower one is used. The
    result may be the image itself.

    Args:
        image: [h, w].
        move: [2, 3], maps pixels (x, y, 1) of the image to the result.
        size: (H, W) of the result.
        outside: value of pixels that are not in the image.
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
    """Return True if two sizes (H, W) have the same aspect ratio, as sizes of one view must.

    The ratios may differ by the share `tolerance`. If a size has no pixels, the result is False.
    """
    one, two = size[0] * other[1], size[1] * other[0]
    return abs(one - two) < tolerance * max(one, two)


def quaternion(rotation: np.ndarray) -> tuple[float, float, float, float]:
    """Return (x, y, z, w) of a rotation matrix [3, 3], w >= 0."""
    # The eigenvector of the largest eigenvalue of Bar-Itzhack's symmetric matrix. No rotation is a
    # singular case (Journal of Guidance, Control, and Dynamics 23(6), 2000).
    r = rotation
    k = np.array(
        [
            [r[0, 0] - r[1, 1] - r[2, 2], r[0, 1] + r[1, 0], r[0, 2] + r[2, 0], r[2, 1] - r[1, 2]],
            [r[0, 1] + r[1, 0], r[1, 1] - r[0, 0] - r[2, 2], r[1, 2] + r[2, 1], r[0, 2] - r[2, 0]],
            [r[0, 2] + r[2, 0], r[1, 2] + r[2, 1], r[2, 2] - r[0, 0] - r[1, 1], r[1, 0] - r[0, 1]],
            [r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1], np.trace(r)],
        ]
    )
    best = np.linalg.eigh(k)[1][:, -1]
    best = best if best[3] >= 0 else -best
    x, y, z, w = (float(value) for value in best)
    return x, y, z, w
