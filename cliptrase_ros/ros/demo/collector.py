"""The demo's subscriber: receives camera, truth, and what the segmentation node publishes."""

from __future__ import annotations

import itertools
import threading
import time
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from rcl_interfaces.srv import SetParameters
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.time import Time
from sensor_msgs.msg import Image, PointCloud2, PointField

from ...demo.things import THINGS
from ...errors import CliptraseError
from ...media import encodings
from ...msg import ObjectArray, Vocabulary
from ..qos import LATCHED

CAMERA = '/camera/image_raw'
DEPTH = '/camera/depth/image_rect'
TRUTH = '/ground_truth/label_mask'
# Number of recent messages kept to match them with a label image: 100 are 20 s at 5 Hz. Clouds are
# large, so only 8.
_RECENT, _RECENT_CLOUDS = 100, 8
# The film has the last images of each vocabulary, reduced to this height.
FILM_FRAMES, FILM_PX = 100, 300
POINT = {'x': 'f4', 'y': 'f4', 'z': 'f4', 'rgb': 'f4', 'confidence': 'f4', 'label': 'u1'}
_TYPES = {PointField.FLOAT32: 'f4', PointField.UINT8: 'u1'}


class Failure(CliptraseError):
    """Something that the demo promises did not happen."""


@dataclass(frozen=True, eq=False)
class HeardLabels:
    """One received label image.

    Attributes:
        mask: as received.
        truth: the true labels with the same stamp, or None.
        version: version of the newest vocabulary received before it.
        arrival_s: arrival on the monotonic clock.
        delay_s: time from the camera's stamp to arrival.
    """

    mask: Image
    truth: Image | None
    version: int
    arrival_s: float
    delay_s: float


