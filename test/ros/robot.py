"""A robot for the tests: cameras, and consumers of what the node publishes."""

from collections import defaultdict

import numpy as np
from cliptrase_ros.msg import Vocabulary
from diagnostic_msgs.msg import DiagnosticArray
from processes import TINY, call
from rcl_interfaces.srv import SetParameters
from rclpy.duration import Duration
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from towers import picture

from cliptrase_ros.media import encodings

CAMERA = '/camera/image_raw'
WORDS = 'vocabulary:=["floor", "9:mug=mug;cup", "door"]'
# One fragment of 64 kB per message, so the default transport loses nothing.
PIXELS = picture(120, 160)
# Silence is reported after one second, and logged again one second later.
IMPATIENT = {'diagnostics.SILENCE_S': 1.0, 'stream.LOG_PERIOD_S': 1.0}
LATCHED = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Robot:
    """Received messages are in `heard`, by topic, and also in masks, vocabularies and statuses."""

    def __init__(self, tester, reliability='best_effort', camera=CAMERA, kind=Image):
        self.node = tester
        self.heard, self._subscriptions = defaultdict(list), {}
        self.masks = self.hear('label_mask', Image)
        self.vocabularies = self.hear('vocabulary', Vocabulary, LATCHED)
        self.statuses = {}
        tester.create_subscription(DiagnosticArray, '/diagnostics', self._diagnosed, 10)
        qos = QoSProfile(depth=1, reliability=ReliabilityPolicy[reliability.upper()])
        self.camera = tester.create_publisher(kind, camera, qos)
        self.late_s = 0.0
        self.last = None
        self._timer = None

    def _diagnosed(self, message):
        self.statuses.update({s.name.removeprefix('/segmentation: '): s for s in message.status})

    def hear(self, topic, kind, qos=10):
        """Subscribe. Return the list that collects the messages."""
        heard = self.heard[topic]
        made = self.node.create_subscription(kind, f'/segmentation/{topic}', heard.append, qos)
        self._subscriptions[topic] = made
        return heard

    def unhear(self, topic):
        self.node.destroy_subscription(self._subscriptions.pop(topic))

    def send(self, message=None, **changes):
        """Publish PIXELS or a message. Its stamp is `late_s` before now. Return the message."""
        message = message or image()
        now = self.node.get_clock().now() - Duration(seconds=self.late_s)
        message.header.frame_id, message.header.stamp = 'eye', now.to_msg()
        self.last = stamp(message)
        for name, value in changes.items():
            setattr(message, name, value)
        self.camera.publish(message)
        return message

    def stream(self, rate_hz=10.0, make=None):
        self._timer = self.node.create_timer(1 / rate_hz, lambda: self.send(make and make()))

    def stop(self):
        self.node.destroy_timer(self._timer)

    def set(self, **values):
        """Set parameters as `ros2 param set` does. Return the result of each."""
        client = self.node.create_client(SetParameters, '/segmentation/set_parameters')
        messages = [Parameter(k, value=v).to_parameter_msg() for k, v in values.items()]
        return call(client, SetParameters.Request(parameters=messages)).results

    def call(self, kind, service, **fields):
        """Return the answer of one of the node's services."""
        client = self.node.create_client(kind, f'/segmentation/{service}')
        return call(client, kind.Request(**fields))

    def diagnosed(self, level, text, name='camera'):
        """Return True if the newest status has this level and text."""
        status = self.statuses.get(name)
        return status and status.level == level and text in status.message

    def value(self, key, name='camera'):
        status = self.statuses.get(name)
        return {v.key: v.value for v in status.values}.get(key) if status else None


def stamp(message):
    """Return (s, ns) of the stamp."""
    return message.header.stamp.sec, message.header.stamp.nanosec


def image(pixels=PIXELS, encoding='rgb8'):
    return encodings.fill_image(Image(), pixels, encoding, Image().header)


def array(message):
    """Return [H, W] or [H, W, 3] uint8, or [H, W] uint16, of an image without padding."""
    dtype = np.uint16 if message.encoding == '16UC1' else np.uint8
    pixels = np.frombuffer(message.data, dtype)
    shape = (message.height, message.width)
    return pixels.reshape(*shape, 3) if message.encoding == 'rgb8' else pixels.reshape(shape)


def node(start, *parameters, remaps=(f'image:={CAMERA}',), **options):
    """Start the node with the tiny model and fast diagnostics."""
    return start('node', [*TINY, 'diagnostics_period_s:=0.2', *parameters], remaps, **options)


class Failing:
    """A segmenter that fails once, on the next image or word."""

    def __init__(self, segmenter, error):
        self._segmenter, self._error = segmenter, error

    def __getattr__(self, name):
        if name in ('encode_batch', 'encode_words') and self._error:
            error, self._error = self._error, None
            raise error
        return getattr(self._segmenter, name)

    def replace(self, **changes):
        return self
