"""Work off the executor: a slot for the newest item, a thread that survives, numbers about it."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import numpy as np

log = logging.getLogger(__name__)


class LatestSlot:
    """Holds at most one item, the newest; safe between threads."""

    def __init__(self):
        self._changed = threading.Condition()
        self._item: Any = None
        self.closed = False

    def put(self, item: Any) -> bool:
        """Store the item; True if it replaced one that nobody had taken."""
        with self._changed:
            replaced = self._item is not None
            self._item = item
            self._changed.notify()
            return replaced

    def get(self) -> Any:
        """Wait for an item and take it; None once the slot is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._item is not None or self.closed)
            item, self._item = self._item, None
            return None if self.closed else item

    def close(self) -> None:
        """End every get, now and later."""
        with self._changed:
            self.closed = True
            self._changed.notify_all()


class Worker:
    """A thread that works on the newest item given to it.

    Args:
        work: called with each item; an exception goes to `failed` and the thread goes on.
        failed: called with (item, exception).
    """

    def __init__(
        self, name: str, work: Callable[[Any], None], failed: Callable[[Any, Exception], None]
    ):
        self._slot = LatestSlot()
        self._work = work
        self._failed = failed
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, item: Any) -> bool:
        """Hand over an item; True if it replaced one that was still waiting."""
        return self._slot.put(item)

    def stopping(self) -> bool:
        """Whether `stop` was called; for long work to give up early."""
        return self._slot.closed

    def stop(self) -> None:
        """Finish the item in hand, drop the one that waits, end the thread."""
        self._slot.close()
        self._thread.join()

    def _run(self) -> None:
        while (item := self._slot.get()) is not None:
            try:
                self._work(item)
            except Exception as error:
                try:
                    self._failed(item, error)
                except Exception:
                    log.exception('%s: cannot report an error', self._thread.name)


class Statistics:
    """Counters since the start, and times over the last `window` frames; safe between threads."""

    def __init__(self, window: int = 100):
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._times: dict[str, deque[float]] = {}
        self._stamps: dict[str, deque[float]] = {}
        self._window = window

    def count(self, name: str) -> None:
        """Add one to a counter and note the time, for `rate` and `age`."""
        now = time.monotonic()
        with self._lock:
            self._counts[name] += 1
            self._stamps.setdefault(name, deque(maxlen=self._window)).append(now)

    def record(self, name: str, seconds: float) -> None:
        """Add one measured time."""
        with self._lock:
            self._times.setdefault(name, deque(maxlen=self._window)).append(seconds)

    def counts(self) -> dict[str, int]:
        """All counters."""
        with self._lock:
            return dict(self._counts)

    def rate(self, name: str, over_s: float = 5.0) -> float:
        """Events a second over the last `over_s` seconds (of the last `window` events)."""
        now = time.monotonic()
        with self._lock:
            stamps = [t for t in self._stamps.get(name, ()) if now - t <= over_s]
        return (len(stamps) - 1) / (stamps[-1] - stamps[0]) if len(stamps) > 1 else 0.0

    def age(self, name: str) -> float:
        """Seconds since the last event; infinite if there was none."""
        with self._lock:
            stamps = self._stamps.get(name)
            return time.monotonic() - stamps[-1] if stamps else float('inf')

    def quantiles_ms(self, name: str) -> tuple[float, float, float] | None:
        """(p50, p95, max) in ms over the last `window` times, or None."""
        with self._lock:
            times = list(self._times.get(name, ()))
        if not times:
            return None
        p50, p95, worst = 1e3 * np.percentile(times, (50, 95, 100))
        return float(p50), float(p95), float(worst)
