"""The segmentation node: camera images in, label images out, words by parameter.

Wiring only. Four threads: the executor's (parameters, services, timers, and whatever makes or
destroys topics), one that segments the newest images (frames.py), one for what needs depth
(scenes.py), one for jobs that take their time (encoding words, loading) while images go on as they
were.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import rclpy
import torch
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import ParameterException
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter

from ..errors import CliptraseError
from ..options import unknown
from ..runtime.memory import keep_freed
from ..settings import Settings
from . import diagnostics, parameters, rclpy_compat
from .bridge import choose_codec
from .companions import Companions
from .frames import FrameWorker
from .jobs import Jobs
from .live_words import LiveWords
from .logs import library_logs_to
from .parameters import NodeOptions
from .services import Services
from .shutdown import end, init, until_shutdown
from .statistics import Statistics
from .stream import Stream

# Seconds to wait for a running job at the end. launch kills the process after 10.
PATIENCE_S = 5.0
# Time between looks at what is published, with image_transport: auto.
FOLLOW_S = 0.5


class SegmentationNode(LifecycleNode):
    """See doc/interface.md for its topics, services and parameters."""

    def __init__(self, **kwargs):
        super().__init__('segmentation', **kwargs)
        parameters.declare(self, *parameters.OPTIONS)
        self._options = parameters.read_options(self, NodeOptions)
        self._enabled = self._options.start_enabled
        self._codec = choose_codec(self.get_logger())
        self._statistics = Statistics()
        self._depth_changed = self.create_guard_condition(self._follow_depth)
        self._streams = [
            Stream(self, name, self._depth_changed.trigger) for name in self._options.cameras
        ]
        self._words = LiveWords(self, self._streams, self._statistics)
        self._companions = Companions(self, self._options.companions, self._follow_companions)
        # From configure to cleanup, and while the node is active.
        self._jobs: Jobs | None = None
        self._frames: FrameWorker | None = None
        self._listening = False

        # For coroutines: in a mutually exclusive group nothing else would run while they wait.
        waiting = ReentrantCallbackGroup()
        self._changed = self.create_guard_condition(self._follow_parameters, waiting)
        self.add_on_set_parameters_callback(self._check_parameters)
        rclpy_compat.refuse_impossible_transitions(self)
        Services(self, waiting, self._words, self._enable, self._codec.to_rgb)
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self._namesakes = ''
        steady = Clock(clock_type=ClockType.STEADY_TIME)  # runs while a simulation is paused
        period_s = self._options.diagnostics_period_s
        self.create_timer(period_s, self._publish_diagnostics, clock=steady)
        if self._options.image_transport == 'auto':
            self.create_timer(FOLLOW_S, self._follow_images, clock=steady)

    # Life

    def started(self) -> bool:
        """Configure and activate if `autostart` is true. Return False if that fails."""
        if not self._options.autostart:
            return True
        success = TransitionCallbackReturn.SUCCESS
        return self.trigger_configure() == success and self.trigger_activate() == success

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model, encode the words and make the publishers."""
        if self._succeeds(self._configure):
            return TransitionCallbackReturn.SUCCESS
        self._release()
        return TransitionCallbackReturn.FAILURE

    def _succeeds(self, work: Callable[[], None]) -> bool:
        """Do the work. Log an error, because rclpy would hide it. Return True if there was none."""
        try:
            work()
        except Exception as error:  # of any kind
            if not self.context.ok():
                return False  # the node was shut down meanwhile
            known = isinstance(error, (CliptraseError, ParameterException))
            self.get_logger().fatal(str(error) if known else traceback.format_exc())
            return False
        return True

    def _configure(self) -> None:
        started = time.monotonic()
        settings = parameters.read_options(self, Settings)
        self._options = parameters.read_options(self, NodeOptions)
        self.get_logger().info(f'loading {settings.model} ({settings.weights})')
        self._jobs = Jobs(self)
        for stream in self._streams:
            stream.open(self._options)
        self._words.open(self._jobs)
        live = self._words.current
        self.get_logger().info(
            f'ready in {time.monotonic() - started:.1f} s: {settings.method} on '
            f'{live.segmenter.backbone.device}, {len(live.words.classes)} classes'
        )

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Publish the words and take images."""
        if self._succeeds(self._activate):
            return super().on_activate(state)
        self._stop_frames()
        return TransitionCallbackReturn.FAILURE

    def _activate(self) -> None:
        self._words.announce()
        to_rgb = self._codec.any_to_rgb
        self._frames = FrameWorker(self, self._words, lambda: self._options, to_rgb)
        self._listen()
        self._tell_of_companions()

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Take no more images; finish those that are being segmented."""
        self._stop_frames()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the model and the publishers."""
        self._release()
        return TransitionCallbackReturn.SUCCESS

    on_shutdown = on_cleanup

    def stop(self) -> bool:
        """End the subscriptions and threads, if they run. Return False if a job does not end."""
        self._stop_frames()
        jobs, self._jobs = self._jobs, None
        return jobs.stop(PATIENCE_S) if jobs else True

    def destroy_node(self) -> None:
        """Destroy the node and free its services."""
        super().destroy_node()
        rclpy_compat.free_lifecycle(self)

    def _release(self) -> None:
        self.stop()
        for stream in self._streams:
            stream.close()
        self._words.close()
        torch.cuda.empty_cache()

    def _enable(self, yes: bool) -> None:
        """Take images from now on (while active), or stop that."""
        self._enabled = yes
        self._listen()

    def _follow_companions(self) -> None:
        """Take images while the nodes in `wait_for` are active."""
        with self._surviving():
            self._listen()
            self._tell_of_companions()

    def _tell_of_companions(self) -> None:
        if self._options.companions and self._frames:
            self.get_logger().info(self._waiting or 'the nodes in wait_for are active')

    @property
    def _waiting(self) -> str:
        """A sentence about nodes in `wait_for` that are not active, or ''."""
        missing = ', '.join(self._companions.missing)
        return f'waiting until {missing} is active (wait_for)' if missing else ''

    def _listen(self) -> None:
        """Subscribe to images if they should be taken now; otherwise unsubscribe."""
        frames = self._frames if self._enabled and not self._waiting else None
        if not frames:
            self._unsubscribe()
        elif not self._listening:
            self._subscribe(frames)
        self._listening = bool(frames)

    @contextmanager
    def _surviving(self) -> Iterator[None]:
        """Log any error of the block. Without this it would end the executor and the node."""
        try:
            yield
        except Exception:
            self.get_logger().error(traceback.format_exc())

    def _follow_depth(self) -> None:
        """Subscribe to depth for the cameras whose outputs need it; unsubscribe for the others."""
        with self._surviving():
            for stream in self._streams:
                stream.depth.follow()

    def _follow_images(self) -> None:
        """Listen to the images that are published."""
        with self._surviving():
            for stream in self._streams:
                stream.follow()

    def _subscribe(self, frames: FrameWorker) -> None:
        try:
            sized = self._words.current.segmenter.settings.output_size == 'depth'
            for stream in self._streams:
                stream.depth.want(sized)
                stream.subscribe(self._options, frames.take)
        except Exception:  # of any kind; it is raised again
            self._unsubscribe()
            raise

    def _unsubscribe(self) -> None:
        self._listening = False
        for stream in self._streams:
            stream.unsubscribe()

    def _stop_frames(self) -> None:
        self._unsubscribe()
        self._words.announce(False)
        if self._frames:
            self._frames.stop()
            self._frames = None

    # Parameters

    def _check_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        """Refuse bad values with the reason. Nothing is applied here."""
        values = {p.name: p.value for p in changes}
        for change in changes:
            if change.type_ == Parameter.Type.NOT_SET:
                reason = f'{change.name}: a parameter of this node cannot be deleted'
                return SetParametersResult(successful=False, reason=reason)
        try:
            settings = parameters.read_options(self, Settings, values)
            options = parameters.read_options(self, NodeOptions, values)
            self._words.check(options, settings, values.keys())
        except Exception as error:  # of any kind: it would end the executor
            return SetParametersResult(successful=False, reason=str(error))
        self._changed.trigger()
        return SetParametersResult(successful=True)

    async def _follow_parameters(self) -> None:
        """Apply changed parameters after they are set."""
        with self._surviving():
            self._options = parameters.read_options(self, NodeOptions)
            await self._words.follow()

    def set_parameters_atomically(self, parameter_list: list[Parameter]) -> SetParametersResult:
        """Set parameters. If a name does not exist, answer with the nearest one that does."""
        for change in parameter_list:
            if not self.has_parameter(change.name):
                reason = str(unknown(change.name, *parameters.OPTIONS))
                return SetParametersResult(successful=False, reason=reason)
        return super().set_parameters_atomically(parameter_list)

    # Diagnostics

    def _publish_diagnostics(self) -> None:
        name, live = self.get_fully_qualified_name(), self._words.live
        message = DiagnosticArray()
        message.header.stamp = self.get_clock().now().to_msg()
        for stream in self._streams:
            message.status.append(
                diagnostics.status(
                    f'{name}: {stream.name or "camera"}',
                    stream.statistics,
                    stream.health(self._waiting),
                    stream.facts(),
                )
            )
        facts = diagnostics.memory() | {'images by': self._codec.name}
        facts |= live.facts() if live else {}
        before, self._namesakes = self._namesakes, diagnostics.namesakes(self)
        if self._namesakes and not before:
            self.get_logger().warning(self._namesakes)
        health = diagnostics.of_model(
            self._statistics, bool(live), self._words.last_error, self._namesakes
        )
        message.status.append(diagnostics.status(f'{name}: model', self._statistics, health, facts))
        self._diagnostics.publish(message)


def main(args: list[str] | None = None) -> int:
    """Run the node until Ctrl-C or SIGTERM. Return 1 if it cannot start."""
    keep_freed()
    node = executor = None
    code = 0
    try:
        init(args)
        with until_shutdown():
            node = SegmentationNode()
            executor = SingleThreadedExecutor()
            executor.add_node(node)
            with library_logs_to(node):
                if node.started():
                    executor.spin()
                elif rclpy.ok():
                    code = 1
    except (ParameterException, CliptraseError) as error:
        rclpy.logging.get_logger('segmentation').fatal(str(error))
        code = 1
    finally:
        ended = node is None or node.stop()
        if executor is not None:
            executor.shutdown()
        if node is not None:
            node.destroy_node()
        end()
    if not ended:
        sys.stdout.flush()
        os._exit(code)  # torch still runs on another thread, and a normal exit would crash
    return code


if __name__ == '__main__':
    sys.exit(main())
