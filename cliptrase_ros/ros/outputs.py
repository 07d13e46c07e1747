"""Outputs of one camera. All except the label mask are made only while somebody listens."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from typing import Any

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from ..media import drawing
from ..msg import ClassMaskArray
from ..segmenter import Segmentation, Segmenter
from ..space.geometry import fits
from ..words.vocabulary import Vocabulary
from . import messages
from .parameters import NodeOptions
from .publishers import Publishers

LABEL_MASK = 'label_mask'
# Number of label sizes whose segmenter is kept. A robot has fewer kinds of depth cameras.
SIZES = 8


@dataclass(frozen=True)
class Live:
    """The segmenter and the words that label images. Replaced as a whole."""

    segmenter: Segmenter
    words: Vocabulary
    version: int

    def sized(self, size: tuple[int, int] | None) -> Live:
        """Return the same with labels of another size (H, W). None keeps the size."""
        return self if size is None else replace(self, segmenter=self._resized(size))

    def facts(self) -> dict[str, Any]:
        """Return the values for diagnostics."""
        settings = self.segmenter.settings
        return {
            'model': f'{settings.model} ({settings.weights})',
            'method': settings.method,
            'device': self.segmenter.backbone.device,
            'vocabulary version': self.version,
            'vocabulary classes': len(self.words.classes),
            'background words': len(self.words.background),
        }

    @cached_property
    def _resized(self) -> Callable[[tuple[int, int]], Segmenter]:
        """Function that returns the segmenter for a size (H, W), made once for each size."""
        segmenter = self.segmenter  # not self: a reference cycle would free the model late
        return lru_cache(SIZES)(lambda size: segmenter.replace(output_size=f'{size[1]}x{size[0]}'))


@dataclass(frozen=True)
class LabelledFrame:
    """An image, its labels, and what they were made with."""

    image: np.ndarray
    header: Header
    result: Segmentation
    live: Live
    options: NodeOptions
    camera_info: CameraInfo | None

    @property
    def colors(self) -> np.ndarray:
        """The labels in class colours, [H, W, 3] uint8 RGB."""
        return drawing.colorize(self.result.labels, self.live.words)

    @cached_property
    def seen(self) -> np.ndarray:
        """The labelled part of the image, at the size of the labels: [H, W, 3] uint8 RGB."""
        return self.live.segmenter.view(self.image)

    @cached_property
    def overlay(self) -> np.ndarray:
        """The image with class colours, [H, W, 3] uint8 RGB."""
        alpha = self.options.overlay_alpha
        return drawing.overlay(self.seen, self.result.labels, self.live.words, alpha)


class Outputs:
    """The publishers of one camera that need no depth."""

    def __init__(self, node: Node, prefix: str, options: NodeOptions):
        self._node = node
        self._options = options
        self._publishers = Publishers(node, prefix, options)
        kinds: dict[str, tuple[type, Callable[[LabelledFrame], Any]]] = {
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
        self._publishers.make(Image, LABEL_MASK)
        for topic, (kind, _) in kinds.items():
            self._publishers.make(kind, topic)
        self._makers = {topic: make for topic, (_, make) in kinds.items()}
        self._masks: dict[str, Callable[[LabelledFrame], Any]] = {}

    def add_topics(self, topics: Iterable[str]) -> None:
        """Make a topic ~/mask/TOPIC for each. Nothing is published on it yet."""
        for topic in topics:
            self._publishers.add(Image, f'mask/{topic}')

    def switch(self, topics: Mapping[str, int]) -> None:
        """Publish these masks from now on: topic (already made) -> id of the class."""
        self._masks = {
            f'mask/{topic}': partial(_class_mask, number) for topic, number in topics.items()
        }

    def drop_topics(self) -> None:
        """Destroy the mask topics that are no longer used."""
        self._publishers.keep(self._masks)

    def wanted(self) -> dict[str, Callable[[LabelledFrame], Any]]:
        """Return topic -> function that makes its message, for the label mask and for each output
        that somebody listens to."""
        optional = self._publishers.wanted(self._makers | self._masks)
        return {LABEL_MASK: self._whole_mask} | optional

    def publish(self, messages: Mapping[str, Any]) -> dict[str, Exception]:
        """Publish messages by topic. Return the errors by topic."""
        return self._publishers.publish(messages)

    def destroy(self) -> None:
        """Destroy the publishers."""
        self._publishers.destroy()

    def _whole_mask(self, it: LabelledFrame) -> Image:
        options = self._options
        return messages.label_mask(
            it.result, it.header, options.label_encoding, options.unlabeled_id
        )

    def _camera_info(self, it: LabelledFrame) -> CameraInfo | None:
        if not it.camera_info or not (it.camera_info.width and it.camera_info.height):
            self._node.get_logger().warning(
                'camera_info is not published: no calibration has come from the camera',
                throttle_duration_sec=5.0,
            )
            return None
        image_size = it.image.shape[:2]
        if not fits(it.camera_info, image_size):
            return None  # the stream has told it
        size, matrix = it.live.segmenter.view_geometry(image_size)
        return messages.moved_camera_info(it.camera_info, image_size, size, matrix, it.header)


def _class_mask(number: int, it: LabelledFrame) -> Image:
    return messages.class_mask(it.result, number, it.header)
