"""What the demo hears: camera, truth, and what the segmentation node publishes."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass

from rcl_interfaces.srv import SetParameters
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.time import Time
from sensor_msgs.msg import Image

from ..errors import CliptraseError
from ..msg import Vocabulary
from .qos import LATCHED

CAMERA = '/camera/image_raw'
TRUTH = '/ground_truth/label_mask'
# Pictures beside a label image that are kept for a moment: 20 s at 5 Hz.
_RECENT = 100


class Failure(CliptraseError):
    """What the demo promises did not happen."""


@dataclass(frozen=True, eq=False)
class Labelled:
    """One label image.

    Attributes:
        mask: as it came.
        truth: the true labels of the same stamp, or None.
        version: of the newest vocabulary heard of when it came.
        arrival_s: on the monotonic clock.
        delay_s: from the camera's stamp to here.
    """

    mask: Image
    truth: Image | None
    version: int
    arrival_s: float
    delay_s: float


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A label image with all that belongs to it."""

    labelled: Labelled
    camera: Image
    confidence: Image
    overlay: Image


class Recent:
    """The last images of a topic, by stamp."""

    def __init__(self):
        self._images: OrderedDict[tuple[int, int], Image] = OrderedDict()
        self.stamps_s: list[float] = []

    def keep(self, message: Image) -> None:
        """Add one; the oldest goes."""
        stamp = message.header.stamp
        self._images[stamp.sec, stamp.nanosec] = message
        self.stamps_s.append(stamp.sec + 1e-9 * stamp.nanosec)
        while len(self._images) > _RECENT:
            self._images.popitem(last=False)

    def beside(self, mask: Image) -> Image | None:
        """The image with the mask's stamp."""
        return self._images.get((mask.header.stamp.sec, mask.header.stamp.nanosec))


class Collector(Node):
    """Subscribes as a consumer would and keeps what is needed for the report."""

    def __init__(self):
        super().__init__('collector')
        self.labelled: list[Labelled] = []
        self.vocabularies: list[Vocabulary] = []
        self.truth_vocabularies: list[Vocabulary] = []
        self.camera, self._truth = Recent(), Recent()
        self._confidence, self._overlay = Recent(), Recent()
        self._listening = False
        self.create_subscription(
            Vocabulary, '/segmentation/vocabulary', self._take_vocabulary, LATCHED
        )
        self.create_subscription(
            Vocabulary, '/ground_truth/vocabulary', self.truth_vocabularies.append, LATCHED
        )
        for topic, recent in (
            (TRUTH, self._truth),
            ('/segmentation/confidence', self._confidence),
            ('/segmentation/overlay', self._overlay),
        ):
            self.create_subscription(Image, topic, recent.keep, 10)
        self.create_subscription(Image, '/segmentation/label_mask', self._take_mask, 10)
        self._setter = self.create_client(SetParameters, '/segmentation/set_parameters')

    def _take_vocabulary(self, words: Vocabulary) -> None:
        self.vocabularies.append(words)
        if not self._listening:
            # Not before: the camera waits for its first subscriber, which is to be the node.
            self._listening = True
            self.create_subscription(Image, CAMERA, self.camera.keep, 10)

    def _take_mask(self, mask: Image) -> None:
        stamp = Time.from_msg(mask.header.stamp, clock_type=self.get_clock().clock_type)
        delay_s = (self.get_clock().now() - stamp).nanoseconds * 1e-9
        version = self.vocabularies[-1].version if self.vocabularies else 0
        truth = self._truth.beside(mask)
        self.labelled.append(Labelled(mask, truth, version, time.monotonic(), delay_s))

    def snapshot(self) -> Snapshot | None:
        """The newest label image with its picture, confidence and overlay; None before the first.

        They come after the label image, so it is mostly the last but one.
        """
        for labelled in reversed(self.labelled[-_RECENT:]):
            topics = self.camera, self._confidence, self._overlay
            beside = [recent.beside(labelled.mask) for recent in topics]
            if None not in beside:
                return Snapshot(labelled, *beside)
        return None

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
