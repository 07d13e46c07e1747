"""Arguments that commands share, and what they stand for. Cheap to import: no torch."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cliptrase_ros as ct

from ..settings import Settings
from ..words import lists
from .console import warn

if TYPE_CHECKING:
    from ..segmenter import Segmenter
    from ..words.vocabulary import Vocabulary


def add_json(parser: argparse.ArgumentParser) -> None:
    """--json."""
    parser.add_argument(
        '--json', action='store_true', help='results as lines of JSON on standard output'
    )


def add_words(parser: argparse.ArgumentParser) -> None:
    """--words or --vocabulary, and --background."""
    words = parser.add_mutually_exclusive_group(required=True)
    words.add_argument('--words', nargs='+', metavar='WORD', help='[id:]name[=prompt;prompt...]')
    words.add_argument(
        '--vocabulary',
        metavar='FILE',
        help='a file with a word a line, a YAML file of node parameters, or one of the lists that '
        'come with the package: ' + ', '.join(lists.word_lists()),
    )
    parser.add_argument(
        '--background', nargs='+', default=[], metavar='WORD', help='what they win is unlabelled'
    )


def words_of(options: argparse.Namespace) -> tuple[list[str], list[str]]:
    """(entries, background words).

    Raises:
        VocabularyError: the file cannot be read as one of words.
    """
    if options.words:
        entries: list[str] = options.words
        background: list[str] = []
    else:
        entries, background = lists.read_words(options.vocabulary)
    for entry in entries:
        if ',' in entry:
            warn(f'{entry!r} is one word, comma and all; separate words by spaces or lines')
    return entries, [*background, *options.background]


def add_settings(parser: argparse.ArgumentParser) -> None:
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


def add_model(parser: argparse.ArgumentParser) -> None:
    """The flags that name a model to be measured, and where it runs."""
    parser.add_argument('--model', default=Settings.model, help='open_clip name')
    parser.add_argument('--weights', default='random', help='tag, file or random (no download)')
    parser.add_argument('--device', default=Settings.device, help='auto, cpu, cuda ...')


def settings_given(options: argparse.Namespace) -> dict[str, Any]:
    """The settings that the command line names."""
    named = {field.name: getattr(options, field.name) for field in dataclasses.fields(Settings)}
    return {name: value for name, value in named.items() if value is not None}


def positive(text: str) -> int:
    """'20' -> 20."""
    return _at_least(1, text)


def count(text: str) -> int:
    """'0' -> 0."""
    return _at_least(0, text)


def _at_least(least: int, text: str) -> int:
    number = int(text)
    if number < least:
        raise argparse.ArgumentTypeError(f'expected {least} or more, got {text}')
    return number


def size(text: str) -> tuple[int, int]:
    """'224x304' -> (224, 304)."""
    first, second = text.split('x')
    return positive(first), positive(second)


def share(text: str) -> float:
    """'0.5' -> 0.5; 0 to 0.99."""
    number = float(text)
    if not 0 <= number <= 0.99:
        raise argparse.ArgumentTypeError(f'expected 0 to 0.99, got {text}')
    return number


def add_every(parser: argparse.ArgumentParser, text: str) -> None:
    """--every."""
    parser.add_argument('--every', type=positive, default=1, metavar='N', help=text)


def add_smoothing(parser: argparse.ArgumentParser) -> None:
    """--smoothing, as the node's parameter."""
    parser.add_argument(
        '--smoothing',
        type=share,
        default=0.0,
        help='how much the scores of the images before count, 0 to 0.99',
    )


def add_out(parser: argparse.ArgumentParser, default: Path | None, text: str) -> None:
    """-o, --out; required if there is no default."""
    parser.add_argument(
        '-o', '--out', type=Path, default=default, required=default is None, help=text
    )


def load_with_words(options: argparse.Namespace) -> tuple[Segmenter, Vocabulary]:
    """What the options of `add_settings` and `add_words` name, ready to be used."""
    entries, background = words_of(options)
    segmenter = ct.load(Settings(**settings_given(options)))
    return segmenter, segmenter.vocabulary(entries, background)
