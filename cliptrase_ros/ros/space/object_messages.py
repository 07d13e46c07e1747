"""Objects in space as messages: our own, RViz markers, detections of vision_msgs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from geometry_msgs.msg import Point, Pose, Quaternion, Vector3
from sensor_msgs.msg import RegionOfInterest
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from ...msg import Object, ObjectArray
from ...space.objects import Found
from ...words.vocabulary import WordClass

try:
    from vision_msgs.msg import (
        BoundingBox3D,
        Detection3D,
        Detection3DArray,
        ObjectHypothesisWithPose,
    )
except ImportError:  # pip has no wheel of vision_msgs; then the topic does not exist
    Detection3DArray = None


def objects(
    found: Sequence[Found], names: Mapping[int, str], version: int, header: Header
) -> ObjectArray:
    """Return objects with their places in space. `names`: id -> name of the class."""
    things = [
        Object(
            id=thing.id,
            name=names[thing.id],
            score=thing.score,
            confidence=thing.confidence,
            area=thing.area,
            box=_region(thing.box),
            centroid=Point(**_xyz(thing.centroid)),
            pose=_pose(thing),
            size=Vector3(**_xyz(thing.size)),
        )
        for thing in found
    ]
    return ObjectArray(header=header, version=version, objects=things)


def markers(found: Sequence[Found], words: Sequence[WordClass], header: Header) -> MarkerArray:
    """Return the objects for RViz: a box in the colour of the class, with the name above it. The
    markers of the image before are deleted."""
    by_id = {c.id: c for c in words}
    result = [Marker(header=header, action=Marker.DELETEALL)]
    for number, thing in enumerate(found):
        c = by_id[thing.id]
        rgb = dict(zip('rgb', (x / 255 for x in c.color), strict=True))
        common = {'header': header, 'id': number, 'action': Marker.ADD}
        size = _xyz(np.maximum(thing.size, 0.01))  # RViz does not draw flat boxes
        result.append(
            Marker(
                ns='boxes',
                type=Marker.CUBE,
                pose=_pose(thing),
                scale=Vector3(**size),
                color=ColorRGBA(**rgb, a=0.4),
                **common,
            )
        )
        above = thing.center - (0, 0.5 * float(np.linalg.norm(thing.size)), 0)
        result.append(
            Marker(
                ns='names',
                type=Marker.TEXT_VIEW_FACING,
                text=f'{c.name} {thing.confidence:.2f}',
                pose=Pose(position=Point(**_xyz(above))),
                scale=Vector3(z=0.08),
                color=ColorRGBA(r=1.0, g=1.0, b=1.0, a=1.0),
                **common,
            )
        )
    return MarkerArray(markers=result)


def detections(
    found: Sequence[Found], names: Mapping[int, str], header: Header
) -> Detection3DArray:
    """Return the objects as detections; class_id is the name. Needs vision_msgs."""
    result = []
    for thing in found:
        pose = _pose(thing)
        hypothesis = ObjectHypothesisWithPose()
        hypothesis.hypothesis.class_id = names[thing.id]
        hypothesis.hypothesis.score = thing.confidence
        hypothesis.pose.pose = pose
        box = BoundingBox3D(center=pose, size=Vector3(**_xyz(thing.size)))
        result.append(Detection3D(header=header, results=[hypothesis], bbox=box))
    return Detection3DArray(header=header, detections=result)


def _region(box: tuple[int, int, int, int]) -> RegionOfInterest:
    x, y, width, height = box
    return RegionOfInterest(x_offset=x, y_offset=y, width=width, height=height)


def _pose(thing: Found) -> Pose:
    rotation = dict(zip('xyzw', quaternion(thing.axes), strict=True))
    return Pose(position=Point(**_xyz(thing.center)), orientation=Quaternion(**rotation))


def _xyz(vector: np.ndarray) -> dict[str, float]:
    return dict(zip('xyz', map(float, vector), strict=True))


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
