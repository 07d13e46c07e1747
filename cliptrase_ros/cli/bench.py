"""Print a Markdown table: the model's own encode_image, each stage of the segmenter and the whole,
measured in turn; ratios are to the first, turn by turn. Takes minutes on a CPU."""

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
            flag, nargs='+', default=[default], choices=names, help='one or several in turn'
        )
    parser.add_argument(
        '--regions', default=Settings.regions, choices=_choices('regions'), help='see the settings'
    )
    parser.add_argument(
        '--sizes', default=[224, 336], help='short sides as the tower sees the image', **numbers
    )
    parser.add_argument(
        '--image',
        type=arguments.size,
        default='640x480',
        metavar='WIDTHxHEIGHT',
        help='of the camera',
    )
    parser.add_argument('--words', default=[1, 20, 100], help='how many', **numbers)
    parser.add_argument('--repeats', type=arguments.positive, default=12, help='turns that count')
    arguments.add_json(parser)


def _choices(setting: str) -> tuple[str, ...]:
    return Settings.__dataclass_fields__[setting].metadata['choices']


def run(options: argparse.Namespace) -> None:
    from ..evaluation import speed

    speed.run(options)
