"""Quality of service of our topics."""

from __future__ import annotations

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

RELIABILITY = {
    'best_effort': ReliabilityPolicy.BEST_EFFORT,
    'reliable': ReliabilityPolicy.RELIABLE,
}


def newest(reliability: str = 'reliable', depth: int = 1) -> QoSProfile:
    """Return a profile that keeps only the newest messages.

    A reliable publisher serves both kinds of subscriber. Each call returns a new profile, because
    rclpy writes the overrides of a topic into the profile that it gets.
    """
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST, depth=depth, reliability=RELIABILITY[reliability]
    )


OUTPUT = newest()
# Late subscribers receive the newest message, too.
LATCHED = newest()
LATCHED.durability = DurabilityPolicy.TRANSIENT_LOCAL
