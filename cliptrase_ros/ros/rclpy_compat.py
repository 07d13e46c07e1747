"""Access to names that not every rclpy has. Each is used in one function, which also works without
it.

Checked in the sources of rclpy 3.3 (Humble), 4.1 (Iron), 7.1 (Jazzy) and 8.0 (before Kilted). All
have `Node._parameter_overrides`, a `LifecycleNode._state_machine` that can be destroyed, and
`Service.srv_name` and `Service.callback`, which look public but are not documented. Rolling of 2026
(near Lyrical) still has a state machine that can be destroyed; the other names were not looked at
there. A transition that is impossible in the current state raises an error up to 7.1. Since 8.0
rclpy refuses it. The event of a new subscriber exists since Iron.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from typing import Any

from rclpy.lifecycle import LifecycleNode
from rclpy.node import Node, PublisherEventCallbacks


def given_parameters(node: Node) -> Collection[str]:
    """Return the names of the parameters that the node was started with, declared or not.

    If rclpy does not offer them, return none. Then misspelt parameters are not refused.
    """
    return getattr(node, '_parameter_overrides', {})


def refuse_impossible_transitions(node: LifecycleNode) -> bool:
    """Make the node refuse transitions that are impossible in its current state.

    rclpy of Humble and Jazzy raises an error instead, which would end the node. If the service is
    not found, rclpy's own answer stays: newer versions refuse by themselves.

    Returns:
        True if the service was found.
    """
    name = node.resolve_service_name('~/change_state')
    for service in node.services:
        if getattr(service, 'srv_name', '') == name and hasattr(service, 'callback'):
            service.callback = _refusing(node, service.callback)
            return True
    return False


def _refusing(node: LifecycleNode, change_state):
    def answer(request, response):
        try:
            return change_state(request, response)
        except Exception as error:  # any error would end the node
            node.get_logger().warning(f'state not changed: {error}')
            response.success = False
            return response

    return answer


def publisher_events(matched: Callable[[Any], None]) -> PublisherEventCallbacks:
    """Return the callbacks of a publisher that calls `matched` when subscribers come or go.

    rclpy of Humble has no such event; then `matched` is never called.
    """
    if 'matched' in inspect.signature(PublisherEventCallbacks).parameters:
        return PublisherEventCallbacks(matched=matched)
    return PublisherEventCallbacks()


def free_lifecycle(node: LifecycleNode) -> None:
    """Destroy the services of a node's lifecycle.

    `destroy_node` leaves them to the garbage collector. Until then, others find services that
    nobody answers. If rclpy lacks the internal name, this function does nothing.
    """
    destroy = getattr(getattr(node, '_state_machine', None), 'destroy_when_not_in_use', None)
    if destroy:
        destroy()
