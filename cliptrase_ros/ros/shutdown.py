"""Running a node, and ending it the way people and launch end it."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node

from ..errors import CliptraseError


@contextlib.contextmanager
def until_shutdown() -> Iterator[None]:
    """Run the block until it is done, or until Ctrl-C or SIGTERM, which are no errors."""
    try:
        yield
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except Exception:
        # The signal closes the context at once, also under a callback that is publishing.
        if rclpy.ok():
            raise


def ignore_signals() -> None:
    """Take no notice of a second Ctrl-C or SIGTERM: a first one has begun the end."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def run(
    name: str,
    make: Callable[[], Node],
    args: list[str] | None = None,
    spin: Callable[[Node], None] = rclpy.spin,
) -> int:
    """Make a node and spin it until that ends, Ctrl-C or SIGTERM; 1, and a sentence in the log of
    that name, if it cannot start or go on."""
    rclpy.init(args=args)
    node = None
    try:
        with until_shutdown():
            node = make()
            spin(node)
    except (ParameterException, CliptraseError) as error:
        rclpy.logging.get_logger(name).fatal(str(error))
        return 1
    finally:
        ignore_signals()
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    return 0
