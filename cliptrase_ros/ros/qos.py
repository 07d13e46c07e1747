"""Quality of service of our topics."""

from __future__ import annotations

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

RELIABILITY = {
    'best_effort': ReliabilityPolicy.BEST_EFFORT,
    'reliable': ReliabilityPolicy.RELIABLE,
}


def newest(reliability: str = 'reliable', depth: int = 1) -> QoSProfile:
    """Keep the newest only; a reliable publisher serves both kinds of subscriber.

    A new profile each time: rclpy writes the overrides of a topic into the one that it is given.
    """
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST, depth=depth, reliability=RELIABILITY[reliability]
    )


OUTPUT = newest()
# As well for those who subscribe later.
LATCHED = newest()
LATCHED.durability = DurabilityPolicy.TRANSIENT_LOCAL
