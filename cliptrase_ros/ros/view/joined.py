"""Joins messages of one image by their stamp. Needs no ROS."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from typing import Any

# Memory for images whose labels have not come: ten seconds of 640 x 480 px at 15 Hz.
LIMIT_BYTES = 128 * 2**20


class Joined:
    """Messages by stamp until all parts of an image are there. The newest image wins.

    Args:
        parts: names of the parts that an image needs.
        limit_bytes: the oldest images are dropped if their data need more.
    """

    def __init__(self, parts: Collection[str], limit_bytes: int = LIMIT_BYTES):
        self._parts = frozenset(parts)
        self._limit_bytes = limit_bytes
        self._waiting: OrderedDict[int, dict[str, Any]] = OrderedDict()
        self._bytes = 0

    def add(self, part: str, stamp_ns: int, message: Any) -> dict[str, Any] | None:
        """Add a message. Return all parts of its image if none is missing now, otherwise None.

        A complete image drops those that came before it: their other parts come too late.
        """
        found = self._waiting.setdefault(stamp_ns, {})
        self._bytes += _size(message) - _size(found.get(part))
        found[part] = message
        if self._parts <= found.keys():
            while self._drop_oldest() is not found:
                pass
            return found
        while self._bytes > self._limit_bytes and len(self._waiting) > 1:
            self._drop_oldest()
        return None

    def _drop_oldest(self) -> dict[str, Any]:
        _, dropped = self._waiting.popitem(last=False)
        self._bytes -= sum(map(_size, dropped.values()))
        return dropped


def _size(message: Any) -> int:
    return len(message.data) if message is not None else 0
