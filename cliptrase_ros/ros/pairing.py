"""Which depth image belongs to which image: the one with its stamp, else the nearest. No ROS here.

Images wait for the model, depth images for nothing. So each image holds the depth image that fits
it best so far, and besides those only the last few are kept, whatever the model's pace.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from typing import Any

# Depth images that come before their image does.
RECENT = 8


class Expected:
    """The depth image of one image, as far as it has come.

    Attributes:
        stamp_ns: of the image.
        received_s: when the image came, on the monotonic clock.
        best: (stamp in ns, depth image) of the nearest so far, or None.
    """

    def __init__(self, stamp_ns: int, received_s: float):
        self.stamp_ns = stamp_ns
        self.received_s = received_s
        self.best: tuple[int, Any] | None = None

    def offer(self, stamp_ns: int, depth: Any) -> None:
        """Take it, if it is nearer than what there is; of two as near the later one."""
        if self.best is None or abs(stamp_ns - self.stamp_ns) <= self.apart_ns:
            self.best = stamp_ns, depth

    @property
    def apart_ns(self) -> int:
        """How far away the nearest is, in ns."""
        return abs(self.best[0] - self.stamp_ns)


class Pairing:
    """Depth images of one camera; safe between threads."""

    def __init__(self):
        self._changed = threading.Condition()
        self._recent: deque[tuple[int, Any]] = deque(maxlen=RECENT)
        # An image that is dropped takes its place here with it.
        self._expected: weakref.WeakSet[Expected] = weakref.WeakSet()
        self._came_s = float('-inf')

    def expect(self, stamp_ns: int) -> Expected:
        """An image came; hold on to the result as long as its depth is wanted."""
        expected = Expected(stamp_ns, time.monotonic())
        with self._changed:
            for stamped in self._recent:
                expected.offer(*stamped)
            self._expected.add(expected)
        return expected

    def put(self, stamp_ns: int, depth: Any) -> None:
        """A depth image came."""
        with self._changed:
            self._came_s = time.monotonic()
            self._recent.append((stamp_ns, depth))
            for expected in self._expected:
                expected.offer(stamp_ns, depth)
            self._changed.notify_all()

    def wait(self, expected: Expected, patience_s: float) -> tuple[int, Any] | None:
        """(stamp in ns, depth image) of the nearest, once no nearer one can be hoped for: its stamp
        is that of the image, a later one has come, `patience_s` have passed since the image came,
        or no depth image has come for as long (so that a camera without depth costs nothing)."""

        def settled() -> bool:
            newest = self._recent[-1][0] if self._recent else None
            return newest is not None and (newest >= expected.stamp_ns or not expected.apart_ns)

        with self._changed:
            now = time.monotonic()
            left_s = min(expected.received_s, self._came_s) + patience_s - now
            self._changed.wait_for(settled, max(0.0, left_s))
            return expected.best

    def forget(self) -> None:
        """Drop what came so far."""
        with self._changed:
            self._recent.clear()
            self._expected.clear()
            self._came_s = float('-inf')
