"""Topics of images: Foxglove's types, and what an error tells of a recording."""

import sqlite3

import numpy as np
import pytest
from bag_files import START, STEP, Robot, inside, mcap, record, seen
from rosbags.typesys import get_types_from_msg

from cliptrase_ros.errors import PictureError
from cliptrase_ros.recordings.cameras import chosen, image_topics
from cliptrase_ros.recordings.image_types import COMPRESSED, RAW, image_message, pixels
from cliptrase_ros.recordings.reader import Recording

STAMP = 'builtin_interfaces/Time timestamp\n'
FRAME = 'string frame_id\n'
PICTURE = 'uint8[] data\nstring format\n'
IMAGE = 'uint32 width\nuint32 height\nstring encoding\nuint32 step\nuint8[] data\n'


def foxglove(robot, kind, definition, count=2):
    """Yield (topic, time, message) of one of Foxglove's types."""
    robot.store.register(get_types_from_msg(definition, kind))
    names = [line.split()[1] for line in definition.splitlines()]
    for n in range(count):
        header, time = robot.header(START + n), START + n * STEP
        made = (
            robot.jpeg(time, seen(n)) if kind == COMPRESSED else robot.image(time, seen(n), 'rgb8')
        )
        fields = {**vars(made), 'timestamp': header.stamp, 'frame_id': 'camera', 'other': 7}
        yield '/fox/image', time, robot.make(kind, **{name: fields[name] for name in names})


def recorded(tmp_path, file_kind, kind, definition):
    robot = Robot(file_kind)
    drive = list(foxglove(robot, kind, definition))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('bag_files.Robot', lambda _: robot)
        return record(tmp_path, file_kind, drive)


@pytest.mark.parametrize('file_kind', ['ros1', 'db3', 'mcap'])
@pytest.mark.parametrize(
    'kind, definition, frame',
    [
        (COMPRESSED, STAMP + FRAME + PICTURE, 'camera'),
        (COMPRESSED, PICTURE + FRAME + STAMP, 'camera'),
        (COMPRESSED, STAMP + PICTURE, ''),
        (RAW, STAMP + FRAME + IMAGE, 'camera'),
        (RAW, STAMP + IMAGE + 'uint8 other\n', ''),
    ],
)
def test_images_of_foxglove(file_kind, kind, definition, frame, tmp_path):
    """The fields are those of the recording's own definition: versions of the type differ."""
    if file_kind == 'ros1':
        definition = definition.replace('builtin_interfaces/Time', 'time')
    source = recorded(tmp_path, file_kind, kind, definition)
    with Recording(source) as recording:
        (channel,) = chosen(recording, [])
        for n, message in enumerate(recording.of(channel)):
            content = image_message(message.data, channel)
            assert content.header.frame_id == frame and content.header.stamp.nanosec == n
            difference = pixels(content, channel).astype(int) - seen(n)
            assert np.abs(difference).mean() < 12 if kind == COMPRESSED else not difference.any()
        assert n == 1


def test_foxglove_without_definitions(tmp_path):
    """ROS 2 Humble writes none."""
    source = recorded(tmp_path, 'db3', COMPRESSED, STAMP + FRAME + PICTURE)
    database = sqlite3.connect(inside(source))
    database.execute('DROP TABLE message_definitions')
    database.commit()
    database.close()
    with Recording(source) as recording:
        assert chosen(recording, [])[0].definition == ''


@pytest.mark.parametrize(
    'definition, said',
    [
        (STAMP + 'uint8[] data\n', f'the type {COMPRESSED} of this recording has no format'),
        ('uint8 timestamp\n', f'the type {COMPRESSED} of this recording has no data, format'),
        ('uint8[ data\n', 'its definition cannot be read'),
        (STAMP + FRAME + 'string format\nuint8[] data\n', f'not a valid {COMPRESSED}'),
    ],
)
def test_foxglove_types_that_cannot_be_used(definition, said, tmp_path):
    robot = Robot('mcap')
    ((topic, time, message),) = foxglove(robot, COMPRESSED, STAMP + FRAME + PICTURE, 1)
    data = robot.serialize(message)[:-40]
    entry = topic, COMPRESSED, 'ros2msg', definition, 'cdr', time, data
    told = refused(mcap(tmp_path / 'x.mcap', [entry]))
    assert f'1 messages): cannot read its images: {said}' in told


