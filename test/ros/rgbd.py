"""A depth camera for the robot, and functions that read clouds as consumers do."""

import numpy as np
from robot import CAMERA, node, stamp
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointField

from cliptrase_ros.media import encodings
from cliptrase_ros.ros import messages

DEPTH, DEPTH_INFO = '/camera/depth', '/camera/depth_info'
REMAPS = [
    f'image:={CAMERA}',
    'camera_info:=/camera/camera_info',
    f'depth/image_rect:={DEPTH}',
    f'depth/camera_info:={DEPTH_INFO}',
]
TYPES = {PointField.FLOAT32: 'f4', PointField.UINT8: 'u1', PointField.UINT16: 'u2'}


def ramp(height=120, width=160):
    """Return depth [H, W] uint16 in mm, 1 to 2 m, with a hole."""
    rows, columns = np.mgrid[:height, :width]
    mm = (1000 + 900 * rows / height + 100 * columns / width).astype(np.uint16)
    mm[height // 4 : height // 3, width // 4 : width // 3] = 0
    return mm


def matrix(height=120, width=160):
    """Return K of a camera with this size of images. The view is the same for all sizes."""
    scale = width / 160
    return np.array([[150 * scale, 0, width / 2], [0, 140 * scale, height / 2], [0, 0, 1]])


class Depth:
    """Publishes depth with each image of the robot.

    Attributes:
        pixels: depth to publish; None: publish none.
        info: (height, width) of the published intrinsics; None: publish none.
        late_s: seconds by which the stamps of depth are later than those of the image.
    """

    def __init__(self, robot, pixels=None, prefix=''):
        self.robot = robot
        self.pixels = ramp() if pixels is None else pixels
        self.info = self.pixels.shape
        self.late_s = 0.0
        self.encoding = None
        self.frame = 'eye'
        self._depth = robot.node.create_publisher(Image, f'{prefix}{DEPTH}', 5)
        # The function that packs an Image into a CompressedImage; see `pack_on`.
        self._pack = None
        self._info = robot.node.create_publisher(CameraInfo, f'{prefix}{DEPTH_INFO}', 5)

    def send(self):
        """Publish an image and its depth, as from one camera. Return the image."""
        sent = self.robot.send()
        if self.info is not None:
            self._info.publish(messages.camera_info(self.info, matrix(*self.info), sent.header))
        if self.pixels is not None:
            made = self.message(sent.header)
            self._depth.publish(self._pack(made) if self._pack else made)
        return sent

    def pack_on(self, topic, pack):
        """From now on, publish pack(Image), a CompressedImage, on this topic and nothing raw."""
        if self._depth.topic_name != topic:  # otherwise a timer may publish on it at this moment
            self.robot.node.destroy_publisher(self._depth)
            self._depth = self.robot.node.create_publisher(CompressedImage, topic, 5)
        self._pack = pack

    def message(self, header):
        whole = self.pixels.dtype == np.uint16
        made = encodings.fill_image(Image(), self.pixels, '16UC1' if whole else '32FC1', header)
        made.header = type(header)(stamp=header.stamp, frame_id=self.frame)
        late_ns = round(self.late_s * 1e9) + header.stamp.nanosec
        made.header.stamp.sec += late_ns // 10**9
        made.header.stamp.nanosec = late_ns % 10**9
        made.encoding = self.encoding or made.encoding
        return made

    def stream(self, rate_hz=10.0):
        self.robot.node.create_timer(1 / rate_hz, self.send)


def start_node(start, *parameters, depth_topic=DEPTH, **options):
    remaps = [*REMAPS[:2], f'depth/image_rect:={depth_topic}', REMAPS[3]]
    return node(start, *parameters, remaps=remaps, **options)


def points(message):
    """Return a PointCloud2 as a structured array [H, W], read by its own fields."""
    kind = np.dtype(
        {
            'names': [f.name for f in message.fields],
            'formats': [TYPES[f.datatype] for f in message.fields],
            'offsets': [f.offset for f in message.fields],
            'itemsize': message.point_step,
        }
    )
    assert message.row_step == message.width * message.point_step
    assert len(message.data) == message.height * message.row_step
    return np.frombuffer(message.data, kind).reshape(message.height, message.width)


def depth_array(message):
    kind = np.uint16 if message.encoding == '16UC1' else np.float32
    return np.frombuffer(message.data, kind).reshape(message.height, message.width)


def of_one_image(robot, topics):
    """Return {topic: message} of the newest image that all of these topics have, or None."""
    by_stamp = [{stamp(m): m for m in robot.heard[topic]} for topic in topics]
    shared = set.intersection(*map(set, by_stamp))
    if not shared:
        return None
    newest = max(shared)
    return {topic: found[newest] for topic, found in zip(topics, by_stamp, strict=True)}
