"""Objects as messages: our own, RViz markers, detections of vision_msgs."""

import dataclasses
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


def drawn(things, words=CLASSES):
    """Return {namespace: markers} for RViz, after the one that deletes those before."""
    clear, *marks = object_messages.markers(things, words, HEADER).markers
    assert clear.action == Marker.DELETEALL and clear.header == HEADER
    assert all(mark.header == HEADER and mark.action == Marker.ADD for mark in marks)
    spaces = {'boxes': [], 'names': []}
    for mark in marks:
        spaces[mark.ns].append(mark)
    for of_one_kind in spaces.values():
        assert [mark.id for mark in of_one_kind] == list(range(len(things)))
    return spaces


def random_things(count):
    """Return things with random places, turns (uniform, by QR) and sizes."""
    rng = np.random.default_rng(4)
    for _ in range(count):
        axes, upper = np.linalg.qr(rng.normal(size=(3, 3)))
        axes *= np.sign(np.diag(upper))
        axes[:, 2] *= np.linalg.det(axes)
        size = sorted(rng.uniform(0, 1.5, 3), reverse=True)
        thing = found(int(rng.choice([3, 9])), size, axes)
        yield dataclasses.replace(thing, center=rng.uniform(-3, 3, 3), confidence=rng.random())


THINGS = [found(), found(9, size=(0.2, 0.2, 0.0)), *random_things(60)]


def corners_of(thing):
    """Return the 8 corners of a thing's box."""
    middle, (x, y, z) = thing.center, (thing.axes * thing.size / 2).T
    faces = [middle + z, middle - z]
    return np.array([face + a * x + b * y for face in faces for a in (-1, 1) for b in (-1, 1)])


def test_boxes_are_drawn_as_their_edges():
    for thing, box in zip(THINGS, drawn(THINGS)['boxes'], strict=True):
        assert box.type == Marker.LINE_LIST and 0 < box.scale.x < 0.02 and box.color.a == 1
        ends = np.array([xyz(point) for point in box.points]) @ rotation(box.pose.orientation).T
        ends = (ends + xyz(box.pose.position)).reshape(12, 2, 3)
        corners = corners_of(thing)
        away = np.linalg.norm(ends[:, :, None] - corners, axis=-1)  # [12, 2, 8]
        np.testing.assert_allclose(away.min(-1), 0, atol=1e-9)
        if thing.size[2] == 0:
            continue  # corners coincide
        edges = {frozenset(edge) for edge in away.argmin(-1).tolist()}
        # Each of 12 edges once, along one side of the box, and three of them at each corner.
        assert len(edges) == 12 and all(len(edge) == 2 for edge in edges)
        lengths = np.linalg.norm(ends[:, 0] - ends[:, 1], axis=1)
        np.testing.assert_allclose(sorted(lengths), sorted(np.repeat(thing.size, 4)))
        assert all(sum(corner in edge for edge in edges) == 3 for corner in range(8))


def test_boxes_have_the_colours_of_their_classes():
    color = drawn([found()])['boxes'][0].color
    assert (color.r, color.g, color.b) == pytest.approx((1.0, 0.0, 0.2))


def test_names_stand_above_the_boxes():
    """y points down. A text is as high as its two lines, and its position is its middle."""
    names = drawn(THINGS)['names']
    [letter] = {name.scale.z for name in names}  # one size
    for thing, name in zip(THINGS, names, strict=True):
        assert name.type == Marker.TEXT_VIEW_FACING and name.color.a == 1
        x, y, z = xyz(name.pose.position)
        top = corners_of(thing)[:, 1].min()
        assert letter < top - y < 3 * letter
        np.testing.assert_allclose((x, z), thing.center[[0, 2]])


@pytest.mark.parametrize(
    ('name', 'text'),
    [
        ('mug', 'mug'),
        ('wheeled robot', 'wheeled_robot'),
        ('food on a  plate', 'food_on_a_plate'),
        ('a\N{NO-BREAK SPACE}b\N{THIN SPACE}c\N{IDEOGRAPHIC SPACE}d\te', 'a_b_c_d_e'),
    ],
)
def test_names_have_no_spaces(name, text):
    """RViz makes every space a metre wide."""
    words = [WordClass(3, name, ('x',))]
    assert [mark.text for mark in drawn([found()], words)['names']] == [f'{text}\n0.70']


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
