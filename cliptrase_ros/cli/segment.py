"""Label pictures. For each picture it writes NAME_labels.png (class ids, 0 unlabelled),
NAME_confidence.png (0..255) and NAME_overlay.png. Photos are turned upright first (EXIF
orientation)."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import PictureError
from ..overlap import prefetched
from ..words.vocabulary import Vocabulary
from . import arguments
from .console import Console, warn

if TYPE_CHECKING:
    from ..segmenter import Segmentation

USAGE = 'PICTURE... (--words WORD... | --vocabulary FILE) [-o OUT] [options]'
EXAMPLES = """\
examples:
  cliptrase segment kitchen.jpg --words floor 'mug|cup' 'fire extinguisher' -o out/
  cliptrase segment photos/ --vocabulary indoor --method gclip --device cuda -o out/
  cliptrase segment *.jpg --words person car --weights weights/ViT-B-16-quickgelu-openai.safetensors
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        'pictures',
        nargs='+',
        type=Path,
        metavar='PICTURE',
        help='a picture or a folder of pictures',
    )
    arguments.add_words(parser)
    arguments.add_out(parser, Path('.'), 'output folder (default: the current folder)')
    arguments.add_json(parser)
    arguments.add_settings(parser)


def run(options: argparse.Namespace) -> bool:
    from ..media import pictures

    given = dict.fromkeys(options.pictures)
    paths = [path for each in given for path in pictures.list_unlabelled(each)]
    _refuse_one_name_for_two(paths)
    if not any(path.exists() for path in paths):
        raise PictureError(f'no file or folder {paths[0]}')
    options.out.mkdir(parents=True, exist_ok=True)
    segmenter, words = arguments.load_with_words(options)
    console, failed = Console(options.json), 0
    read = zip(paths, prefetched(pictures.read_each(paths)), strict=True)
    for path, image in console.progress(read, 'pictures', len(paths)):
        if isinstance(image, PictureError):
            warn(f'{image}; skipped')
            failed += 1
            continue
        result = segmenter(image, words)
        written = pictures.label_paths(options.out / path.stem)
        pictures.save_labels(written, segmenter.view(image), result, words)
        shares = shares_of(result, words)
        text = ', '.join(f'{name or "unlabelled"} {100 * x:.0f} %' for name, x in shares.items())
        made = {kind: str(place) for kind, place in written.items()}
        console.result(f'{path}: {text}', picture=str(path), shares=shares, **made)
    if failed == len(paths):
        raise PictureError('no picture could be used')
    if failed:
        warn(f'{failed} of {len(paths)} pictures could not be used')
    return not failed


def _refuse_one_name_for_two(paths: list[Path]) -> None:
    """Raise PictureError if the labels of two pictures would have the same file name."""
    first: dict[str, Path] = {}
    for path in paths:
        if first.setdefault(path.stem, path) != path:
            raise PictureError(
                f'the labels of {first[path.stem]} and {path} would have the same file name; '
                'rename one picture, or use cliptrase label, which keeps the folders'
            )


def shares_of(result: Segmentation, words: Vocabulary) -> dict[str, float]:
    """Return the share of pixels of each label, largest first: {name: share}, '' is unlabelled."""
    ids, counts = np.unique(result.labels, return_counts=True)
    order = np.argsort(-counts, kind='stable')
    return {words.name_of(ids[n]): counts[n] / result.labels.size for n in order}
