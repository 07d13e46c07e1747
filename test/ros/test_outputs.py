"""What is published for each image, over real DDS."""

import gc
import weakref
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from cliptrase_ros.msg import ClassMaskArray, Vocabulary
from processes import wait_for
from rclpy.qos import QoSProfile, ReliabilityPolicy
from robot import LATCHED, PIXELS, WORDS, array, node, stamp
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, RegionOfInterest
from std_msgs.msg import Header, String

import cliptrase_ros as ct
from cliptrase_ros.media import drawing
from cliptrase_ros.ros import messages
from cliptrase_ros.ros.label_info import LabelInfoTopic
from cliptrase_ros.ros.outputs import SIZES, Live
from cliptrase_ros.ros.topic_names import topic_name, topic_names
from cliptrase_ros.words.vocabulary import WordClass

OPTIONAL = {
    'confidence': Image,
    'color_mask': Image,
    'overlay': Image,
    'overlay/compressed': CompressedImage,
    'masks': ClassMaskArray,
    'mask/mug': Image,
    'camera_info': CameraInfo,
}
INFO = CameraInfo(
    width=160,
    height=120,
    distortion_model='plumb_bob',
    d=[0.1, 0.2, 0.0, 0.0, 0.0],
    k=[100.0, 0.0, 79.5, 0.0, 110.0, 59.5, 0.0, 0.0, 1.0],
    r=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
    p=[100.0, 0.0, 79.5, -7.0, 0.0, 110.0, 59.5, 0.0, 0.0, 0.0, 1.0, 0.0],
)


def publish_info(robot, info=INFO):
    """Publish the camera's calibration again and again, best effort as drivers do."""
    qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    publisher = robot.node.create_publisher(CameraInfo, '/camera/camera_info', qos)
    robot.node.create_timer(0.1, lambda: publisher.publish(info))


def start_node(start, *parameters):
    remaps = ['image:=/camera/image_raw', 'camera_info:=/camera/camera_info']
    return node(start, *parameters, remaps=remaps)


def one_of_each(robot, process):
    """Return {topic: message} for every output, all of one image."""
    publish_info(robot)
    robot.stream()
    for topic, kind in OPTIONAL.items():
        robot.hear(topic, kind)

    def stamps(topic):
        return {stamp(m): m for m in robot.heard[topic]}

    def shared():
        return set.intersection(*(set(stamps(t)) for t in (*OPTIONAL, 'label_mask')))

    wait_for(shared, what='all outputs of one image', process=process)
    robot.stop()
    newest = max(shared())
    return {topic: stamps(topic)[newest] for topic in (*OPTIONAL, 'label_mask')}


