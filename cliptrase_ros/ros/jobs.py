"""Slow work outside the executor, with results that come back to the executor."""

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
    """Runs work in the order given, on one thread. Coroutines of the executor await its futures."""

    def __init__(self, node: Node):
        self._node = node
        self._waiting: SimpleQueue[tuple | None] = SimpleQueue()
        self._finished: deque[tuple[Callable[[Any], None], Any]] = deque()
        self._delivery = node.create_guard_condition(self._deliver)
        self._stopped = False
        # A daemon thread: a job that never ends must not keep the process alive.
        self._thread = threading.Thread(target=self._work, name='jobs', daemon=True)
        self._thread.start()

    def run(self, work: Callable[..., Any], *args: Any) -> Future:
        """Call work(*args) on the thread. Awaiting the future returns or raises what `work` does,
        or raises Cancelled if the node stopped first."""
        future = Future()
        self._waiting.put((future, work, args))
        return future

    def stopping(self) -> bool:
        """Return True if the node is stopping, so that long work can give up early."""
        return self._stopped or not self._node.context.ok()

    def stop(self, timeout_s: float) -> bool:
        """Cancel waiting jobs, and give the current job some time to finish.

        Returns:
            True if it finished.
        """
        self._stopped = True
        self._waiting.put(None)
        self._thread.join(timeout_s)
        if self._node.context.ok():  # otherwise nobody awaits the results
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
            except Exception as error:  # any error: it is raised where the future is awaited
                outcome = future.set_exception, error
            self._finished.append(outcome)
            if not self._stopped:
                self._delivery.trigger()  # a future set on this thread would not wake the executor

    def _deliver(self) -> None:
        while self._finished:
            tell, outcome = self._finished.popleft()
            tell(outcome)
