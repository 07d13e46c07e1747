"""Between a source of pictures, the page and the labels: the next picture, and if it is wanted."""

from __future__ import annotations

import threading
import time

from .shots import Shot


class Stage:
    """Holds the next picture and the present one. Safe between threads.

    A picture is wanted while somebody watches, and unless the page has paused.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._next: Shot | None = None
        self._present: Shot | None = None
        self._again = False
        self._watched = self._paused = self._closed = False
        self._steps = 0

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    @property
    def wanted(self) -> bool:
        """Whether a new picture is wanted now."""
        return self._watched and (not self._paused or self._steps > 0) and not self._closed

    def watch(self, watched: bool) -> None:
        """Somebody watches, or nobody. The present picture is labelled again for who comes."""
        with self._changed:
            self._watched, self._again = watched, self._again or watched
            self._changed.notify_all()

    def pause(self, paused: bool) -> None:
        """Keep the present picture, or go on."""
        with self._changed:
            self._paused, self._steps = paused, 0
            self._changed.notify_all()

    def step(self) -> None:
        """Take one more picture while paused."""
        with self._changed:
            self._steps += self._paused
            self._changed.notify_all()

    def again(self) -> None:
        """Label the present picture again, because something has changed."""
        with self._changed:
            self._again = True
            self._changed.notify_all()

    def close(self) -> None:
        """End all waiting, now and later."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def put(self, shot: Shot) -> None:
        """Give the next picture. It replaces one that was not taken."""
        with self._changed:
            self._next = shot
            self._changed.notify_all()

    def turn(self, skips: bool) -> bool:
        """Wait until a picture may be given. Return False if the stage is closed.

        Args:
            skips: it may replace one that was not taken.
        """

        def free() -> bool:
            return self.wanted and (self._next is None or (skips and not self._paused))

        with self._changed:
            self._changed.wait_for(lambda: self._closed or free())
            return not self._closed

    def sleep(self, until: float) -> None:
        """Wait until a time of time.monotonic(), or until the stage is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed, max(0.0, until - time.monotonic()))

    def take(self, timeout_s: float) -> Shot | None:
        """Return the picture to label now: the next one, or the present one again.

        None: the time is over, or the stage is closed.
        """
        with self._changed:
            if not self._changed.wait_for(self._due, timeout_s) or self._closed:
                return None
            if self._next is not None and self.wanted:
                self._present, self._next = self._next, None
                self._steps = max(0, self._steps - 1)
            self._again = False
            self._changed.notify_all()
            return self._present

    def _due(self) -> bool:
        again = self._again and self._watched and self._present is not None
        return self._closed or again or (self._next is not None and self.wanted)
