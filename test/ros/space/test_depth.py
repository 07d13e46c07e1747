"""Outputs in space, over real DDS: a camera with depth, a node in a process, and its consumers."""

import threading

import cv2
import numpy as np
import pytest
from cliptrase_ros.msg import ObjectArray
from cliptrase_ros.srv import Segment
from diagnostic_msgs.msg import DiagnosticStatus
from processes import wait_for
from rgbd import (
    DEPTH,
    Depth,
    depth_array,
    matrix,
    of_one_image,
    points,
    ramp,
    start_node,
)
from robot import IMPATIENT, PIXELS, WORDS, Robot, array, image, node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from std_msgs.msg import Header
from visualization_msgs.msg import Marker, MarkerArray

from cliptrase_ros.media import encodings
from cliptrase_ros.ros import messages
from cliptrase_ros.ros.parameters import ObjectsOptions
from cliptrase_ros.space import objects
from cliptrase_ros.space.geometry import Pinhole

OUTPUTS = {
    'points': PointCloud2,
    'points/mug': PointCloud2,
    'points/obstacles': PointCloud2,
    'depth/target': Image,
    'depth/rest': Image,
    'depth/camera_info': CameraInfo,
    'objects': ObjectArray,
    'objects/markers': MarkerArray,
}
THRESHOLD = 'confidence_threshold:=0.4'  # so that some pixels have no label
GROUPS = 'points.groups:=["obstacles=!floor;door"]'
TARGET = 'target.classes:=["mug"]'


def hear(robot, *topics):
    for topic in topics:
        robot.hear(topic, OUTPUTS[topic])


def taken(robot, process, topics=tuple(OUTPUTS)):
    """Return {topic: message} of one image, including label mask and confidence."""
    robot.hear('confidence', Image)
    hear(robot, *topics)
    with_stamp = [t for t in topics if t != 'objects/markers']
    wanted = [*with_stamp, 'label_mask', 'confidence']
    wait_for(lambda: of_one_image(robot, wanted), what='all outputs', process=process)
    found = of_one_image(robot, wanted)
    for topic, message in found.items():
        assert message.header == found['label_mask'].header, topic
    return found


def expected_xyz(mm, size=(120, 160)):
    """Return [H, W, 3] metres in float64, NaN where there is no depth."""
    z = np.where(mm == 0, np.nan, mm / 1000)
    k = matrix(*size)
    rows, columns = np.mgrid[: size[0], : size[1]]
    return np.stack([(columns - k[0, 2]) / k[0, 0] * z, (rows - k[1, 2]) / k[1, 1] * z, z], axis=-1)


def xyz(cloud):
    return np.stack([cloud['x'], cloud['y'], cloud['z']], axis=-1)


