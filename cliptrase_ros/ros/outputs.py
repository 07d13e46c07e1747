"""What comes out for one camera; all but the label mask only while somebody listens."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from .. import draw
from ..msg import ClassMaskArray
from ..segmenter import Segmentation, Segmenter
from ..vocabulary import Vocabulary, WordClass
from . import messages, qos
from .parameters import NodeOptions


@dataclass(frozen=True)
class Live:
    """What images are labelled with; replaced as a whole."""

    segmenter: Segmenter
    words: Vocabulary
    version: int


@dataclass(frozen=True)
class Labelled:
    """An image, its labels, and what they were made with."""

    image: np.ndarray
    header: Header
    result: Segmentation
    live: Live
    options: NodeOptions
    camera_info: CameraInfo | None

    @property
    def colors(self) -> np.ndarray:
        """[H, W, 3] uint8 RGB."""
        return draw.colorize(self.result.labels, self.live.words)

    @cached_property
    def overlay(self) -> np.ndarray:
        """[H, W, 3] uint8 RGB."""
        seen = self.live.segmenter.view(self.image)
        return draw.overlay(seen, self.result.labels, self.live.words, self.options.overlay_alpha)


class Outputs:
    """The publishers of one camera."""

    def __init__(self, node: Node, prefix: str, options: NodeOptions):
        self._node = node
        self._prefix = f'~/{prefix}'
        self._options = options
        self._label_mask = self._publisher(Image, 'label_mask')
        makers = {
            'confidence': (Image, lambda it: messages.confidence(it.result, it.header)),
            'color_mask': (Image, lambda it: messages.picture(it.colors, it.header)),
            'overlay': (Image, lambda it: messages.picture(it.overlay, it.header)),
            'overlay/compressed': (
                CompressedImage,
                lambda it: messages.jpeg(it.overlay, it.header),
            ),
            'masks': (
                ClassMaskArray,
                lambda it: messages.class_masks(
                    it.result, it.live.words.classes, it.live.version, it.header
                ),
            ),
            'camera_info': (CameraInfo, self._camera_info),
        }
        self._optional = [
            (self._publisher(kind, topic), make) for topic, (kind, make) in makers.items()
        ]
        self._class_publishers: dict[str, Publisher] = {}
        self._masks: list[tuple[Publisher, Callable[[Labelled], Any]]] = []

    def add_topics(self, classes: Iterable[WordClass], topics: dict[str, str]) -> None:
        """Make a mask topic for each of these classes; nothing is published on it yet.

        Args:
            topics: name of a class -> the last part of its topic.
        """
        for c in classes:
            if c.name not in self._class_publishers:
                topic = f'{self._prefix}mask/{topics[c.name]}'
                publisher = self._node.create_publisher(Image, topic, self._qos())
                self._class_publishers[c.name] = publisher

    def drop_topics(self, classes: Iterable[WordClass]) -> None:
        """Destroy the mask topics of all classes but these."""
        for name in self._class_publishers.keys() - {c.name for c in classes}:
            self._node.destroy_publisher(self._class_publishers.pop(name))

    def switch(self, classes: Iterable[WordClass]) -> None:
        """From now on publish masks of these classes, whose topics have been made."""
        self._masks = [
            (
                self._class_publishers[c.name],
                lambda it, number=c.id: messages.class_mask(it.result, number, it.header),
            )
            for c in classes
        ]

    def publish(self, it: Labelled) -> None:
        """Publish the label mask, and what else is subscribed to.

        Raises:
            Exception: the first of the optional outputs' errors; the others are published.
        """
        options = self._options
        self._label_mask.publish(
            messages.label_mask(it.result, it.header, options.label_encoding, options.unlabeled_id)
        )
        errors = []
        for publisher, make in [*self._optional, *self._masks]:
            try:
                if publisher.get_subscription_count() and (message := make(it)):
                    publisher.publish(message)
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def destroy(self) -> None:
        """Destroy the publishers."""
        publishers = [self._label_mask, *(publisher for publisher, _ in self._optional)]
        publishers += self._class_publishers.values()
        for publisher in publishers:
            self._node.destroy_publisher(publisher)

    def _qos(self):
        return qos.newest(self._options.output_reliability, self._options.output_depth)

    def _publisher(self, kind: type, topic: str) -> Publisher:
        overridable = QoSOverridingOptions.with_default_policies()
        return self._node.create_publisher(
            kind, self._prefix + topic, self._qos(), qos_overriding_options=overridable
        )

    def _camera_info(self, it: Labelled) -> CameraInfo | None:
        if not it.camera_info or not (it.camera_info.width and it.camera_info.height):
            self._node.get_logger().warning(
                'camera_info is asked for, but no calibration has come from the camera',
                throttle_duration_sec=5.0,
            )
            return None
        image_size = it.image.shape[:2]
        size, matrix = it.live.segmenter.view_geometry(image_size)
        return messages.moved_camera_info(it.camera_info, image_size, size, matrix, it.header)


def topic_name(name: str) -> str:
    """A class's name as part of a topic, [a-z][a-z0-9_]*; '' if nothing of it can stay."""
    plain = unicodedata.normalize('NFKD', name).encode('ascii', 'ignore').decode().lower()
    plain = re.sub('[^a-z0-9]+', '_', plain).strip('_')[:60].rstrip('_')
    return f'class_{plain}' if plain[:1].isdigit() else plain


def topic_names(classes: Iterable[WordClass], known: dict[str, str]) -> dict[str, str]:
    """Name -> topic, as `known` with those of new classes; no two alike, and none ever moves."""
    topics = dict(known)
    for c in classes:
        if c.name not in topics:
            topic = topic_name(c.name) or f'class_{c.id}'
            while topic in topics.values():
                topic += f'_{c.id}'
            topics[c.name] = topic
    return topics