@dataclass(frozen=True, eq=False)
class Cloud:
    """Measurements of one received cloud.

    Attributes:
        arrival_s: arrival on the monotonic clock.
        delay_s: time from the camera's stamp to arrival.
        valid: share of its points that are not NaN, 0..1.
        error_mm: (largest, 99th percentile) of |z - true depth| over its labelled points; None
            without a truth or without such points.
    """

    arrival_s: float
    delay_s: float
    valid: float
    error_mm: tuple[float, float] | None


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A label image with the messages that belong to it. There is a cloud only with depth."""

    labelled: HeardLabels
    camera: Image
    confidence: Image
    overlay: Image
    cloud: PointCloud2 | None = None


@dataclass(frozen=True, eq=False)
class FilmFrame:
    """One image of the film: camera and overlay [h, w, 3] uint8 RGB, not larger than needed."""

    stamp: tuple[int, int]
    camera: np.ndarray
    overlay: np.ndarray


class Recent:
    """The last messages of a topic, by stamp."""

    def __init__(self, size: int = _RECENT):
        self._messages: OrderedDict[tuple[int, int], Image | PointCloud2] = OrderedDict()
        self._size = size
        self.stamps_s: list[float] = []

    def keep(self, message: Image | PointCloud2) -> None:
        """Add a message. If there are too many, drop the oldest."""
        stamp = message.header.stamp
        self._messages[_stamp(message)] = message
        self.stamps_s.append(stamp.sec + 1e-9 * stamp.nanosec)
        while len(self._messages) > self._size:
            self._messages.popitem(last=False)

    def beside(self, other: Image | PointCloud2) -> Image | PointCloud2 | None:
        """Return the message with the stamp of `other`, or None."""
        return self._messages.get(_stamp(other))


def _stamp(message: Image | PointCloud2) -> tuple[int, int]:
    return message.header.stamp.sec, message.header.stamp.nanosec


def pixels_of(mask: Image) -> np.ndarray:
    """Return [H, W] uint8 of an unpadded mono8 image.

    Raises:
        Failure: it has another encoding.
    """
    if mask.encoding != 'mono8':
        raise Failure(f'encoding of a label image: expected mono8, got {mask.encoding}')
    return np.frombuffer(mask.data, np.uint8).reshape(mask.height, mask.width)


def ids_of(mask: Image) -> set[int]:
    """Return the ids in a label image. Errors: as pixels_of."""
    return set(np.unique(pixels_of(mask)).tolist())


def points_of(cloud: PointCloud2) -> np.ndarray:
    """Return the points [H, W] of a cloud as a structured array: x, y, z in metres (NaN where there
    is no point), rgb, confidence, label.

    Raises:
        Failure: the cloud has other fields, types or number of bytes, or padded rows.
    """
    fields = {field.name: _TYPES.get(field.datatype) for field in cloud.fields}
    if fields != POINT:
        raise Failure(f'a cloud has unexpected fields: {fields}')
    size = cloud.height * cloud.width * cloud.point_step
    if cloud.row_step * cloud.height != size or len(cloud.data) != size:
        raise Failure('a cloud has padded rows, or a number of bytes that does not fit its size')
    order = '>' if cloud.is_bigendian else '<'
    point = np.dtype(
        {
            'names': list(fields),
            'formats': [order + POINT[name] for name in fields],
            'offsets': [field.offset for field in cloud.fields],
            'itemsize': cloud.point_step,
        }
    )
    return np.frombuffer(cloud.data, point).reshape(cloud.height, cloud.width)


def depth_error_mm(points: np.ndarray, depth: Image) -> tuple[float, float] | None:
    """Return (largest, 99th percentile) of |z - depth| in mm over the labelled points of a cloud
    [H, W], or None if there is no such point. `depth` is the true depth in metres.

    Raises:
        Failure: the sizes differ, or a labelled point has no true depth.
    """
    true_m = encodings.depth(depth)
    if true_m.shape != points.shape:
        raise Failure(f'a cloud has {points.shape} points, but depth has {true_m.shape} pixels')
    labelled = (points['label'] > 0) & np.isfinite(points['z'])
    if not labelled.any():
        return None
    off_mm = 1e3 * np.abs(points['z'][labelled].astype(np.float64) - true_m[labelled])
    if np.isnan(off_mm).any():
        raise Failure('a cloud has labelled points at pixels without depth')
    return float(off_mm.max()), float(np.percentile(off_mm, 99))


def _reduced(picture: np.ndarray) -> np.ndarray:
    height, width = picture.shape[:2]
    if height <= FILM_PX:
        return picture
    size = round(width * FILM_PX / height), FILM_PX
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


class Collector(Node):
    """Subscribes like a consumer, and keeps what the report needs.

    Args:
        clouds: True if the node has depth and publishes clouds and objects.
        true_depth: True if the camera's depth is the truth.
    """

    def __init__(self, clouds: bool = False, true_depth: bool = False):
        super().__init__('collector')
        self.labelled: list[HeardLabels] = []
        self.clouds: list[Cloud] = []
        # Number of objects in each message.
        self.object_counts: list[int] = []
        # Errors found in clouds. The thread that receives clouds continues.
        self.failures: list[Failure] = []
        self.vocabularies: list[Vocabulary] = []
        self.truth_vocabularies: list[Vocabulary] = []
        self.camera, self._truth = Recent(), Recent()
        self._confidence, self._overlay = Recent(), Recent()
        # Images of the film by version of the words.
        self._film: dict[int, deque[FilmFrame]] = defaultdict(lambda: deque(maxlen=FILM_FRAMES))
        self._depth, self._cloud = Recent(), Recent(_RECENT_CLOUDS)
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
        ):
            self.create_subscription(Image, topic, recent.keep, 10)
        self.create_subscription(Image, '/segmentation/overlay', self._take_overlay, 10)
        self.create_subscription(Image, '/segmentation/label_mask', self._take_mask, 10)
        if true_depth:
            self.create_subscription(Image, DEPTH, self._depth.keep, 10)
        if clouds:
            self.create_subscription(PointCloud2, '/segmentation/points', self._take_cloud, 2)
            self.create_subscription(ObjectArray, '/segmentation/objects', self._take_objects, 10)
        self._setter = self.create_client(SetParameters, '/segmentation/set_parameters')

    def _take_vocabulary(self, words: Vocabulary) -> None:
        self.vocabularies.append(words)
        if not self._listening:
            # Not earlier: the camera waits for its first subscriber, which must be the node.
            self._listening = True
            self.create_subscription(Image, CAMERA, self.camera.keep, 10)

    def _take_mask(self, mask: Image) -> None:
        version = self.vocabularies[-1].version if self.vocabularies else 0
        truth = self._truth.beside(mask)
        self.labelled.append(
            HeardLabels(mask, truth, version, time.monotonic(), self._delay_s(mask))
        )

    def _take_overlay(self, overlay: Image) -> None:
        self._overlay.keep(overlay)
        camera = self.camera.beside(overlay)
        if camera and self.vocabularies:
            small = (_reduced(encodings.to_rgb(image)) for image in (camera, overlay))
            version = self.vocabularies[-1].version
            self._film[version].append(FilmFrame(_stamp(overlay), *small))

    def _take_cloud(self, cloud: PointCloud2) -> None:
        arrival_s, delay_s = time.monotonic(), self._delay_s(cloud)
        self._cloud.keep(cloud)
        try:
            points, depth = points_of(cloud), self._depth.beside(cloud)
            error_mm = depth_error_mm(points, depth) if depth else None
        except Failure as failure:
            self.failures.append(failure)
            return
        valid = float(np.isfinite(points['z']).mean())
        self.clouds.append(Cloud(arrival_s, delay_s, valid, error_mm))

    def _take_objects(self, message: ObjectArray) -> None:
        self.object_counts.append(len(message.objects))

    def _delay_s(self, message: Image | PointCloud2) -> float:
        """Return the seconds from the stamp to now."""
        stamp = Time.from_msg(message.header.stamp, clock_type=self.get_clock().clock_type)
        return (self.get_clock().now() - stamp).nanoseconds * 1e-9

    def snapshot(self) -> Snapshot | None:
        """Return the newest label image that has its picture, confidence, overlay and (if clouds
        come) cloud. Return None if there is none yet.

        These messages come after the label image, so it is usually the last but one.
        """
        for labelled in reversed(self.labelled[-_RECENT:]):
            topics = [self.camera, self._confidence, self._overlay]
            topics += [self._cloud] if self.clouds else []
            beside = [recent.beside(labelled.mask) for recent in topics]
            if None not in beside:
                return Snapshot(labelled, *beside)
        return None

    def words_of(self, labelled: HeardLabels) -> Vocabulary:
        """Return the vocabulary of a label image."""
        versions = {words.version: words for words in self.vocabularies}
        return versions.get(labelled.version, self.vocabularies[0])

    def truth_table(self, words: Vocabulary) -> np.ndarray:
        """Return [256] uint8: ids of the truth -> ids of the words."""
        ids = {c.name: c.id for c in words.classes}
        true_ids = {c.name: c.id for c in self.truth_vocabularies[-1].classes}
        table = np.zeros(256, np.uint8)
        for thing in THINGS:
            table[true_ids[thing.title]] = thing.id_in(ids)
        return table

    def filmed(self) -> Iterator[tuple[FilmFrame, Vocabulary, set[int]]]:
        """Yield the last FILM_FRAMES images of each vocabulary, with its words and the ids that
        are in the label image."""
        # Copies, because images go on coming while the film is made.
        labelled = {_stamp(one.mask): one for one in list(self.labelled)}
        films = [film.copy() for film in list(self._film.values())]
        for frame in itertools.chain.from_iterable(films):
            if frame.stamp in labelled:
                one = labelled[frame.stamp]
                words, ids = self.words_of(one), ids_of(one.mask)
                # Close to a change, a mask may have the words before or after it.
                if ids <= {0, *(c.id for c in words.classes)}:
                    yield frame, words, ids

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
            raise Failure('the node did not answer within 30 s to a new vocabulary')
        result = future.result().results[0]
        if not result.successful:
            raise Failure(f'the node refused the new vocabulary: {result.reason}')
