"""One camera of the node: its input, the choice of images to segment, and its statistics."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from ..errors import CliptraseError, SettingError
from ..model.preprocessing import check_image
from ..settings import Off
from ..space.geometry import calibrated_size, fits, same_view
from ..space.groups import Group
from ..video.steady import Steady
from ..words.vocabulary import WordClass
from . import diagnostics, messages
from .calibration import Calibration
from .configured import configured
from .image_input import ImageInput
from .outputs import Live, Outputs
from .parameters import NodeOptions
from .space.depth_input import DepthInput
from .space.depth_outputs import SpaceOutputs
from .space.pairing import Expected
from .statistics import Statistics

LOG_PERIOD_S = 5.0
# In this time after subscribing to depth, a missing depth image causes no warning.
FIRST_DEPTH_S = 2.0

_NAME = re.compile('[A-Za-z][A-Za-z0-9_]*')


@dataclass(frozen=True, eq=False)
class Frame:
    """A received image and the time when it came."""

    stream: Stream
    message: Image | CompressedImage
    received_s: float
    # Number of the subscription that received it.
    epoch: int
    # Its depth image, if the node listens to depth.
    depth: Expected | None = None


class Stream:
    """The subscriptions, publishers and statistics of one camera. The name '' means no prefix.

    Raises:
        SettingError: the name cannot be part of a topic.
    """

    def __init__(self, node: Node, name: str, depth_changed: Callable[[], None]):
        if name and not _NAME.fullmatch(name):
            raise SettingError(
                f'cameras: {name!r} cannot be part of a topic; use letters, digits and _'
            )
        self.name = name
        self.statistics = Statistics()
        self.steady = Steady()
        self.seen = ''
        self._info_seen = ''
        # (H, W) of the newest image.
        self.size: tuple[int, int] | None = None
        # Names of the words in the newest picture; None if they are not determined.
        self.present: str | None = None
        self.epoch = 0
        # The newest sentence of each event, for diagnostics.
        self.reasons: dict[str, str] = {}
        self._node = node
        self._prefix = f'{name}/' if name else ''
        self._outputs: Outputs | None = None
        self._space: SpaceOutputs | None = None
        self._quiet_until_s: dict[str, float] = {}
        self._due_s = 0.0
        self._images = ImageInput(node, f'{self._prefix}image')
        self._calibration = Calibration(node, f'{self._prefix}camera_info')
        self.depth = DepthInput(node, self._prefix, self.statistics, self.warn, depth_changed)
        self._stamp_ns = 0

    def open(self, options: NodeOptions) -> None:
        """Make the publishers."""
        self._outputs = Outputs(self._node, self._prefix, options)
        self._space = SpaceOutputs(self._node, self._prefix, options)

    def close(self) -> None:
        """Destroy subscriptions and publishers."""
        self.unsubscribe()
        if self._outputs:
            self._outputs.destroy()
        if self._space:
            self._space.destroy()
        self._outputs = self._space = None

    @property
    def outputs(self) -> Outputs:
        """The publishers that need no depth. They exist while the node is configured."""
        return configured(self._outputs)

    @property
    def space(self) -> SpaceOutputs:
        """The publishers that need depth. They exist while the node is configured."""
        return configured(self._space)

    def add_topics(self, classes: Iterable[str], groups: Iterable[str] = ()) -> None:
        """Make the topics of these classes and groups, given by the last part of the topic. Nothing
        is published there yet."""
        self.outputs.add_topics(classes)
        self.space.add_topics([*classes, *groups])

    def switch(self, classes: Mapping[str, WordClass], groups: Mapping[str, Group]) -> None:
        """Publish masks and clouds of these classes and groups from now on, by topic. If a class
        and a group have the same topic, the cloud is that of the group."""
        own = {topic: Group(c.name, (c.name,)) for topic, c in classes.items()}
        self.outputs.switch({topic: c.id for topic, c in classes.items()})
        self.space.switch(own | dict(groups))

    def drop_topics(self) -> None:
        """Destroy the topics that are no longer used."""
        self.outputs.drop_topics()
        self.space.drop_topics()

    def subscribe(self, options: NodeOptions, take: Callable[[Stream, Any], None]) -> None:
        """Subscribe. Each image is passed to take(stream, message)."""
        self._images.subscribe(options, lambda message: take(self, message))
        self._calibration.subscribe()
        self.depth.subscribe(options.qos.input_reliability)
        self.epoch += 1
        self.statistics.count(diagnostics.LISTENING)

    def unsubscribe(self) -> None:
        """Destroy the subscriptions."""
        self._images.unsubscribe()
        self._calibration.unsubscribe()
        self.depth.unsubscribe()

    def follow(self) -> None:
        """Listen to what is published, with `image_transport: auto`."""
        if self._images.follow(diagnostics.silent(self.statistics)):
            self.epoch += 1

    @property
    def topic(self) -> str | None:
        """The topic of the images, while the node listens."""
        return self._images.topic

    @property
    def camera_info(self) -> CameraInfo | None:
        """The newest calibration."""
        return self._calibration.newest

    def frame(self, message: Image | CompressedImage) -> Frame:
        """Return the frame of an image that has just come."""
        expected = self.depth.expect(messages.nanoseconds(message.header))
        return Frame(self, message, time.monotonic(), self.epoch, expected)

    def label_size(self, live: Live, image: np.ndarray) -> tuple[int, int] | None:
        """Return (H, W) of the depth image if the labels should have that size and a depth image
        has come, otherwise None: the usual size."""
        if live.segmenter.settings.output_size != 'depth':
            return None
        size = self.depth.size
        if size is None and self.statistics.age(diagnostics.DEPTH_LISTENING) < FIRST_DEPTH_S:
            return None
        if size is None or not same_view(size, image.shape[:2]):
            self.warn(
                diagnostics.DEPTH_NO_SIZE,
                f'output_size: depth, but no depth image in the view of {self.topic} has come: '
                'labels use the image size',
            )
            return None
        return size

    def health(self, waiting: str = '') -> diagnostics.Health:
        """Return (level, sentence) for diagnostics. Also log a warning if nothing comes.

        Args:
            waiting: sentence about the nodes that the node waits for, or ''.
        """
        silence = ''
        if self.topic and diagnostics.silent(self.statistics):
            silence = self._images.silence()
            self.warn(diagnostics.SILENT, silence)
        no_depth = self.depth.silence()
        if no_depth:
            self.warn(diagnostics.DEPTH_SILENT, no_depth)
        return diagnostics.of_camera(
            self.statistics, bool(self.topic), silence, self.reasons, no_depth, waiting
        )

    def facts(self) -> dict[str, str]:
        """Return the values about the input, for diagnostics."""
        facts = {'topic': self.topic or '', 'image': self.seen, 'camera_info': self._info_seen}
        facts |= self.depth.facts() | diagnostics.decay(self.statistics)
        if self.present is not None:
            facts['words in the picture'] = self.present
        return facts

    def due(self, max_rate_hz: float | Off) -> bool:
        """Return True if an image that comes now should be segmented. This keeps the mean rate at
        or below `max_rate_hz`; 'none' means no limit."""
        if max_rate_hz == 'none':
            return True
        now, period = time.monotonic(), 1 / max_rate_hz
        if now < self._due_s:
            return False
        self._due_s = max(self._due_s, now - period) + period
        return True

    def read(
        self, frame: Frame, options: NodeOptions, to_rgb: Callable[[Any], np.ndarray]
    ) -> np.ndarray | None:
        """Return the image [H, W, 3] uint8 RGB, or None if it is too old.

        Raises:
            ImageError, ShapeError: the message holds no image that can be segmented.
        """
        message = frame.message
        stamp_ns = messages.nanoseconds(message.header)
        if stamp_ns < self._stamp_ns:
            self.steady.forget()
            back_s = (self._stamp_ns - stamp_ns) * 1e-9
            self.warn(
                diagnostics.STAMP_WENT_BACK,
                f'a stamp on {self.topic} went back by {back_s:.3f} s: a bag started again, or '
                'there are two publishers',
            )
        self._stamp_ns = stamp_ns
        age_s = self.age_s(frame)
        if options.max_age_s != 'none' and age_s > options.max_age_s:
            self.warn(
                diagnostics.DROPPED_OLD,
                f'dropped an image on {self.topic}: it is {age_s:.3f} s old by its stamp, more '
                f'than max_age_s {options.max_age_s:g}. Check that camera and node use the same '
                'clock, and check use_sim_time',
            )
            return None
        image = to_rgb(message)
        check_image(image)
        encoding = getattr(message, 'encoding', None) or message.format
        self.size = height, width = image.shape[:2]
        self.seen = f'{width} x {height} {encoding}'
        self._check_info()
        return image

    def _check_info(self) -> None:
        """Note the size of the calibration. Warn if it is for another view."""
        info, size = self.camera_info, self.size
        if info is None or size is None or not (info.width and info.height):
            return
        expected = calibrated_size(info)
        self._info_seen = f'{expected[1]} x {expected[0]}'
        if fits(info, size):
            self._info_seen += '' if expected == size else f', scaled to {size[1]} x {size[0]}'
            return
        self._info_seen += ', not used'
        self.warn_once(
            diagnostics.INFO_OTHER_SIZE,
            f'camera_info on {self._calibration.topic} is for images of {expected[1]} x '
            f'{expected[0]} px, but those on {self.topic} have {size[1]} x {size[0]} px, which is '
            'not the same view in another size. It is not used: publish the camera_info of these '
            'images',
        )

    def age_s(self, frame: Frame) -> float:
        """Return the seconds since the stamp, by the node's clock."""
        now_ns = self._node.get_clock().now().nanoseconds
        return (now_ns - messages.nanoseconds(frame.message.header)) * 1e-9

    def warn(self, event: str, reason: str) -> None:
        """Count an event, keep its reason for diagnostics, and log it once in LOG_PERIOD_S."""
        if self._tell(event, reason):
            self._node.get_logger().warning(reason)

    def warn_once(self, event: str, reason: str) -> None:
        """Do the same as `warn`, but log only if the reason is another than before."""
        if self.reasons.get(event) != reason:
            self._node.get_logger().warning(reason)
        self.reasons[event] = reason
        self.statistics.count(event)

    def fail(self, event: str, outcome: str, error: Exception) -> None:
        """Do the same as `warn` for an error. `outcome` says what the error caused."""
        known = isinstance(error, CliptraseError)
        text = str(error) if known else f'{type(error).__name__}: {error}'
        if self._tell(event, f'{outcome}: {text}'):
            self._node.get_logger().error(f'{outcome}: {text}')

    def _tell(self, event: str, reason: str) -> bool:
        """Count the event and return True if it should be logged now. (rclpy's throttle cannot
        distinguish kinds of events.)"""
        self.reasons[event] = reason
        self.statistics.count(event)
        now = time.monotonic()
        if now < self._quiet_until_s.get(event, 0.0):
            return False
        self._quiet_until_s[event] = now + LOG_PERIOD_S
        return True