def test_outputs_in_space(robot, start):
    process = start_node(start, WORDS, THRESHOLD, GROUPS, TARGET, 'target.margin_m:=0.0')
    depth = Depth(robot)
    depth.stream()
    found = taken(robot, process)
    labels, confidence = array(found['label_mask']), array(found['confidence'])
    assert 0 < (labels == 0).mean() < 1 and (labels == 9).any()

    cloud = points(found['points'])
    assert cloud.shape == labels.shape and not found['points'].is_dense
    assert (cloud['label'] == labels).all()
    assert (np.rint(cloud['confidence'] * 255) == confidence).all()
    rgb = cloud['rgb'].copy().view(np.uint32)
    assert (rgb >> 16 == PIXELS[..., 0]).all()
    assert (rgb >> 8 & 255 == PIXELS[..., 1]).all() and (rgb & 255 == PIXELS[..., 2]).all()
    truth = expected_xyz(depth.pixels)
    labelled = np.where((labels > 0)[..., None], truth, np.nan)
    np.testing.assert_allclose(xyz(cloud), labelled, rtol=1e-6)

    valid = depth.pixels > 0
    for topic, chosen in (('mug', labels == 9), ('obstacles', ~np.isin(labels, (1, 10)))):
        message = found[f'points/{topic}']
        part = points(message)
        assert message.height == 1 and message.is_dense
        np.testing.assert_allclose(xyz(part)[0], truth[chosen & valid], rtol=1e-6)
        assert (part['label'][0] == labels[chosen & valid]).all()
    assert 0 in points(found['points/obstacles'])['label']

    target, rest = (found[f'depth/{name}'] for name in ('target', 'rest'))
    assert target.encoding == rest.encoding == '16UC1'
    assert (depth_array(target) == np.where(labels == 9, depth.pixels, 0)).all()
    assert (depth_array(rest) == np.where(labels == 9, 0, depth.pixels)).all()
    info = found['depth/camera_info']
    assert (info.height, info.width) == (120, 160)
    np.testing.assert_allclose(info.k, matrix().ravel())

    k = matrix()
    there = objects.find(
        labels,
        cloud['confidence'],
        np.where(valid, depth.pixels * np.float32(1e-3), np.float32(np.nan)),
        Pinhole(k[0, 0], k[1, 1], k[0, 2], k[1, 2]),
        [c.id for c in robot.vocabularies[-1].classes if c.name != 'floor'],  # it is stuff
        ObjectsOptions.depth_jump,
        ObjectsOptions.min_pixels,
    )
    listed = found['objects']
    assert listed.version == 1 and len(listed.objects) == len(there) > 1
    names = {c.id: c.name for c in robot.vocabularies[-1].classes}
    for told, thing in zip(listed.objects, there, strict=True):
        assert (told.id, told.name, told.area) == (thing.id, names[thing.id], thing.area)
        box = told.box
        assert (box.x_offset, box.y_offset, box.width, box.height) == thing.box
        centre = told.centroid
        np.testing.assert_allclose((centre.x, centre.y, centre.z), thing.centroid, atol=1e-6)
        np.testing.assert_allclose((told.size.x, told.size.y, told.size.z), thing.size, atol=1e-5)
    clear, *marks = robot.heard['objects/markers'][-1].markers
    assert clear.action == Marker.DELETEALL
    assert {m.type for m in marks} == {Marker.LINE_LIST, Marker.TEXT_VIEW_FACING}
    assert all(m.header.frame_id == 'eye' for m in marks)
    assert {m.text.split()[0] for m in marks if m.text} == {o.name for o in listed.objects}

    wait_for(lambda: robot.value('outputs in space p50 ms'), what='times in diagnostics')
    assert int(robot.value('depth: with the stamp of an image')) > 0
    assert int(robot.value('outputs in space: published')) > 0
    assert robot.value('depth image') == '160 x 120 16UC1'
    wait_for(lambda: robot.diagnosed(DiagnosticStatus.OK, 'segmenting'), what='no complaint')


def test_depth_is_listened_to_while_somebody_needs_it(robot, start):
    process = start_node(start, WORDS)
    depth = Depth(robot)
    depth.stream()
    wait_for(lambda: len(robot.masks) > 3, what='masks', process=process)
    count = robot.node.count_subscribers
    assert not count(DEPTH)
    hear(robot, 'points')
    wait_for(lambda: count(DEPTH) == 1 and robot.heard['points'], what='clouds', process=process)
    robot.unhear('points')
    wait_for(lambda: not count(DEPTH), what='depth dropped', process=process)
    came = len(robot.masks)
    wait_for(lambda: len(robot.masks) > came, what='masks', process=process)


def test_metres_unlabelled_points_and_limits(robot, start):
    process = start_node(
        start,
        WORDS,
        THRESHOLD,
        TARGET,
        'points.unlabeled:=true',
        'unlabeled_id:=255',
        'depth.min_m:=1.2',
        'depth.max_m:=1.7',
        'depth.edge_margin_px:=none',
    )
    metres = (ramp() * np.float32(1e-3)).astype(np.float32)
    metres[0, :4] = np.nan, np.inf, -np.inf, -1.0
    depth = Depth(robot, metres)
    depth.stream()
    found = taken(robot, process, ('points', 'depth/target', 'depth/rest'))
    labels, cloud = array(found['label_mask']), points(found['points'])
    valid = (metres >= 1.2) & (metres <= 1.7)
    assert 0 < valid.sum() < (metres > 0).sum()
    assert (np.isfinite(cloud['z']) == valid).all() and (labels[valid] == 255).any()
    assert (cloud['label'] == labels).all()
    rest, target = (depth_array(found[f'depth/{name}']) for name in ('rest', 'target'))
    assert found['depth/rest'].encoding == '32FC1'
    assert not (np.isfinite(target) & np.isfinite(rest)).any()
    assert (np.isfinite(target) == valid & (labels == 9)).all()
    assert (rest[np.isfinite(rest)] == metres[np.isfinite(rest)]).all()


