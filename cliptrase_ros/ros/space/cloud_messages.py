"""Points as sensor_msgs/PointCloud2, written directly into the message."""

from __future__ import annotations

import sys

import numpy as np
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from ...space import clouds

_FIELD_TYPES = {
    np.dtype(np.float32): PointField.FLOAT32,
    np.dtype(np.uint8): PointField.UINT8,
    np.dtype(np.uint16): PointField.UINT16,
}


def empty(
    size: tuple[int, int], labels: np.dtype, header: Header
) -> tuple[PointCloud2, np.ndarray]:
    """Return a PointCloud2 of size (H, W), and its points [H, W] of a `clouds.point_type`. Write
    the points in place; they may be NaN."""
    kind = clouds.point_type(labels)
    message = _cloud(size, kind, header, dense=False)
    # In place: rclpy's setter would copy.
    data = message.data
    data.append(0)
    data *= size[0] * message.row_step
    return message, np.frombuffer(data, kind).reshape(size)


def cloud(points: np.ndarray, header: Header) -> PointCloud2:
    """Return a message of points [N] of a `clouds.point_type`. No point may be NaN."""
    message = _cloud((1, len(points)), points.dtype, header, dense=True)
    message.data.frombytes(points.view(np.uint8))
    return message


def _cloud(size: tuple[int, int], kind: np.dtype, header: Header, dense: bool) -> PointCloud2:
    return PointCloud2(
        header=header,
        height=size[0],
        width=size[1],
        fields=[_field(name, *field) for name, field in (kind.fields or {}).items()],
        is_bigendian=sys.byteorder == 'big',
        point_step=kind.itemsize,
        row_step=size[1] * kind.itemsize,
        is_dense=dense,
    )


def _field(name: str, kind: np.dtype, offset: int) -> PointField:
    # Consumers read the bits of rgb from a float.
    datatype = PointField.FLOAT32 if name == 'rgb' else _FIELD_TYPES[kind]
    return PointField(name=name, offset=offset, datatype=datatype, count=1)
