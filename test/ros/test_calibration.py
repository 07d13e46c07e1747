"""camera_info from publishers of every kind, and of every size, over real DDS."""

from contextlib import ExitStack

import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticStatus
from processes import wait_for
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rgbd import DEPTH_INFO, REMAPS, Depth, matrix
from robot import WORDS, Robot, node
from sensor_msgs.msg import CameraInfo, PointCloud2, RegionOfInterest
from std_msgs.msg import Header

from cliptrase_ros.ros import messages
from cliptrase_ros.ros.shutdown import spun
from cliptrase_ros.space.geometry import fits

INFO = '/camera/camera_info'
# The images of the robot have 160 x 120 px.
SIZE = (120, 160)


def info(size=SIZE, roi=None, binning=(0, 0)):
    made = messages.camera_info(size, matrix(*size), Header(frame_id='eye'))
    made.binning_x, made.binning_y = binning
    if roi:
        made.roi = RegionOfInterest(
            **dict(zip(('x_offset', 'y_offset', 'width', 'height'), roi, strict=True))
        )
    return made


def qos(latched, reliable=True):
    return QoSProfile(
        depth=1,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
    )


class Calibrator:
    """Publishes camera_info from a participant of its own."""

    def __init__(self, profile, topic=INFO):
        self._context = rclpy.Context()
        rclpy.init(context=self._context)
        node = rclpy.create_node('calibrator', context=self._context)
        self._again = None
        self._publisher = node.create_publisher(CameraInfo, topic, profile)
        node.create_timer(0.1, lambda: self._again and self.send(self._again))
        self._spinning = ExitStack()
        self._spinning.enter_context(spun(node))

    def send(self, message):
        """Publish once."""
        self._publisher.publish(message)

    def repeat(self, message):
        """Publish ten times a second, instead of the message before."""
        self._again = message

    def end(self):
        self._spinning.close()
        rclpy.try_shutdown(context=self._context)


@pytest.fixture
def calibrator():
    made = []

    def make(*args, **options):
        made.append(Calibrator(*args, **options))
        return made[-1]

    yield make
    for one in made:
        one.end()


def start_node(start, *parameters):
    return node(start, WORDS, *parameters, remaps=REMAPS)


def focal_of_outputs(infos, process, fx):
    """Wait for ~/camera_info with this focal length."""
    infos.clear()
    wait_for(
        lambda: infos and infos[-1].k[0] == pytest.approx(fx), what=f'fx {fx}', process=process
    )


@pytest.mark.parametrize('reliability', ['best_effort', 'reliable'])
def test_a_latched_calibration_that_was_published_before(robot, start, calibrator, reliability):
    calibrator(qos(latched=True)).send(info())
    infos = robot.hear('camera_info', CameraInfo)
    process = start_node(start, f'qos.input_reliability:={reliability}')
    robot.stream()
    focal_of_outputs(infos, process, 150.0)
    assert 'incompatible QoS' not in process.output


@pytest.mark.parametrize('latched', [False, True])
@pytest.mark.parametrize('reliable', [False, True])
@pytest.mark.parametrize('own', ['best_effort', 'reliable'])
def test_every_kind_of_publisher_is_heard(running_with, calibrator, latched, reliable, own):
    _, infos, process = running_with(f'qos.input_reliability:={own}')
    calibrator(qos(latched, reliable)).repeat(info())
    focal_of_outputs(infos, process, 150.0)
    assert 'incompatible QoS' not in process.output


@pytest.fixture
def robot(tester):
    """With images that both kinds of subscription get."""
    return Robot(tester, 'reliable')


@pytest.fixture
def running_with(robot, start):
    def run(*parameters):
        infos = robot.hear('camera_info', CameraInfo)
        process = start_node(start, *parameters)
        robot.stream()
        wait_for(lambda: robot.masks, what='masks', process=process)
        return robot, infos, process

    return run


def test_publishers_of_several_kinds_come_and_go(running_with, calibrator):
    _, infos, process = running_with()
    first = calibrator(qos(latched=True))
    first.send(info())  # once, before the node knows this publisher
    focal_of_outputs(infos, process, 150.0)
    # Repeated: a message is lost if only the publisher knows of the match.
    second = calibrator(qos(latched=False))
    second.repeat(info((240, 320), roi=(80, 60, 160, 120)))
    focal_of_outputs(infos, process, 300.0)
    first.end(), second.end()
    calibrator(qos(latched=True)).send(info())
    focal_of_outputs(infos, process, 150.0)


def test_latched_calibrations_of_depth_and_image_make_clouds(robot, start, calibrator):
    calibrator(qos(latched=True), DEPTH_INFO).send(info())
    process = start_node(start, 'points.unlabeled:=true')
    depth = Depth(robot)
    depth.info = None
    clouds = robot.hear('points', PointCloud2)
    depth.stream()
    wait_for(lambda: clouds, what='clouds', process=process)