@pytest.mark.parametrize('output_size', ['input', 'depth'])
def test_depth_of_another_size(robot, start, output_size):
    process = start_node(start, WORDS, TARGET, f'output_size:={output_size}')
    depth = Depth(robot, ramp(60, 80))
    depth.stream()
    if output_size == 'depth':
        wait_for(lambda: robot.masks and robot.masks[-1].height == 60, what='small masks')
        robot.masks.clear()
    found = taken(robot, process, ('points', 'depth/rest', 'depth/camera_info'))
    labels, cloud = array(found['label_mask']), points(found['points'])
    size = (60, 80) if output_size == 'depth' else (120, 160)
    assert labels.shape == cloud.shape == size and (cloud['label'] == labels).all()
    # Depth is that of the nearest pixel, never interpolated.
    near = depth.pixels if output_size == 'depth' else depth.pixels.repeat(2, 0).repeat(2, 1)
    k = matrix(60, 80)
    scale = size[0] / 60
    # Pixel centres are integers, so at twice the size the centre c does not move to 2 c.
    cx, cy = (scale * (c + 0.5) - 0.5 for c in (k[0, 2], k[1, 2]))
    z = np.where((near == 0) | (labels == 0), np.nan, near / 1000)
    np.testing.assert_allclose(cloud['z'], z, rtol=1e-6)
    rows, columns = np.mgrid[: size[0], : size[1]]
    np.testing.assert_allclose(cloud['x'], (columns - cx) / (scale * k[0, 0]) * z, rtol=1e-5)
    np.testing.assert_allclose(cloud['y'], (rows - cy) / (scale * k[1, 1]) * z, rtol=1e-5)
    rest = found['depth/rest']
    assert (rest.height, rest.width) == (60, 80)
    assert (found['depth/camera_info'].height, found['depth/camera_info'].width) == (60, 80)


def packed(image):
    """Return an Image 16UC1 as compressed_depth_image_transport sends it."""
    data = bytes(12) + cv2.imencode('.png', depth_array(image))[1].tobytes()
    made = CompressedImage(header=image.header, format='16UC1; compressedDepth png')
    made.data.frombytes(data)
    return made


def test_compressed_depth(robot, start):
    process = start_node(start, WORDS, TARGET, depth_topic=f'{DEPTH}/compressedDepth')
    depth = Depth(robot, ramp(60, 80))
    depth.pack_on(f'{DEPTH}/compressedDepth', packed)
    depth.stream()
    found = taken(robot, process, ('points', 'depth/target', 'depth/rest'))
    near = depth.pixels.repeat(2, 0).repeat(2, 1)
    z = np.where((near == 0) | (array(found['label_mask']) == 0), np.nan, near / 1000)
    np.testing.assert_allclose(points(found['points'])['z'], z, rtol=1e-6)
    parts = [depth_array(found[f'depth/{name}']) for name in ('target', 'rest')]
    assert (np.maximum(*parts) == depth.pixels).all()
    told = '80 x 60 16UC1; compressedDepth png'
    wait_for(lambda: robot.value('depth image') == told, what=told)

    def spoil(image):
        made = packed(image)
        made.data = made.data[:40]
        return made

    depth.pack_on(f'{DEPTH}/compressedDepth', spoil)
    reason = f'{DEPTH}/compressedDepth: 28 bytes of PNG data are cut off or corrupt'
    wait_for(lambda: robot.diagnosed(DiagnosticStatus.WARN, reason), what=reason, process=process)
    came = len(robot.masks)
    wait_for(lambda: len(robot.masks) > came + 3, what='masks', process=process)


def test_depth_that_is_only_published_compressed_is_told(robot, start):
    process = start_node(start, WORDS)
    depth = Depth(robot)
    depth.pack_on(f'{DEPTH}/compressedDepth', packed)
    depth.stream()
    hear(robot, 'points')
    reason = f'published compressed, on {DEPTH}/compressedDepth. Remap depth/image_rect to that'
    wait_for(lambda: robot.diagnosed(DiagnosticStatus.WARN, reason), what=reason, process=process)


def no_intrinsics(depth):
    depth.info = None


def intrinsics_of_another_size(depth):
    depth.info = 200, 320


def another_view(depth):
    depth.pixels, depth.info = ramp(120, 120), (120, 120)


def another_encoding(depth):
    depth.encoding = '8UC1'


def far_apart(depth):
    depth.late_s = 100.0  # more than one period, otherwise the depth of another image is near


BAD = {
    no_intrinsics: ('no intrinsics', 'remap one of them'),
    intrinsics_of_another_size: ('intrinsics of another size', 'are for 320 x 200 px'),
    another_view: ('not registered', 'registered to the colour image'),
    another_encoding: ('bad image', 'send one of 16UC1'),
    far_apart: ('stamps too far apart', 'more than depth.slop_s 0.05'),
}


