"""Picture files: listing, reading, and writing of label files."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from .. import files
from ..errors import PictureError, ShapeError
from ..model.preprocessing import check_image
from ..words.vocabulary import Vocabulary
from . import drawing, signatures

if TYPE_CHECKING:
    from ..segmenter import Segmentation

# Pictures of 90 to 179 million pixels are read. Pillow warns of them and suspects an attack.
warnings.filterwarnings('ignore', category=Image.DecompressionBombWarning)

KINDS = ('labels', 'confidence', 'overlay')
# Suffixes of pictures. A file with one of them that cannot be read is reported, not ignored.
SUFFIXES = {
    *('.avif', '.bmp', '.gif', '.heic', '.heif', '.jp2', '.jpeg', '.jpg'),
    *('.png', '.ppm', '.tif', '.tiff', '.webp'),
}


def list_pictures(path: Path) -> list[Path]:
    """Return the pictures of a folder sorted by name; for a file, the path itself.

    Raises:
        PictureError: the folder has no pictures.
    """
    if not path.is_dir():
        return [path]
    found = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
    if not found:
        raise PictureError(f'no picture in the folder {path}')
    return found


def read_picture(path: Path | str, upright: bool = True) -> np.ndarray:
    """Read a picture file as [H, W, 3] uint8 RGB.

    Args:
        upright: rotate it by its EXIF orientation.

    Raises:
        PictureError: the file does not exist, is damaged or cut off, or is not a picture that can
            be segmented.
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
    """Open a picture file, whatever its suffix; decode the picture before the block ends. Of
    several frames it is the first.

    Raises:
        PictureError: the file does not exist, is damaged, is not a picture or is too large, or a
            package is missing.
    """
    kind = ''
    try:
        with Path(path).open('rb') as start:
            kind = signatures.kind_of(start.read(64))
        if missing := signatures.prepare_pillow(kind):
            raise PictureError(f'{path} cannot be read: {missing}')
        with Image.open(path) as file:
            yield file
    except PictureError:
        raise
    except UnidentifiedImageError as error:
        raise PictureError(f'{path} is no picture{_instead(Path(path), kind)}') from error
    except Image.DecompressionBombError as error:
        raise PictureError(f'{path} cannot be read: {_pixels(error)}') from error
    except Exception as error:  # on damaged files Pillow's decoders may raise anything
        reason = getattr(error, 'strerror', None) or str(error) or type(error).__name__
        raise PictureError(f'{path} cannot be read ({reason})') from error


def _instead(path: Path, kind: str) -> str:
    """Return what a file holds instead of a picture, if that is known."""
    if kind in signatures.PICTURES:
        return f' that can be read: its {kind} data are cut off or corrupt'
    wanted = f'expected {", ".join(signatures.PICTURES)}'
    if kind:
        return f': it holds {kind}; {wanted}'
    return '' if path.stat().st_size else f': it is empty; {wanted}'


def _pixels(error: Image.DecompressionBombError) -> str:
    """Return a sentence about the size of a picture and Pillow's limit."""
    limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
    found = re.search(r'(\d+) pixels', str(error))
    has = f'it has {int(found[1]) / 1e6:.0f} million pixels' if found else 'it has too many pixels'
    return f'{has}; the limit is {limit / 1e6:.0f} million. Make it smaller, or cut it into pieces'


def _rgb(picture: Image.Image) -> np.ndarray:
    if picture.mode == 'F':
        raise ValueError('floating-point numbers: it is not known which value is white')
    if picture.mode.startswith('I'):
        # 16-bit grey; Pillow would clip it at 255.
        grey = np.rint(np.asarray(picture).clip(0, 65535) / 257).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    return np.asarray(picture.convert('RGB'))


def list_unlabelled(path: Path) -> list[Path]:
    """Return the same as `list_pictures`, without the label files of other pictures there."""
    found = list_pictures(path)
    stems = {picture.stem for picture in found}
    return [picture for picture in found if not _made_of(picture.stem, stems)]


def _made_of(stem: str, stems: set[str]) -> bool:
    return any(stem.endswith(f'_{kind}') and stem[: -len(kind) - 1] in stems for kind in KINDS)


def read_each(paths: Iterable[Path]) -> Iterator[np.ndarray | PictureError]:
    """Yield each picture as [H, W, 3] uint8 RGB, upright, or the error if it cannot be read."""
    for path in paths:
        try:
            yield read_picture(path)
        except PictureError as error:
            yield error


def label_paths(stem: Path | str, overlay: bool = True) -> dict[str, Path]:
    """Return the paths of the label files of a picture: {kind: STEM_kind.png}."""
    return {kind: Path(f'{stem}_{kind}.png') for kind in KINDS[: 3 if overlay else 2]}


def save_labels(
    paths: Mapping[str, Path], view: np.ndarray | None, result: Segmentation, words: Vocabulary
) -> None:
    """Write the label files of a picture; each appears only when it is complete.

    Args:
        paths: see `label_paths`.
        view: [H, W, 3] uint8 RGB, the picture that the labels fit; only needed for an overlay.
    """
    for kind, path in paths.items():
        if kind == 'overlay':
            if view is None:
                raise ShapeError('overlay: no picture to draw the labels on; expected [H, W, 3]')
            made = drawing.overlay(view, result.labels, words)
        else:
            made = result.labels if kind == 'labels' else result.confidence_bytes
        with files.whole(path) as part:
            Image.fromarray(made).save(part)
