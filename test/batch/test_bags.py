"""Labelled recordings: copied messages, new messages, the choice of topics, and errors."""

import json
import shutil
import sqlite3
from functools import partial
from importlib import import_module
from pathlib import Path

import cv2
import forks
import numpy as np
import pytest
from bag_files import START, STEP, Robot, connections, inside, mcap, messages, record, seen
from forks import little_disk
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosbags.rosbag2.enums import CompressionFormat, CompressionMode

import cliptrase_ros as ct
from cliptrase_ros import cli
from cliptrase_ros.batch import bags
from cliptrase_ros.errors import PictureError, SettingError
from cliptrase_ros.media import drawing
from cliptrase_ros.media.compressed import to_jpeg
from cliptrase_ros.recordings import output_messages as made
from cliptrase_ros.recordings.channel import LATCHED, OUTPUT
from cliptrase_ros.recordings.image_types import DECODERS

TINY = ['--model', 'cliptrase-tiny', '--weights', 'random', '--device', 'cpu']
SMALL = ['--input-size', '64']
KINDS = 'ros1', 'db3', 'mcap'
MSG = Path(__file__).parents[2] / 'msg'
NEW = '/segmentation/'


@pytest.fixture(scope='module')
def segmenter():
    settings = ct.Settings(
        model='cliptrase-tiny', weights='random', device='cpu', input_size=64, regions='none'
    )
    return ct.load(settings)


@pytest.fixture(scope='module')
def words(segmenter):
    return segmenter.vocabulary(['floor', '9:mug=mug;cup'], ['sky'])


@pytest.fixture
def label(segmenter, words, tmp_path):
    """Return a function that labels a recording into tmp_path/out and returns the report."""

    def run(source, **options):
        return bags.label_bag(source, tmp_path / 'out', segmenter, words, **options)

    return run


def new_messages(path):
    """Return {topic without the prefix: [(time, message)]} of the new topics."""
    found = {}
    for topic, kind, time, data in messages(path):
        if topic.startswith(NEW):
            found.setdefault(topic.removeprefix(NEW), []).append(
                (time, made.deserialize(data, kind))
            )
    return found


def pixels(message):
    dtype = np.uint16 if message.encoding == '16UC1' else np.uint8
    data = message.data.view(dtype)
    return data.reshape(message.height, message.width, *([3] if message.encoding == 'rgb8' else []))


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('compressed', [False, True])
def test_all_messages_are_kept_and_each_image_has_its_labels(
    kind, compressed, label, segmenter, words, tmp_path
):
    topic = '/camera/image_raw' + '/compressed' * compressed
    drive = list(Robot(kind).drive(topic=topic, compressed=compressed))
    source = record(tmp_path, kind, drive)
    report = label(source)
    assert report.complete and (report.images, report.messages) == (3, 12)
    # A ROS 1 recording must become equal to the same drive in ROS 2.
    robot = Robot('mcap' if kind == 'ros1' else kind)
    expected = [
        (topic, message.__msgtype__, time, robot.serialize(message))
        for topic, time, message in robot.drive(topic=topic, compressed=compressed)
    ]
    after = messages(tmp_path / 'out')
    assert [m for m in after if not m[0].startswith(NEW)] == expected
    new = new_messages(tmp_path / 'out')
    assert report.topics == {NEW + topic: len(found) for topic, found in new.items()}
    for n, (time, mask) in enumerate(new['label_mask']):
        sent = robot.store.deserialize_cdr(expected[4 * n][3], expected[4 * n][1])
        image = DECODERS[sent.__msgtype__](sent)
        if not compressed:
            assert np.array_equal(image, seen(n))
        own = segmenter(image, words)
        assert (
            time == START + n * STEP
            and mask.header == made.deserialize(expected[4 * n][3], expected[4 * n][1]).header
        )
        assert np.array_equal(pixels(mask), own.labels) and mask.step == 64
        assert np.array_equal(pixels(new['confidence'][n][1]), own.confidence_bytes)
        jpeg = to_jpeg(drawing.overlay(image, own.labels, words), 85)
        assert new['overlay/compressed'][n][1].data.tobytes() == jpeg.tobytes()
        assert new['camera_info'][n][1].header == mask.header
    assert len({np.asarray(mask.data).tobytes() for _, mask in new['label_mask']}) == 3


