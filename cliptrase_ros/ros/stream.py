"""One camera of the node: what comes in, what of it is worked on, and its numbers."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from ..errors import CliptraseError, SettingError
from ..model.preprocessing import check_image
from ..space.geometry import same_view
from ..space.groups import Group
from ..video.roster import Roster
from ..video.smoothing import Smoother
from ..words.vocabulary import WordClass
from . import diagnostics, messages, qos
from .configured import configured
from .outputs import Live, Outputs
from .parameters import NodeOptions
from .space.depth_input import DepthInput
from .space.depth_outputs import SpaceOutputs
from .space.pairing import Expected
from .statistics import Statistics

LOG_PERIOD_S = 5.0
# How long the first depth image may take.
FIRST_DEPTH_S = 2.0

_NAME = re.compile('[A-Za-z][A-Za-z0-9_]*')


@dataclass(frozen=True, eq=False)
class Frame:
    """A received image and when it came."""

    stream: Stream
    message: Image | CompressedImage
    received_s: float
    # Which subscription it came by.
    epoch: int
    # Its depth image, where depth is listened to.
    depth: Expected | None = None


class Stream:
    """The subscriptions, publishers and statistics of one camera; '' is one without a name.

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
        self.smooth = Smoother()
        self.roster = Roster()
        self.camera_info: CameraInfo | None = None
        self.topic: str | None = None
        self.seen = ''
        # The names of the words in the newest picture, where that is found out.
        self.present: str | None = None
        self.epoch = 0
        # The newest sentence of each kind, for diagnostics.
        self.reasons: dict[str, str] = {}
        self._node = node
        self._prefix = f'{name}/' if name else ''
        self._outputs: Outputs | None = None
        self._space: SpaceOutputs | None = None
        self._subscriptions: list = []
        self._quiet_until_s: dict[str, float] = {}
        self._due_s = 0.0
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
        """The publishers that need no depth, while the node is configured."""
        return configured(self._outputs)

    @property
    def space(self) -> SpaceOutputs:
        """Those that need depth, while the node is configured."""
        return configured(self._space)

    def add_topics(self, classes: Iterable[str], groups: Iterable[str] = ()) -> None:
        """Make the topics of these classes and groups (their last parts); nothing is published
        there yet."""
        self.outputs.add_topics(classes)
        self.space.add_topics([*classes, *groups])

    def switch(self, classes: Mapping[str, WordClass], groups: Mapping[str, Group]) -> None:
        """From now on publish masks and clouds of these classes and groups, by topic; where both
        have one topic, the cloud is that of the group."""
        own = {topic: Group(c.name, (c.name,)) for topic, c in classes.items()}
        self.outputs.switch({topic: c.id for topic, c in classes.items()})
        self.space.switch(own | dict(groups))

    def drop_topics(self) -> None:
        """Destroy the topics that are no longer used."""
        self.outputs.drop_topics()
        self.space.drop_topics()

    def subscribe(self, options: NodeOptions, take: Callable[[Stream, Any], None]) -> None:
        """Subscribe; each image goes to take(stream, message)."""
        node = self._node
        kind, topic = Image, node.resolve_topic_name(f'{self._prefix}image')
        if options.image_transport == 'compressed':
            kind, topic = CompressedImage, f'{topic}/compressed'
        image = node.create_subscription(
            kind,
            topic,
            lambda message: take(self, message),
            qos.newest(options.input_reliability),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )
        info = node.create_subscription(
            CameraInfo,
            f'{self._prefix}camera_info',
            self._take_info,
            qos.newest(options.input_reliability),
        )
        self._subscriptions = [image, info]
        self.depth.subscribe(options.input_reliability)
        self.epoch += 1
        self.topic = image.topic_name
        self.statistics.count(diagnostics.LISTENING)
        node.get_logger().info(f'listening to {self.topic}')

    def unsubscribe(self) -> None:
        """Drop the subscriptions."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions, self.topic = [], None
        self.depth.unsubscribe()

    def frame(self, message: Image | CompressedImage) -> Frame:
        """An image that has just come."""
        expected = self.depth.expect(messages.nanoseconds(message.header))
        return Frame(self, message, time.monotonic(), self.epoch, expected)

    def label_size(self, live: Live, image: np.ndarray) -> tuple[int, int] | None:
        """(H, W) of an image's labels where it is that of the depth image, as far as one has come;
        None: the usual one."""
        if live.segmenter.settings.output_size != 'depth':
            return None
        size = self.depth.size
        if size is None and self.statistics.age(diagnostics.DEPTH_LISTENING) < FIRST_DEPTH_S:
            return None
        if size is None or not same_view(size, image.shape[:2]):
            self.warn(
                diagnostics.DEPTH_NO_SIZE,
                f'output_size: depth, but no depth image in the view of {self.topic} has come; its '
                'labels have the size of the image',
            )
            return None
        return size

    def health(self) -> diagnostics.Health:
        """(level, sentence) for diagnostics; silence is told in the log, too."""
        silence = ''
        if self.topic and diagnostics.silent(self.statistics):
            silence = diagnostics.silence(self._node, self._subscriptions[0])
            self.warn(diagnostics.SILENT, silence)
        no_depth = self.depth.silence()
        if no_depth:
            self.warn(diagnostics.DEPTH_SILENT, no_depth)
        return diagnostics.of_camera(
            self.statistics, bool(self.topic), silence, self.reasons, no_depth
        )

    def facts(self) -> dict[str, str]:
        """What comes in, for diagnostics."""
        facts = {'topic': self.topic or '', 'image': self.seen, **self.depth.facts()}
        if self.present is not None:
            facts['words in the picture'] = self.present
        return facts

    def due(self, max_rate_hz: float) -> bool:
        """Whether an image that comes now is worked on, so that the mean rate is not above this;
        0: every image is."""
        if not max_rate_hz:
            return True
        now, period = time.monotonic(), 1 / max_rate_hz
        if now < self._due_s:
            return False
        self._due_s = max(self._due_s, now - period) + period
        return True

    def read(
        self, frame: Frame, options: NodeOptions, to_rgb: Callable[[Any], np.ndarray]
    ) -> np.ndarray | None:
        """The image [H, W, 3] uint8 RGB, or None if it is too old.

        Raises:
            ImageError, ShapeError: the message does not hold an image that can be segmented.
        """
        message = frame.message
        stamp_ns = messages.nanoseconds(message.header)
        if stamp_ns < self._stamp_ns:
            self.smooth.forget()
            self.roster.forget()
            back_s = (self._stamp_ns - stamp_ns) * 1e-9
            self.warn(
                diagnostics.STAMP_WENT_BACK,
                f'a stamp on {self.topic} went back by {back_s:.3f} s: a bag that begins again, or '
                'two publishers?',
            )
        self._stamp_ns = stamp_ns
        age_s = self.age_s(frame)
        if options.max_age_s and age_s > options.max_age_s:
            self.warn(
                diagnostics.DROPPED_OLD,
                f'an image on {self.topic} is {age_s:.3f} s old by its stamp, more than max_age_s '
                f'{options.max_age_s:g}: is its clock that of this node, and use_sim_time right?',
            )
            return None
        image = to_rgb(message)
        check_image(image)
        encoding = getattr(message, 'encoding', None) or message.format
        self.seen = f'{image.shape[1]} x {image.shape[0]} {encoding}'
        return image

    def age_s(self, frame: Frame) -> float:
        """Time since the stamp, by the node's clock."""
        now_ns = self._node.get_clock().now().nanoseconds
        return (now_ns - messages.nanoseconds(frame.message.header)) * 1e-9

    def warn(self, event: str, reason: str) -> None:
        """Count an event, keep its reason for diagnostics, and log it from time to time."""
        if self._tell(event, reason):
            self._node.get_logger().warning(reason)

    def fail(self, event: str, outcome: str, error: Exception) -> None:
        """As `warn`, for errors and what came of them."""
        known = isinstance(error, CliptraseError)
        text = str(error) if known else f'{type(error).__name__}: {error}'
        if self._tell(event, f'{outcome}, {text}'):
            self._node.get_logger().error(f'{outcome}, {text}')

    def _tell(self, event: str, reason: str) -> bool:
        """Whether it is time to log an event of this kind (rclpy's throttle knows no kinds)."""
        self.reasons[event] = reason
        self.statistics.count(event)
        now = time.monotonic()
        if now < self._quiet_until_s.get(event, 0.0):
            return False
        self._quiet_until_s[event] = now + LOG_PERIOD_S
        return True

    def _take_info(self, message: CameraInfo) -> None:
        self.camera_info = message
