"""Words and settings of another node, through its services. Any thread but the executor's may
call."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rcl_interfaces.srv import GetParameters, SetParametersAtomically
from rclpy.client import Client
from rclpy.node import Node
from rclpy.parameter import Parameter, parameter_value_to_python

from ...errors import CliptraseError
from ...srv import SetVocabulary

# Patience with a node that is there: encoding many words takes long on a slow CPU.
PATIENCE_S = 300.0
READ_S = 5.0
# An answer is lost if it is sent while service and client still discover each other.
AGAIN_S = 10.0


class NotThere(CliptraseError):
    """The node is not running, or does not answer."""


class Remote:
    """The services of a segmentation node.

    Args:
        node: our own node; its executor spins on another thread.
        name: full name of the segmentation node, such as '/segmentation'.
    """

    def __init__(self, node: Node, name: str):
        self.name = name
        self._node = node
        self._get = node.create_client(GetParameters, f'{name}/get_parameters')
        self._set = node.create_client(SetParametersAtomically, f'{name}/set_parameters_atomically')
        self._words = node.create_client(SetVocabulary, f'{name}/set_vocabulary')
        self._closed = threading.Event()

    def close(self) -> None:
        """End the calls that wait for an answer."""
        self._closed.set()

    def read(self, names: Sequence[str]) -> dict[str, Any]:
        """Return the values of parameters.

        Raises:
            NotThere: the node does not answer.
        """
        answer = self._call(self._get, GetParameters.Request(names=list(names)), READ_S)
        if len(answer.values) != len(names):  # it has none of them, or not all
            raise NotThere(f'{self.name} is no segmentation node of this version')
        return dict(zip(names, map(parameter_value_to_python, answer.values), strict=True))

    def change(self, changes: Mapping[str, Any]) -> str:
        """Set parameters, all or none. Return '' or the node's reason why not.

        New words are live when this returns. Other settings may take the node a moment longer.

        Raises:
            NotThere: the node does not answer.
        """
        given = [_parameter(*change).to_parameter_msg() for change in changes.items()]
        request = SetParametersAtomically.Request(parameters=given)
        result = self._call(self._set, request, PATIENCE_S).result
        if not result.successful:
            return result.reason
        if 'vocabulary' not in changes:
            return ''
        # The same words again: this service answers when they are live.
        request = SetVocabulary.Request(prompts=list(changes['vocabulary']))
        answer = self._call(self._words, request, PATIENCE_S)
        return '' if answer.success else answer.message

    def _call(self, client: Client, request: Any, patience_s: float) -> Any:
        end = time.monotonic() + patience_s
        while True:
            self._wait(client.service_is_ready, min(end, time.monotonic() + READ_S))
            answered = threading.Event()
            future = client.call_async(request)
            future.add_done_callback(lambda _, answered=answered: answered.set())
            try:
                answer = self._answer(client, future, answered, end)
            finally:
                client.remove_pending_request(future)
            if answer is not None:
                return answer

    def _answer(self, client: Client, future: Any, answered: threading.Event, end: float) -> Any:
        """Return the answer, or None if it should be asked for again."""
        again = time.monotonic() + AGAIN_S
        self._wait(
            lambda: answered.is_set() or not client.service_is_ready() or time.monotonic() > again,
            end,
        )
        if answered.is_set():
            return future.result()
        if not client.service_is_ready():
            raise self._missing()
        return None

    def _wait(self, condition: Callable[[], bool], end: float) -> None:
        while True:
            if self._closed.is_set():  # ROS may be shut down
                raise self._missing()
            if condition():
                return
            if time.monotonic() > end:
                raise self._missing()
            self._closed.wait(0.01)

    def _missing(self) -> NotThere:
        return NotThere(f'{self.name} does not answer')


def _parameter(name: str, value: Any) -> Parameter:
    if isinstance(value, (list, tuple)):  # ROS cannot tell the type of an empty list
        return Parameter(name, Parameter.Type.STRING_ARRAY, list(value) or [''])
    return Parameter(name, value=value)