def test_what_is_new_follows_its_image_and_the_words_come_first(label, tmp_path):
    label(record(tmp_path, 'mcap'))
    topics = [m[0] for m in messages(tmp_path / 'out')]
    new = ['label_mask', 'confidence', 'overlay/compressed', 'camera_info']
    first = topics.index('/camera/image_raw')
    assert topics[first - 1] == NEW + 'vocabulary'
    assert topics[first + 1 : first + 5] == [NEW + name for name in new]
    assert topics.count(NEW + 'vocabulary') == 1


@pytest.mark.parametrize('kind', KINDS)
def test_quality_of_service_and_types_are_kept(kind, label, tmp_path):
    source = record(tmp_path, kind, qos=[LATCHED], latched=['/tf'])
    before = connections(source) if kind != 'ros1' else {}
    label(source)
    after = connections(tmp_path / 'out')
    for topic, connection in before.items():
        assert after[topic].ext.offered_qos_profiles == [LATCHED]
        assert after[topic].msgdef == connection.msgdef
        assert after[topic].msgtype == connection.msgtype
        assert after[topic].digest == connections(source)[topic].digest or kind == 'mcap'
    assert after['/tf'].ext.offered_qos_profiles == [LATCHED]
    assert after[NEW + 'vocabulary'].ext.offered_qos_profiles == [LATCHED]
    assert after[NEW + 'label_mask'].ext.offered_qos_profiles == [OUTPUT]
    assert 'cells' in after['/battery'].msgdef.data
    assert 'VocabularyClass[] classes' in after[NEW + 'vocabulary'].msgdef.data


def test_the_words_are_those_of_the_node(label, words, tmp_path):
    label(record(tmp_path, 'mcap'))
    ((time, message),) = new_messages(tmp_path / 'out')['vocabulary']
    assert time == START and message.header.stamp.sec == START // 10**9
    assert (message.version, message.unlabeled_id, message.background) == (1, 0, ['sky'])
    assert [(c.id, c.name, c.prompts) for c in message.classes] == [
        (1, 'floor', ['floor']),
        (9, 'mug', ['mug', 'cup']),
    ]
    colour = message.classes[1].color
    assert np.allclose([colour.r, colour.g, colour.b], np.array(words.classes[1].color) / 255)


def test_messages_are_read_by_ros(label, words, segmenter, tmp_path):
    serialization = pytest.importorskip('rclpy.serialization')
    pytest.importorskip('cliptrase_ros.msg', reason='the messages are not built')
    label(record(tmp_path, 'ros1'), overlay='raw')
    found = {}
    for topic, kind, _, data in messages(tmp_path / 'out'):
        if topic not in ('/battery', '/tf'):  # their types may not be installed
            package, _, name = kind.split('/')
            kind = getattr(import_module(f'{package}.msg'), name)
            message = serialization.deserialize_message(data, kind)
            found.setdefault(topic, []).append(message)
    mask = found[NEW + 'label_mask'][1]
    assert np.array_equal(np.reshape(mask.data, (48, 64)), segmenter(seen(1), words).labels)
    assert mask.header == found['/camera/image_raw'][1].header
    assert found[NEW + 'overlay'][0].encoding == 'rgb8'
    assert found[NEW + 'camera_info'][0].k[0] == 50.0
    assert found[NEW + 'vocabulary'][0].classes[1].name == 'mug'
    assert found['/camera/camera_info'][0].p[2] == 32.0


def test_definitions_are_those_of_the_package():
    for name, text in (('Vocabulary', made.VOCABULARY), ('VocabularyClass', made.VOCABULARY_CLASS)):
        lines = (MSG / f'{name}.msg').read_text().splitlines()
        assert text.splitlines() == [s for s in lines if s and not s.startswith('#')]


