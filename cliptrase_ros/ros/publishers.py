"""Publishers of one camera: those that are always there, and those that follow the words."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from typing import Any

from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos_overriding_options import QoSOverridingOptions

from . import qos
from .parameters import NodeOptions


class Publishers:
    """Makes and destroys them; `prefix` of the topics, such as 'front/'."""

    def __init__(self, node: Node, prefix: str, options: NodeOptions):
        self._node = node
        self._prefix = f'~/{prefix}'
        self._options = options
        self._fixed: dict[str, Publisher] = {}
        self._added: dict[str, Publisher] = {}

    def make(self, kind: type, topic: str) -> Publisher:
        """One that stays, and whose quality of service may be overridden by parameters."""
        overridable = QoSOverridingOptions.with_default_policies()
        publisher = self._publisher(kind, topic, qos_overriding_options=overridable)
        self._fixed[topic] = publisher
        return publisher

    def add(self, kind: type, topic: str) -> None:
        """One that may go again, unless it is there."""
        if topic not in self._added:
            self._added[topic] = self._publisher(kind, topic)

    def __getitem__(self, topic: str) -> Publisher:
        return self._fixed.get(topic) or self._added[topic]

    def keep(self, topics: Container[str]) -> None:
        """Of those that were added, destroy all but these."""
        for topic in [topic for topic in self._added if topic not in topics]:
            self._node.destroy_publisher(self._added.pop(topic))

    def destroy(self) -> None:
        """Destroy them all."""
        self.keep(())
        for publisher in self._fixed.values():
            self._node.destroy_publisher(publisher)

    def _publisher(self, kind: type, topic: str, **options: Any) -> Publisher:
        profile = qos.newest(self._options.output_reliability, self._options.output_depth)
        return self._node.create_publisher(kind, self._prefix + topic, profile, **options)


def publish_wanted(outputs: Iterable[tuple[Publisher, Callable[[Any], Any]]], item: Any) -> None:
    """Make and publish the messages of an item that somebody listens for.

    Args:
        outputs: publishers, and what makes their message, or None, of the item.

    Raises:
        Exception: the first error; the other messages are published.
    """
    errors = []
    for publisher, make in outputs:
        try:
            if publisher.get_subscription_count() and (message := make(item)):
                publisher.publish(message)
        except Exception as error:
            errors.append(error)
    if errors:
        raise errors[0]
