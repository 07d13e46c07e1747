"""Points as sensor_msgs/PointCloud2, written where the message keeps them."""

from __future__ import annotations

import sys
from array import array

import numpy as np
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from .. import clouds

_FIELD_TYPES = {
    np.dtype(np.float32): PointField.FLOAT32,
    np.dtype(np.uint8): PointField.UINT8,
    np.dtype(np.uint16): PointField.UINT16,
}


def empty(
    size: tuple[int, int], labels: np.dtype, header: Header, dense: bool
) -> tuple[PointCloud2, np.ndarray]:
    """A PointCloud2 of size (H, W), and its points [H, W] of a `clouds.point_type`, to be written
    in place.

    Args:
        dense: whether none of them will be NaN.
    """
    kind = clouds.point_type(labels)
    count = size[0] * size[1] * kind.itemsize
    message = PointCloud2(
        header=header,
        height=size[0],
        width=size[1],
        fields=[_field(name, *kind.fields[name]) for name in kind.names],
        is_bigendian=sys.byteorder == 'big',
        point_step=kind.itemsize,
        row_step=size[1] * kind.itemsize,
        is_dense=dense,
    )
    message.data = array('B', [0]) * count  # taken as it is; a bytes object would be copied
    return message, np.frombuffer(message.data, kind).reshape(size)


def _field(name: str, kind: np.dtype, offset: int) -> PointField:
    # Everybody reads the bits of rgb out of a float.
    datatype = PointField.FLOAT32 if name == 'rgb' else _FIELD_TYPES[kind]
    return PointField(name=name, offset=offset, datatype=datatype, count=1)


def cloud(points: np.ndarray, header: Header) -> PointCloud2:
    """Points [N] of a `clouds.point_type`, none of them NaN."""
    message, to = empty((1, len(points)), points.dtype['label'], header, dense=True)
    to[0] = points
    return message