def test_hashes_are_those_of_ros():
    """The reference is the hashes from the build of the messages."""
    index = pytest.importorskip('ament_index_python', reason='ROS 2 is not installed')
    try:
        share = Path(index.get_package_share_directory('cliptrase_ros'))
    except LookupError:
        pytest.skip('the messages are not built')
    told = json.loads((share / 'msg' / 'Vocabulary.json').read_text())['type_hashes']
    hashes = {entry['type_name']: entry['hash_string'] for entry in told}
    assert made.STORE.hash_rihs01(made.VOCABULARY_TYPE) == hashes[made.VOCABULARY_TYPE]


def test_labels_of_16_bits(segmenter, tmp_path):
    words = segmenter.vocabulary(['floor', '300:mug'])
    bags.label_bag(record(tmp_path, 'db3'), tmp_path / 'out', segmenter, words, overlay='none')
    new = new_messages(tmp_path / 'out')
    assert set(new) == {'vocabulary', 'label_mask', 'confidence', 'camera_info'}
    for n, (_, mask) in enumerate(new['label_mask']):
        assert (mask.encoding, mask.step) == ('16UC1', 128)
        assert np.array_equal(pixels(mask), segmenter(seen(n), words).labels)


@pytest.mark.parametrize('overlay', ['raw', 'none'])
def test_overlays(overlay, label, segmenter, words, tmp_path):
    label(record(tmp_path, 'mcap'), overlay=overlay)
    new = new_messages(tmp_path / 'out')
    assert ('overlay' in new) == (overlay == 'raw') and 'overlay/compressed' not in new
    for n, (_, message) in enumerate(new.get('overlay', [])):
        labels = segmenter(seen(n), words).labels
        assert np.array_equal(pixels(message), drawing.overlay(seen(n), labels, words))


def test_calibration_moves_with_the_labels(segmenter, words, tmp_path):
    small = segmenter.replace(output_size='32x24')
    bags.label_bag(record(tmp_path, 'mcap'), tmp_path / 'out', small, words, overlay='raw')
    new = new_messages(tmp_path / 'out')
    info = new['camera_info'][0][1]
    assert (info.height, info.width) == (24, 32) == pixels(new['label_mask'][0][1]).shape
    assert np.allclose(info.k, [25, 0, 15.75, 0, 25, 11.75, 0, 0, 1])
    assert np.allclose(info.p[[0, 2, 5, 6]], [25, 15.75, 25, 11.75])
    assert pixels(new['overlay'][0][1]).shape == (24, 32, 3)


def test_no_calibration_without_one(label, tmp_path):
    robot = Robot('mcap')
    empty = robot.camera_info(START, (0, 0))
    drive = [m for m in robot.drive() if m[0] != '/camera/camera_info']
    source = record(tmp_path, 'mcap', [*drive, ('/camera/camera_info', START, empty)])
    assert label(source).complete
    assert 'camera_info' not in new_messages(tmp_path / 'out')
    source = damaged(tmp_path, '/camera/camera_info', 20)
    assert label(source, force=True).complete
    assert 'camera_info' not in new_messages(tmp_path / 'out')


@pytest.mark.parametrize('kind', KINDS)
def test_a_calibration_of_another_view_is_named_and_not_used(kind, label, tmp_path):
    robot = Robot(kind)
    drive = [
        (topic, time, robot.camera_info(time, (48, 80)) if 'camera_info' in topic else message)
        for topic, time, message in robot.drive(3)
    ]
    report = label(record(tmp_path, kind, drive))
    assert report.images == 3 and not report.complete
    [note] = report.skipped
    assert note.startswith(
        '/camera/camera_info is for images of 80 x 48 px, those on /camera/image'
    )
    assert 'have 64 x 48 px, which is not the same view in another size' in note
    assert not new_messages(tmp_path / 'out').get('camera_info')


