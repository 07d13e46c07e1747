"""What the node needs of rclpy's inside, each name in one function that can do without it.

Looked up in the sources of rclpy 3.3 (Humble), 4.1 (Iron), 7.1 (Jazzy) and 8.0 (on the way to
Kilted): all have `Node._parameter_overrides`, `LifecycleNode._state_machine` that can be destroyed,
and `Service.srv_name` and `Service.callback`, which look public and are documented nowhere. Rolling
of 2026, near Lyrical, still has a state machine that can be destroyed; the others were not seen
there. A transition that the state does not have raises up to 7.1; since 8.0 rclpy refuses it.
"""

from __future__ import annotations

from collections.abc import Collection

from rclpy.lifecycle import LifecycleNode
from rclpy.node import Node


def given_parameters(node: Node) -> Collection[str]:
    """Names of the parameters that the node was started with, declared or not.

    Where rclpy does not tell: none, so nothing is said of misspelt ones.
    """
    return getattr(node, '_parameter_overrides', {})


def refuse_impossible_transitions(node: LifecycleNode) -> bool:
    """Answer a transition that the state does not have with no success; rclpy of Humble and Jazzy
    raises, which would end the node.

    Where the service is not found rclpy's own answer stays: newer ones refuse by themselves.

    Returns:
        Whether it was found.
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
        except Exception as error:  # of any kind: else it would end the node
            node.get_logger().warning(f'no change of state: {error}')
            response.success = False
            return response

    return answer


def free_lifecycle(node: LifecycleNode) -> None:
    """Free the services of a node's lifecycle, which `destroy_node` leaves to the garbage
    collector: until then others find a service that nobody answers.

    Where there is no such name they are left to it.
    """
    destroy = getattr(getattr(node, '_state_machine', None), 'destroy_when_not_in_use', None)
    if destroy:
        destroy()