@pytest.mark.parametrize('spoil', BAD, ids=lambda f: f.__name__)
def test_bad_depth_is_told_and_images_go_on(robot, start, spoil):
    process = start_node(start, WORDS)
    depth = Depth(robot)
    spoil(depth)
    depth.stream()
    hear(robot, 'points')
    event, sentence = BAD[spoil]
    wait_for(
        lambda: robot.diagnosed(DiagnosticStatus.WARN, sentence), what=sentence, process=process
    )
    assert int(robot.value(f'depth: {event}')) > 0
    wait_for(lambda: sentence in process.output, what='in the log', process=process)
    came = len(robot.masks)
    wait_for(lambda: len(robot.masks) > came + 3, what='masks', process=process)
    assert not robot.heard['points']


def test_depth_in_another_frame_is_told_once_and_used(robot, start):
    process = start_node(start, WORDS)
    depth = Depth(robot)
    depth.frame = 'nose'
    depth.stream()
    hear(robot, 'points')
    wait_for(lambda: len(robot.heard['points']) > 3, what='clouds', process=process)
    assert robot.heard['points'][-1].header.frame_id == 'eye'
    assert process.output.count("is in frame 'nose', the image in 'eye'") == 1
    wait_for(
        lambda: int(robot.value('depth: another frame_id') or 0) > 3,
        what='counter',
        process=process,
    )
    assert robot.diagnosed(DiagnosticStatus.OK, 'segmenting')


def test_depth_that_ends_is_told(robot, start):
    process = start_node(start, WORDS, constants=IMPATIENT)
    depth = Depth(robot)
    depth.stream()
    hear(robot, 'points')
    wait_for(lambda: robot.heard['points'], what='clouds', process=process)
    depth.pixels = None
    sentence = f'no depth image on {DEPTH} for 1 s'
    wait_for(
        lambda: robot.diagnosed(DiagnosticStatus.WARN, sentence), what=sentence, process=process
    )
    wait_for(lambda: sentence in process.output, what='in the log', process=process)
    came = len(robot.masks)
    wait_for(lambda: len(robot.masks) > came + 3, what='masks', process=process)


def test_labels_wait_for_no_depth(inside, robot, monkeypatch):
    [stream] = inside._streams
    asked, released = threading.Event(), threading.Event()

    def late(*_):
        asked.set()
        released.wait(60)

    monkeypatch.setattr(stream.depth, 'beside', late)
    hear(robot, 'points')
    robot.stream()
    wait_for(asked.is_set, what='depth asked for')
    came = len(robot.masks)
    wait_for(lambda: len(robot.masks) > came + 5, what='masks meanwhile')
    assert inside._streams[0].statistics.counts()['outputs in space: left out for a newer image']
    released.set()


@pytest.mark.parametrize('value', [0, 65535, np.nan])
def test_depth_without_anything_valid(robot, start, value):
    process = start_node(start, WORDS)
    kind = np.uint16 if value == value else np.float32
    Depth(robot, np.full((120, 160), value, kind)).stream()
    hear(robot, 'points')
    sentence = 'holds no valid depth'
    wait_for(
        lambda: robot.diagnosed(DiagnosticStatus.WARN, sentence), what=sentence, process=process
    )
    assert int(robot.value('depth: nothing valid')) > 0 and not robot.heard['points']


def test_silent_depth_is_told_after_a_while(robot, start):
    process = start_node(start, WORDS, constants=IMPATIENT)
    depth = Depth(robot)
    depth.pixels = None
    depth.stream()
    hear(robot, 'points')
    sentence = f'no depth image on {DEPTH} for 1 s'
    wait_for(
        lambda: robot.diagnosed(DiagnosticStatus.WARN, sentence), what=sentence, process=process
    )
    assert int(robot.value('depth: none in time for an image')) > 0
    assert int(robot.value('depth: silent')) > 0
    wait_for(lambda: sentence in process.output, what='in the log', process=process)
    came = len(robot.masks)
    wait_for(lambda: len(robot.masks) > came + 3, what='masks', process=process)
    depth.pixels = ramp()
    wait_for(lambda: robot.heard['points'], what='clouds once there is depth', process=process)


