"""demo_world as a process: what it publishes, that it fits together, and how it ends."""

import time

import numpy as np
import pytest
from cliptrase_ros.msg import Vocabulary
from geometry_msgs.msg import PoseStamped
from processes import wait_for
from rclpy.qos import DurabilityPolicy, QoSProfile
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo, Image

from cliptrase_ros.demo.things import THINGS
from cliptrase_ros.demo.world import CLASSES, World
from cliptrase_ros.media import encodings
from cliptrase_ros.ros.demo.demo_world import TFMessage
from cliptrase_ros.space.geometry import quaternion

pytest.importorskip('pybullet', reason='the extra [demo] is not installed')

TOPICS = {
    'image': Image,
    'camera_info': CameraInfo,
    'depth/image_rect': Image,
    'depth/camera_info': CameraInfo,
    'ground_truth/label_mask': Image,
    'pose': PoseStamped,
}
SMALL = ['width:=80', 'height:=60', 'rate_hz:=10.0', 'seed:=4']


@pytest.fixture
def listen(tester):
    """{topic: {stamp: message}} and the received vocabularies."""
    heard, words = {topic: {} for topic in TOPICS}, []
    for topic, kind in TOPICS.items():

        def keep(message, kept=heard[topic]):
            kept[message.header.stamp.sec, message.header.stamp.nanosec] = message

        tester.create_subscription(kind, f'/{topic}', keep, 20)
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    tester.create_subscription(Vocabulary, '/ground_truth/vocabulary', words.append, latched)
    return heard, words


def complete(heard):
    return set.intersection(*(set(kept) for kept in heard.values()))


def test_what_it_publishes_fits_together(listen, start):
    heard, words = listen
    process = start('demo.demo_world', [*SMALL, 'frame_id:=eye', 'world_frame:=lab'])
    wait_for(lambda: len(complete(heard)) > 3 and words, what='all topics', process=process)
    ids = {c.name: c.id for c in words[0].classes}
    assert set(ids) == {thing.title for thing in THINGS}
    for stamp in complete(heard):
        got = {topic: kept[stamp] for topic, kept in heard.items()}
        picture, depth = got['image'], got['depth/image_rect']
        truth, pose = got['ground_truth/label_mask'], got['pose']
        for message in (picture, depth, truth):
            assert (message.width, message.height, message.header.frame_id) == (80, 60, 'eye')
        assert [m.encoding for m in (picture, depth, truth)] == ['rgb8', '32FC1', 'mono8']
        assert encodings.to_rgb(picture).std() > 5
        metres = np.frombuffer(depth.data, np.float32).reshape(60, 80)
        labels = np.frombuffer(truth.data, np.uint8).reshape(60, 80)
        assert set(np.unique(labels)) <= set(ids.values())
        assert (np.isnan(metres) == (labels == ids['sky'])).all()
        info = got['camera_info']
        assert info == got['depth/camera_info'] and (info.width, info.height) == (80, 60)
        assert pose.header.frame_id == 'lab'
        # Every pixel of the floor lies on the floor of the world.
        y, x = np.nonzero(labels == ids['floor'])
        k, q, p = np.array(info.k).reshape(3, 3), pose.pose.orientation, pose.pose.position
        rays = np.linalg.inv(k) @ np.stack([x, y, np.ones_like(x)]) * metres[y, x]
        heights = (Rotation.from_quat([q.x, q.y, q.z, q.w]).as_matrix() @ rays)[2] + p.z
        assert np.abs(heights).max(initial=0) < 0.01


def test_scenes_change(listen, start):
    heard, _ = listen
    process = start('demo.demo_world', [*SMALL, 'scene_s:=0.3', 'motion:=pan'])

    def places():
        return {(m.pose.position.x, m.pose.position.y) for m in heard['pose'].values()}

    # With pan the camera stays at one place until the next scene.
    wait_for(lambda: len(places()) > 2, what='three scenes', process=process)


def test_one_scene_for_ever(listen, start):
    heard, _ = listen
    start('demo.demo_world', [*SMALL, 'scene_s:=none', 'motion:=pan'])
    wait_for(lambda: len(heard['pose']) > 15, what='poses')
    assert len({(m.pose.position.x, m.pose.position.y) for m in heard['pose'].values()}) == 1


def test_it_waits_for_a_listener(tester, start):
    process = start('demo.demo_world', [*SMALL, 'wait_for_subscriber:=true'])
    got = []
    tester.create_subscription(Image, '/ground_truth/label_mask', got.append, 10)
    wait_for(lambda: '80 x 60 px' in process.output, what='the world', process=process)
    time.sleep(0.5)
    assert not got
    tester.create_subscription(Image, '/image', lambda m: None, 10)
    wait_for(lambda: got, what='the first image', process=process)


@pytest.mark.parametrize(
    'parameter, reason',
    [('width:=5', 'width'), ('motion:=fly', 'drive, pan'), ('rate_hz:=fast', 'rate_hz')],
)
def test_a_bad_parameter_ends_it_with_a_sentence(start, parameter, reason):
    process = start('demo.demo_world', [parameter])
    assert process.wait() == 1
    assert reason in process.output and 'Traceback' not in process.output


def test_tf_is_published_where_its_messages_are(listen, start, tester):
    if TFMessage is None:
        pytest.skip('tf2_msgs is not installed')
    heard, _ = listen
    got = []
    tester.create_subscription(TFMessage, '/tf', got.append, 20)
    start('demo.demo_world', SMALL)
    wait_for(lambda: got and heard['pose'], what='a transform')
    (transform,) = got[-1].transforms
    stamp = transform.header.stamp.sec, transform.header.stamp.nanosec
    wait_for(lambda: stamp in heard['pose'], what='its pose')
    pose = heard['pose'][stamp].pose
    assert transform.transform.rotation == pose.orientation
    assert transform.transform.translation.x == pose.position.x
    frames = transform.header.frame_id, transform.child_frame_id
    assert frames == ('world', 'camera_optical_frame')


def test_quaternions_are_scipys():
    for rotation in (
        *Rotation.random(50, random_state=0),
        *Rotation.from_rotvec([[0, 0, 0], [np.pi, 0, 0]]),
    ):
        expected = rotation.as_quat(canonical=True)
        found = np.array(quaternion(rotation.as_matrix()))
        np.testing.assert_allclose(found * np.sign(found @ expected), expected, atol=1e-12)
        assert found[3] >= 0


def test_the_classes_are_those_of_the_engine_side():
    assert {thing.name for thing in THINGS} == set(CLASSES)
    with World(4, (60, 80)) as world:
        assert set(next(world.views()).things) <= set(THINGS)