def test_a_calibration_of_half_the_size_is_scaled(label, tmp_path):
    robot = Robot('mcap')
    drive = [
        (topic, time, robot.camera_info(time, (24, 32)) if 'camera_info' in topic else message)
        for topic, time, message in robot.drive(3)
    ]
    assert label(record(tmp_path, 'mcap', drive)).complete
    infos = new_messages(tmp_path / 'out')['camera_info']
    assert [(info.height, info.width) for _, info in infos] == [(48, 64)] * 3


@pytest.mark.parametrize('kind', KINDS)
def test_a_driver_whose_calibration_comes_late(kind, label, tmp_path):
    """The driver sends empty calibrations at first. The first valid one is also used for the images
    before it."""
    robot = Robot(kind)
    drive = [
        (topic, time, robot.camera_info(time, (0, 0)) if n in (1, 5) else message)
        for n, (topic, time, message) in enumerate(robot.drive(4))
    ]
    assert [n for n, m in enumerate(drive) if m[0] == '/camera/camera_info'] == [1, 5, 9, 13]
    assert label(record(tmp_path, kind, drive)).complete
    infos = new_messages(tmp_path / 'out')['camera_info']
    assert [time for time, _ in infos] == [START + n * STEP for n in range(4)]
    assert all(message.k[0] == 50.0 for _, message in infos)


def damaged(folder, which, size, count=3):
    """Write a recording in which the first `count` messages of a topic are cut to `size` bytes."""
    source = record(folder, 'mcap', name='whole')
    known, entries = connections(source), []
    for topic, kind, time, data in messages(source):
        if topic == which and count:
            data, count = data[:size], count - 1
        entries.append((topic, kind, 'ros2msg', known[topic].msgdef.data, 'cdr', time, data))
    return mcap(folder / 'x.mcap', entries)


def test_some_images_only(label, tmp_path):
    source = record(tmp_path, 'mcap', Robot('mcap').drive(5))
    assert label(source, every=2).images == 3
    times = [time for time, _ in new_messages(tmp_path / 'out')['label_mask']]
    assert times == [START, START + 2 * STEP, START + 4 * STEP]
    report = label(source, every=2, limit=2, force=True)
    assert (report.images, report.messages, report.complete) == (2, 9, True)
    assert messages(tmp_path / 'out')[-1][2] == START + 2 * STEP


def test_smoothing(label, segmenter, words, tmp_path):
    label(record(tmp_path, 'mcap'), smoothing=0.5)
    mean = None
    for n, (_, mask) in enumerate(new_messages(tmp_path / 'out')['label_mask']):
        encoded = segmenter.encode(seen(n))
        scores = segmenter.scores(encoded, words)
        mean = scores if mean is None else 0.5 * (mean + scores)
        own = segmenter.label(encoded, words, mean).labels
        assert (pixels(mask) == own).mean() > 0.999
    assert (own != segmenter.label(encoded, words, scores).labels).any()


def two_cameras(kind='mcap', **changes):
    robot = Robot(kind)
    for topic, time, message in robot.drive(**changes):
        yield topic, time, message
        if topic == '/camera/image_raw':
            yield '/left/image_raw/compressed', time + 1, robot.jpeg(time, seen(9))
            yield '/depth/image', time + 2, robot.image(time, np.ones((8, 8), np.uint16), '16UC1')
            yield '/mono/image', time + 3, robot.image(time, np.ones((8, 8), np.uint8), 'mono8')


def test_several_topics_are_told_with_types_and_counts(label, tmp_path):
    source = record(tmp_path, 'mcap', two_cameras())
    with pytest.raises(PictureError) as refused:
        label(source)
    told = str(refused.value)
    assert 'several topics of colour images' in told and '--topic' in told
    assert '/camera/image_raw (sensor_msgs/msg/Image, bgr8, 3 messages)' in told
    assert '/left/image_raw/compressed (sensor_msgs/msg/CompressedImage' in told
    assert '/depth/image (sensor_msgs/msg/Image, 16UC1, 3 messages)' in told
    with pytest.raises(PictureError, match=r"'/camera/image'.*Did you mean '/camera/image_raw'"):
        label(source, topics=['/camera/image'])
    assert not (tmp_path / 'out').exists()


