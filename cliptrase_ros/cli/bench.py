"""Measure the speed on this machine and print a Markdown table. Its rows are the model's own
encode_image, each stage of the segmenter, and the whole pipeline. All are measured in turn; the
ratios compare each with encode_image, turn by turn. On a CPU this takes a minute or more."""

from __future__ import annotations

import argparse
from typing import Any

from ..settings import Settings
from . import arguments

USAGE = '[options]'
EXAMPLES = """\
examples:
  cliptrase bench
  cliptrase bench --precision fp32 bf16 --sizes 224 336 --words 20
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    arguments.add_model(parser)
    numbers: dict[str, Any] = {'nargs': '+', 'metavar': 'N', 'type': arguments.positive}
    for flag, setting in (('--precision', 'precision'), ('--methods', 'method')):
        default, names = getattr(Settings, setting), _choices(setting)
        parser.add_argument(
            flag,
            nargs='+',
            default=[default],
            choices=names,
            help='one or several, measured in turn',
        )
    parser.add_argument(
        '--regions',
        default=Settings.regions,
        choices=_choices('regions'),
        help='the setting `regions`',
    )
    parser.add_argument(
        '--sizes', default=[224, 336], help='short sides of the image in the model, px', **numbers
    )
    parser.add_argument(
        '--image',
        type=arguments.size,
        default='640x480',
        metavar='WIDTHxHEIGHT',
        help='size of the camera image',
    )
    parser.add_argument('--words', default=[1, 20, 100], help='numbers of words', **numbers)
    parser.add_argument('--repeats', type=arguments.positive, default=12, help='measured turns')
    arguments.add_json(parser)


def _choices(setting: str) -> tuple[str, ...]:
    return Settings.__dataclass_fields__[setting].metadata['choices']


def run(options: argparse.Namespace) -> None:
    from ..evaluation import speed

    speed.run(options)
