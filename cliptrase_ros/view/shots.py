"""Pictures to label, from files: what a source is, and the pictures and depth that it holds."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import yaml

from ..errors import PictureError, SettingError
from ..media import pictures, signatures
from ..media.videos import Video
from ..space.depth_pictures import MM, read_depth
from ..space.geometry import Pinhole, metres
from ..words.decoding import decoded

# Addresses that OpenCV reads through FFmpeg.
SCHEMES = ('rtsp', 'rtsps', 'rtmp', 'http', 'https', 'udp', 'tcp', 'srt')


@dataclass(frozen=True, eq=False)
class Shot:
    """One picture to label.

    Attributes:
        image: [H, W, 3] uint8 RGB.
        time_s: seconds from the start of its source.
        depth: [h, w] float32 in metres, NaN if not valid, of the same view; None: no depth.
        camera: the camera of the pixels of `image`; needed for depth.
    """

    image: np.ndarray
    time_s: float = 0.0
    depth: np.ndarray | None = None
    camera: Pinhole | None = None


@dataclass(frozen=True)
class Replay:
    """Pictures that can be read at any pace.

    Attributes:
        title: what a sentence calls it.
        read: yields the pictures from the start; an error stands for what cannot be read.
        skips: pictures that come while one is labelled are left out, as in a video.
        loop: start again at the end.
    """

    title: str
    read: Callable[[], Iterable[Shot | PictureError]]
    skips: bool = False
    loop: bool = False


@dataclass(frozen=True)
class LiveAddress:
    """A webcam by its number or device, or an address that OpenCV reads."""

    address: int | str

    @property
    def title(self) -> str:
        """What a sentence calls it, without a password."""
        if isinstance(self.address, int):
            return f'webcam {self.address}'
        scheme, mark, rest = self.address.partition('://')
        return scheme + mark + rest.rpartition('@')[2]


@dataclass(frozen=True)
class DepthFolder:
    """Depth pictures beside pictures.

    Attributes:
        path: a folder with one for each picture, in the order of names; or one depth picture.
        camera: the camera of the pictures.
        unit_m: metres per step of 16-bit depth pictures.
    """

    path: Path
    camera: Pinhole
    unit_m: float = MM


def find_source(
    name: str, rate_hz: float = 1.0, loop: bool = False, depth: DepthFolder | None = None
) -> Replay | LiveAddress:
    """Return the source that a name stands for.

    Args:
        name: number of a webcam, address, or path of a picture, a folder of pictures, a video or a
            camera device.
        rate_hz: pictures a second of a folder.
        loop: start files again at the end.
        depth: depth of a picture or of a folder.

    Raises:
        PictureError: there is no such file, it cannot be read, or depth does not fit it.
    """
    path = Path(name).expanduser()
    scheme, mark, _ = name.partition('://')
    stream: LiveAddress | None = None
    if mark and scheme.lower() not in SCHEMES:
        raise PictureError(f'{name}: expected an address that begins with {"://, ".join(SCHEMES)}')
    if mark or path.is_char_device():
        stream = LiveAddress(name)
    elif name.isdecimal():
        stream = LiveAddress(int(name))
    if stream is None and not path.exists():
        raise PictureError(
            f'no file or folder {name}; expected a picture, a folder of pictures, a video, the '
            'number of a webcam, or an address such as rtsp://...'
        )
    if stream is None and (path.is_dir() or _is_picture(path)):
        listed = pictures.list_unlabelled(path)
        if not depth:
            return Replay(name, partial(_stills, listed, rate_hz), loop=loop)
        beside = _depth_paths(listed, depth.path)
        return Replay(name, partial(_with_depth, listed, beside, depth, rate_hz), loop=loop)
    if depth:
        raise PictureError('depth works only with a picture or a folder of pictures as source')
    if stream is not None:
        return stream
    Video(path)  # raises now if it cannot be read
    return Replay(name, partial(_film, path), skips=True, loop=loop)


def _is_picture(path: Path) -> bool:
    """Return True for a file that is a picture by its content or its name."""
    with path.open('rb') as file:
        kind = signatures.kind_of(file.read(64))
    return kind in signatures.PICTURES or path.suffix.lower() in pictures.SUFFIXES


def _stills(paths: list[Path], rate_hz: float) -> Iterator[Shot | PictureError]:
    for n, found in enumerate(pictures.read_each(paths)):
        yield found if isinstance(found, PictureError) else Shot(found, n / rate_hz)


def _film(path: Path) -> Iterator[Shot | PictureError]:
    video = Video(path)
    for image in video:
        yield Shot(image, video.times[-1])
    if video.loss:
        yield PictureError(f'{path} {video.loss}')


def _with_depth(
    paths: list[Path], beside: list[Path], depth: DepthFolder, rate_hz: float
) -> Iterator[Shot | PictureError]:
    for shot, path in zip(_stills(paths, rate_hz), beside, strict=True):
        if isinstance(shot, PictureError):
            yield shot
            continue
        try:
            found = metres(read_depth(path, depth.unit_m, shot.image.shape[:2]))
        except PictureError as error:
            yield error
            yield shot
        else:
            yield Shot(shot.image, shot.time_s, found, depth.camera)


def _depth_paths(listed: list[Path], path: Path) -> list[Path]:
    """Return the depth picture of each picture."""
    if not path.exists():
        raise PictureError(f'no depth picture or folder {path}')
    found = pictures.list_pictures(path)
    if len(found) != len(listed):
        raise PictureError(
            f'{path}: {len(found)} depth pictures for {len(listed)} pictures; give one for each, '
            'in the same order of names'
        )
    return found


def timed(views: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]], rate_hz: float):
    """Yield a Shot for each (image, depth [H, W] float32 in metres, camera matrix [3, 3])."""
    for n, (image, depth, matrix) in zip(itertools.count(), views, strict=False):
        yield Shot(image, n / rate_hz, depth, _pinhole(matrix))


def read_intrinsics(text: str) -> Pinhole:
    """Return the camera of pictures.

    Args:
        text: 'fx,fy,cx,cy' in pixels, or a file: the YAML of ROS's camera calibration or of a
            CameraInfo, or the numbers fx fy cx cy, or a matrix [3, 3] or [4, 4].

    Raises:
        SettingError: the text is neither.
    """
    try:
        return _pinhole(_matrix(_content(text)))
    except (ValueError, TypeError, KeyError, OSError, yaml.YAMLError) as error:
        raise SettingError(
            f'intrinsics {text!r}: {error}. Give fx,fy,cx,cy in pixels, or a file with the camera '
            'matrix: the YAML of a camera calibration, or 9 numbers'
        ) from error


def _content(text: str) -> object:
    path = Path(text).expanduser()
    if not path.is_file():
        return text
    return yaml.safe_load(decoded(path.read_bytes()))


def _matrix(content: object) -> np.ndarray:
    if isinstance(content, dict):
        known = [content[name] for name in ('camera_matrix', 'k', 'K') if name in content]
        if not known:
            raise ValueError('it has no camera_matrix and no k')
        content = known[0]['data'] if isinstance(known[0], dict) else known[0]
    if isinstance(content, str):
        content = content.replace(',', ' ').split()
    numbers = np.array(content, np.float64).ravel()
    if len(numbers) == 4:
        fx, fy, cx, cy = numbers
        return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    if len(numbers) not in (9, 16):
        raise ValueError(f'it holds {len(numbers)} numbers, expected 4, 9 or 16')
    return numbers.reshape(math.isqrt(len(numbers)), -1)[:3, :3]


def _pinhole(matrix: np.ndarray) -> Pinhole:
    fx, fy, cx, cy = (float(matrix[place]) for place in ((0, 0), (1, 1), (0, 2), (1, 2)))
    if not (0 < fx < math.inf and 0 < fy < math.inf and math.isfinite(cx + cy)):
        raise ValueError('the focal lengths must be above 0')
    return Pinhole(fx, fy, cx, cy)
