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
RECENT = 16
# After so long without a depth image none is waited for.
SILENCE_S = 2.0
FAR_AHEAD_NS = 2 * 10**9


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
        if self.best is None or abs(stamp_ns - self.stamp_ns) <= abs(self.best[0] - self.stamp_ns):
            self.best = stamp_ns, depth


class Pairing:
    """Depth images of one camera; safe between threads."""

    def __init__(self):
        self._changed = threading.Condition()
        self._recent: deque[tuple[int, Any]] = deque(maxlen=RECENT)
        # An image that is dropped takes its place here with it.
        self._expected: list[weakref.ref[Expected]] = []
        self._came_s = float('-inf')

    def expect(self, stamp_ns: int) -> Expected:
        """An image came; hold on to the result as long as its depth is wanted."""
        expected = Expected(stamp_ns, time.monotonic())
        with self._changed:
            for stamped in self._recent:
                expected.offer(*stamped)
            self._expected = [*self._waiting(), weakref.ref(expected)]
        return expected

    def put(self, stamp_ns: int, depth: Any) -> None:
        """A depth image came."""
        with self._changed:
            self._came_s = time.monotonic()
            self._recent.append((stamp_ns, depth))
            self._expected = self._waiting()
            for reference in self._expected:
                expected = reference()
                if expected is not None:
                    expected.offer(stamp_ns, depth)
            self._changed.notify_all()

    def wait(self, expected: Expected, patience_s: float) -> tuple[int, Any] | None:
        """(stamp in ns, depth image) of the nearest, once no nearer one can be hoped for: its stamp
        is that of the image, a later one has come, or `patience_s` have passed since the image
        came. Where depth has been silent for SILENCE_S: at once, and None but for the same stamp.
        """

        def exact() -> bool:
            return expected.best is not None and expected.best[0] == expected.stamp_ns

        def settled() -> bool:
            # What is much later is of a recording that began again.
            newest_ns = self._recent[-1][0] if self._recent else expected.stamp_ns
            return exact() or 0 < newest_ns - expected.stamp_ns < FAR_AHEAD_NS

        def silent() -> bool:
            return time.monotonic() - self._came_s > SILENCE_S

        with self._changed:
            if not silent():
                left_s = expected.received_s + patience_s - time.monotonic()
                self._changed.wait_for(settled, max(0.0, left_s))
            return None if silent() and not exact() else expected.best

    def forget(self) -> None:
        """Drop what came so far."""
        with self._changed:
            self._recent.clear()
            self._expected.clear()
            self._came_s = float('-inf')

    def _waiting(self) -> list[weakref.ref[Expected]]:
        return [reference for reference in self._expected if reference() is not None]
