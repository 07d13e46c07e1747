"""Counters of events and measured times, for diagnostics."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict, deque

import numpy as np


class Statistics:
    """Counters since the start, and recent events and times. Safe between threads."""

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
        """Return all counters."""
        with self._lock:
            return dict(self._counts)

    def recent(self, name: str, over_s: float) -> int:
        """Return the number of events in the last `over_s` seconds."""
        since = time.monotonic() - over_s
        with self._lock:
            return sum(stamp >= since for stamp in self._stamps[name])

    def rate(self, name: str, over_s: float = 5.0) -> float:
        """Return events per second over the last `over_s` seconds. If only one event is that new,
        use the last two."""
        with self._lock:
            stamps = list(self._stamps[name])
        since = time.monotonic() - over_s
        lately = [stamp for stamp in stamps if stamp >= since]
        if len(lately) == 1 and len(stamps) > 1:
            lately = stamps[-2:]
        return (len(lately) - 1) / (lately[-1] - lately[0]) if len(lately) > 1 else 0.0

    def age(self, name: str) -> float:
        """Return the seconds since the last event, or infinity if there was none."""
        with self._lock:
            stamps = self._stamps[name]
            return time.monotonic() - stamps[-1] if stamps else float('inf')

    def quantiles_ms(
        self, name: str, over_s: float = float('inf')
    ) -> tuple[float, float, float] | None:
        """Return (p50, p95, max) in ms of the times in the last `over_s` seconds, or None."""
        since = time.monotonic() - over_s
        with self._lock:
            times = [seconds for stamp, seconds in self._times[name] if stamp >= since]
        if not times:
            return None
        p50, p95, worst = 1e3 * np.percentile(times, (50, 95, 100))
        return float(p50), float(p95), float(worst)
