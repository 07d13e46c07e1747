"""Pictures in, label pictures out: files of `cliptrase segment` and `cliptrase label`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from . import draw, files, pictures
from .errors import PictureError
from .segmenter import Segmentation
from .vocabulary import Vocabulary

KINDS = ('labels', 'confidence', 'overlay')


def listed(path: Path) -> list[Path]:
    """As `pictures.listed`, without what was made of other pictures there."""
    found = pictures.listed(path)
    stems = {picture.stem for picture in found}
    return [picture for picture in found if not _made_of(picture.stem, stems)]


def _made_of(stem: str, stems: set[str]) -> bool:
    return any(stem.endswith(f'_{kind}') and stem[: -len(kind) - 1] in stems for kind in KINDS)


def read_each(paths: Iterable[Path]) -> Iterator[np.ndarray | PictureError]:
    """Each picture [H, W, 3] uint8 RGB, upright, or why it cannot be read."""
    for path in paths:
        try:
            yield pictures.read(path)
        except PictureError as error:
            yield error


def names(stem: Path | str, overlay: bool = True) -> dict[str, Path]:
    """Where the labels of a picture are written: {kind: STEM_kind.png}."""
    return {kind: Path(f'{stem}_{kind}.png') for kind in KINDS[: 3 if overlay else 2]}


def save(
    paths: Mapping[str, Path], view: np.ndarray | None, result: Segmentation, words: Vocabulary
) -> None:
    """Write them, each whole.

    Args:
        paths: see `names`.
        view: [H, W, 3] uint8 RGB, what the labels are for; only read for an overlay.
    """
    for kind, path in paths.items():
        if kind == 'overlay':
            made = draw.overlay(view, result.labels, words)
        else:
            made = result.labels if kind == 'labels' else result.confidence_bytes
        with files.whole(path) as part:
            Image.fromarray(made).save(part)
