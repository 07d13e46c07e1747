"""Work off the executor: slots for the newest items, a thread that survives, numbers about it."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np

log = logging.getLogger(__name__)


class LatestSlots:
    """Holds at most one item a key, the newest; safe between threads."""

    def __init__(self):
        self._changed = threading.Condition()
        self._items: dict[Hashable, Any] = {}
        self.closed = False

    def put(self, key: Hashable, item: Any) -> bool:
        """Store the item; True if it replaced one that nobody had taken."""
        with self._changed:
            replaced = key in self._items
            self._items[key] = item
            self._changed.notify()
            return replaced

    def get(self) -> list[Any]:
        """Wait for an item and take all that are there, the key that has waited longest first;
        [] once the slots are closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._items or self.closed)
            items, self._items = list(self._items.values()), {}
            return [] if self.closed else items

    def close(self) -> None:
        """End every get, now and later."""
        with self._changed:
            self.closed = True
            self._changed.notify_all()


class Worker:
    """A thread that works on the newest items given to it.

    Args:
        work: called with a list of items, the newest of each key that has one; it is to deal with
            errors itself, but even one that gets out does not end the thread.
    """

    def __init__(self, name: str, work: Callable[[list[Any]], None]):
        self._slots = LatestSlots()
        self._work = work
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, key: Hashable, item: Any) -> bool:
        """Hand over an item; True if it replaced one of its key that was still waiting."""
        return self._slots.put(key, item)

    def stop(self) -> None:
        """Finish the items in hand, drop those that wait, end the thread."""
        self._slots.close()
        self._thread.join()

    def _run(self) -> None:
        while items := self._slots.get():
            try:
                self._work(items)
            except Exception:  # of any kind: the thread is to survive
                log.exception('%s: an error that was not dealt with', self._thread.name)


class Statistics:
    """Counters since the start, and what happened lately; safe between threads."""

    def __init__(self, times: int = 100, events: int = 1000):
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._times: defaultdict[str, deque] = defaultdict(lambda: deque(maxlen=times))
        self._stamps: defaultdict[str, deque] = defaultdict(lambda: deque(maxlen=events))

    def count(self, name: str) -> None:
        """Add one to a counter and note the time."""
        now = time.monotonic()
        with self._lock:
            self._counts[name] += 1
            self._stamps[name].append(now)

    def record(self, name: str, seconds: float) -> None:
        """Add one measured time."""
        now = time.monotonic()
        with self._lock:
            self._times[name].append((now, seconds))

    def counts(self) -> dict[str, int]:
        """All counters."""
        with self._lock:
            return dict(self._counts)

    def recent(self, name: str, over_s: float) -> int:
        """How many events there were in the last `over_s` seconds."""
        since = time.monotonic() - over_s
        with self._lock:
            return sum(stamp >= since for stamp in self._stamps[name])

    def rate(self, name: str, over_s: float = 5.0) -> float:
        """Events a second over the last `over_s` seconds; of rarer ones, by the last two."""
        with self._lock:
            stamps = list(self._stamps[name])
        since = time.monotonic() - over_s
        lately = [stamp for stamp in stamps if stamp >= since]
        if len(lately) == 1 and len(stamps) > 1:
            lately = stamps[-2:]
        return (len(lately) - 1) / (lately[-1] - lately[0]) if len(lately) > 1 else 0.0

    def age(self, name: str) -> float:
        """Seconds since the last event; infinite if there was none."""
        with self._lock:
            stamps = self._stamps[name]
            return time.monotonic() - stamps[-1] if stamps else float('inf')

    def quantiles_ms(
        self, name: str, over_s: float = float('inf')
    ) -> tuple[float, float, float] | None:
        """(p50, p95, max) in ms of the last times, those within `over_s` seconds, or None."""
        since = time.monotonic() - over_s
        with self._lock:
            times = [seconds for stamp, seconds in self._times[name] if stamp >= since]
        if not times:
            return None
        p50, p95, worst = 1e3 * np.percentile(times, (50, 95, 100))
        return float(p50), float(p95), float(worst)
