"""The `cliptrase` command: segment pictures, fetch weights, measure. No ROS needed."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from . import bench, draw
from .errors import CliptraseError
from .segmenter import load
from .settings import Settings
from .weights import download

EXAMPLES = """\
examples:
  cliptrase segment kitchen.jpg --words floor 'mug|cup' 'fire extinguisher' -o out/
  cliptrase segment *.jpg --words person car --background sky road --device cuda
  cliptrase download --model ViT-B-16-quickgelu --weights openai --out weights/
  cliptrase bench --precision fp32 bf16 --sizes 224 336 --words 20
"""


def main(args: Sequence[str] | None = None) -> int:
    """Run the command; 0 on success, 1 on an error that is explained, 2 on wrong usage."""
    options = _parser().parse_args(args)
    logging.basicConfig(format='%(message)s', level=logging.WARNING)
    try:
        options.run(options)
    except (CliptraseError, OSError) as error:
        print(f'cliptrase: {error}', file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='cliptrase',
        description='Find things in pictures by name.',
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar='COMMAND')

    segment = commands.add_parser(
        'segment',
        help='label pictures',
        description='For each PICTURE write NAME_labels.png (class ids, 0 unlabelled), '
        'NAME_confidence.png (0..255) and NAME_overlay.png.',
    )
    segment.add_argument('pictures', nargs='+', type=Path, metavar='PICTURE')
    segment.add_argument(
        '--words', nargs='+', required=True, metavar='WORD', help='[id:]name[=prompt;prompt...]'
    )
    segment.add_argument('--background', nargs='+', default=[], metavar='WORD')
    segment.add_argument('-o', '--out', type=Path, default=Path('.'), help='folder (default: here)')
    _add_settings(segment)
    segment.set_defaults(run=_segment)

    fetch = commands.add_parser(
        'download', help='fetch weights into a file for machines without a network'
    )
    fetch.add_argument('--model', default=Settings.model)
    fetch.add_argument('--weights', default=Settings.weights, help='open_clip tag')
    fetch.add_argument('--out', type=Path, default=Path('.'), help='folder (default: here)')
    fetch.set_defaults(run=_download)

    measure = commands.add_parser(
        'bench',
        help='measure the speed of this machine',
        description="Print a Markdown table: the model's own encode_image, each stage of the "
        'segmenter and the whole, measured in turn; ratios are to the first, turn by turn. Takes '
        'minutes on a CPU.',
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    bench.add_arguments(measure)
    measure.set_defaults(run=bench.run)
    return parser


def _add_settings(parser: argparse.ArgumentParser) -> None:
    """One flag for every field of Settings."""
    group = parser.add_argument_group('settings')
    for field in dataclasses.fields(Settings):
        flag = '--' + field.name.replace('_', '-')
        doc = field.metadata['doc'].replace('%', '%%')
        if type(field.default) is bool:
            group.add_argument(flag, action=argparse.BooleanOptionalAction, help=doc)
        else:
            group.add_argument(
                flag, type=type(field.default), choices=field.metadata['choices'], help=doc
            )


def _segment(options: argparse.Namespace) -> None:
    given = {
        field.name: getattr(options, field.name)
        for field in dataclasses.fields(Settings)
        if getattr(options, field.name) is not None
    }
    stems = [path.stem for path in options.pictures]
    twice = {stem for stem in stems if stems.count(stem) > 1}
    if twice:
        raise OSError(f'several pictures are called {min(twice)!r}; give each a name of its own')
    segmenter = load(Settings(**given))
    words = segmenter.vocabulary(options.words, options.background)
    options.out.mkdir(parents=True, exist_ok=True)
    for path in options.pictures:
        try:
            image = np.asarray(Image.open(path).convert('RGB'))
        except UnidentifiedImageError as error:
            raise OSError(f'{path} is no picture') from error
        result = segmenter(image, words)
        stem = options.out / path.stem
        Image.fromarray(result.labels).save(f'{stem}_labels.png')
        Image.fromarray(result.confidence_bytes).save(f'{stem}_confidence.png')
        mixed = draw.overlay(segmenter.view(image), result.labels, words)
        Image.fromarray(mixed).save(f'{stem}_overlay.png')
        ids, pixels = np.unique(result.labels, return_counts=True)
        shares = [
            f'{words.name_of(i) or "unlabelled"} {100 * n / result.labels.size:.0f} %'
            for i, n in zip(ids, pixels, strict=True)
        ]
        print(f'{path}: {", ".join(shares)}')


def _download(options: argparse.Namespace) -> None:
    path, digest = download(options.model, options.weights, options.out)
    print(f"{path}\nuse it with: weights '{path}', weights_sha256 '{digest}'")


if __name__ == '__main__':
    sys.exit(main())
