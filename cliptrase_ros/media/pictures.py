"""Picture files: find them, read them, write the labels of one beside it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from .. import files
from ..errors import PictureError, ShapeError
from ..model.preprocessing import check_image
from ..words.vocabulary import Vocabulary
from . import drawing

if TYPE_CHECKING:
    from ..segmenter import Segmentation

KINDS = ('labels', 'confidence', 'overlay')
# Of pictures. What is one of them and yet cannot be read here, is told.
SUFFIXES = {
    *('.avif', '.bmp', '.gif', '.heic', '.heif', '.jp2', '.jpeg', '.jpg'),
    *('.png', '.ppm', '.tif', '.tiff', '.webp'),
}


def list_pictures(path: Path) -> list[Path]:
    """The pictures of a folder by name, or the path itself.

    Raises:
        PictureError: a folder without any.
    """
    if not path.is_dir():
        return [path]
    found = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
    if not found:
        raise PictureError(f'no picture in the folder {path}')
    return found


def read_picture(path: Path | str, upright: bool = True) -> np.ndarray:
    """The picture in a file as [H, W, 3] uint8 RGB.

    Args:
        upright: turn it as its EXIF orientation says.

    Raises:
        PictureError: there is no such file, or it is damaged, cut off or no picture that can be
            segmented.
    """
    with opened(path) as file:
        image = _rgb(ImageOps.exif_transpose(file) if upright else file)
    try:
        check_image(image)
    except ShapeError as error:
        raise PictureError(f'{path}: {error}') from error
    return image


@contextlib.contextmanager
def opened(path: Path | str) -> Iterator[Image.Image]:
    """The picture in a file, to be decoded before it closes.

    Raises:
        PictureError: there is no such file, or it is damaged or no picture.
    """
    try:
        with Image.open(path) as file:
            yield file
    except UnidentifiedImageError as error:
        raise PictureError(f'{path} is no picture') from error
    except Exception as error:  # damage takes Pillow's decoders to errors of any kind
        reason = getattr(error, 'strerror', None) or str(error) or type(error).__name__
        raise PictureError(f'{path} cannot be read ({reason})') from error


def _rgb(picture: Image.Image) -> np.ndarray:
    if picture.mode == 'F':
        raise ValueError('floating-point numbers: not known which of them are white')
    if picture.mode.startswith('I'):
        # 16 bits of grey; Pillow would clip them at 255.
        grey = np.rint(np.asarray(picture).clip(0, 65535) / 257).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    return np.asarray(picture.convert('RGB'))


def list_unlabelled(path: Path) -> list[Path]:
    """As `list_pictures`, without what was made of other pictures there."""
    found = list_pictures(path)
    stems = {picture.stem for picture in found}
    return [picture for picture in found if not _made_of(picture.stem, stems)]


def _made_of(stem: str, stems: set[str]) -> bool:
    return any(stem.endswith(f'_{kind}') and stem[: -len(kind) - 1] in stems for kind in KINDS)


def read_each(paths: Iterable[Path]) -> Iterator[np.ndarray | PictureError]:
    """Each picture [H, W, 3] uint8 RGB, upright, or why it cannot be read."""
    for path in paths:
        try:
            yield read_picture(path)
        except PictureError as error:
            yield error


def label_paths(stem: Path | str, overlay: bool = True) -> dict[str, Path]:
    """Where the labels of a picture are written: {kind: STEM_kind.png}."""
    return {kind: Path(f'{stem}_{kind}.png') for kind in KINDS[: 3 if overlay else 2]}


def save_labels(
    paths: Mapping[str, Path], view: np.ndarray | None, result: Segmentation, words: Vocabulary
) -> None:
    """Write them, each whole.

    Args:
        paths: see `label_paths`.
        view: [H, W, 3] uint8 RGB, what the labels are for; only read for an overlay.
    """
    for kind, path in paths.items():
        if kind == 'overlay':
            if view is None:
                raise ShapeError('overlay: there is no picture to lay the labels over')
            made = drawing.overlay(view, result.labels, words)
        else:
            made = result.labels if kind == 'labels' else result.confidence_bytes
        with files.whole(path) as part:
            Image.fromarray(made).save(part)
