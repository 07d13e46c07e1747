"""Raw and compressed images: what is taken, told, and followed by `auto`, over real DDS."""

from contextlib import ExitStack, contextmanager

import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticStatus
from processes import wait_for
from robot import CAMERA, IMPATIENT, WORDS, Robot, image, node
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from test_streams import compressed

from cliptrase_ros.ros.shutdown import spun

BESIDE = f'{CAMERA}/compressed'
AUTO = 'image_transport:=auto'
SET_COMPRESSED = f'{BESIDE} is published: set image_transport to compressed (or auto)'


@contextmanager
def camera(*topics, silent=()):
    """Publish images, as a driver in a process of its own does. `silent` topics are announced only.

    Args:
        topics: (topic, Image or CompressedImage).
    """
    context = rclpy.Context()
    rclpy.init(context=context)
    made = rclpy.create_node('driver', context=context)
    publishers = [(kind, made.create_publisher(kind, topic, 1)) for topic, kind in topics]
    for topic, kind in silent:
        made.create_publisher(kind, topic, 1)

    def publish():
        for kind, publisher in publishers:
            message = image() if kind is Image else compressed()
            message.header = Header(stamp=made.get_clock().now().to_msg(), frame_id='eye')
            publisher.publish(message)

    made.create_timer(0.1, publish)
    with spun(made):
        yield
    rclpy.shutdown(context=context)


@pytest.fixture
def watcher(tester):
    """Hears the node and publishes no image."""
    robot = Robot(tester)
    tester.destroy_publisher(robot.camera)
    return robot


def comes_from(watcher, process, topic):
    """Wait until images of this topic are segmented."""

    def comes():
        return watcher.value('topic') == topic and len(watcher.masks) > count

    wait_for(lambda: watcher.value('topic') == topic, what=topic, process=process)
    count = len(watcher.masks)
    wait_for(comes, what=f'masks of {topic}', process=process)


def told(watcher, process, sentence):
    """Wait until the status and the log say that no image comes, and why."""
    wait_for(
        lambda: watcher.diagnosed(DiagnosticStatus.STALE, sentence), what=sentence, process=process
    )
    wait_for(lambda: sentence in process.output, what=f'in the log: {sentence}', process=process)


@pytest.mark.parametrize(
    'transport, published, sentence',
    [
        ('raw', (BESIDE, CompressedImage), f'nobody publishes it; {SET_COMPRESSED}'),
        (
            'compressed',
            (CAMERA, Image),
            f'nobody publishes it; {CAMERA} is published: set image_transport to raw (or auto)',
        ),
        (
            'raw',
            (CAMERA, CompressedImage),
            f'{CAMERA} has compressed images: set image_transport to auto',
        ),
        (
            'compressed',
            (CAMERA, CompressedImage),
            f'{CAMERA} has compressed images: set image_transport to auto',
        ),
        (
            'raw',
            (f'{CAMERA}/zstd', CompressedImage),
            f'{CAMERA}/zstd is published, which this node cannot read: let image_transport '
            'republish it as raw',
        ),
        (
            'raw',
            ('/front/image/compressed', CompressedImage),
            'only compressed images are published, on /front/image/compressed: write '
            'image:=/front/image, and set image_transport to compressed (or auto)',
        ),
        (
            'auto',
            ('/front/jpeg', CompressedImage),
            'only compressed images are published, on /front/jpeg: write image:=/front/jpeg, and '
            'set image_transport to auto',
        ),
        (
            'compressed',
            ('/front/image', Image),
            'only raw images are published, on /front/image: write image:=/front/image, and set '
            'image_transport to raw (or auto)',
        ),
        (
            'compressed',
            ('/front/image/compressed', CompressedImage),
            'sensor_msgs/msg/CompressedImage is on /front/image/compressed. Remap',
        ),
        (
            'raw',
            ('/front/depth/compressedDepth', CompressedImage),
            'sensor_msgs/msg/Image is on no topic. Remap the topic, or start the camera',
        ),
        ('raw', ('/front/image', Image), 'sensor_msgs/msg/Image is on /front/image. Remap'),
    ],
)
def test_images_in_another_transport_are_named(watcher, start, transport, published, sentence):
    with camera(published):
        process = node(start, f'image_transport:={transport}', constants=IMPATIENT)
        told(watcher, process, sentence)
        assert not watcher.masks