def test_every_output_is_of_the_image(robot, start):
    process = start_node(start, WORDS, 'overlay_alpha:=1.0')
    found = one_of_each(robot, process)
    mask = found['label_mask']
    assert mask.header.frame_id == 'eye' and mask.header.stamp.nanosec
    for topic, message in found.items():
        assert message.header == mask.header, topic
        if topic != 'overlay/compressed':
            assert (message.height, message.width) == (120, 160), topic

    # Nav2's semantic layer reads it this way: one byte per pixel, no padding.
    assert (mask.encoding, mask.step, len(mask.data)) == ('mono8', 160, 120 * 160)
    labels = array(mask)
    words = {c.id: c for c in robot.vocabularies[-1].classes}
    assert set(np.unique(labels)) <= {0, *words}
    confidence = array(found['confidence'])
    assert found['confidence'].encoding == 'mono8'
    assert confidence.max() > 0 and not confidence[labels == 0].any()

    colors = array(found['color_mask'])
    for number, c in words.items():
        rgb = [round(255 * x) for x in (c.color.r, c.color.g, c.color.b)]
        assert (colors[labels == number] == rgb).all()
    assert not colors[labels == 0].any()
    overlay = array(found['overlay'])
    assert abs(overlay.astype(int) - np.where(labels[..., None], colors, PIXELS)).max() <= 1
    jpeg = found['overlay/compressed']
    assert jpeg.format == 'rgb8; jpeg compressed bgr8'
    decoded = cv2.imdecode(np.frombuffer(jpeg.data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert decoded.shape == (120, 160, 3)
    assert abs(decoded.mean((0, 1)) - overlay.mean((0, 1))).max() < 3

    assert (array(found['mask/mug']) == np.where(labels == 9, 255, 0)).all()
    masks = found['masks']
    assert masks.version == robot.vocabularies[-1].version
    present = [i for i in words if (labels == i).any()]
    assert [m.id for m in masks.masks] == present and present
    for m in masks.masks:
        assert (m.name, m.area) == (words[m.id].name, (labels == m.id).sum())
        assert m.confidence == pytest.approx(confidence[labels == m.id].mean() / 255, abs=0.003)
        box, cropped = m.box, array(m.mask)
        assert cropped.shape == (box.height, box.width) and m.mask.encoding == 'mono8'
        whole = np.zeros_like(labels)
        rows = slice(box.y_offset, box.y_offset + box.height)
        whole[rows, box.x_offset : box.x_offset + box.width] = cropped
        assert (whole == np.where(labels == m.id, 255, 0)).all()
        edges = cropped[0], cropped[-1], cropped[:, 0], cropped[:, -1]
        assert all(edge.any() for edge in edges)
    info = found['camera_info']
    assert (list(info.k), list(info.p), list(info.d)) == (list(INFO.k), list(INFO.p), list(INFO.d))


def test_outputs_of_another_size(robot, start):
    process = start_node(start, WORDS, 'output_size:=80x90')
    found = one_of_each(robot, process)
    for topic, message in found.items():
        if topic != 'overlay/compressed':
            assert (message.height, message.width) == (90, 80), topic
    info = found['camera_info']
    assert list(info.k) == [50.0, 0.0, 39.5, 0.0, 82.5, 44.5, 0.0, 0.0, 1.0]
    assert list(info.p) == [50.0, 0.0, 39.5, -3.5, 0.0, 82.5, 44.5, 0.0, 0.0, 0.0, 1.0, 0.0]
    assert set(np.unique(array(found['label_mask']))) <= {0, 1, 2, 9}


def test_the_papers_protocol_has_outputs_of_its_crop(robot, start):
    process = start_node(start, WORDS, 'protocol:=cliptrase', 'input_size:=112')
    found = one_of_each(robot, process)
    assert {(m.width, m.height) for t, m in found.items() if 'compressed' not in t} == {(112, 112)}
    info = found['camera_info']
    assert info.k[0] == pytest.approx(100 * 149 / 160) and info.k[5] == 55.5


def test_ids_beyond_a_byte_and_another_id_for_the_unlabelled(robot, start):
    process = start_node(
        start,
        'vocabulary:=["700:floor", "300:mug"]',
        'label_encoding:=16UC1',
        'unlabeled_id:=65535',
    )
    robot.stream()
    wait_for(lambda: robot.masks and robot.vocabularies, what='masks', process=process)
    assert (robot.masks[-1].encoding, robot.masks[-1].step) == ('16UC1', 320)
    assert set(np.unique(array(robot.masks[-1]))) <= {700, 300, 65535}
    assert robot.vocabularies[-1].unlabeled_id == 65535
    assert robot.set(confidence_threshold=1.0)[0].successful
    wait_for(lambda: (array(robot.masks[-1]) == 65535).all(), what='unlabelled masks')
    [result] = robot.set(vocabulary=['65535:door'])
    assert 'id must be' in result.reason


def test_a_camera_without_calibration_has_none_in_the_outputs(robot, start):
    process = start_node(start)
    robot.stream()
    infos = robot.hear('camera_info', CameraInfo)
    wait_for(lambda: 'no calibration has come from the camera' in process.output, what='a sentence')
    wait_for(lambda: robot.masks, what='a mask', process=process)
    assert not infos


def listeners(node, topic):
    """Return the number of subscribers that the node's publisher knows. (Other nodes may already
    know more.)"""
    [publisher] = [p for p in node.publishers if p.topic_name == f'/segmentation/{topic}']
    return publisher.get_subscription_count()


def test_what_nobody_listens_to_is_not_made(robot, inside, monkeypatch):
    made = []

    def counting(name, module):
        make = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, **k: (made.append(name), make(*a, **k))[1])

    for name in ('confidence', 'picture', 'jpeg', 'class_masks', 'class_mask'):
        counting(name, messages)
    counting('moved_camera_info', messages)
    counting('overlay', drawing)
    counting('colorize', drawing)
    robot.stream()
    wait_for(lambda: len(robot.masks) > 3, what='masks')
    assert not made
    inside._streams[0]._calibration.newest = INFO
    expected = {
        'confidence': {'confidence'},
        'color_mask': {'colorize', 'picture'},
        'overlay': {'overlay', 'picture'},
        'overlay/compressed': {'overlay', 'jpeg'},
        'masks': {'class_masks'},
        'mask/floor': {'class_mask'},
        'camera_info': {'moved_camera_info'},
    }
    for topic, names in expected.items():
        heard = robot.hear(topic, OPTIONAL.get(topic, Image))
        wait_for(lambda h=heard: h, what=topic)
        robot.unhear(topic)
        wait_for(lambda t=topic: not listeners(inside, t), what='end')
        count = len(robot.masks)
        wait_for(lambda c=count: len(robot.masks) > c + 1, what='masks')
        assert set(made) == names, topic
        made.clear()


def test_both_overlays_are_drawn_once(robot, inside, monkeypatch):
    drawn = []
    overlay = drawing.overlay
    monkeypatch.setattr(drawing, 'overlay', lambda *a: (drawn.append(1), overlay(*a))[1])
    one, two = robot.hear('overlay', Image), robot.hear('overlay/compressed', CompressedImage)
    wait_for(lambda: inside._words.live, what='the model')
    for topic in ('overlay', 'overlay/compressed'):
        wait_for(lambda t=topic: listeners(inside, t), what='subscribers')
    robot.stream()
    wait_for(lambda: len(one) > 2 and len(two) > 2, what='overlays')
    robot.stop()
    assert abs(len(drawn) - len(one)) <= 1


def test_a_segmenter_is_made_once_for_each_size(backbone, words, monkeypatch):
    made, change = [], ct.Segmenter.replace
    monkeypatch.setattr(
        ct.Segmenter, 'replace', lambda *a, **k: (made.append(k['output_size']), change(*a, **k))[1]
    )
    live = Live(ct.Segmenter(backbone), words, 1)
    assert live.sized(None) is live and not made
    for _ in range(3):
        assert live.sized((30, 40)).segmenter is live.sized((30, 40)).segmenter
        assert live.sized((40, 30)).segmenter.settings.label_size == (40, 30)
    assert made == ['40x30', '30x40']
    assert live.sized((30, 40)) == Live(live.sized((30, 40)).segmenter, words, 1)
    # With another live version, the cached segmenters no longer count.
    other = replace(live, version=2)
    assert other.sized((30, 40)).version == 2 and made == ['40x30', '30x40', '40x30']
    # Only the last SIZES sizes are kept.
    for side in range(50, 50 + SIZES):
        live.sized((side, side))
    made.clear()
    live.sized((50, 50))
    live.sized((30, 40))
    assert made == ['40x30']


def test_segmenters_that_are_kept_go_with_what_is_live(backbone, words):
    live = Live(ct.Segmenter(backbone), words, 1)
    alive = weakref.ref(live.sized((30, 40)).segmenter), weakref.ref(live.segmenter)
    gc.disable()
    try:
        del live
        assert [one() for one in alive] == [None, None]
    finally:
        gc.enable()


def test_calibration_follows_a_crop_and_binning():
    """A point of the scene falls on the pixel that the new calibration predicts."""
    info = CameraInfo(width=640, height=480, k=INFO.k, p=INFO.p)
    info.binning_x = info.binning_y = 2
    info.roi = RegionOfInterest(x_offset=40, y_offset=20, width=200, height=100)
    matrix = np.array([[0.5, 0, -0.25], [0, 2.0, 0.5]])
    moved = messages.moved_camera_info(info, (50, 100), (100, 50), matrix, Header())
    point = np.array([0.3, -0.2, 1.0])
    u, v, _ = np.reshape(info.k, (3, 3)) @ point
    # Computed with the edges of pixels: crop, halve, then halve (x) and double (y).
    u, v = (u + 0.5 - 40) / 2 / 2 - 0.5, (v + 0.5 - 20) / 2 * 2 - 0.5
    assert np.reshape(moved.k, (3, 3)) @ point == pytest.approx([u, v, 1])
    assert np.reshape(moved.p, (3, 4))[:, :3] @ point == pytest.approx([u, v, 1])
    assert (moved.width, moved.height, moved.roi.width, moved.binning_x) == (50, 100, 0, 0)


@pytest.mark.parametrize(
    'name, topic',
    [
        ('mug', 'mug'),
        ('Fire  Extinguisher', 'fire_extinguisher'),
        ('3D/printer (blue)', 'class_3d_printer_blue'),
        ('tête-à-tête', 'tete_a_tete'),
        ('🍎', ''),
        ('_', ''),
        ('a' * 70, 'a' * 60),
    ],
)
def test_names_of_topics(name, topic):
    assert topic_name(name) == topic


def test_no_two_topics_are_alike_and_none_moves():
    def classes(**names):
        return [WordClass(number, name, (name,)) for name, number in names.items()]

    first = topic_names(classes(**{'a b': 1, 'A-B': 2, '🍎': 3, 'a b 2': 4}), {})
    assert first == {'a b': 'a_b', 'A-B': 'a_b_2', '🍎': 'class_3', 'a b 2': 'a_b_2_4'}
    second = topic_names(classes(**{'a/b': 5, 'A-B': 2}), first)
    assert second == {**first, 'a/b': 'a_b_5'}


def test_topics_of_classes_follow_the_words(running):
    robot, process = running
    floor, lamp = robot.hear('mask/floor', Image), robot.hear('mask/lamp', Image)
    wait_for(lambda: floor, what='the mask of floor', process=process)
    assert not lamp
    assert robot.set(vocabulary=['lamp', 'door'])[0].successful
    wait_for(lambda: lamp, what='the mask of lamp', process=process)
    wait_for(lambda: robot.node.count_publishers('/segmentation/mask/floor') == 0, what='no floor')
    count = len(floor)
    assert robot.set(vocabulary=['floor'])[0].successful
    wait_for(lambda: len(floor) > count, what='the mask of floor again', process=process)


def test_label_info_for_nav2(robot, start):
    vision = pytest.importorskip('vision_msgs.msg', reason='vision_msgs is not installed')
    process = node(start, WORDS, 'confidence_threshold:=0.25')
    infos = robot.hear('label_info', vision.LabelInfo, LATCHED)
    wait_for(lambda: infos, what='label_info', process=process)
    assert [(c.class_id, c.class_name) for c in infos[-1].class_map] == [
        (1, 'floor'),
        (9, 'mug'),
        (2, 'door'),
    ]
    assert infos[-1].threshold == 0.25
    assert robot.set(vocabulary=['lamp'])[0].successful
    wait_for(lambda: len(infos) > 1, what='new words', process=process)
    assert [c.class_name for c in infos[-1].class_map] == ['lamp']


def test_label_info_follows_words_and_threshold(robot, inside, monkeypatch):
    """A String replaces the message of vision_msgs, which may not be installed."""

    def text(classes, threshold, header):
        return String(data=f'{[(c.id, c.name) for c in classes]} {threshold}')

    monkeypatch.setattr(messages, 'label_info', text)
    infos = robot.hear('label_info', String, LATCHED)
    monkeypatch.setattr(messages, 'LabelInfo', String)
    monkeypatch.setattr(inside._words._opened, 'label_info', LabelInfoTopic(inside))
    assert robot.set(vocabulary=['lamp'])[0].successful
    number = robot.vocabularies[0].classes[-1].id + 1
    wait_for(lambda: [m.data for m in infos] == [f"[({number}, 'lamp')] 0.0"], what='words')
    assert robot.set(confidence_threshold=0.25)[0].successful
    wait_for(lambda: infos[-1].data == f"[({number}, 'lamp')] 0.25", what='the threshold')
    assert robot.set(overlay_alpha=0.25)[0].successful
    wait_for(lambda: inside._options.overlay_alpha == 0.25, what='a change without words')
    assert len(infos) == 2


def test_fields_of_label_info(monkeypatch):
    monkeypatch.setattr(messages, 'LabelInfo', SimpleNamespace)
    monkeypatch.setattr(messages, 'VisionClass', SimpleNamespace, raising=False)
    info = messages.label_info([WordClass(7, 'mug', ('cup',))], 0.25, Header())
    assert [vars(c) for c in info.class_map] == [{'class_id': 7, 'class_name': 'mug'}]
    assert info.threshold == 0.25 and info.header == Header()


def test_qos_of_outputs_can_be_overridden(robot, start):
    process = node(
        start,
        'qos_overrides./segmentation/label_mask.publisher.reliability:=best_effort',
        'qos.output_depth:=3',
    )
    wait_for(lambda: robot.vocabularies, what='words', process=process)
    found = {}
    for topic in ('label_mask', 'overlay'):
        [info] = robot.node.get_publishers_info_by_topic(f'/segmentation/{topic}')
        found[topic] = info.qos_profile.reliability.name.lower()
    assert found == {'label_mask': 'best_effort', 'overlay': 'reliable'}


def test_a_late_joiner_gets_the_words(running):
    robot, process = running
    late = []
    robot.node.create_subscription(Vocabulary, '/segmentation/vocabulary', late.append, LATCHED)
    wait_for(lambda: late, what='the vocabulary', process=process)
    [words] = late
    assert [(c.id, c.name, list(c.prompts)) for c in words.classes] == [
        (1, 'floor', ['floor']),
        (9, 'mug', ['mug', 'cup']),
        (2, 'door', ['door']),
    ]
    assert words.version == 1 and words.unlabeled_id == 0
    assert all(0 <= c.color.r <= 1 and c.color.a == 1 for c in words.classes)


def test_the_callback_of_navs_semantic_layer_accepts_mask_and_confidence(robot, start):
    """It expects one byte per pixel (encoding and step unchecked), equal sizes, equal stamps."""
    process = start_node(start, WORDS)
    found = one_of_each(robot, process)
    mask, confidence = found['label_mask'], found['confidence']
    assert mask.header.stamp == confidence.header.stamp
    for message in (mask, confidence):
        assert len(message.data) == message.width * message.height
    read = [mask.data[row * mask.width + col] for row in range(0, 120, 7) for col in range(160)]
    assert read == array(mask)[::7].ravel().tolist()