def test_depth_and_grey_are_not_taken_by_themselves(label, tmp_path):
    drive = [m for m in two_cameras() if m[0] != '/left/image_raw/compressed']
    assert label(record(tmp_path, 'mcap', drive)).images == 3
    drive = [m for m in two_cameras() if m[0] in ('/depth/image', '/mono/image', '/tf')]
    grey = record(tmp_path, 'mcap', drive, 'grey')
    with pytest.raises(PictureError, match='no topic of colour images'):
        label(grey, force=True)
    assert label(grey, topics=['/mono/image'], force=True).images == 3
    none = record(tmp_path, 'mcap', [m for m in drive if m[0] == '/tf'], 'none')
    with pytest.raises(PictureError, match=r'Its topics are /tf \(tf2_msgs/msg/TFMessage, 3 mess'):
        label(none, force=True)


@pytest.mark.parametrize(
    'format, colour',
    [
        ('jpeg', True),
        ('', True),
        ('image/webp', True),
        ('rgb8; png compressed bgr8', True),
        ('mono8; jpeg compressed mono8', False),
        ('16UC1; png compressed', False),
        ('16UC1; compressedDepth png', False),
        ('h264', False),
        ('HEVC', False),
    ],
)
def test_which_compressed_images_are_in_colour(format, colour, label, tmp_path):
    robot = Robot('mcap')
    message = robot.jpeg(START, seen(0), format)
    if format in ('h264', 'HEVC'):
        message.data = np.array([0, 0, 0, 1, 103, 66, 0, 31], np.uint8)
    drive = [('/image/compressed', START, message)]
    source = record(tmp_path, 'mcap', drive)
    if colour:
        assert label(source).images == 1
    else:
        with pytest.raises(PictureError, match='no topic of colour images'):
            label(source)


@pytest.mark.parametrize('encoding', ['nv12', 'NV12'])
def test_images_in_planes(encoding, label, tmp_path):
    """Without colours in U and V, the labels are those of the grey image."""
    robot, grey = Robot('mcap'), seen(0)[..., 0]
    found = []
    for name, rows in (('mono8', grey), (encoding, np.vstack([grey, grey[::2] * 0 + 128]))):
        image = robot.image(START, rows, name)
        image.height, image.width = grey.shape
        rgb = DECODERS[made.IMAGE](image)
        assert rgb.shape == (*grey.shape, 3) and not np.ptp(rgb, axis=2).any()
        found.append(rgb[..., 0].astype(int))
        report = label(
            record(tmp_path, 'mcap', [('/image', START, image)], name),
            topics=['/image'] * (name == 'mono8'),
            force=True,
        )
        assert report.complete and report.images == 1
    limited = (1.164 * (found[0].clip(16) - 16)).clip(0, 255)
    assert np.abs(found[1] - limited).max() <= 1


def test_compressed_depth_that_is_asked_for_is_explained(label, tmp_path):
    robot = Robot('mcap')
    depth = robot.jpeg(START, seen(0), '16UC1; compressedDepth png')
    mm = cv2.imencode('.png', seen(0)[..., 0].astype(np.uint16))[1].ravel()
    depth.data = np.append(np.zeros(12, np.uint8), mm)
    source = record(tmp_path, 'mcap', [('/depth/compressedDepth', START, depth)])
    with pytest.raises(PictureError, match='holds depth and no colours'):
        label(source, topics=['/depth/compressedDepth'])