def test_a_raw_topic_that_stays_silent_beside_a_compressed_one(watcher, start):
    """Some drivers announce raw images and send only compressed ones."""
    with camera((BESIDE, CompressedImage), silent=[(CAMERA, Image)]):
        process = node(start, constants=IMPATIENT)
        told(watcher, process, f'which fits; does it publish?; {SET_COMPRESSED}')


@pytest.mark.parametrize(
    'transport, name, remap, advice',
    [
        ('raw', '', f'image:={BESIDE}', f'write image:={CAMERA} '),
        ('compressed', '', f'image:={BESIDE}', f'write image:={CAMERA} '),
        ('raw', 'front', f'front/image:={BESIDE}', f'write front/image:={CAMERA} '),
        ('raw', '', '__ns:=/eye/compressed', ''),
        ('auto', '', f'image:={BESIDE}', ''),
    ],
)
def test_a_topic_that_ends_in_compressed(watcher, start, transport, name, remap, advice):
    process = node(
        start,
        f'image_transport:={transport}',
        f'cameras:=["{name}"]',
        remaps=[remap],
        constants=IMPATIENT,
    )
    wait_for(lambda: 'listening to' in process.output, what='the start', process=process)
    if not advice:
        wait_for(lambda: 'nobody publishes it' in process.output, what='silence', process=process)
        assert 'ends in /compressed' not in process.output
        return
    wait_for(lambda: advice in process.output, what='advice', process=process)
    for part in (f'{BESIDE} ends in /compressed', f'image_topic:={CAMERA})', 'to compressed'):
        assert part in process.output
    wait_for(
        lambda: watcher.diagnosed(DiagnosticStatus.STALE, advice, name or 'camera'), what=advice
    )


def test_a_raw_image_on_a_topic_that_ends_in_compressed(watcher, start):
    with camera((BESIDE, Image)):
        process = node(start, remaps=[f'image:={BESIDE}'])
        comes_from(watcher, process, BESIDE)
        assert 'ends in' not in process.output


@pytest.mark.parametrize(
    'topics, taken',
    [
        ([(CAMERA, Image)], CAMERA),
        ([(BESIDE, CompressedImage)], BESIDE),
        ([(CAMERA, CompressedImage)], CAMERA),
        ([(BESIDE, CompressedImage), (CAMERA, Image)], CAMERA),
    ],
)
@pytest.mark.parametrize('late', [False, True])
def test_auto_takes_what_is_published(watcher, start, topics, taken, late):
    with ExitStack() as stack:
        if not late:
            stack.enter_context(camera(*topics))
        process = node(start, WORDS, AUTO)
        if late:
            listens = f'listening to {CAMERA}\n'
            wait_for(lambda: listens in process.output, what='the start', process=process)
            stack.enter_context(camera(*topics))
        comes_from(watcher, process, taken)
        kind = 'rgb8' if (CAMERA, Image) in topics else 'rgb8; png compressed bgr8'
        wait_for(lambda: watcher.value('image') == f'160 x 120 {kind}', what=kind, process=process)


def test_auto_follows_publishers_that_change(watcher, start):
    process = node(start, WORDS, AUTO)
    with camera((BESIDE, CompressedImage)):
        comes_from(watcher, process, BESIDE)
        with camera((CAMERA, Image)):
            comes_from(watcher, process, CAMERA)
        comes_from(watcher, process, BESIDE)
    with camera((CAMERA, CompressedImage)):
        comes_from(watcher, process, CAMERA)
    with camera((CAMERA, Image)):
        comes_from(watcher, process, CAMERA)
        wait_for(lambda: watcher.value('image') == '160 x 120 rgb8', what='raw', process=process)
    assert 'Traceback' not in process.output


def test_auto_leaves_a_topic_that_stays_silent(watcher, start):
    with camera((BESIDE, CompressedImage), silent=[(CAMERA, Image)]):
        process = node(start, AUTO, constants=IMPATIENT)
        comes_from(watcher, process, BESIDE)
        count = len(watcher.masks)
        wait_for(lambda: len(watcher.masks) > count + 20, what='more of it', process=process)
        assert process.output.count('listening to') == 2
    told(watcher, process, f'no image on {BESIDE} for 1 s: nobody publishes it')


def test_auto_for_several_cameras(watcher, start):
    left = watcher.hear('left/label_mask', Image)
    right = watcher.hear('right/label_mask', Image)
    process = node(start, WORDS, AUTO, 'cameras:=["left", "right"]', remaps=[])
    with camera(('/left/image/compressed', CompressedImage), ('/right/image', Image)):
        wait_for(lambda: left and right, what='masks of both', process=process)
