"""Objects in space as messages: our own, RViz markers, detections of vision_msgs."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from geometry_msgs.msg import Point, Pose, Quaternion, Vector3
from sensor_msgs.msg import RegionOfInterest
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from ...msg import Object, ObjectArray
from ...space.geometry import quaternion
from ...space.objects import Found
from ...words.colors import RGB
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

# The corners of a box with sides of 1 around 0, and the pairs of corners that an edge connects:
# those that differ in one coordinate.
CORNERS = np.array([*itertools.product((-0.5, 0.5), repeat=3)])
EDGES = [
    (a, b)
    for a, b in itertools.combinations(range(8), 2)
    if np.count_nonzero(CORNERS[a] != CORNERS[b]) == 1
]
EDGE_M = 0.008  # width of an edge
LETTER_M = 0.06  # height of a letter
GAP_M = 0.02  # between the text and the box below it


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
    """Return the objects for RViz: the edges of each box in the colour of its class, and above it
    the name and the confidence. The markers of the image before are deleted."""
    by_id = {c.id: c for c in words}
    result = [Marker(header=header, action=Marker.DELETEALL)]
    for number, thing in enumerate(found):
        c = by_id[thing.id]
        made = {'boxes': _edges(thing, c.color), 'names': _name(thing, c.name)}
        for namespace, marker in made.items():
            marker.header, marker.ns, marker.id = header, namespace, number
            result.append(marker)
    return MarkerArray(markers=result)


def _edges(thing: Found, color: RGB) -> Marker:
    """Return the 12 edges of a box. A filled box would tint what is in it."""
    corners = [Point(**_xyz(corner)) for corner in CORNERS * thing.size]
    return Marker(
        type=Marker.LINE_LIST,
        pose=_pose(thing),
        scale=Vector3(x=EDGE_M),
        color=ColorRGBA(**dict(zip('rgb', (x / 255 for x in color), strict=True)), a=1.0),
        points=[corners[end] for edge in EDGES for end in edge],
    )


def _name(thing: Found, name: str) -> Marker:
    """Return the text above a box: the name, and below it the confidence."""
    # Up is -y in an optical frame. The text's position is its middle, between its two lines.
    height = 0.5 * float(np.abs(thing.axes[1]) @ thing.size) + GAP_M + LETTER_M
    return Marker(
        type=Marker.TEXT_VIEW_FACING,
        # In RViz a space is as wide as if the letters were one metre high.
        text=f'{"_".join(name.split())}\n{thing.confidence:.2f}',
        pose=Pose(position=Point(**_xyz(thing.center - (0, height, 0)))),
        scale=Vector3(z=LETTER_M),
        # RViz has no outlines, and draws one text over another in any order, so there is no shadow.
        # White is legible on its background, and on all but the brightest points.
        color=ColorRGBA(r=1.0, g=1.0, b=1.0, a=1.0),
    )


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