@pytest.mark.parametrize(
    'topics, names',
    [
        (['/camera/image_raw', '/left/image_raw/compressed'], ['camera', 'left']),
        (['/camera/color/image_raw', '/camera/infra/image_rect'], ['camera_color', 'camera_infra']),
        (['/a/image', '/a/image/compressed'], ['a_image', 'a_image_compressed']),
        (['/image', '/2/image'], ['image', 'camera_2_image']),
        (['/a/b/image', '/a_b/image'], ['camera_1', 'camera_2']),
    ],
)
def test_names_of_several_cameras(topics, names, label, tmp_path):
    robot = Robot('mcap')
    drive = [
        (topic, START + n, robot.jpeg(START, seen(n)))
        if topic.endswith('compressed')
        else (topic, START + n, robot.image(START, seen(n)))
        for n, topic in enumerate(topics)
    ]
    report = label(record(tmp_path, 'mcap', drive), topics=topics, overlay='none')
    expected = [f'{NEW}{name}/{what}' for name in names for what in ('label_mask', 'confidence')]
    assert set(report.topics) == {NEW + 'vocabulary', *expected}
    assert set(report.topics.values()) == {1} and report.images == 2


def test_images_that_cannot_be_used_are_named_and_left_out(label, tmp_path):
    robot = Robot('mcap')
    drive = list(robot.drive(6, compressed=True, topic='/image/compressed'))
    for n in (0, 2):
        drive[4 * n][2].data = drive[4 * n][2].data[:200]
    drive[4 * 3][2].format, drive[4 * 3][2].data = 'h264', seen(3).ravel()
    drive[4 * 4][2].data = robot.jpeg(START, seen(0, (8, 80))).data
    report = label(record(tmp_path, 'mcap', drive))
    assert not report.complete and (report.images, report.messages) == (2, 24)
    assert len(report.skipped) == 4
    assert '/image/compressed: the image of 2023-11-14 22:13:20.000' in report.skipped[0]
    assert '200 bytes of JPEG data are cut off' in report.skipped[1]
    assert "'h264' holds h264 video" in report.skipped[2] and '80 x 8' in report.skipped[3]
    after = new_messages(tmp_path / 'out')
    assert [time for time, _ in after['label_mask']] == [START + STEP, START + 5 * STEP]
    assert after['vocabulary'][0][0] == START + STEP


def test_nothing_is_written_if_no_image_can_be_used(label, tmp_path):
    drive = list(Robot('db3').drive(compressed=True, topic='/image/compressed'))
    for topic, _, message in drive:
        if topic == '/image/compressed':
            message.data = message.data[:200]
    source = record(tmp_path, 'db3', drive)
    with pytest.raises(PictureError, match=r'3 messages\): cannot read its images: .*cut.*/tf \('):
        label(source)
    with pytest.raises(
        PictureError, match=r'no image of /image/compressed could be labelled; .*cut'
    ):
        label(source, topics=['/image/compressed'])
    assert [p.name for p in tmp_path.iterdir()] == ['drive']


def test_a_message_that_is_no_image(label, tmp_path):
    """The first image that can be read decides whether the topic is in colour."""
    report = label(damaged(tmp_path, '/camera/image_raw', 30, count=1))
    assert report.images == 2 and len(report.skipped) == 1
    assert '/camera/image_raw: the image of' in report.skipped[0]
    assert json.loads((tmp_path / 'out' / 'skipped.json').read_text()) == list(report.skipped)


def test_a_topic_whose_first_images_are_all_broken(label, tmp_path):
    drive = list(Robot('mcap').drive(22, compressed=True, topic='/image/compressed'))
    for _, _, message in drive[: 4 * 20 : 4]:
        message.data = message.data[:200]
    source = record(tmp_path, 'mcap', drive)
    with pytest.raises(PictureError, match=r'cannot read its first 20 images: .*--topic'):
        label(source)
    report = label(source, topics=['/image/compressed'])
    assert (report.images, len(report.skipped)) == (2, 20)


