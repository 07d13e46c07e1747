"""Slow work off the executor, and its outcome back on it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future as Outcome
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from rclpy.node import Node
from rclpy.task import Future

from ..errors import Cancelled


class Jobs:
    """Work in the order given, on one thread; its futures are for coroutines of the executor."""

    def __init__(self, node: Node):
        self._pool = ThreadPoolExecutor(1, thread_name_prefix='jobs')
        self._finished: deque[tuple[Future, Outcome]] = deque()
        self._delivery = node.create_guard_condition(self._deliver)
        self._node = node
        self._stopping = False

    def run(self, work: Callable[..., Any], *args: Any) -> Future:
        """Call work(*args) on the thread. Awaiting the result gives what it returns or raises, or
        Cancelled where the end came first."""
        future = Future()
        if self._stopping:
            future.set_exception(Cancelled('the node is stopping'))
            return future

        def finished(outcome: Outcome) -> None:
            self._finished.append((future, outcome))
            self._delivery.trigger()  # a future set on another thread would wake nobody

        self._pool.submit(work, *args).add_done_callback(finished)
        return future

    def stopping(self) -> bool:
        """Whether `stop` was called; for long work to give up early."""
        return self._stopping

    def stop(self) -> None:
        """Finish the job in hand, cancel those that wait, end the thread."""
        self._stopping = True
        self._pool.shutdown(wait=True, cancel_futures=True)
        if self._node.context.ok():  # else nobody is left to hear of it
            self._deliver()
        self._node.destroy_guard_condition(self._delivery)

    def _deliver(self) -> None:
        while self._finished:
            future, outcome = self._finished.popleft()
            if outcome.cancelled():
                future.set_exception(Cancelled('the node is stopping'))
            elif outcome.exception() is not None:
                future.set_exception(outcome.exception())
            else:
                future.set_result(outcome.result())