def test_the_nearest_stamp_within_the_slop(robot, start):
    process = start_node(start, WORDS, 'depth.slop_s:=0.2')
    depth = Depth(robot)
    depth.late_s = 0.02
    depth.stream(5.0)
    found = taken(robot, process, ('points',))
    assert found['points'].header.frame_id == 'eye'
    wait_for(
        lambda: int(robot.value('depth: with a stamp within depth.slop_s') or 0) > 1,
        what='counter',
        process=process,
    )
    assert robot.value('depth: with the stamp of an image') is None


def test_groups_and_targets_change_while_images_come(robot, start):
    process = start_node(start, WORDS)
    depth = Depth(robot)
    depth.stream()
    robot.hear('points/things', PointCloud2)
    robot.hear('depth/target', Image)
    wait_for(lambda: robot.heard['depth/target'], what='depth of no target', process=process)
    assert not depth_array(robot.heard['depth/target'][-1]).any()
    assert all(
        r.successful
        for r in robot.set(
            **{'points.groups': ['things=mug;door'], 'target.classes': ['mug', 'flor']}
        )
    )
    wait_for(lambda: robot.heard['points/things'], what='a new group', process=process)
    wait_for(
        lambda: depth_array(robot.heard['depth/target'][-1]).any(),
        what='a target',
        process=process,
    )
    assert set(points(robot.heard['points/things'][-1])['label'][0]) <= {9, 10}
    told = "target.classes: 'flor' is not among the classes. Did you mean 'floor'"
    wait_for(lambda: told in process.output, what=told, process=process)

    # A class that is nowhere has an empty cloud, so that a costmap forgets the old points.
    robot.hear('points/lamp', PointCloud2)
    results = robot.set(vocabulary=['floor', 'lamp=zebra'], confidence_threshold=1.0)
    assert all(r.successful for r in results)
    wait_for(lambda: robot.heard['points/lamp'], what='cloud of a new word', process=process)
    wait_for(lambda: not robot.heard['points/lamp'][-1].width, what='an empty cloud')
    empty = robot.heard['points/lamp'][-1]
    assert empty.height == 1 and [f.name for f in empty.fields][:3] == ['x', 'y', 'z']
    names = {name for name, _ in robot.node.get_topic_names_and_types()}
    wait_for(
        lambda: not robot.node.count_publishers('/segmentation/points/mug'), what='topic dropped'
    )
    assert '/segmentation/points/lamp' in names
    results = robot.set(**{'points.groups': ['things']})
    assert not results[0].successful and 'group=class;class' in results[0].reason


def test_stuff_has_no_objects_unless_it_is_named(robot, start):
    # The prompts are those that win all pixels of this image.
    process = start_node(start, 'vocabulary:=["floor=mug;cup", "mug=floor", "door"]')
    depth = Depth(robot)
    depth.stream()
    hear(robot, 'points', 'objects', 'objects/markers')

    def told():
        """Return the names in the newest messages, or None if these are of two images."""
        heard = [robot.heard[topic] for topic in ('objects', 'objects/markers')]
        if not all(heard):
            return None
        things, marks = heard[0][-1].objects, heard[1][-1].markers
        names = {thing.name for thing in things}
        texts = {mark.text.partition('\n')[0] for mark in marks if mark.ns == 'names'}
        return names if texts == names else None

    def wait_for_objects_of(*names):
        wait_for(lambda: told() == {*names}, what=f'objects of {names}', process=process)
        answer = robot.call(Segment, 'segment', **request())
        assert {thing.name for thing in answer.objects.objects} == {*names}

    wait_for_objects_of()
    assert 1 in points(robot.heard['points'][-1])['label'], 'the cloud has a floor'
    for changes, expected in (
        ({'objects.stuff': ['door', 'no such word']}, ['floor']),
        ({'objects.stuff': ['floor']}, []),
        ({'objects.classes': ['floor', 'mug']}, ['floor']),
        ({'objects.classes': ['mug']}, []),
    ):
        [result] = robot.set(**changes)
        assert result.successful, result.reason
        wait_for_objects_of(*expected)
    assert 'is not among the classes' not in process.output


