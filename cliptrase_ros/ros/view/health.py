"""What /diagnostics say about a segmentation node, and what its absence means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus

from .. import diagnostics

MODEL = 'model'
# Messages come once in `diagnostics_period_s`, and some are late on a busy machine.
PERIODS = 3


@dataclass(frozen=True)
class Health:
    """The newest statuses of a node.

    Attributes:
        name: full name of the node.
        statuses: the status of each camera and of the model, by name.
    """

    name: str
    statuses: Mapping[str, DiagnosticStatus] = field(default_factory=dict)

    def updated(self, message: DiagnosticArray) -> Health:
        """Return the health after a message; the same if it is not from this node."""
        start = f'{self.name}: '
        found = {s.name[len(start) :]: s for s in message.status if s.name.startswith(start)}
        return Health(self.name, found) if found else self

    @property
    def images(self) -> set[str]:
        """The topics of the images of all cameras."""
        cameras = (name for name in self.statuses if name != MODEL)
        return {topic for name in cameras if (topic := self.fact('topic', name))}

    def fact(self, key: str, name: str = MODEL) -> str:
        """Return a value of a status, or ''."""
        status = self.statuses.get(name)
        return next((v.value for v in status.values if v.key == key), '') if status else ''

    def latency_ms(self, camera: str) -> float:
        """Return the median time from receipt to publishing, or 0 before the first image."""
        return float(self.fact(f'{diagnostics.FROM_RECEIPT} p50 ms', camera) or 0)

    def problem(self, camera: str) -> str:
        """Return what is wrong with the model or the camera, in the node's own words, or ''."""
        for name in (MODEL, camera):
            status = self.statuses.get(name)
            if status and status.level != DiagnosticStatus.OK:
                return status.message
            if status and status.message not in ('ready', 'segmenting'):
                return f'{self.name}: {status.message}'
        return ''


def absence(name: str, there: bool, silent_s: float, period_s: float) -> str:
    """Return a sentence if a node is not there or silent, otherwise ''.

    Args:
        there: True if ROS lists the node.
        silent_s: seconds since its last message on /diagnostics.
        period_s: its `diagnostics_period_s`.
    """
    if not there:
        return (
            f'{name} is not running. Start it (ros2 run cliptrase_ros segmentation_node), or say '
            'which node to show (-p node:=NAME). The page goes on when it is there'
        )
    if silent_s > PERIODS * max(1.0, period_s):
        return (
            f'{name} has said nothing for {silent_s:.0f} s: it is starting, busy or dead. The page '
            'goes on when it answers'
        )
    return ''
