"""Slow work off the executor, and its outcome back on it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from rclpy.node import Node
from rclpy.task import Future

from ..errors import Cancelled


class Jobs:
    """Work in the order given, on one thread; its futures are for coroutines of the executor."""

    def __init__(self, node: Node):
        self._node = node
        self._waiting: SimpleQueue[tuple | None] = SimpleQueue()
        self._finished: deque[tuple[Callable[[Any], None], Any]] = deque()
        self._delivery = node.create_guard_condition(self._deliver)
        self._stopped = False
        # A daemon: a job that never ends is no reason not to end.
        self._thread = threading.Thread(target=self._work, name='jobs', daemon=True)
        self._thread.start()

    def run(self, work: Callable[..., Any], *args: Any) -> Future:
        """Call work(*args) on the thread. Awaiting the result gives what it returns or raises, or
        Cancelled where the end came first."""
        future = Future()
        self._waiting.put((future, work, args))
        return future

    def stopping(self) -> bool:
        """Whether the end has come; for long work to give up early."""
        return self._stopped or not self._node.context.ok()

    def stop(self, timeout_s: float) -> bool:
        """Cancel what waits, and give the job in hand some time to finish.

        Returns:
            Whether it did.
        """
        self._stopped = True
        self._waiting.put(None)
        self._thread.join(timeout_s)
        if self._node.context.ok():  # else nobody is left to hear of it
            self._deliver()
        self._node.destroy_guard_condition(self._delivery)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while (job := self._waiting.get()) is not None:
            future, work, args = job
            if self._stopped:
                self._finished.append((future.set_exception, Cancelled('the node is stopping')))
                continue
            try:
                outcome = future.set_result, work(*args)
            except Exception as error:  # of any kind: it is raised where the outcome is awaited
                outcome = future.set_exception, error
            self._finished.append(outcome)
            if not self._stopped:
                self._delivery.trigger()  # a future set on this thread would wake nobody

    def _deliver(self) -> None:
        while self._finished:
            tell, outcome = self._finished.popleft()
            tell(outcome)
