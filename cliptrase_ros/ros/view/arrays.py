"""Messages of the segmentation node as arrays."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from sensor_msgs.msg import Image, PointCloud2, PointField

from ...errors import CliptraseError
from ...space.clouds import point_type
from ...words.vocabulary import UNLABELED
from ..bridge import OWN
from ..messages import LABEL_TYPES

LABELS: dict[int, np.dtype] = {
    PointField.UINT8: np.dtype(np.uint8),
    PointField.UINT16: np.dtype(np.uint16),
}


class UnknownOutput(CliptraseError):
    """A message that no version of the node has published like this."""


def labels_of(mask: Image, unlabeled: int) -> np.ndarray:
    """Return a label mask as [H, W] uint8 or uint16, 0 where unlabelled.

    Args:
        unlabeled: value of the pixels without a label in the mask.

    Raises:
        UnknownOutput: another encoding, or padded rows.
    """
    kind = LABEL_TYPES.get(mask.encoding)
    if kind is None or mask.step != mask.width * np.dtype(kind).itemsize:
        raise UnknownOutput(f'label mask: expected mono8 or 16UC1, got {mask.encoding}')
    labels = np.frombuffer(
        mask.data, np.dtype(kind).newbyteorder('>' if mask.is_bigendian else '<')
    )
    labels = labels.reshape(mask.height, mask.width)
    if unlabeled != UNLABELED:
        labels = np.where(labels == unlabeled, labels.dtype.type(UNLABELED), labels)
    return labels.astype(kind, copy=False)


def confidence_of(message: Image) -> np.ndarray:
    """Return confidences as [H, W] float32 in 0..1."""
    pixels = np.frombuffer(message.data, np.uint8).reshape(message.height, message.width)
    return pixels.astype(np.float32) / 255


def picture_of(message: Any, size: tuple[int, int], cropped: bool) -> np.ndarray:
    """Return the picture that labels of this size (H, W) belong to, [H, W, 3] uint8 RGB.

    Args:
        message: sensor_msgs/Image or CompressedImage of the camera.
        cropped: the labels show the square in the middle (`protocol: cliptrase`), not everything.

    Raises:
        ImageError: it cannot be read.
    """
    image = OWN.any_to_rgb(message)
    if cropped:
        side = min(image.shape[:2])
        top, left = ((length - side) // 2 for length in image.shape[:2])
        image = np.ascontiguousarray(image[top : top + side, left : left + side])
    if image.shape[:2] == size:
        return image
    how = cv2.INTER_AREA if size[0] < image.shape[0] else cv2.INTER_LINEAR
    return cv2.resize(image, size[::-1], interpolation=how)


def points_of_cloud(cloud: PointCloud2, limit: int) -> np.ndarray:
    """Return at most about `limit` of the valid points of `~/points`, [N] of a
    `clouds.point_type`, evenly over its rows and columns.

    Raises:
        UnknownOutput: it does not have the node's layout.
    """
    kind = point_type(LABELS.get(int(cloud.fields[-1].datatype), np.dtype(np.uint8)))
    expected = {name: field[1] for name, field in (kind.fields or {}).items()}
    if expected != {field.name: field.offset for field in cloud.fields}:
        raise UnknownOutput('~/points: its fields are not those of this version of the node')
    points = np.frombuffer(cloud.data, kind).reshape(cloud.height, cloud.width)
    step = max(1, int(np.ceil((points.size / limit) ** 0.5)))
    chosen = points[::step, ::step].ravel()
    return chosen[chosen['z'] > 0]


def colors_of(points: np.ndarray) -> np.ndarray:
    """Return the colours of points [N] of a `clouds.point_type` as [N, 3] uint8 RGB."""
    packed = points['rgb']
    return np.stack([packed >> 16, packed >> 8, packed], axis=1).astype(np.uint8)