def refused(path, topics=()):
    """Return why no topic of a recording can be chosen."""
    with Recording(path) as recording, pytest.raises(PictureError) as error:
        chosen(recording, topics)
    return str(error.value)


def test_an_encoding_that_is_not_known_is_told_with_all_topics(tmp_path):
    robot = Robot('mcap')
    drive = [
        ('/cam/image_raw', START, robot.image(START, seen(0), 'nv99')),
        ('/tf', START + 1, robot.transform(START)),
    ]
    told = refused(record(tmp_path, 'mcap', drive))
    assert 'has no topic of colour images: its image topics are /cam/image_raw (sensor_m' in told
    assert "Image, nv99, 1 messages): cannot read its images: image encoding 'nv99'" in told
    assert told.endswith('. Its other topics are /tf (tf2_msgs/msg/TFMessage, 1 messages)')


def test_types_that_hold_no_image_are_told(tmp_path):
    """Topics in Protobuf or JSON, and video."""
    entries = [
        ('/a', 'foxglove.CompressedImage', 'protobuf', '', 'protobuf', START, b'\n\0'),
        ('/b', 'foxglove_msgs/msg/CompressedVideo', 'ros2msg', STAMP, 'cdr', START, bytes(12)),
    ]
    told = refused(mcap(tmp_path / 'x.mcap', entries))
    assert 'images are read from sensor_msgs/msg/Image, sensor_msgs/msg/CompressedImage, ' in told
    assert 'Its topics are /b (foxglove_msgs/msg/CompressedVideo, 1 messages)' in told
    assert "/a (foxglove.CompressedImage) is skipped: its messages are 'protobuf', not" in told
    told = refused(mcap(tmp_path / 'y.mcap', entries[:1]))
    assert 'Its topics are none. /a (foxglove.CompressedImage) is skipped' in told


def test_many_topics_are_not_all_told(tmp_path):
    robot = Robot('mcap')
    drive = [(f'/tf_{n}', START + n, robot.transform(START)) for n in range(30)]
    told = refused(record(tmp_path, 'mcap', drive))
    assert '/tf_19 (' in told and '/tf_20 (' not in told and told.endswith('; 10 more')


def test_a_topic_that_has_no_images_is_told_with_its_type(tmp_path):
    source = record(tmp_path, 'mcap')
    told = refused(source, ['/battery'])
    assert "has no image topic '/battery': its type is robot/msg/Battery: its image top" in told
    told = refused(source, ['/camera/image'])
    assert "Did you mean '/camera/image_raw'?" in told and 'Its other topics' not in told


@pytest.mark.parametrize('topic', ['/depth/image/compressedDepth', '/depth/image'])
def test_depth_does_not_compete_with_colour(topic, tmp_path):
    """The data are a PNG after 12 bytes of header."""
    robot = Robot('mcap')
    depth = robot.jpeg(START, seen(0), '16UC1; compressedDepth png' if topic[-1] == 'e' else '')
    depth.data = np.concatenate([np.zeros(12, np.uint8), depth.data])
    drive = [(topic, START, depth), ('/cam/image', START + 1, robot.image(START, seen(0)))]
    with Recording(record(tmp_path, 'mcap', drive)) as recording:
        assert [it.grey for it in image_topics(recording)] == [True, False]
        assert [channel.topic for channel in chosen(recording, [])] == ['/cam/image']


def test_video_in_compressed_images_is_told(tmp_path):
    robot = Robot('mcap')
    video = robot.jpeg(START, seen(0), 'h264')
    video.data = np.array([0, 0, 0, 1, 103, 66, 0, 31], np.uint8)
    told = refused(record(tmp_path, 'mcap', [('/cam/compressed', START, video)]))
    assert 'CompressedImage, h264, 1 messages): cannot read its images: ' in told
