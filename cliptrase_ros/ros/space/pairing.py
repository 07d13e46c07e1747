"""Choice of the depth image of each image: the one with the same stamp, otherwise the nearest. No
ROS here.

Images wait for the model; depth images do not. So each image keeps the depth image that fits best
so far. Apart from these only the last few depth images are kept, however slow the model is.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from typing import Any

# Number of depth images kept, in case that they come before their image.
RECENT = 16
# If no depth image came for this long, images do not wait for one.
SILENCE_S = 2.0
FAR_AHEAD_NS = 2 * 10**9


class Expected:
    """The best depth image so far of one image.

    Attributes:
        stamp_ns: stamp of the image.
        received_s: when the image came, on the monotonic clock.
        best: (stamp in ns, depth image) of the nearest so far, or None.
    """

    def __init__(self, stamp_ns: int, received_s: float):
        self.stamp_ns = stamp_ns
        self.received_s = received_s
        self.best: tuple[int, Any] | None = None

    def offer(self, stamp_ns: int, depth: Any) -> None:
        """Take the depth image if it is at least as near as the best so far."""
        if self.best is None or abs(stamp_ns - self.stamp_ns) <= abs(self.best[0] - self.stamp_ns):
            self.best = stamp_ns, depth


class Pairing:
    """Matches depth images of one camera to its images. Safe between threads."""

    def __init__(self):
        self._changed = threading.Condition()
        self._recent: deque[tuple[int, Any]] = deque(maxlen=RECENT)
        # Weak references: a dropped image also leaves this list.
        self._expected: list[weakref.ref[Expected]] = []
        self._came_s = float('-inf')

    def expect(self, stamp_ns: int) -> Expected:
        """Register a received image. Keep the result as long as its depth is needed."""
        expected = Expected(stamp_ns, time.monotonic())
        with self._changed:
            for stamped in self._recent:
                expected.offer(*stamped)
            self._expected = [*self._waiting(), weakref.ref(expected)]
        return expected

    def put(self, stamp_ns: int, depth: Any) -> None:
        """Register a received depth image."""
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
        """Return (stamp in ns, depth image) of the nearest depth image, or None.

        Wait until no nearer one is expected: the stamps are equal, a later depth image has come, or
        `patience_s` have passed since the image came. If no depth has come for SILENCE_S, do not
        wait, and return None unless the stamps are equal.
        """

        def exact() -> bool:
            return expected.best is not None and expected.best[0] == expected.stamp_ns

        def settled() -> bool:
            # A much later stamp is left over from before a recording started again.
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
        """Drop everything that came so far."""
        with self._changed:
            self._recent.clear()
            self._expected.clear()
            self._came_s = float('-inf')

    def _waiting(self) -> list[weakref.ref[Expected]]:
        return [reference for reference in self._expected if reference() is not None]
