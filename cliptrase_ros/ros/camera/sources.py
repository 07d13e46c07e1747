"""Pictures from files, videos and webcams, and the depth pictures of a recording. No ROS here."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

import cv2
import numpy as np

from ...errors import CliptraseError, PictureError
from ...media.videos import Video
from ...space import depth_pictures
from ...space.depth_pictures import MM as MM

PICTURES = {'.bmp', '.jpeg', '.jpg', '.png', '.ppm', '.tif', '.tiff', '.webp'}


class SourceError(CliptraseError):
    """The source does not exist, holds no picture, or does not fit its depth."""


class PictureSource:
    """RGB pictures [H, W, 3] uint8 from a file, a folder (by name), a video or a webcam number,
    each with the path of its depth picture, if there is one.

    Args:
        source: the path or number.
        depth_source: a folder with one depth picture for each picture, in the order of names, or
            one depth picture for a single picture; None: no depth.

    Raises:
        SourceError: there is nothing to read, or the depth pictures do not fit the pictures.
    """

    def __init__(self, source: str, depth_source: str | None = None):
        self.rate_hz = 0.0
        self._pictures: list[Path] = []
        self._depths: list[Path] = []
        self._path = Path(source).expanduser()
        self.endless = source.isdecimal()
        if self.endless:
            self._webcam = _opened(int(source))
            self.rate_hz = float(self._webcam.get(cv2.CAP_PROP_FPS) or 0)
        else:
            self._pictures = _listed('source', self._path)
            if not self._pictures:
                self.rate_hz = self._video().rate_hz
        if depth_source:
            self._list_depths(depth_source)
        self._frames = self._once()
        first = next(self._frames, None)
        if first is None:
            raise SourceError(f'source: no picture can be read from {source!r}')
        self._first = first
        if depth_source:
            self._try_depth(depth_source)

    def frames(self, loop: bool) -> Iterator[tuple[np.ndarray, Path | None]]:
        """Yield the pictures in order. If `loop`, start again as long as one can be read."""
        yield self._first
        yield from self._frames
        again = loop and not self.endless
        while again:
            again = False  # unless a picture can still be read
            for frame in self._once():
                again = True
                yield frame

    def _video(self) -> Video:
        if not self._path.is_file():
            raise SourceError(
                f"source: '{self._path}' is not a picture, folder, video or webcam number"
            )
        try:
            return Video(self._path)
        except PictureError as error:
            raise SourceError(f'source: {error}') from error

    def _list_depths(self, depth_source: str) -> None:
        if not self._pictures:
            raise SourceError(
                'depth_source: depth works only with a picture or a folder of pictures as source, '
                'not with a video or webcam'
            )
        self._depths = _listed('depth_source', Path(depth_source).expanduser())
        if not self._depths:
            raise SourceError(f'depth_source: {depth_source!r} is neither a picture nor a folder')
        if len(self._depths) != len(self._pictures):
            raise SourceError(
                f'depth_source: {len(self._depths)} depth pictures for {len(self._pictures)} '
                'pictures in source; give one for each, in the same order of names'
            )

    def _try_depth(self, depth_source: str) -> None:
        """Check the kind of depth picture at the start. (A broken one is skipped later.)"""
        for path in self._depths:
            pixels = depth_pictures.pixels_of(path)
            if pixels is not None:
                with _of_depth_source():
                    depth_pictures.check_depth(path, pixels, self._first[0].shape[:2])
                return
        raise SourceError(f'depth_source: no depth picture can be read from {depth_source!r}')

    def _once(self) -> Iterator[tuple[np.ndarray, Path | None]]:
        if self._pictures:
            for path, depth in zip_longest(self._pictures, self._depths):
                bgr = depth_pictures.pixels_of(path, cv2.IMREAD_COLOR)
                if bgr is not None:  # skip a picture that cannot be read, and its depth
                    yield cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), depth
        elif self.endless:
            while (bgr := self._webcam.read()[1]) is not None:
                yield cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), None
        else:
            with contextlib.suppress(SourceError):  # the file was removed since
                for image in self._video():
                    yield image, None


def _opened(webcam: int) -> cv2.VideoCapture:
    capture = cv2.VideoCapture(webcam)
    if not capture.isOpened():
        raise SourceError(f'source: cannot open the webcam {webcam}')
    return capture


def _listed(name: str, path: Path) -> list[Path]:
    """Return the pictures of a folder by name, or a single picture. Return [] if the path is
    neither.

    Raises:
        SourceError: the folder has no picture.
    """
    if not path.is_dir():
        return [path] if path.suffix.lower() in PICTURES else []
    pictures = sorted(p for p in path.iterdir() if p.suffix.lower() in PICTURES)
    if not pictures:
        raise SourceError(f'{name}: no picture in the folder {path}')
    return pictures


def read_depth_picture(path: Path, unit_m: float, size: tuple[int, int]) -> np.ndarray:
    """Do the same as `depth_pictures.read_depth`, with an error of the parameter depth_source."""
    with _of_depth_source():
        return depth_pictures.read_depth(path, unit_m, size)


@contextlib.contextmanager
def _of_depth_source() -> Iterator[None]:
    try:
        yield
    except PictureError as error:
        raise SourceError(f'depth_source: {error}') from error
