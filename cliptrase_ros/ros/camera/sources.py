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
from ...space.geometry import SATURATED_MM, metres, same_view

PICTURES = {'.bmp', '.jpeg', '.jpg', '.png', '.ppm', '.tif', '.tiff', '.webp'}
# One step of 16UC1 depth is a millimetre (REP 118).
MM = 0.001


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
            pixels = _pixels(path, cv2.IMREAD_UNCHANGED)
            if pixels is not None:
                _check_depth(path, pixels, self._first[0].shape[:2])
                return
        raise SourceError(f'depth_source: no depth picture can be read from {depth_source!r}')

    def _once(self) -> Iterator[tuple[np.ndarray, Path | None]]:
        if self._pictures:
            for path, depth in zip_longest(self._pictures, self._depths):
                bgr = _pixels(path, cv2.IMREAD_COLOR)
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
    """Return a depth picture [H, W]: uint16 in mm if one step is 1 mm, otherwise float32 in m.

    Args:
        path: 16-bit picture (0 and 65535 are not valid), or 32-bit float picture in metres.
        unit_m: metres per step of a 16-bit picture.
        size: (H, W) of the picture that it belongs to, with the same aspect.

    Returns:
        uint16: the unchanged picture. float32: with NaN where it is not valid.

    Raises:
        SourceError: it cannot be read, is of another kind, or has another aspect.
    """
    pixels = _pixels(path, cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise SourceError(f'depth_source: {path} cannot be read')
    _check_depth(path, pixels, size)
    if pixels.dtype == np.float32:
        return metres(pixels)
    if unit_m == MM:
        return pixels
    result = pixels * np.float32(unit_m)
    result[(pixels == 0) | (pixels == SATURATED_MM)] = np.nan
    return result


def _pixels(path: Path, flags: int) -> np.ndarray | None:
    """Return the pixels, or None if the file cannot be read. (OpenCV raises only if the picture is
    too large.)"""
    try:
        return cv2.imread(str(path), flags)
    except cv2.error:
        return None


def _check_depth(path: Path, pixels: np.ndarray, size: tuple[int, int]) -> None:
    if pixels.ndim != 2 or pixels.dtype not in (np.uint16, np.float32):
        channels = pixels.shape[2] if pixels.ndim == 3 else 1
        raise SourceError(
            f'depth_source: {path} is {pixels.dtype} with {channels} channels; give 16-bit PNG or '
            '32-bit float TIFF in metres, with one channel'
        )
    if not same_view(pixels.shape, size):
        (h, w), (height, width) = pixels.shape, size
        raise SourceError(
            f'depth_source: {path} is {w} x {h} px, but its picture is {width} x {height} px: '
            'give depth that is registered to the picture'
        )
