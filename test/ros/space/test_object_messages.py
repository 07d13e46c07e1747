"""Objects as messages: our own, RViz markers, detections of vision_msgs."""

from types import SimpleNamespace

import numpy as np
import pytest
from std_msgs.msg import Header
from visualization_msgs.msg import Marker

from cliptrase_ros.ros.space import object_messages
from cliptrase_ros.space.objects import Found
from cliptrase_ros.words.vocabulary import WordClass

HEADER = Header(frame_id='eye')
CLASSES = WordClass(3, 'mug', ('mug',), (255, 0, 51)), WordClass(9, 'plate', ('plate',))
NAMES = {c.id: c.name for c in CLASSES}
TURN = np.array([[0.8, 0.6, 0.0], [-0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])


def found(number=3, size=(0.3, 0.2, 0.1), axes=TURN):
    return Found(
        id=number,
        score=0.9,
        confidence=0.7,
        area=120,
        box=(4, 5, 6, 7),
        centroid=np.array([0.1, 0.2, 1.5]),
        center=np.array([0.11, 0.21, 1.51]),
        axes=axes,
        size=np.array(size),
    )


def xyz(point):
    return [point.x, point.y, point.z]


def rotation(q):
    """Return the matrix of a unit quaternion."""
    x, y, z, w = q.x, q.y, q.z, q.w
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def check_pose(pose):
    assert xyz(pose.position) == [0.11, 0.21, 1.51]
    np.testing.assert_allclose(rotation(pose.orientation), TURN, atol=1e-12)


def test_things():
    message = object_messages.objects([found(), found(9)], NAMES, 4, HEADER)
    assert message.header == HEADER and message.version == 4
    assert [thing.name for thing in message.objects] == ['mug', 'plate']
    [thing, _] = message.objects
    assert (thing.id, thing.area) == (3, 120)
    assert (thing.score, thing.confidence) == pytest.approx((0.9, 0.7))
    box = thing.box
    assert (box.x_offset, box.y_offset, box.width, box.height) == (4, 5, 6, 7)
    assert xyz(thing.centroid) == [0.1, 0.2, 1.5] and xyz(thing.size) == [0.3, 0.2, 0.1]
    check_pose(thing.pose)


def test_markers():
    things = [found(), found(9, size=(0.2, 0.2, 0.0))]
    clear, *marks = object_messages.markers(things, CLASSES, HEADER).markers
    assert clear.action == Marker.DELETEALL and clear.header == HEADER
    boxes, names = marks[::2], marks[1::2]
    assert len({(mark.ns, mark.id) for mark in marks}) == 4
    assert all(mark.header == HEADER and mark.action == Marker.ADD for mark in marks)
    check_pose(boxes[0].pose)
    assert xyz(boxes[0].scale) == [0.3, 0.2, 0.1]
    assert boxes[1].scale.z > 0, 'RViz does not draw flat boxes'
    color = boxes[0].color
    assert (color.r, color.g, color.b) == pytest.approx((1.0, 0.0, 0.2)) and 0 < color.a < 1
    assert [name.text for name in names] == ['mug 0.70', 'plate 0.70']
    # Above in the picture means a smaller y.
    assert names[0].pose.position.y < 0.21 - 0.15


def test_detections(monkeypatch):
    """If vision_msgs is not installed, fake messages with the same fields replace it."""
    if object_messages.Detection3DArray is None:
        monkeypatch.setattr(
            object_messages,
            'ObjectHypothesisWithPose',
            lambda: SimpleNamespace(hypothesis=SimpleNamespace(), pose=SimpleNamespace()),
            raising=False,
        )
        for name in ('BoundingBox3D', 'Detection3D', 'Detection3DArray'):
            monkeypatch.setattr(object_messages, name, SimpleNamespace, raising=False)
    message = object_messages.detections([found(), found(9)], NAMES, HEADER)
    assert message.header == HEADER and len(message.detections) == 2
    detection = message.detections[0]
    assert detection.header == HEADER
    [result] = detection.results
    assert result.hypothesis.class_id == 'mug' and result.hypothesis.score == pytest.approx(0.7)
    check_pose(result.pose.pose)
    check_pose(detection.bbox.center)
    assert xyz(detection.bbox.size) == [0.3, 0.2, 0.1]


def test_nothing_seen():
    assert not object_messages.objects([], NAMES, 1, HEADER).objects
    [clear] = object_messages.markers([], CLASSES, HEADER).markers
    assert clear.action == Marker.DELETEALL
