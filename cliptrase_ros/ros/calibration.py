"""The newest calibration on a topic, whatever the quality of service of its publishers."""

from __future__ import annotations

from rclpy.node import Node
from rclpy.subscription import Subscription, SubscriptionEventCallbacks
from sensor_msgs.msg import CameraInfo

from . import qos


class Calibration:
    """The CameraInfo of one topic.

    Two subscriptions hear every publisher, now and later. The first one fits all of them. The
    second one also receives what a latched publisher (transient local) has published before; it
    does not fit the others, which is no reason for a warning.

    Args:
        name: of the topic, before it is remapped.
    """

    def __init__(self, node: Node, name: str):
        self.newest: CameraInfo | None = None
        self.topic = node.resolve_topic_name(name)
        self._node = node
        self._subscriptions: list[Subscription] = []

    def subscribe(self) -> None:
        """Subscribe."""
        quiet = SubscriptionEventCallbacks(use_default_callbacks=False)
        for profile, events in ((qos.newest('best_effort'), None), (qos.LATCHED, quiet)):
            made = self._node.create_subscription(
                CameraInfo, self.topic, self._take, profile, event_callbacks=events
            )
            self._subscriptions.append(made)

    def unsubscribe(self) -> None:
        """Destroy the subscriptions. The newest calibration is kept."""
        while self._subscriptions:
            self._node.destroy_subscription(self._subscriptions.pop())

    def _take(self, message: CameraInfo) -> None:
        self.newest = message
