"""Waits for other lifecycle nodes: the node takes images only while they are active."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
from rclpy.client import Client
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import NameValidationException
from rclpy.node import Node
from rclpy.task import Future

from ..errors import SettingError

# Time between looks at the states.
LOOK_S = 0.5
# A node that does not answer for this time is not active. A killed node is listed for some seconds.
PATIENCE_S = 3.0


def _client(node: Node, name: str) -> Client:
    try:
        return node.create_client(GetState, f'{name}/get_state')
    except NameValidationException:
        raise SettingError(
            f'wait_for: {name!r} cannot be the name of a node. Write it as `ros2 node list` does, '
            'such as /local_costmap/local_costmap'
        ) from None


@dataclass
class _Companion:
    name: str
    client: Client
    active: bool = False
    answer: Future | None = None
    asked_s: float = 0.0


class Companions:
    """Asks lifecycle nodes for their states. Only the executor's thread may use it.

    Args:
        names: names of the nodes; relative ones are in the namespace of `node`.
        changed: called when `missing` has changed.

    Raises:
        SettingError: a name cannot be that of a node.
    """

    def __init__(self, node: Node, names: Sequence[str], changed: Callable[[], None]):
        self._node = node
        self._changed = changed
        self._companions = [_Companion(name, _client(node, name)) for name in names]
        if self._companions:
            node.create_timer(LOOK_S, self._look, clock=Clock(clock_type=ClockType.STEADY_TIME))

    @property
    def missing(self) -> list[str]:
        """Names of the nodes that are not active."""
        return [one.name for one in self._companions if not one.active]

    def _look(self) -> None:
        for one in self._companions:
            if one.answer is None and one.client.service_is_ready():
                one.asked_s = time.monotonic()
                one.answer = one.client.call_async(GetState.Request())
                one.answer.add_done_callback(lambda answer, one=one: self._answered(one, answer))
            elif one.answer is None:
                self._set(one, False)
            elif time.monotonic() - one.asked_s > PATIENCE_S:
                one.client.remove_pending_request(one.answer)
                one.answer = None
                self._set(one, False)

    def _answered(self, one: _Companion, answer: Future) -> None:
        if one.answer is answer:  # otherwise it came too late
            one.answer = None
            result = answer.result()
            self._set(
                one, result is not None and result.current_state.id == State.PRIMARY_STATE_ACTIVE
            )

    def _set(self, one: _Companion, active: bool) -> None:
        if one.active != active:
            one.active = active
            self._changed()
