"""Running a node, and ending it on Ctrl-C or SIGTERM."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.task import Future

from ..errors import CliptraseError, SettingError
from ..runtime.deferred import leave_memory_at_the_end
from . import parameter_files

log = logging.getLogger(__name__)

N = TypeVar('N', bound=Node)

SIGNALS = signal.SIGINT, signal.SIGTERM


@contextlib.contextmanager
def until_shutdown() -> Iterator[None]:
    """Run the block until it is done, or until Ctrl-C or SIGTERM. These are no errors."""
    try:
        yield
    except ExternalShutdownException:
        pass
    except Exception as error:
        # The signal closes the context at once, even while a callback publishes. The callback can
        # then raise errors of several types.
        if rclpy.ok():
            raise
        log.debug('ignored after the shutdown, %s: %s', type(error).__name__, error)


@contextlib.contextmanager
def spun(node: N) -> Iterator[N]:
    """Spin the node on its own thread within the block. Destroy the node at the end."""
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
    """Call rclpy.init for a main program. Ctrl-C and SIGTERM then only end the context.

    Python's own KeyboardInterrupt could come at any line, also during the shutdown.

    Raises:
        SettingError: rcl cannot read the arguments, such as a parameters file.
    """
    leave_memory_at_the_end()
    came: list[bool] = []
    for number in SIGNALS:
        signal.signal(number, lambda *_: came.append(True))
    given = sys.argv if args is None else args
    try:
        with parameter_files.filled(given) as arguments:
            rclpy.init(args=arguments)  # its handlers end the context, then call ours
    except RuntimeError as error:  # the base of rclpy's errors, which have no public name
        raise SettingError(parameter_files.explained(given, error)) from None
    if came:
        rclpy.shutdown()


def end() -> None:
    """Shut down; the counterpart of `init`. Further signals are ignored from now on."""
    rclpy.try_shutdown()
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def run(
    name: str,
    make: Callable[[], N],
    args: list[str] | None = None,
    spin: Callable[[N], None] = rclpy.spin,
) -> int:
    """Make a node and spin it until `spin` returns, or until Ctrl-C or SIGTERM.

    Returns:
        The exit code: 1 if the node cannot start or continue. The log of this name has the reason.
    """
    node = None
    try:
        init(args)
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