def test_a_target_that_is_there_is_kept(label, tmp_path):
    source = record(tmp_path, 'mcap')
    out = tmp_path / 'out'
    label(source)
    before = inside(out).read_bytes()
    with pytest.raises(PictureError, match='out exists already'):
        label(source, every=2)
    assert inside(out).read_bytes() == before
    label(source, force=True, every=2)
    assert inside(out).read_bytes() != before
    for here in (source, source / 'new', tmp_path):
        with pytest.raises(PictureError, match='is the recording itself, in it or around it'):
            bags.check_paths(source, here, force=True)
    for name in ('new.bag', 'new.mcap'):
        with pytest.raises(PictureError, match='the new recording is a folder'):
            bags.check_paths(source, tmp_path / name, force=True)
    shutil.rmtree(out)
    (out / 'photos').mkdir(parents=True)
    with pytest.raises(PictureError, match='is not a recording: not replaced'):
        label(source, force=True)
    assert (out / 'photos').is_dir()


def test_an_error_leaves_the_old_target(label, tmp_path):
    source = record(tmp_path, 'mcap')
    label(source)
    before = inside(tmp_path / 'out').read_bytes()
    with pytest.raises(PictureError):
        label(source, force=True, topics=['/none'])
    assert inside(tmp_path / 'out').read_bytes() == before


def test_topics_that_are_there_already_are_not_mixed(label, tmp_path):
    source = record(tmp_path, 'mcap')
    label(source)
    first = (tmp_path / 'out').rename(tmp_path / 'first')
    with pytest.raises(
        PictureError, match=r'already has the topic /segmentation/vocabulary.*--prefix'
    ):
        label(first, topics=['/camera/image_raw'])
    report = label(first, topics=['/camera/image_raw'], prefix='/again')
    assert report.topics['/again/label_mask'] == 3


@pytest.mark.parametrize(
    'wrong',
    [
        {'every': 0},
        {'limit': -1},
        {'limit': 0},
        {'overlay': 'png'},
        {'smoothing': 1.0},
        {'prefix': 'segmentation'},
        {'prefix': '/seg mentation'},
        {'prefix': '/segmentation/'},
    ],
)
def test_bad_options(wrong, label, tmp_path):
    with pytest.raises(SettingError, match=next(iter(wrong))):
        label(tmp_path, **wrong)


def compressed_by(mode):
    return lambda writer: writer.set_compression(mode, CompressionFormat.ZSTD)


@pytest.mark.parametrize(
    'kind, mode',
    [
        ('db3', CompressionMode.FILE),
        ('db3', CompressionMode.MESSAGE),
        ('mcap', CompressionMode.FILE),
        ('mcap', CompressionMode.MESSAGE),
        ('mcap', CompressionMode.STORAGE),
    ],
)
@pytest.mark.parametrize('metadata', [True, False])
def test_compressed_recordings(kind, mode, metadata, label, tmp_path):
    plain = messages(record(tmp_path, kind, name='plain'))
    source = record(tmp_path, kind, prepare=compressed_by(mode))
    if not metadata:
        (source / 'metadata.yaml').unlink()
    assert label(source).complete
    assert [m for m in messages(tmp_path / 'out') if not m[0].startswith(NEW)] == plain


def test_the_new_recording_is_one_of_ros2_bag(label, tmp_path):
    label(record(tmp_path, 'ros1'))
    assert sorted(p.name for p in (tmp_path / 'out').iterdir()) == ['metadata.yaml', 'out.mcap']
    with Reader(tmp_path / 'out') as reader:
        assert reader.message_count == 25
        assert (reader.start_time, reader.end_time) == (START, START + 2 * STEP + 31)
    with Reader(tmp_path / 'out' / 'out.mcap') as reader:
        assert reader.message_count == 25


