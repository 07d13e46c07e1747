"""From labels and depth to outputs in space, on a separate thread. So waiting for depth and making
the outputs do not delay the labels of the next image."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from rclpy.node import Node

from ..runtime import memory
from . import diagnostics
from .live_words import LiveWords
from .outputs import LabelledFrame
from .publishers import OutputError, each
from .space.depth import DepthError
from .space.depth_outputs import POINTS, Scene
from .stream import Frame
from .worker import Worker


class SceneWorker:
    """Makes the outputs of the newest labelled image of each camera, until it is stopped."""

    def __init__(self, node: Node, words: LiveWords):
        self._node = node
        self._words = words
        self._worker = Worker('space', self._publish_all)

    def put(self, frame: Frame, it: LabelledFrame) -> None:
        """Hand over a labelled image. It replaces a waiting image of the same camera."""
        if self._worker.put(frame.stream, (frame, it)):
            frame.stream.statistics.count(diagnostics.SPACE_FOR_NEWER)

    def stop(self) -> None:
        """Finish the current images, and drop the waiting ones."""
        self._worker.stop()

    def _publish_all(self, labelled: list[tuple[Frame, LabelledFrame]]) -> None:
        for frame, it in labelled:
            try:
                with memory.explained():
                    self._publish(frame, it)
            except Exception as error:  # any error: the next image must still be processed
                self._failed(frame, error)

    def _publish(self, frame: Frame, it: LabelledFrame) -> None:
        stream = frame.stream
        with self._words.switch:  # topics change together with the words
            wanted = stream.space.wanted()
            sized = self._words.current.segmenter.settings.output_size == 'depth'
        stream.depth.want(bool(wanted) or sized)
        self._hold(wanted, frame, it)
        if not wanted:
            return
        message = stream.depth.beside(frame.depth, it.options)
        if message is None:
            return
        started = time.monotonic()
        scene = Scene(it, stream.depth.read(message, it))
        messages, errors = each({topic: partial(make, scene) for topic, make in wanted.items()})
        with self._words.switch:
            if self._words.current.version != it.live.version:
                return  # the words have changed
            self._hold(messages, frame, it)
            errors |= stream.space.publish(messages)
        if messages.keys() - errors.keys():
            stream.statistics.count(diagnostics.SPACE_PUBLISHED)
            stream.statistics.record(diagnostics.SPACE, time.monotonic() - started)
        if errors:
            raise OutputError(errors)

    def _hold(self, outputs: dict[str, Any], frame: Frame, it: LabelledFrame) -> None:
        """Remove the cloud from the outputs if a subscriber of ~/label_info is too new."""
        lead_s = it.options.points.label_info_lead_s
        if POINTS in outputs and not self._words.label_info_has_led(lead_s):
            del outputs[POINTS]
            frame.stream.statistics.count(diagnostics.SPACE_HELD)

    def _failed(self, frame: Frame, error: Exception) -> None:
        if not self._node.context.ok():
            return  # shutting down: nothing can be published any more
        stream = frame.stream
        if isinstance(error, DepthError):
            stream.warn(error.event, f'{stream.depth.topic}: {error}')
            return
        stream.fail(diagnostics.SPACE_ERROR, 'an output in space failed', error)
