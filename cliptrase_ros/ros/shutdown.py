"""Running a node, and ending it the way people and launch end it."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.task import Future

from ..errors import CliptraseError
from ..runtime.deferred import leave_memory_at_the_end

log = logging.getLogger(__name__)

N = TypeVar('N', bound=Node)

SIGNALS = signal.SIGINT, signal.SIGTERM


@contextlib.contextmanager
def until_shutdown() -> Iterator[None]:
    """Run the block until it is done, or until Ctrl-C or SIGTERM, which are no errors."""
    try:
        yield
    except ExternalShutdownException:
        pass
    except Exception as error:
        # The signal closes the context at once, also under a callback that is publishing; what that
        # raises is of several kinds.
        if rclpy.ok():
            raise
        log.debug('after the end, %s: %s', type(error).__name__, error)


@contextlib.contextmanager
def spun(node: N) -> Iterator[N]:
    """The node spins on a thread of its own within the block, and is destroyed at its end."""
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    ending = Future()

    def spin() -> None:
        with contextlib.suppress(ExternalShutdownException):
            executor.spin_until_future_complete(ending)

    thread = threading.Thread(target=spin, daemon=True)
    thread.start()
    try:
        yield node
    finally:
        ending.set_result(None)
        thread.join(10)
        executor.shutdown()
        node.destroy_node()


def init(args: list[str] | None = None) -> None:
    """rclpy.init for a main program: Ctrl-C and SIGTERM end the context, and nothing else.

    Python's own KeyboardInterrupt could come at any line, also while the end is under way.
    """
    leave_memory_at_the_end()
    came: list[bool] = []
    for number in SIGNALS:
        signal.signal(number, lambda *_: came.append(True))
    rclpy.init(args=args)  # its own handlers end the context, and then call these
    if came:
        rclpy.shutdown()


def end() -> None:
    """The counterpart of `init`. One more signal is ignored: the end is near."""
    rclpy.try_shutdown()
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def run(
    name: str,
    make: Callable[[], N],
    args: list[str] | None = None,
    spin: Callable[[N], None] = rclpy.spin,
) -> int:
    """Make a node and spin it until that ends, Ctrl-C or SIGTERM; 1, and a sentence in the log of
    that name, if it cannot start or go on."""
    init(args)
    node = None
    try:
        with until_shutdown():
            node = make()
            spin(node)
    except (ParameterException, CliptraseError) as error:
        rclpy.logging.get_logger(name).fatal(str(error))
        return 1
    finally:
        if node is not None:
            node.destroy_node()
        end()
    return 0
