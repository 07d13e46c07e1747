"""Threads that give pictures to the stage: files at their own pace, and live streams."""

from __future__ import annotations

import logging
import threading
import time
from typing import Protocol

import cv2

from ..errors import CliptraseError, PictureError
from .shots import LiveAddress, Replay, Shot
from .stage import Stage

log = logging.getLogger(__name__)

# A video that is later than this goes on from where it is.
LATE_S = 1.0
# Wait before a stream is opened again.
RETRY_S = 2.0
# A stream that gives no picture for so long is reported.
SILENT_S = 3.0
# Limit for opening an address and for each read, instead of OpenCV's 30 s.
TIMEOUT_MS = 5000


class Player(Protocol):
    """A thread that gives the pictures of a source."""

    # What goes on, and what is wrong; '' if nothing.
    note: str
    # How long its end may take.
    end_s: float

    @property
    def problem(self) -> str: ...

    def start(self) -> None: ...

    def join(self, timeout: float | None = None) -> None: ...


def player_of(source: Replay | LiveAddress, stage: Stage) -> Player:
    """Return the thread for a source, not yet started."""
    return Capture(source, stage) if isinstance(source, LiveAddress) else Projector(source, stage)


class Projector(threading.Thread):
    """Gives pictures of files at their times; only while they are wanted."""

    def __init__(self, source: Replay, stage: Stage):
        super().__init__(name='projector', daemon=True)
        self.end_s = 10.0  # a picture is being read
        self.note = self.problem = ''
        self._source, self._stage = source, stage
        self._start_s = 0.0

    def run(self) -> None:
        """Play until the end, or again and again."""
        given = True
        while given and not self._stage.closed:
            try:
                given = self._once() and self._source.loop
            except Exception as error:  # of any kind: the page must hear of it
                if not isinstance(error, (CliptraseError, OSError)):
                    log.exception('%s cannot be read', self._source.title)
                self.problem, given = str(error) or type(error).__name__, False
        self.note = f'{self._source.title} has ended'
        self._stage.again()

    def _once(self) -> bool:
        """Play once. Return True if there was a picture."""
        given = shown = False
        for found in self._source.read():
            if isinstance(found, PictureError):
                self.problem, shown = str(found), False
                continue
            if not self._stage.turn(self._source.skips):
                return given
            if not given:
                self._start_s = time.monotonic() - found.time_s
            self._stage.sleep(self._due(found))
            if shown:  # the problem was of a picture before the last
                self.problem = ''
            self._stage.put(found)
            given = shown = True
        return given

    def _due(self, shot: Shot) -> float:
        late = time.monotonic() - (self._start_s + shot.time_s)
        if late > (LATE_S if self._source.skips else 0):
            self._start_s += late
        return self._start_s + shot.time_s


class Capture(threading.Thread):
    """Gives the newest picture of a webcam or an address; opens it again if it breaks off."""

    def __init__(self, source: LiveAddress, stage: Stage):
        super().__init__(name='capture', daemon=True)
        self.end_s = 1.0  # a camera may be silent
        self.note = f'opening {source.title} ...'
        self._source, self._stage = source, stage
        self._reason = ''
        self._heard_s = time.monotonic()

    @property
    def problem(self) -> str:
        """Why no picture comes."""
        silent = time.monotonic() - self._heard_s
        if self._reason or silent < SILENT_S or self.note:
            return self._reason
        return f'no picture from {self._source.title} for {silent:.0f} s'

    def run(self) -> None:
        """Read until the stage is closed, or until a file behind an address ends."""
        more = True
        while more and not self._stage.closed:
            try:
                more = self._once()
            except cv2.error as error:
                self._lost(f'{self._source.title} cannot be read ({error.err})')

    def _once(self) -> bool:
        """Read until it breaks off. Return False at the end of a file."""
        capture = opened(self._source.address)
        try:
            if not capture.isOpened():
                self._lost(f'{self._source.title} cannot be opened; trying again')
                return True
            frames, rate = (
                capture.get(one) for one in (cv2.CAP_PROP_FRAME_COUNT, cv2.CAP_PROP_FPS)
            )
            # Streams have no length.
            period_s = 1 / rate if frames > 1 and rate > 0 else 0.0
            while not self._stage.closed and self._read(capture, period_s):
                pass
        finally:
            capture.release()
        if period_s:
            self.note = f'{self._source.title} has ended'
            return False
        self._lost(f'{self._source.title} gives no more pictures; opening it again')
        return True

    def _read(self, capture: cv2.VideoCapture, period_s: float) -> bool:
        began = time.monotonic()
        if period_s and not self._stage.turn(skips=True):
            return False
        if not capture.grab():
            return False
        self._heard_s, self._reason, self.note = time.monotonic(), '', ''
        # Pictures that nobody wants are read, so that the next one is new, but not decoded.
        if self._stage.wanted:
            good, bgr = capture.retrieve()
            if good:
                self._stage.put(Shot(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)))
        if period_s:
            self._stage.sleep(began + period_s)
        return True

    def _lost(self, reason: str) -> None:
        if self._stage.closed:
            return
        self._reason, self.note = reason, ''
        self._stage.sleep(time.monotonic() + RETRY_S)


def opened(address: int | str) -> cv2.VideoCapture:
    """Return OpenCV's reader of a webcam or an address, which may not be open."""
    if isinstance(address, int) or '://' not in address:
        return cv2.VideoCapture(address)
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, cv2.CAP_PROP_READ_TIMEOUT_MSEC]
    settings = [number for limit in limits for number in (limit, TIMEOUT_MS)]
    return cv2.VideoCapture(address, cv2.CAP_FFMPEG, settings)
