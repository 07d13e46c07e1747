"""Arguments that several commands share. The import is cheap: no torch."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cliptrase_ros as ct

from ..errors import SettingError
from ..options import Option, groups_of, options_of
from ..settings import Settings
from ..words import lists
from .console import warn

if TYPE_CHECKING:
    from ..segmenter import Segmenter
    from ..words.vocabulary import Vocabulary


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add --json."""
    parser.add_argument(
        '--json', action='store_true', help='results as lines of JSON on standard output'
    )


def add_words(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """Add --words or --vocabulary (one is required), and --background."""
    words = parser.add_mutually_exclusive_group(required=required)
    words.add_argument('--words', nargs='+', metavar='WORD', help='[id:]name[=prompt;prompt...]')
    words.add_argument(
        '--vocabulary',
        metavar='FILE',
        help='a file with a word a line, a YAML file of node parameters, or one of the lists that '
        'come with the package: ' + ', '.join(lists.word_lists()),
    )
    parser.add_argument(
        '--background',
        nargs='+',
        default=[],
        metavar='WORD',
        help='background words: pixels that they win are unlabelled',
    )


def words_of(options: argparse.Namespace) -> tuple[list[str], list[str]]:
    """Return (entries, background words).

    Raises:
        VocabularyError: the file is not a file of words.
    """
    if options.words:
        entries: list[str] = options.words
        background: list[str] = []
    else:
        entries, background = lists.read_words(options.vocabulary)
    for entry in entries:
        if ',' in entry:
            warn(f'{entry!r} is taken as one word with a comma; separate words by spaces or lines')
    return entries, [*background, *options.background]


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add a flag for every setting: '--input-size', '--cluster.min-samples'."""
    texts = groups_of(Settings)
    groups = {'': parser.add_argument_group('settings')}
    for one in options_of(Settings):
        name = one.name.rpartition('.')[0]
        if name not in groups:
            groups[name] = parser.add_argument_group(f'settings, {name}', texts[name])
        _add_setting(groups[name], one)


def _add_setting(group: Any, one: Option) -> None:
    flag, doc = flag_of(one.name), one.doc.replace('%', '%%')
    if one.kind is bool:
        group.add_argument(flag, dest=one.name, action=argparse.BooleanOptionalAction, help=doc)
        return
    shown = {int: 'N', float: 'X'}.get(one.kind, 'TEXT')
    choices = one.choices or None
    group.add_argument(
        flag,
        dest=one.name,
        type=_typed(one),
        choices=choices,
        metavar=None if choices else '|'.join([shown, *one.words]),
        help=doc,
    )


def flag_of(name: str) -> str:
    """Return the flag of a setting: 'input_size' -> '--input-size'."""
    return '--' + name.replace('_', '-')


def _typed(one: Option) -> Callable[[str], Any]:
    if one.choices:
        return str  # argparse names the choices

    def typed(text: str) -> Any:
        try:
            return one.from_text(text)
        except SettingError as error:
            raise argparse.ArgumentTypeError(str(error).removeprefix(f'{one.name}: ')) from None

    return typed


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add the flags for the model to measure and its device."""
    parser.add_argument('--model', default=Settings.model, help='open_clip name')
    parser.add_argument('--weights', default='random', help='tag, file or random (no download)')
    parser.add_argument('--device', default=Settings.device, help='auto, cpu, cuda ...')


def settings_given(options: argparse.Namespace) -> dict[str, Any]:
    """Return the settings that the command line names, by full name."""
    named = {one.name: getattr(options, one.name) for one in options_of(Settings)}
    return {name: value for name, value in named.items() if value is not None}


def positive(text: str) -> int:
    """Parse a number of at least 1: '20' -> 20."""
    return _at_least(1, text)


def count(text: str) -> int:
    """Parse a number of at least 0: '0' -> 0."""
    return _at_least(0, text)


def _at_least(least: int, text: str) -> int:
    number = int(text)
    if number < least:
        raise argparse.ArgumentTypeError(f'expected {least} or more, got {text}')
    return number


def size(text: str) -> tuple[int, int]:
    """Parse a size: '224x304' -> (224, 304)."""
    first, second = text.split('x')
    return positive(first), positive(second)


def share(text: str) -> float:
    """Parse a number from 0 to 0.99."""
    number = float(text)
    if not 0 <= number <= 0.99:
        raise argparse.ArgumentTypeError(f'expected 0 to 0.99, got {text}')
    return number


def add_every(parser: argparse.ArgumentParser, text: str) -> None:
    """Add --every."""
    parser.add_argument('--every', type=positive, default=1, metavar='N', help=text)


def add_smoothing(parser: argparse.ArgumentParser) -> None:
    """Add --smoothing, which is a parameter of the node too."""
    parser.add_argument(
        '--smoothing',
        type=share,
        default=0.0,
        help='weight of the earlier images in the scores of an image, 0 to 0.99',
    )


def add_out(parser: argparse.ArgumentParser, default: Path | None, text: str) -> None:
    """Add -o, --out; required if there is no default."""
    parser.add_argument(
        '-o', '--out', type=Path, default=default, required=default is None, help=text
    )


def load_with_words(options: argparse.Namespace) -> tuple[Segmenter, Vocabulary]:
    """Load the model and encode the words that the options name."""
    entries, background = words_of(options)
    segmenter = ct.load(Settings.from_mapping(settings_given(options)))
    return segmenter, segmenter.vocabulary(entries, background)
