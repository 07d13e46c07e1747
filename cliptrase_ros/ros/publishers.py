"""Publishers of one camera: fixed ones, and ones that follow the words."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from functools import partial
from typing import Any

from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos_overriding_options import QoSOverridingOptions

from ..errors import CliptraseError
from ..runtime import memory
from . import qos
from .parameters import NodeOptions


class Publishers:
    """The publishers of one camera. All topics start with `prefix`, for example 'front/'."""

    def __init__(self, node: Node, prefix: str, options: NodeOptions):
        self._node = node
        self._prefix = f'~/{prefix}'
        self._options = options
        self._fixed: dict[str, Publisher] = {}
        self._added: dict[str, Publisher] = {}

    def make(self, kind: type, topic: str) -> None:
        """Make a fixed publisher. Parameters can override its quality of service."""
        overridable = QoSOverridingOptions.with_default_policies()
        self._fixed[topic] = self._publisher(kind, topic, qos_overriding_options=overridable)

    def add(self, kind: type, topic: str) -> None:
        """Make a publisher that `keep` can destroy, unless it exists."""
        if topic not in self._added:
            self._added[topic] = self._publisher(kind, topic)

    def wanted(self, makers: Mapping[str, Callable[[Any], Any]]) -> dict[str, Callable[[Any], Any]]:
        """Return those `makers` (topic -> function that makes its message) whose topic somebody
        listens to."""
        return {
            topic: make
            for topic, make in makers.items()
            if self._publisher_of(topic).get_subscription_count()
        }

    def publish(self, messages: Mapping[str, Any]) -> dict[str, Exception]:
        """Publish messages by topic, except those that are None. Return the errors by topic."""
        there = {topic: message for topic, message in messages.items() if message is not None}
        return each({t: partial(self._publisher_of(t).publish, there[t]) for t in there})[1]

    def keep(self, topics: Container[str]) -> None:
        """Destroy the added publishers, except those of these topics."""
        for topic in [topic for topic in self._added if topic not in topics]:
            self._node.destroy_publisher(self._added.pop(topic))

    def destroy(self) -> None:
        """Destroy all publishers."""
        self.keep(())
        for publisher in self._fixed.values():
            self._node.destroy_publisher(publisher)

    def _publisher_of(self, topic: str) -> Publisher:
        return self._fixed.get(topic) or self._added[topic]

    def _publisher(self, kind: type, topic: str, **options: Any) -> Publisher:
        profile = qos.newest(self._options.qos.output_reliability, self._options.qos.output_depth)
        return self._node.create_publisher(kind, self._prefix + topic, profile, **options)


class OutputError(CliptraseError):
    """Outputs that failed. The other outputs were published.

    Attributes:
        topics: topics of the outputs that failed.
    """

    def __init__(self, errors: Mapping[str, Exception]):
        self.topics = frozenset(errors)
        super().__init__('; '.join(f'{topic}: {_told(error)}' for topic, error in errors.items()))


def each(work: Mapping[str, Callable[[], Any]]) -> tuple[dict[str, Any], dict[str, Exception]]:
    """Call each function. If one fails, the others are still called.

    Returns:
        ({name: result}, {name: error})
    """
    results, errors = {}, {}
    for name, do in work.items():
        try:
            with memory.explained():
                results[name] = do()
        except Exception as error:  # any error; the caller reports it, as an OutputError
            errors[name] = error
    return results, errors


def _told(error: Exception) -> str:
    known = isinstance(error, CliptraseError)
    return str(error) if known else f'{type(error).__name__}: {error}'
