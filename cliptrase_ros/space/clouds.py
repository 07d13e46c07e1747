"""Labelled point clouds, made from a depth image, its colours, labels and confidences."""

from __future__ import annotations

import cv2
import numpy as np

from .geometry import Pinhole

# A jump in depth is a step of more than this share of the farther inverse depth. At 2 m this is a
# step of 10 cm.
JUMP = 0.05


def point_type(labels: np.dtype) -> np.dtype:
    """Return the dtype of a point of 24 bytes.

    Its fields: x, y, z float32 in metres (x right, y down, z ahead); rgb uint32, 0x00RRGGBB;
    confidence float32; label of the dtype `labels`, uint8 or uint16.
    """
    return np.dtype(
        {
            'names': ['x', 'y', 'z', 'rgb', 'confidence', 'label'],
            'formats': [np.float32, np.float32, np.float32, np.uint32, np.float32, labels],
            'offsets': [0, 4, 8, 12, 16, 20],
            'itemsize': 24,
        }
    )


def fill(
    points: np.ndarray,
    depth: np.ndarray,
    camera: Pinhole,
    image: np.ndarray,
    labels: np.ndarray,
    confidence: np.ndarray,
) -> None:
    """Write one point per pixel. If the depth is NaN, x, y and z are NaN.

    Args:
        points: [H, W] of a `point_type`; this function writes it.
        depth: [H, W] float32 in metres.
        camera: the camera of these pixels.
        image: [H, W, 3] uint8 RGB.
        labels: [H, W] uint8 or uint16.
        confidence: [H, W] float32.
    """
    x, y = camera.rays(depth.shape)
    np.multiply(depth, x, out=points['x'])
    np.multiply(depth, y[:, None], out=points['y'])
    points['z'] = depth
    points['rgb'] = packed(image)
    points['confidence'] = confidence
    points['label'] = labels


def selected(points: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return the points [N] of the pixels [H, W] bool that are chosen and have depth, row by row.

    Args:
        points: [H, W] as `fill` writes them.
    """
    # This is many times faster than indexing with a mask.
    return points.reshape(-1).take(np.flatnonzero(chosen & (points['z'] > 0)))


def packed(image: np.ndarray) -> np.ndarray:
    """Return an image [H, W, 3] uint8 RGB as [H, W] uint32 0x00RRGGBB."""
    # One 32-bit word per pixel. Its bytes, lowest first: blue, green, red, 255.
    words = cv2.cvtColor(image, cv2.COLOR_RGB2BGRA).view('<u4')[..., 0]
    return words & np.uint32(0xFFFFFF)


def behind_edges(depth: np.ndarray, margin_px: int) -> np.ndarray:
    """Return which pixels [H, W] bool are on the far side of a jump in depth and close to it.

    Labels end a few pixels off the edge of a thing, and depth sensors blur the edge. On the far
    side of the edge, such a pixel puts the label of the thing on the floor or the wall behind it,
    maybe metres away. The near side is kept, so thin things stay whole.

    Inverse depth is linear on a plane. So in a window around a pixel of a plane, the largest
    inverse depth is as far above that of the pixel as the smallest is below it. At a jump, the
    largest is too far above.

    Args:
        depth: [H, W] float32 in metres, NaN if not valid.
        margin_px: how far the jump may be away, in rows and columns. 0: no pixel is close.
    """
    kernel = np.ones((2 * margin_px + 1, 2 * margin_px + 1), np.uint8)
    valid = depth > 0  # NaN compares as False
    inverse = np.divide(1, depth, out=np.zeros_like(depth), where=valid)
    nearest = cv2.dilate(inverse, kernel)
    farthest = cv2.erode(np.where(valid, inverse, np.float32(np.inf)), kernel)
    return valid & (nearest + farthest - 2 * inverse > JUMP * inverse)


def grown(depth: np.ndarray, target: np.ndarray, focal: float, margin_m: float) -> np.ndarray:
    """Return which pixels [H, W] bool of a depth image belong to a target or are close to it.

    Labels end a few pixels off the edge of a thing, and depth sensors blur the edge. So the target
    grows by the margin, converted to pixels. It grows only over pixels whose depth is within the
    margin of the depths of the target near them; it never takes pixels in front of it or behind it.
    Parts of the target that are at least twice as far as its nearest pixel grow separately: they
    grow by fewer pixels, and pixels between the near and the far part belong to neither.

    Args:
        depth: [H, W] float32 in metres, NaN if not valid.
        target: [H, W] bool, the pixels of the target.
        focal: focal length in pixels.
        margin_m: margin in metres.
    """
    result = target.copy()
    left = target & (depth > 0)
    while left.any():
        nearest = float(depth[left].min())
        part = left & (depth < 2 * nearest)
        reach = min(int(np.ceil(focal * margin_m / nearest)), max(depth.shape))
        _grow(result, depth, part, reach, margin_m)
        left &= ~part
    return result


def _grow(
    result: np.ndarray, depth: np.ndarray, part: np.ndarray, reach: int, margin_m: float
) -> None:
    """Add to `result` the pixels that are close to a part of the target.

    Close means: at most `reach` rows and columns away, and at most the margin away from the depths
    that the part has there.
    """
    kernel = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    # Only pixels near the part can change.
    x, y, w, h = cv2.boundingRect(part.view(np.uint8))
    box = slice(max(0, y - reach), y + h + reach), slice(max(0, x - reach), x + w + reach)
    depth, part = depth[box], part[box]
    lowest = cv2.erode(np.where(part, depth, np.float32(np.inf)), kernel)
    highest = cv2.dilate(np.where(part, depth, np.float32(-np.inf)), kernel)
    result[box] |= (depth >= lowest - margin_m) & (depth <= highest + margin_m)