def test_cameras_have_depth_of_their_own(tester, start):
    remaps = []
    for name in ('left', 'right'):
        for topic in ('image', 'depth/image_rect', 'depth/camera_info'):
            remaps.append(f'{name}/{topic}:=/{name}/{topic.split("/")[-1]}')
    process = node(start, WORDS, 'cameras:=["left", "right"]', remaps=remaps)
    clouds = {}
    robots = [Robot(tester, camera=f'/{name}/image') for name in ('left', 'right')]
    info = tester.create_publisher(CameraInfo, '/right/camera_info', 5)
    depth = tester.create_publisher(Image, '/right/image_rect', 5)
    for name in ('left', 'right'):
        clouds[name] = []
        tester.create_subscription(
            PointCloud2, f'/segmentation/{name}/points', clouds[name].append, 5
        )

    def send():
        sent = [robot.send() for robot in robots][1]
        info.publish(messages.camera_info((120, 160), matrix(), sent.header))
        depth.publish(encodings.fill_image(Image(), ramp(), '16UC1', sent.header))

    tester.create_timer(0.1, send)
    wait_for(lambda: clouds['right'], what='clouds of the right camera', process=process)
    assert not clouds['left']


def test_an_error_in_space_leaves_images_alone(inside, robot, monkeypatch):
    [stream] = inside._streams

    def fail(scene):
        raise RuntimeError('broken')

    robot.stream()
    monkeypatch.setitem(stream.space._makers, 'points', fail)
    hear(robot, 'points', 'objects')
    depth = tuple(
        robot.node.create_publisher(kind, topic, 5)
        for kind, topic in ((Image, '/depth/image_rect'), (CameraInfo, '/depth/camera_info'))
    )

    def send():
        header = robot.send().header
        depth[0].publish(encodings.fill_image(Image(), ramp(), '16UC1', header))
        depth[1].publish(messages.camera_info((120, 160), matrix(), header))

    robot.node.create_timer(0.1, send)
    sentence = 'an output in space failed: points: RuntimeError: broken'
    wait_for(lambda: robot.diagnosed(DiagnosticStatus.ERROR, sentence), what=sentence)
    wait_for(lambda: robot.heard['objects'], what='the other outputs')
    assert not robot.heard['points']
    came = len(robot.masks)
    wait_for(lambda: len(robot.masks) > came + 3, what='masks')


def request(mm=None, **fields):
    made = ramp() if mm is None else mm
    asked = {
        'image': image(),
        'depth': encodings.fill_image(Image(), made, '16UC1', Header(frame_id='hand')),
        'depth_info': messages.camera_info(made.shape, matrix(*made.shape), Header()),
    }
    asked['image'].header.frame_id = 'hand'
    return asked | fields


def test_one_image_with_depth(robot, start):
    process = start_node(start, WORDS, GROUPS)
    answer = robot.call(Segment, 'segment', **request(clouds=['mug', 'obstacles']))
    assert answer.success, answer.message + process.output
    labels, cloud = array(answer.label_mask), points(answer.points)
    assert (cloud['label'] == labels).all() and answer.points.header.frame_id == 'hand'
    np.testing.assert_allclose(
        xyz(cloud), np.where((labels > 0)[..., None], expected_xyz(ramp()), np.nan), rtol=1e-6
    )
    valid = ramp() > 0
    sizes = [cloud.width for cloud in answer.clouds]
    assert sizes == [
        ((labels == 9) & valid).sum(),
        (~np.isin(labels, (1, 10)) & valid).sum(),
    ]
    assert [m.id for m in answer.masks.masks] == [i for i in (1, 9, 10) if (labels == i).any()]
    assert answer.objects.objects and answer.objects.header.frame_id == 'hand'

    # Words that only the request has also have clouds.
    answer = robot.call(Segment, 'segment', **request(vocabulary=['zebra'], clouds=['zebra']))
    assert answer.success and answer.clouds[0].width == valid.sum()
    assert answer.objects.version == 0 and answer.objects.objects[0].name == 'zebra'


def test_the_service_has_labels_of_the_depths_size(robot, start):
    start_node(start, WORDS, 'output_size:=depth')
    answer = robot.call(Segment, 'segment', **request(ramp(60, 80)))
    assert answer.success and array(answer.label_mask).shape == (60, 80)
    assert points(answer.points).shape == (60, 80)


@pytest.mark.parametrize(
    'fields, reason',
    [
        ({'clouds': ['mugg']}, "'mugg' is neither a class nor a group. Did you mean 'mug'"),
        ({'depth': Image(), 'clouds': ['mug']}, 'points need depth'),
        ({'depth_info': CameraInfo()}, 'without intrinsics'),
        (
            {'vocabulary': ['sofa'], 'clouds': ['obstacles']},
            "group 'obstacles' names class 'floor'",
        ),
    ],
)
def test_a_bad_request_for_points_is_answered_with_the_reason(robot, start, fields, reason):
    start_node(start, WORDS, GROUPS)
    answer = robot.call(Segment, 'segment', **request(**fields))
    assert not answer.success and reason in answer.message
