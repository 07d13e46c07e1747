"""Label pictures. For each write NAME_labels.png (class ids, 0 unlabelled), NAME_confidence.png
(0..255) and NAME_overlay.png. A photo is turned upright first, as its camera says."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import numpy as np

from .. import picture_files
from ..errors import PictureError
from ..overlap import ahead
from ..segmenter import Segmentation
from ..vocabulary import Vocabulary
from . import arguments
from .console import Console, warn

EXAMPLES = """\
examples:
  cliptrase segment kitchen.jpg --words floor 'mug|cup' 'fire extinguisher' -o out/
  cliptrase segment photos/ --vocabulary indoor --method gclip --device cuda -o out/
  cliptrase segment *.jpg --words person car --weights weights/ViT-B-16-quickgelu-openai.safetensors
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        'pictures', nargs='+', type=Path, metavar='PICTURE', help='a picture or a folder of them'
    )
    arguments.add_words(parser)
    arguments.add_out(parser, Path('.'), 'folder (default: here)')
    arguments.add_json(parser)
    arguments.add_settings(parser)


def run(options: argparse.Namespace) -> bool:
    paths = [path for given in options.pictures for path in picture_files.listed(given)]
    name, times = Counter(path.stem for path in paths).most_common(1)[0]
    if times > 1:
        raise PictureError(f'several pictures are called {name!r}; give each a name of its own')
    segmenter, words = arguments.load_with_words(options)
    console, failed = Console(options.json), 0
    read = zip(paths, ahead(picture_files.read_each(paths)), strict=True)
    for path, image in console.progress(read, 'pictures', len(paths)):
        if isinstance(image, PictureError):
            warn(f'{image}; skipped')
            failed += 1
            continue
        result = segmenter(image, words)
        written = picture_files.names(options.out / path.stem)
        picture_files.save(written, segmenter.view(image), result, words)
        shares = shares_of(result, words)
        text = ', '.join(f'{name or "unlabelled"} {100 * x:.0f} %' for name, x in shares.items())
        made = {kind: str(place) for kind, place in written.items()}
        console.result(f'{path}: {text}', picture=str(path), shares=shares, **made)
    if failed == len(paths):
        raise PictureError('no picture could be read')
    if failed:
        warn(f'{failed} of {len(paths)} pictures could not be read')
    return not failed


def shares_of(result: Segmentation, words: Vocabulary) -> dict[str, float]:
    """Which part of the pixels has each label, by name, '' for unlabelled; largest first."""
    ids, counts = np.unique(result.labels, return_counts=True)
    order = np.argsort(-counts, kind='stable')
    return {words.name_of(ids[n]): counts[n] / result.labels.size for n in order}
