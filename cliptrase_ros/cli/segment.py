"""Label pictures. For each write NAME_labels.png (class ids, 0 unlabelled), NAME_confidence.png
(0..255) and NAME_overlay.png. A photo is turned upright first, as its camera says."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from .. import draw, files, pictures
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
    paths = [path for given in options.pictures for path in pictures.listed(given)]
    stems = [path.stem for path in paths]
    twice = {stem for stem in stems if stems.count(stem) > 1}
    if twice:
        raise PictureError(
            f'several pictures are called {min(twice)!r}; give each a name of its own'
        )
    segmenter, words = arguments.load_with_words(options)
    console, failed = Console(options.json), 0
    for path, image in console.progress(ahead(_read(paths)), 'pictures', len(paths)):
        if isinstance(image, PictureError):
            warn(f'{image}; skipped')
            failed += 1
            continue
        result = segmenter(image, words)
        written = _write(options.out / path.stem, segmenter.view(image), result, words)
        shares = shares_of(result, words)
        text = ', '.join(f'{name or "unlabelled"} {100 * x:.0f} %' for name, x in shares.items())
        console.result(f'{path}: {text}', picture=str(path), shares=shares, **written)
    if failed == len(paths):
        raise PictureError('no picture could be read')
    if failed:
        warn(f'{failed} of {len(paths)} pictures could not be read')
    return not failed


def _read(paths: list[Path]) -> Iterator[tuple[Path, np.ndarray | PictureError]]:
    for path in paths:
        try:
            yield path, pictures.read(path)
        except PictureError as error:
            yield path, error


def shares_of(result: Segmentation, words: Vocabulary) -> dict[str, float]:
    """Which part of the pixels has each label, by name, '' for unlabelled; largest first."""
    ids, counts = np.unique(result.labels, return_counts=True)
    order = np.argsort(-counts, kind='stable')
    return {words.name_of(ids[n]): counts[n] / result.labels.size for n in order}


def _write(
    stem: Path, image: np.ndarray, result: Segmentation, words: Vocabulary
) -> dict[str, str]:
    """The three pictures: {what: path}."""
    made = {
        'labels': result.labels,
        'confidence': result.confidence_bytes,
        'overlay': draw.overlay(image, result.labels, words),
    }
    paths = {what: stem.with_name(f'{stem.name}_{what}.png') for what in made}
    for what, path in paths.items():
        with files.whole(path) as part:
            Image.fromarray(made[what]).save(part)
    return {what: str(path) for what, path in paths.items()}