# (calibration, horizontal focal length of outputs with 160 x 120 px)
SCALED = [
    (info((240, 320)), 150.0),
    (info((60, 80)), 150.0),
    (info((480, 640)), 150.0),
    (info((90, 120)), 150.0),
    (info((240, 320), binning=(2, 2)), 150.0),
    (info((480, 640), binning=(2, 2)), 150.0),  # binned, then resized
    (info((240, 320), roi=(80, 60, 160, 120)), 300.0),
    (info((240, 320), roi=(80, 60, 80, 60)), 600.0),  # a crop, then twice its size
    (info((120, 160), roi=(40, 30, 80, 60)), 150.0),  # the images are full all the same
    (info((119, 159)), 150.0),
]


@pytest.mark.parametrize('given, fx', SCALED)
def test_a_calibration_of_the_same_view_in_another_size(given, fx):
    assert fits(given, SIZE)
    moved = messages.moved_camera_info(given, SIZE, SIZE, np.eye(3)[:2], Header())
    assert moved.k[0] == pytest.approx(fx, abs=0.1)
    assert moved.p[0] == moved.k[0] and (moved.height, moved.width) == SIZE
    [camera, _] = messages.pinholes(given, SIZE)
    assert camera.fx == moved.k[0]


# (calibration, size of the images)
OTHERS = [
    (info((120, 120)), SIZE),
    (info((160, 120)), SIZE),  # turned
    (info((90, 160)), SIZE),
    (info((100, 160)), SIZE),
    (info((1080, 1920)), (1088, 1920)),  # rows added by a video encoder
    (info((720, 1280)), (480, 848)),  # another crop of the sensor
    (info((240, 320), roi=(0, 0, 100, 100)), SIZE),
    (info((240, 320), binning=(2, 3)), (100, 160)),
    (CameraInfo(), SIZE),
    (CameraInfo(width=160), SIZE),
]


@pytest.mark.parametrize('given, size', OTHERS)
def test_a_calibration_of_another_view(given, size):
    assert not fits(given, size)


@pytest.mark.parametrize(
    'size, other', [((720, 1280), (480, 854)), ((3040, 4056), (480, 640)), ((1080, 1920), (17, 30))]
)
def test_sizes_that_are_rounded_are_the_same_view(size, other):
    assert fits(info(size), other) and fits(info(other), size)


def test_binning_that_the_images_do_not_have():
    assert fits(info((120, 160), binning=(2, 1)), (120, 160))
    assert fits(info((120, 160), binning=(2, 1)), (120, 80))


def test_the_outputs_have_the_scaled_calibration(running_with, calibrator):
    robot, infos, process = running_with()
    sender = calibrator(qos(latched=False))
    sender.repeat(info((480, 640)))
    focal_of_outputs(infos, process, 150.0)
    assert (infos[-1].height, infos[-1].width) == SIZE
    assert infos[-1].k[2] == pytest.approx((320 + 0.5) / 4 - 0.5)
    scaled = '640 x 480, scaled to 160 x 120'
    wait_for(lambda: robot.value('camera_info') == scaled, what=scaled, process=process)
    assert robot.diagnosed(DiagnosticStatus.OK, 'segmenting')

    sentence = (
        f'camera_info on {INFO} is for images of 640 x 360 px, but those on /camera/image_raw have '
        '160 x 120 px, which is not the same view in another size'
    )
    sender.repeat(info((360, 640)))
    wait_for(
        lambda: robot.diagnosed(DiagnosticStatus.WARN, sentence), what=sentence, process=process
    )
    assert robot.value('camera_info') == '640 x 360, not used'
    count, masks = len(infos), len(robot.masks)
    wait_for(lambda: len(robot.masks) > masks + 60, what='masks', process=process)  # 6 seconds
    assert len(infos) <= count + 1  # one may have been on its way
    assert process.output.count(sentence) == 1


def test_clouds_use_a_scaled_calibration(robot, start):
    process = start_node(start, 'points.unlabeled:=true', 'depth.max_m:=5.0')
    depth = Depth(robot)
    clouds = robot.hear('points', PointCloud2)
    depth.info = (240, 320)
    depth.stream()
    wait_for(lambda: clouds, what='clouds', process=process)
    infos = robot.hear('depth/camera_info', CameraInfo)
    wait_for(lambda: infos, what='the calibration of depth', process=process)
    assert infos[-1].k[0] == pytest.approx(150.0)
    assert infos[-1].k[2] == pytest.approx((160 + 0.5) / 2 - 0.5)
