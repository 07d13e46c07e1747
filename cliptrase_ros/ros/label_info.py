"""The topic ~/label_info, and whether its subscribers have had time to receive it."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

from rclpy.duration import Duration
from rclpy.node import Node
from std_msgs.msg import Header

from ..words.vocabulary import WordClass
from . import messages, rclpy_compat
from .qos import LATCHED

# Clouds do not wait longer than this for the confirmation of a new subscriber. One that was killed
# is listed for some seconds and confirms nothing.
PATIENCE_S = 10.0


class LabelInfoTopic:
    """The latched topic ~/label_info. It exists only if vision_msgs is installed.

    Nav2's semantic layer crashes if the mask, the confidence and the cloud of an image reach it
    before its first LabelInfo. DDS keeps the order of messages within a topic, not between topics,
    and a latched message comes late: after publisher and subscriber have found each other. On a
    busy machine that can take seconds. So after each new subscriber the clouds wait (`has_led`).

    The executor's thread makes it, publishes and is told of subscribers. Any thread may call
    `has_led`.
    """

    def __init__(self, node: Node):
        self._node = node
        self._told = False
        # Number of subscribers at the last look, and when the newest one was seen.
        self._count = 0
        self._newest_s = -math.inf
        # When a subscriber was last seen that had not confirmed the message.
        self._open_s = -math.inf
        self._publisher = node.create_publisher(
            messages.LabelInfo,
            '~/label_info',
            LATCHED,
            event_callbacks=rclpy_compat.publisher_events(self._matched),
        )

    def publish(self, classes: Sequence[WordClass], threshold: float) -> None:
        """Publish the ids and names of the classes."""
        header = Header(stamp=self._node.get_clock().now().to_msg())
        self._publisher.publish(messages.label_info(classes, threshold, header))
        if not self._told:
            self._newest_s = time.monotonic()
        self._told = True

    def has_led(self, lead_s: float) -> bool:
        """Return True if all of this was at least `lead_s` seconds ago: the newest subscriber came,
        the first message was published, and the last subscriber confirmed it."""
        now = time.monotonic()
        # The count shows a subscriber before the executor has run its event.
        count = self._publisher.get_subscription_count()
        if count > self._count:
            self._newest_s = now
        self._count = count
        if now - self._newest_s < PATIENCE_S and not self._publisher.wait_for_all_acked(Duration()):
            self._open_s = now
        # DDS confirms a message before the subscriber's program reads it. The lead is for that.
        return now - max(self._newest_s, self._open_s) >= lead_s

    def destroy(self) -> None:
        """Destroy the publisher."""
        self._node.destroy_publisher(self._publisher)

    def _matched(self, change: Any) -> None:
        """Note a new subscriber, also one that replaces another between two looks."""
        if change.total_count_change > 0:
            self._newest_s = time.monotonic()
