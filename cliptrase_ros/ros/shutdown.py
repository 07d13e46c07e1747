"""Ending a node the way people and launch end it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import rclpy
from rclpy.executors import ExternalShutdownException


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
