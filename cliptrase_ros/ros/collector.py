"""What the demo hears: camera, truth, and what the segmentation node publishes."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from rcl_interfaces.srv import SetParameters
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.time import Time
from sensor_msgs.msg import Image

from ..errors import CliptraseError
from ..msg import Vocabulary

# Name here -> topic. Images are found again by their stamp.
TOPICS = {
    'camera': '/camera/image_raw',
    'truth': '/ground_truth/label_mask',
    'confidence': '/segmentation/confidence',
    'overlay': '/segmentation/overlay',
}


class Failure(CliptraseError):
    """What the demo promises did not happen."""


@dataclass(frozen=True, eq=False)
class Labelled:
    """One label image.

    Attributes:
        mask: as it came.
        version: of the newest vocabulary heard of when it came.
        arrival_s: on the monotonic clock.
        delay_s: from the camera's stamp to here.
    """

    mask: Image
    version: int
    arrival_s: float
    delay_s: float


class Collector(Node):
    """Subscribes as a consumer would and keeps what comes."""

    def __init__(self):
        super().__init__('collector')
        self.labelled: list[Labelled] = []
        self.vocabularies: list[Vocabulary] = []
        self.truth_vocabularies: list[Vocabulary] = []
        self._images: dict[str, dict[tuple[int, int], Image]] = {name: {} for name in TOPICS}
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        for topic, heard in (
            ('/segmentation/vocabulary', self.vocabularies),
            ('/ground_truth/vocabulary', self.truth_vocabularies),
        ):
            self.create_subscription(Vocabulary, topic, heard.append, latched)
        for name, topic in TOPICS.items():
            self.create_subscription(Image, topic, self._keeper(self._images[name]), 10)
        self.create_subscription(Image, '/segmentation/label_mask', self._take_mask, 10)
        self._setter = self.create_client(SetParameters, '/segmentation/set_parameters')

    @staticmethod
    def _keeper(kept: dict[tuple[int, int], Image]):
        def keep(message: Image) -> None:
            kept[_stamp(message)] = message

        return keep

    def _take_mask(self, mask: Image) -> None:
        stamp = Time.from_msg(mask.header.stamp, clock_type=self.get_clock().clock_type)
        delay_s = (self.get_clock().now() - stamp).nanoseconds * 1e-9
        version = self.vocabularies[-1].version if self.vocabularies else 0
        self.labelled.append(Labelled(mask, version, time.monotonic(), delay_s))

    def beside(self, name: str, mask: Image) -> Image | None:
        """The image of TOPICS with the mask's stamp."""
        return self._images[name].get(_stamp(mask))

    def stamps_s(self, name: str) -> list[float]:
        """The stamps of all images of TOPICS that came, in seconds, sorted."""
        return sorted(sec + 1e-9 * nanosec for sec, nanosec in self._images[name])

    def set_words(self, words: list[str]) -> None:
        """Change the vocabulary of the running node, as `ros2 param set` does.

        Raises:
            Failure: no answer within 30 s, or the node refused the words.
        """
        parameter = Parameter('vocabulary', value=words).to_parameter_msg()
        answered = threading.Event()
        future = self._setter.call_async(SetParameters.Request(parameters=[parameter]))
        future.add_done_callback(lambda _: answered.set())
        if not answered.wait(30):
            raise Failure('the node did not answer to a new vocabulary')
        result = future.result().results[0]
        if not result.successful:
            raise Failure(f'the node refused the new vocabulary: {result.reason}')


def _stamp(message: Image) -> tuple[int, int]:
    return message.header.stamp.sec, message.header.stamp.nanosec
