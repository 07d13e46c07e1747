"""Pictures from files, videos and webcams, and the depth pictures of a recording. No ROS here."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

import cv2
import numpy as np

from ...errors import CliptraseError
from ...space.geometry import SATURATED_MM, metres, same_view

PICTURES = {'.bmp', '.jpeg', '.jpg', '.png', '.ppm', '.tif', '.tiff', '.webp'}
# What 16UC1 depth has (REP 118): one step is a millimetre.
MM = 0.001


class SourceError(CliptraseError):
    """The source does not exist, holds no picture, or does not fit its depth."""


class PictureSource:
    """RGB pictures [H, W, 3] uint8 from a file, a folder (by name), a video or a webcam number,
    each with the path of its depth picture, if there are any.

    Args:
        source: the path or number.
        depth_source: a folder with one depth picture for each picture, in the order of names, or
            one for a single picture; '' for none.

    Raises:
        SourceError: nothing to read there, or the depth pictures do not fit the pictures.
    """

    def __init__(self, source: str, depth_source: str = ''):
        self.rate_hz = 0.0
        self._pictures: list[Path] = []
        self._depths: list[Path] = []
        self._capture: cv2.VideoCapture | None = None
        path = Path(source).expanduser()
        self.endless = source.isdecimal()
        if self.endless:
            self._open_capture(int(source))
        else:
            self._pictures = _listed('source', path)
        if not self._pictures and path.is_file():
            self._open_capture(str(path))
        if not self._pictures and self._capture is None:
            raise SourceError(f'source: {source!r} is no picture, folder, video or webcam number')
        if depth_source:
            self._list_depths(depth_source)
        self._frames = self._once()
        first = next(self._frames, None)
        if first is None:
            raise SourceError(f'source: no picture can be read from {source!r}')
        self._first = first
        if self._depths:
            self._try_depth(depth_source)

    def frames(self, loop: bool) -> Iterator[tuple[np.ndarray, Path | None]]:
        """The pictures in order; again from the start if `loop`, as long as there are any."""
        yield self._first
        yield from self._frames
        again = loop and not self.endless
        while again:
            again = False  # unless there is still something to read
            for frame in self._once():
                again = True
                yield frame

    def _open_capture(self, what: int | str) -> None:
        self._capture = cv2.VideoCapture(what)
        if not self._capture.isOpened():
            raise SourceError(f'source: cannot open the video or webcam {what!r}')
        self.rate_hz = float(self._capture.get(cv2.CAP_PROP_FPS) or 0)

    def _list_depths(self, depth_source: str) -> None:
        if self._capture is not None:
            raise SourceError(
                'depth_source: depth pictures go with a picture or a folder of pictures, not with '
                'a video or webcam; give their pictures as source'
            )
        self._depths = _listed('depth_source', Path(depth_source).expanduser())
        if not self._depths:
            raise SourceError(f'depth_source: {depth_source!r} is no picture and no folder')
        if len(self._depths) != len(self._pictures):
            raise SourceError(
                f'depth_source: {len(self._depths)} depth pictures for {len(self._pictures)} '
                'pictures in source; give one for each, in the same order of names'
            )

    def _try_depth(self, depth_source: str) -> None:
        """Refuse a kind of depth picture at the start; one that is broken is left out later."""
        for path in self._depths:
            pixels = _pixels(path, cv2.IMREAD_UNCHANGED)
            if pixels is not None:
                _check_depth(path, pixels, self._first[0].shape[:2])
                return
        raise SourceError(f'depth_source: no depth picture can be read from {depth_source!r}')

    def _once(self) -> Iterator[tuple[np.ndarray, Path | None]]:
        if self._capture is None:
            for path, depth in zip_longest(self._pictures, self._depths):
                bgr = _pixels(path, cv2.IMREAD_COLOR)
                if bgr is not None:  # a picture that cannot be read is left out, with its depth
                    yield cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), depth
            return
        if not self.endless:
            self._capture.set(cv2.CAP_PROP_POS_FRAMES, 0)
        while True:
            good, bgr = self._capture.read()
            if not good:
                return
            yield cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), None


def _listed(name: str, path: Path) -> list[Path]:
    """The pictures of a folder by name, or a single one; none if the path is neither.

    Raises:
        SourceError: a folder without any.
    """
    if not path.is_dir():
        return [path] if path.suffix.lower() in PICTURES else []
    pictures = sorted(p for p in path.iterdir() if p.suffix.lower() in PICTURES)
    if not pictures:
        raise SourceError(f'{name}: no picture in the folder {path}')
    return pictures


def read_depth_picture(path: Path, unit_m: float, size: tuple[int, int]) -> np.ndarray:
    """A depth picture [H, W]: uint16 in mm, if one step of it is 1 mm, else float32 in m.

    Args:
        path: 16-bit picture, 0 and 65535 not valid; or 32-bit float one in metres.
        unit_m: metres of one step of a 16-bit picture.
        size: (H, W) of the picture that it belongs to, of the same aspect.

    Returns:
        As uint16 the picture as it is; as float32 with NaN where it is not valid.

    Raises:
        SourceError: it cannot be read, is of another kind, or of another aspect.
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
    """None if the file cannot be read; OpenCV only raises where its size is beyond all bounds."""
    try:
        return cv2.imread(str(path), flags)
    except cv2.error:
        return None


def _check_depth(path: Path, pixels: np.ndarray, size: tuple[int, int]) -> None:
    if pixels.ndim != 2 or pixels.dtype not in (np.uint16, np.float32):
        channels = pixels.shape[2] if pixels.ndim == 3 else 1
        raise SourceError(
            f'depth_source: {path} is {pixels.dtype} with {channels} channels; give 16-bit PNG or '
            '32-bit float TIFF in metres with one'
        )
    if not same_view(pixels.shape, size):
        (h, w), (height, width) = pixels.shape, size
        raise SourceError(
            f'depth_source: {path} is {w} x {h} px, its picture {width} x {height}: give depth '
            'that is registered to the picture'
        )
