"""The segmentation node: camera images in, label images out, words by parameter.

Wiring only. Three threads: the executor's (parameters, services, timers), one that segments the
newest image, one that encodes new words while images go on with the old ones.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from dataclasses import dataclass, replace

import rclpy
import torch
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.exceptions import ParameterException
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.time import Time
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from .. import draw
from ..errors import Cancelled, CliptraseError, ShapeError, did_you_mean
from ..msg import Vocabulary as VocabularyMessage
from ..segmenter import Segmenter, load
from ..settings import Settings
from ..vocabulary import Vocabulary, parse
from . import diagnostics, images, messages, parameters
from .logs import library_logs_to
from .qos import LATCHED, OUTPUT
from .shutdown import until_shutdown
from .worker import Statistics, Worker

MONO8_MAX_ID = 254

_RELIABILITY = {
    'best_effort': ReliabilityPolicy.BEST_EFFORT,
    'reliable': ReliabilityPolicy.RELIABLE,
}


@dataclass(frozen=True)
class Frame:
    """A received image and when it came."""

    message: Image
    received_s: float


@dataclass(frozen=True)
class Live:
    """What images are labelled with; replaced as a whole."""

    segmenter: Segmenter
    words: Vocabulary
    version: int


class SegmentationNode(LifecycleNode):
    """See doc/interface.md for its topics and parameters."""

    def __init__(self, **kwargs):
        super().__init__('segmentation', **kwargs)
        for options in parameters.OPTIONS:
            parameters.declare(self, options)
        self._warn_of_unknown_parameters()
        self._known_ids: dict[str, int] = {}
        self._words_wanted: tuple | None = None
        self._version = 0
        self._live: Live | None = None
        # Held while a frame is labelled and published, and while words change: so a mask never
        # follows a vocabulary that does not describe it.
        self._switch = threading.Lock()
        self._statistics = Statistics()
        self._last_error = ''
        # The words' worker lives from configure to cleanup, the frames' while the node is active.
        self._frame_worker: Worker | None = None
        self._words_worker: Worker | None = None
        self._subscription = None
        self._publishers_made: list = []
        self._options = parameters.read(self, parameters.NodeOptions)
        self._changed = self.create_guard_condition(self._apply_parameters)
        self.add_on_set_parameters_callback(self._check_parameters)
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self.create_timer(self._options.diagnostics_period_s, self._publish_diagnostics)

    # Life

    def started(self) -> bool:
        """Configure and activate, if the node is to do so by itself; False if that fails."""
        if not self._options.autostart:
            return True
        success = TransitionCallbackReturn.SUCCESS
        return self.trigger_configure() == success and self.trigger_activate() == success

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model, encode the words, make the publishers."""
        try:
            settings = parameters.read(self, Settings)
            self._options = parameters.read(self, parameters.NodeOptions)
            started = time.monotonic()
            self.get_logger().info(f'loading {settings.model} ({settings.weights})')
            segmenter = load(settings)
            words = segmenter.encode_words(*self._reserve_ids(segmenter, self._options))
            self._make_publishers()
        except CliptraseError as error:
            self.get_logger().fatal(str(error))
            return TransitionCallbackReturn.FAILURE
        except Exception:  # rclpy would swallow it
            self.get_logger().fatal(f'cannot configure:\n{traceback.format_exc()}')
            return TransitionCallbackReturn.FAILURE
        self._version += 1
        self._live = Live(segmenter, words, self._version)
        self._words_worker = Worker('words', self._change_words, self._words_failed)
        self.get_logger().info(
            f'ready in {time.monotonic() - started:.1f} s: {settings.method} on '
            f'{segmenter.backbone.device}, {len(words.classes)} classes'
        )
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Publish the words and take images."""
        super().on_activate(state)
        with self._switch:
            self._publish_vocabulary(self._live)
        self._statistics.count(diagnostics.ACTIVATED)
        self._frame_worker = Worker('segmentation', self._segment, self._frame_failed)
        reliability = _RELIABILITY[self._options.input_reliability]
        newest = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=1, reliability=reliability)
        self._subscription = self.create_subscription(Image, 'image', self._take, newest)
        self.get_logger().info(f'listening to {self._subscription.topic_name}')
        return TransitionCallbackReturn.SUCCESS

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Take no more images; the frame in hand is finished."""
        self._stop_frames()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the model and the publishers."""
        self.stop()
        for publisher in self._publishers_made:
            self.destroy_lifecycle_publisher(publisher)
        self._publishers_made = []
        self._live = None
        torch.cuda.empty_cache()
        return TransitionCallbackReturn.SUCCESS

    on_shutdown = on_cleanup

    def stop(self) -> None:
        """End the subscription and the threads; harmless when they do not run."""
        self._stop_frames()
        if self._words_worker is not None:
            self._words_worker.stop()

    def _stop_frames(self) -> None:
        if self._subscription is not None:
            self.destroy_subscription(self._subscription)
            self._subscription = None
        if self._frame_worker is not None:
            self._frame_worker.stop()

    def _make_publishers(self) -> None:
        def publisher(kind, topic, qos):
            made = self.create_lifecycle_publisher(kind, topic, qos)
            self._publishers_made.append(made)
            return made

        self._label_mask = publisher(Image, '~/label_mask', OUTPUT)
        self._confidence = publisher(Image, '~/confidence', OUTPUT)
        self._overlay = publisher(Image, '~/overlay', OUTPUT)
        self._vocabulary = publisher(VocabularyMessage, '~/vocabulary', LATCHED)

    # Images

    def _take(self, message: Image) -> None:
        self._statistics.count(diagnostics.RECEIVED)
        if self._frame_worker.put(Frame(message, time.monotonic())):
            self._statistics.count(diagnostics.DROPPED_FOR_NEWER)

    def _segment(self, frame: Frame) -> None:
        """One image, on the segmentation thread."""
        message, started = frame.message, time.monotonic()
        image = images.to_rgb(message)
        dense = self._live.segmenter.encode(image)
        with self._switch:
            live = self._live
            result = live.segmenter.label(dense, live.words)
            self._statistics.record(diagnostics.INFERENCE, time.monotonic() - started)
            self._label_mask.publish(messages.label_mask(result, message.header))
            if self._confidence.get_subscription_count():
                self._confidence.publish(messages.confidence(result, message.header))
            if self._overlay.get_subscription_count():
                seen = live.segmenter.view(image)
                mixed = draw.overlay(seen, result.labels, live.words, self._options.overlay_alpha)
                self._overlay.publish(messages.picture(mixed, message.header))
        self._statistics.count(diagnostics.PUBLISHED)
        self._statistics.record(diagnostics.FROM_RECEIPT, time.monotonic() - frame.received_s)
        now = self.get_clock().now()
        stamp = Time.from_msg(message.header.stamp, clock_type=now.clock_type)
        self._statistics.record(diagnostics.FROM_STAMP, (now - stamp).nanoseconds * 1e-9)

    def _frame_failed(self, frame: Frame, error: Exception) -> None:
        if not self.context.ok():
            return  # shutting down: nothing can be published any more
        if isinstance(error, (images.ImageError, ShapeError)):
            self._statistics.count(diagnostics.DROPPED_BAD_IMAGE)
            self.get_logger().warning(str(error), throttle_duration_sec=5.0)
            return
        if isinstance(error, torch.cuda.OutOfMemoryError):
            # The frames of the traceback still hold the tensors.
            traceback.clear_frames(error.__traceback__)
            torch.cuda.empty_cache()
            text = 'out of memory: lower input_size, or set precision to fp16 or bf16'
        else:
            text = f'{type(error).__name__}: {error}'
        self._last_error = text
        self._statistics.count(diagnostics.DROPPED_ERROR)
        self.get_logger().error(f'frame dropped, {text}', throttle_duration_sec=5.0)

    # Words and parameters

    def _reserve_ids(self, segmenter: Segmenter, options: parameters.NodeOptions):
        """(classes, background words) of the options, their ids now taken for good."""
        classes, background = segmenter.check_vocabulary(
            options.vocabulary, options.background_words, self._known_ids, MONO8_MAX_ID
        )
        self._known_ids.update((c.name, c.id) for c in classes)
        self._words_wanted = (options.vocabulary, options.background)
        return classes, background

    def _check_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        """Refuse bad values with the reason; acts on nothing."""
        values = {p.name: p.value for p in changes}
        try:
            parameters.read(self, Settings, values)
            options = parameters.read(self, parameters.NodeOptions, values)
            if values.keys() & {'vocabulary', 'background'}:
                check = self._live.segmenter.check_vocabulary if self._live else parse
                check(options.vocabulary, options.background_words, self._known_ids, MONO8_MAX_ID)
        except Exception as error:  # whatever it is, it must not end the executor
            return SetParametersResult(successful=False, reason=str(error))
        self._changed.trigger()
        return SetParametersResult(successful=True)

    def _apply_parameters(self) -> None:
        """Act on parameters that have changed, once they are set."""
        self._options = parameters.read(self, parameters.NodeOptions)
        live = self._live
        if live is None:
            return
        threshold = self.get_parameter('confidence_threshold').value
        if threshold != live.segmenter.settings.confidence_threshold:
            segmenter = live.segmenter.replace(confidence_threshold=threshold)
            with self._switch:
                self._live = replace(self._live, segmenter=segmenter)
        if (self._options.vocabulary, self._options.background) != self._words_wanted:
            self._words_worker.put(self._reserve_ids(live.segmenter, self._options))

    def _change_words(self, parsed: tuple) -> None:
        """New words, on their own thread: encoded first, then switched to between two frames."""
        words = self._live.segmenter.encode_words(*parsed, self._words_worker.stopping)
        with self._switch:
            self._version += 1
            self._live = replace(self._live, words=words, version=self._version)
            self._publish_vocabulary(self._live)
        self.get_logger().info(
            f'vocabulary {self._live.version}: {", ".join(c.name for c in words.classes)}'
        )

    def _words_failed(self, parsed: tuple, error: Exception) -> None:
        if isinstance(error, Cancelled) or not self.context.ok():
            return
        self._words_wanted = None  # so that setting the same words again tries again
        self._last_error = f'new words not taken over: {error}'
        self._statistics.count(diagnostics.VOCABULARY_ERRORS)
        self.get_logger().error(self._last_error)

    def _publish_vocabulary(self, live: Live) -> None:
        header = Header(stamp=self.get_clock().now().to_msg())
        self._vocabulary.publish(
            messages.vocabulary(live.words.classes, live.words.background, live.version, header)
        )

    def _warn_of_unknown_parameters(self) -> None:
        """ROS takes no notice of a misspelt parameter in a file; people should."""
        known = [*parameters.names(), 'use_sim_time', 'start_type_description_service']
        for name in getattr(self, '_parameter_overrides', {}):
            if name not in known and not name.startswith('qos_overrides.'):
                self.get_logger().warning(
                    f'parameter {name!r} is not known and has no effect.{did_you_mean(name, known)}'
                )

    def _publish_diagnostics(self) -> None:
        topic = self._subscription.topic_name if self._subscription else None
        publishers = self.count_publishers(topic) if topic else 0
        live = self._live
        status = diagnostics.status(
            name=f'{self.get_fully_qualified_name()}: segmentation',
            statistics=self._statistics,
            health=diagnostics.health(self._statistics, topic, publishers, self._last_error),
            facts={
                'vocabulary version': live.version,
                'vocabulary classes': len(live.words.classes),
                'device': live.segmenter.backbone.device,
            }
            if live
            else {},
        )
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)


def main(args: list[str] | None = None) -> int:
    """Run the node until Ctrl-C or SIGTERM; 1 if it cannot start."""
    rclpy.init(args=args)
    node = executor = None
    code = 0
    try:
        with until_shutdown():
            node = SegmentationNode()
            executor = SingleThreadedExecutor()
            executor.add_node(node)
            with library_logs_to(node):
                if node.started():
                    executor.spin()
                else:
                    code = 1
    except (ParameterException, CliptraseError) as error:
        rclpy.logging.get_logger('segmentation').fatal(str(error))
        code = 1
    finally:
        if node is not None:
            node.stop()
        if executor is not None:
            executor.shutdown()
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    return code


if __name__ == '__main__':
    sys.exit(main())
