"""The library's `logging` records, sent to the node's log and so to /rosout."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from rclpy.node import Node


class _RosHandler(logging.Handler):
    def __init__(self, node: Node):
        super().__init__(logging.INFO)
        self._logger = node.get_logger()

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        # One line of code for each severity: rclpy refuses two severities from the same line.
        if record.levelno >= logging.ERROR:
            self._logger.error(text)
        elif record.levelno >= logging.WARNING:
            self._logger.warning(text)
        else:
            self._logger.info(text)


@contextlib.contextmanager
def library_logs_to(node: Node) -> Iterator[None]:
    """Send all logs of cliptrase_ros within the block to the node's log, and nowhere else."""
    logger = logging.getLogger('cliptrase_ros')
    handler = _RosHandler(node)
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.propagate = True
        logger.removeHandler(handler)
