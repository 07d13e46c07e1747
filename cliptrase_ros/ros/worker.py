"""Work outside the executor: slots for the newest items, and a thread that survives errors."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable
from typing import Any

log = logging.getLogger(__name__)


class LatestSlots:
    """Holds the newest item of each key. Safe between threads."""

    def __init__(self):
        self._changed = threading.Condition()
        self._items: dict[Hashable, Any] = {}
        self.closed = False

    def put(self, key: Hashable, item: Any) -> bool:
        """Store the item. Return True if it replaced an item that nobody had taken."""
        with self._changed:
            replaced = key in self._items
            self._items[key] = item
            self._changed.notify()
            return replaced

    def get(self) -> list[Any]:
        """Wait for an item, then take all items, the key that has waited longest first. Return []
        once the slots are closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._items or self.closed)
            items, self._items = list(self._items.values()), {}
            return [] if self.closed else items

    def close(self) -> None:
        """End all calls of `get`, now and later."""
        with self._changed:
            self.closed = True
            self._changed.notify_all()


class Worker:
    """A thread that works on the newest items given to it.

    Args:
        work: called with a list of items, the newest of each key that has one. It should handle
            its errors. An error that it does not handle is logged and does not end the thread.
    """

    def __init__(self, name: str, work: Callable[[list[Any]], None]):
        self._slots = LatestSlots()
        self._work = work
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, key: Hashable, item: Any) -> bool:
        """Hand over an item. Return True if it replaced a waiting item of the same key."""
        return self._slots.put(key, item)

    def stop(self) -> None:
        """Finish the current items, drop the waiting ones, and end the thread."""
        self._slots.close()
        self._thread.join()

    def _run(self) -> None:
        while items := self._slots.get():
            try:
                self._work(items)
            except Exception:  # any error: the thread must survive
                log.exception('%s: unhandled error', self._thread.name)
