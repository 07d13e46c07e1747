"""Feeds the page from a running segmentation node."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from ...errors import CliptraseError
from ...view.feed import Sink, Status, Value
from ..worker import Worker
from . import node_settings
from .health import Health, absence
from .node_pictures import Pictures, Words
from .remote import NotThere, Remote
from .topics import OF_CAMERA, Topics

LOOK_S = 0.5
# Label images without their camera image, before the page says so.
BLIND = 10


class NodeFeed:
    """A feed of the page. The page calls its public methods on a thread of its own; the private
    ones run on the executor's thread, unless they say otherwise.

    Args:
        node: our own node.
        name: full name of the segmentation node.
    """

    can_pause = False

    def __init__(self, node: Node, name: str):
        self._node = node
        self._name = name
        self._page: Sink | None = None
        self._remote = Remote(node, name)
        self._topics = Topics(node, name, partial(self._survive, self._take))
        self._watched = False
        self._camera = ''
        self._cameras: tuple[str, ...] = ('',)
        self._values: dict[str, Any] = {}
        self._doing = ''
        self._forget()
        follow = partial(self._survive, self._follow)
        # Pictures must not wait for the parameters of a slow node.
        self._drawing = Worker('page', self._do)
        self._asking = Worker('ask', self._do)
        self._changed = node.create_guard_condition(follow)
        node.create_timer(LOOK_S, follow, clock=Clock(clock_type=ClockType.STEADY_TIME))

    # Called by the page

    def start(self, sink: Sink) -> None:
        """Give the page. It gets nothing until a browser is there."""
        self._page = sink

    def watched(self, watched: bool) -> None:
        """Subscribe while a browser is there, and to nothing while there is none."""
        self._watched = watched
        self._changed.trigger()

    def choose(self, camera: str) -> None:
        """Show this camera from now on."""
        self._camera = camera
        self._changed.trigger()

    def apply(self, changes: Mapping[str, Value]) -> str:
        """Set parameters of the node. Return '' once it has taken them, or its reason why not."""
        changed = node_settings.parameters_of(changes)
        self._doing = 'waiting for new words, the old ones go on ...' * ('vocabulary' in changed)
        try:
            return self._remote.change(changed)
        except NotThere as error:
            return str(error)
        finally:
            self._doing = ''
            self._asking.put('read', self._read)

    def pause(self, paused: bool) -> None:
        """Do nothing: a node cannot be paused from here."""

    def step(self) -> None:
        """Do nothing, as `pause`."""

    def parameters(self) -> Mapping[str, object]:
        """Return the parameters of the node that the page shows."""
        return {name: self._values[name] for name in node_settings.SHOWN if name in self._values}

    def close(self) -> None:
        """Unsubscribe and end the threads. Call it when the executor no longer spins. A second call
        does nothing."""
        self._remote.close()
        self._drawing.stop()
        self._asking.stop()
        self._topics.drop()

    # On the executor's thread

    def _forget(self) -> None:
        """Forget what is known of a node that is gone, or of a page that nobody looks at."""
        self._health = Health(self._name)
        self._heard_s = time.monotonic()
        self._values = {}
        self._words = Words()
        self._start_camera('')

    def _start_camera(self, camera: str) -> None:
        self._topics.drop(*OF_CAMERA)
        self._shown_camera = camera
        self._pictures = Pictures(self._words)

    def _follow(self) -> None:
        """Look after the subscriptions, and tell the page how the node is."""
        if not self._watched:
            if self._topics:
                self._topics.drop()
                self._forget()
            return
        self._topics.watch()
        there = self._is_there()
        if not there:
            self._heard_s, self._values = time.monotonic(), {}
            self._topics.drop(*OF_CAMERA)
        elif not self._values:
            self._asking.put('read', self._read)
        else:
            self._subscribe()
        status = self._status(there)
        self._drawing.put('status', lambda: self._told(lambda page: page.status(status)))

    def _subscribe(self) -> None:
        camera = self._camera if self._camera in self._cameras else self._cameras[0]
        if camera != self._shown_camera:
            self._start_camera(camera)
        self._pictures.cropped = self._values.get('protocol') == 'cliptrase'
        prefix = f'{camera}/' if camera else ''
        self._topics.show(prefix)
        if topic := self._health.fact('topic', camera or 'camera'):
            self._topics.see(topic)
            self._topics.follow_depth(prefix, self._health.images)

    def _is_there(self) -> bool:
        pairs = self._node.get_node_names_and_namespaces()
        return any(f'{space.rstrip("/")}/{name}' == self._name for name, space in pairs)

    def _status(self, there: bool) -> Status:
        health, camera = self._health, self._shown_camera or 'camera'
        silent_s = time.monotonic() - self._heard_s
        period_s = float(self._values.get('diagnostics_period_s') or 1.0)
        problem = absence(self._name, there, silent_s, period_s) or health.problem(camera)
        if not problem and self._pictures.blind > BLIND:
            problem = (
                f'labels come, but the images on {health.fact("topic", camera)} do not: most large '
                'ones are lost on the default transport of Fast DDS (doc/cameras.md)'
            )
        return Status(
            model=health.fact('model'),
            device=health.fact('device'),
            method=health.fact('method'),
            rate_hz=self._pictures.rate_hz,
            latency_ms=health.latency_ms(camera),
            note=self._doing,
            problem=problem,
        )

    def _take(self, name: str, message: Any) -> None:
        if name == 'diagnostics':
            newest = self._health.updated(message)
            if newest is not self._health:
                self._health, self._heard_s = newest, time.monotonic()
        elif name == 'parameters':
            if message.node == self._name:
                self._asking.put('read', self._read)
        elif name == 'vocabulary':
            self._words.take(message)
            self._asking.put('read', self._read)
        else:
            pictures = self._pictures
            if parts := pictures.take(name, message):
                self._drawing.put('picture', lambda: self._draw(pictures, parts))

    # On the workers' threads

    def _draw(self, pictures: Pictures, parts: Mapping[str, Any]) -> None:
        if pictures is self._pictures and (shown := pictures.shown(parts)):
            self._told(lambda page: page.show(shown))

    def _read(self) -> None:
        """Read the node's parameters and tell the page."""
        values = self._remote.read(node_settings.READ)
        cameras = tuple(values['cameras'] or ('',))
        if self._camera not in cameras:
            self._camera = cameras[0]
        self._cameras, self._values = cameras, values
        self._told(lambda page: page.controls(node_settings.controls_of(values)))
        self._told(lambda page: page.cameras(cameras, self._camera))
        self._changed.trigger()

    def _told(self, tell: Callable[[Sink], None]) -> None:
        if self._page and self._watched:
            tell(self._page)

    # On all threads

    def _do(self, work: list[Callable[[], None]]) -> None:
        for one in work:
            self._survive(one)

    def _survive(self, do: Callable[..., None], *given: Any) -> None:
        """Call it and log its errors, which would end the executor, or leave other work undone."""
        try:
            do(*given)
        except NotThere:
            pass  # the status says it
        except Exception as error:  # of any kind
            if self._node.context.ok():
                known = isinstance(error, CliptraseError)
                self._node.get_logger().error(
                    str(error) if known else traceback.format_exc(), throttle_duration_sec=5.0
                )
