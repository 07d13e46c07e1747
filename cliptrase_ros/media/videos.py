"""Video files: reading and writing frames."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from ..errors import PictureError

# Codecs that OpenCV's own FFmpeg can write, by file suffix.
CODECS = {'.mp4': 'mp4v', '.mkv': 'mp4v', '.avi': 'MJPG'}
# The default for videos that do not state a rate.
RATE_HZ = 30.0


class Video:
    """The frames of a video; can be iterated once.

    Attributes:
        rate_hz: frames a second.
        count: number of frames by its index; 0 if it has none.
        read: how many frames were read so far.

    Raises:
        PictureError: the file does not exist, or no frame can be read from it.
    """

    def __init__(self, path: Path):
        if not path.is_file():
            raise PictureError(f'no video {path}')
        self._capture = cv2.VideoCapture(str(path))
        good, self._first = self._capture.read()
        if not good:
            raise PictureError(
                f'{path} cannot be read as a video. If it is one, its index may be cut off '
                '(usually at the end of an .mp4)'
            )
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate_hz = rate if 0 < rate <= 1000 else RATE_HZ
        self.count = max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        self.read = 0

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield the frames [H, W, 3] uint8 RGB in order."""
        good, frame = True, self._first
        while good:
            self.read += 1
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
            good, frame = self._capture.read()
        self._capture.release()

    @property
    def cut(self) -> bool:
        """Whether fewer frames could be read than the index has."""
        # Tolerant because some containers only have an estimate.
        return self.count - self.read > max(2, self.count // 100)


def check_writable(path: Path) -> None:
    """Raise PictureError unless a video with this suffix can be written."""
    if path.suffix.lower() not in CODECS:
        raise PictureError(f'{path}: expected a video name that ends with {", ".join(CODECS)}')


class Writer:
    """A new video file of frames [H, W, 3] uint8 RGB. Its size is that of the first frame, made
    even: an odd last row or column is cut off.

    Raises:
        OSError: the file cannot be written completely.
    """

    def __init__(self, path: Path, rate_hz: float):
        self._path, self._rate_hz = path, rate_hz
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self.count = 0

    def __call__(self, frame: np.ndarray) -> None:
        """Write one more frame."""
        writer = self._writer or self._opened(frame.shape[:2])
        if frame.shape[:2] != self._size:
            raise PictureError(f'frame of {frame.shape[:2]} does not fit a video of {self._size}')
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        self.count += 1

    def _opened(self, size: tuple[int, int]) -> cv2.VideoWriter:
        codec = cv2.VideoWriter.fourcc(*CODECS[self._path.suffix.lower()])
        self._size = size
        self._writer = cv2.VideoWriter(str(self._path), codec, self._rate_hz, size[::-1])
        if not self._writer.isOpened():
            raise OSError(f'{self._path}: OpenCV cannot write this kind of video here')
        return self._writer

    def close(self) -> None:
        """Finish the file.

        OpenCV reports no errors while it writes, so the frames of the file are counted here.

        Raises:
            OSError: the file has fewer frames than were written.
        """
        if self._writer is None:
            return
        self._writer.release()
        written = cv2.VideoCapture(str(self._path)).get(cv2.CAP_PROP_FRAME_COUNT)
        if written < self.count:
            disk = os.statvfs(self._path.parent)
            raise OSError(
                f'only {max(0, int(written))} of {self.count} frames could be written to '
                f'{self._path.parent}; {disk.f_bavail * disk.f_frsize / 1e6:.0f} MB are free there'
            )