def test_recordings_before_definitions_were_in_them(label, tmp_path):
    """ROS 2 Humble writes recordings without type definitions and hashes."""
    source = record(tmp_path, 'db3')
    database = sqlite3.connect(inside(source))
    database.execute('DROP TABLE message_definitions')
    database.execute('ALTER TABLE topics DROP COLUMN type_description_hash')
    database.execute('UPDATE schema SET schema_version = 3')
    database.commit()
    database.close()
    before = messages(source)
    assert label(source).complete
    assert [m for m in messages(tmp_path / 'out') if not m[0].startswith(NEW)] == before
    after = connections(tmp_path / 'out')
    assert 'float64[9] k' in after['/camera/camera_info'].msgdef.data
    assert after['/battery'].msgdef.data == ''
    metadata = (tmp_path / 'out' / 'metadata.yaml').read_text()
    assert "type_description_hash: ''" in metadata and 'RIHS01_' in metadata


def test_settings_reach_the_command(tmp_path, capsys):
    source = record(tmp_path, 'ros1')
    out = tmp_path / 'new' / 'out'
    words = ['--words', 'floor', '9:mug=mug;cup', '--background', 'sky']
    command = ['bag', str(source), *words, *TINY, *SMALL, '-o', str(out), '--json']
    assert cli.main([*command, '--output-size', '32x24']) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result['images'], result['messages'], result['complete']) == (3, 12, True)
    assert result['topics'][NEW + 'label_mask'] == 3 and result['recording'] == str(out)
    mask = new_messages(out)['label_mask'][0][1]
    assert (mask.height, mask.width) == (24, 32)
    assert cli.main(command) == 1
    assert 'exists already' in capsys.readouterr().err
    assert cli.main(['bag', str(tmp_path / 'none'), *words, *TINY, '-o', 'x']) == 1
    assert 'no file or folder' in capsys.readouterr().err


def test_what_is_left_out_makes_code_3(tmp_path, capsys):
    drive = list(Robot('mcap').drive(13, compressed=True, topic='/image/compressed'))
    for n in range(1, 13):
        drive[4 * n][2].data = drive[4 * n][2].data[:100]
    source = record(tmp_path, 'mcap', drive)
    command = ['bag', str(source), '--words', 'a', *TINY, *SMALL, '-o', str(tmp_path / 'out')]
    assert cli.main(command) == 3
    told = capsys.readouterr()
    assert told.err.count('is skipped') == 10 and '2 more warnings are not shown' in told.err
    assert '1 images labelled, 52 messages copied' in told.out


def test_a_full_disk_leaves_nothing(tmp_path):
    source = record(tmp_path, 'mcap', Robot('mcap').drive(30, size=(96, 128)))
    arguments = ['bag', source, '--words', 'a', *TINY, *SMALL, '-o', tmp_path / 'out']
    done = forks.run('cli', *arguments, first=partial(little_disk, 1 << 20))
    assert done.returncode == 1 and 'File too large' in done.stderr
    assert 'Traceback' not in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ['drive']


def test_a_folder_that_cannot_be_written(label, tmp_path, segmenter, words):
    (tmp_path / 'file').write_text('')
    with pytest.raises(OSError):
        bags.label_bag(record(tmp_path, 'mcap'), tmp_path / 'file' / 'out', segmenter, words)


def test_split_recordings(label, tmp_path):
    """A folder has several files; they are read in numeric order, the tenth after the ninth."""
    robot, source = Robot('mcap'), tmp_path / 'split'
    source.mkdir()
    for n, entry in enumerate(robot.drive(3)):
        part = record(tmp_path, 'mcap', [entry], f'split_{n}')
        inside(part).rename(source / f'split_{n}.mcap')
    assert label(source).images == 3
    times = [m[2] for m in messages(tmp_path / 'out') if not m[0].startswith(NEW)]
    assert times == [time for _, time, _ in robot.drive(3)]


def test_no_types_are_lost_where_two_publish_one_topic(label, tmp_path):
    robot = Robot('mcap')
    path = tmp_path / 'two'
    with Writer(path, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        for n, qos in enumerate(([], [LATCHED])):
            connection = writer.add_connection(
                '/image',
                made.IMAGE,
                typestore=robot.store,
                offered_qos_profiles=qos,
            )
            message = robot.image(START + n, seen(n))
            writer.write(connection, START + n, robot.serialize(message))
    report = label(path)
    assert report.images == 2
