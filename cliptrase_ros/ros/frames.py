"""Segments images on a separate thread: the newest image of each camera, as a batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from rclpy.node import Node

from ..encoder import EncodedImage
from ..errors import ImageError, ShapeError
from ..runtime import memory
from ..segmenter import Segmenter
from . import diagnostics
from .live_words import LiveWords
from .outputs import LABEL_MASK, LabelledFrame, Live
from .parameters import NodeOptions
from .publishers import OutputError, each
from .scenes import SceneWorker
from .stream import Frame, Stream
from .worker import Worker

# How many times an image may be labelled again because the words changed. After that, the next
# change waits until the image is published.
FREE_TRIES = 2


class Taken(NamedTuple):
    """An image [H, W, 3] uint8 RGB, and the size (H, W) of its labels; None: the default size."""

    frame: Frame
    image: np.ndarray
    size: tuple[int, int] | None


class FrameWorker:
    """Segments and publishes images until it is stopped.

    Args:
        options: called for the options of the moment.
        to_rgb: message -> [H, W, 3] uint8 RGB.
    """

    def __init__(
        self,
        node: Node,
        words: LiveWords,
        options: Callable[[], NodeOptions],
        to_rgb: Callable[[Any], np.ndarray],
    ):
        self._node = node
        self._words = words
        self._options = options
        self._to_rgb = to_rgb
        self._scenes = SceneWorker(node, words)
        self._worker = Worker('segmentation', self._segment)

    def stop(self) -> None:
        """Finish the images that are being segmented; drop those that wait."""
        self._worker.stop()
        self._scenes.stop()

    def take(self, stream: Stream, message: Any) -> None:
        """Take a new image of a camera. It replaces the one that waits."""
        stream.statistics.count(diagnostics.RECEIVED)
        if not stream.due(self._options().max_rate_hz):
            stream.statistics.count(diagnostics.DROPPED_RATE)
        elif self._worker.put(stream, stream.frame(message)):
            stream.statistics.count(diagnostics.DROPPED_FOR_NEWER)

    def _segment(self, frames: list[Frame]) -> None:
        taken: dict[tuple[int, int] | None, list[Taken]] = {}
        for frame in frames:
            with self._reported(frame):
                image = frame.stream.read(frame, self._options(), self._to_rgb)
                if image is not None:
                    size = frame.stream.label_size(self._words.current, image)
                    taken.setdefault(size, []).append(Taken(frame, image, size))
        for batch in taken.values():
            self._segment_batch(batch)

    def _segment_batch(self, batch: list[Taken]) -> None:
        """Segment images whose labels have the same size."""
        started = time.monotonic()
        segmenter = self._words.current.sized(batch[0].size).segmenter
        results = self._encode(segmenter, batch)
        encode_s = time.monotonic() - started
        for taken, encoded in zip(batch, results, strict=True):
            if encoded is not None:
                with self._reported(taken.frame):
                    self._finish(taken, encoded, segmenter, encode_s)

    def _encode(self, segmenter: Segmenter, batch: list[Taken]) -> Sequence[EncodedImage | None]:
        """Encode the images, in one batch if possible. An image that fails gives None."""
        try:
            with memory.explained():
                return segmenter.encode_batch([taken.image for taken in batch])
        except Exception as error:  # of any kind; the other images are encoded one by one
            if len(batch) == 1:
                self._failed(batch[0].frame, error)
                return [None]
        return [encoded for one in batch for encoded in self._encode(segmenter, [one])]

    def _finish(
        self, taken: Taken, encoded: EncodedImage, encoder: Segmenter, encode_s: float
    ) -> None:
        """Label one image and publish.

        Labels, pictures and JPEG are made without the lock. The lock is held only to check that
        the words have not changed and to publish. So no mask follows a vocabulary that does not
        describe it. If the words have changed, the image is labelled again. The label mask does
        not wait for the other outputs.
        """
        frame, stream, words = taken.frame, taken.frame.stream, self._words
        started = time.monotonic()
        for held in (*[False] * FREE_TRIES, True):
            with words.switch if held else nullcontext():
                with words.switch:
                    live, wanted = words.current.sized(taken.size), stream.outputs.wanted()
                if live.segmenter.encoder is not encoder.encoder:  # changed meanwhile
                    encoded, encoder = live.segmenter.encode(taken.image), live.segmenter
                it = self._labelled(taken, encoded, live)
                inference_s = encode_s + time.monotonic() - started
                mask, errors = each({LABEL_MASK: partial(wanted.pop(LABEL_MASK), it)})
                with words.switch:
                    if words.current.version == live.version:
                        self._scenes.put(frame, it)
                        errors |= stream.outputs.publish(mask)
                        break
        if not errors:
            statistics = stream.statistics
            statistics.count(diagnostics.PUBLISHED)
            statistics.record(diagnostics.INFERENCE, inference_s)
            statistics.record(diagnostics.FROM_RECEIPT, time.monotonic() - frame.received_s)
            statistics.record(diagnostics.FROM_STAMP, stream.age_s(frame))
        messages, failed = each({topic: partial(make, it) for topic, make in wanted.items()})
        with words.switch:
            if words.current.version == live.version:  # otherwise the words changed
                failed |= stream.outputs.publish(messages)
        if errors | failed:
            raise OutputError(errors | failed)

    def _labelled(self, taken: Taken, encoded: EncodedImage, live: Live) -> LabelledFrame:
        frame, options, segmenter = taken.frame, self._options(), live.segmenter
        stream, words = frame.stream, live.words
        subject = live.version, frame.epoch, segmenter.kind_of_scores
        scores, present = stream.steady(segmenter, encoded, words, options.smoothing, subject)
        if present is None:
            stream.present = None
        else:
            pairs = zip(words.classes, present.tolist(), strict=True)
            stream.present = ', '.join(c.name for c, there in pairs if there)
        result = segmenter.label(encoded, words, scores, present)
        header, info = frame.message.header, stream.camera_info
        return LabelledFrame(taken.image, header, result, live, options, info)

    @contextmanager
    def _reported(self, frame: Frame) -> Iterator[None]:
        """If the block raises any error, drop the frame and report it; the node goes on."""
        try:
            with memory.explained():
                yield
        except Exception as error:
            self._failed(frame, error)

    def _failed(self, frame: Frame, error: Exception) -> None:
        if not self._node.context.ok():
            return  # shutting down: publishing is no longer possible
        stream = frame.stream
        if isinstance(error, (ImageError, ShapeError)):
            stream.warn(diagnostics.DROPPED_BAD_IMAGE, f'{stream.topic}: {error}')
            return
        if not isinstance(error, OutputError):
            stream.fail(diagnostics.DROPPED_ERROR, 'frame dropped', error)
            return
        lost = LABEL_MASK in error.topics
        event = diagnostics.DROPPED_ERROR if lost else diagnostics.OUTPUT_ERROR
        stream.fail(event, 'an output failed', error)
