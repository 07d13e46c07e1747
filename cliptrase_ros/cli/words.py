"""Check a vocabulary before a robot uses it. Shows errors, the tokens that the model reads, and the
words that the model may confuse. It does not label anything."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console as Rich
from rich.table import Table
from rich.text import Text

import cliptrase_ros as ct

from ..errors import VocabularyError
from ..settings import Settings
from ..words import check
from ..words.vocabulary import WordClass, parse_vocabulary
from . import arguments
from .console import Console, warn

USAGE = '(--words WORD... | --vocabulary FILE) [options]'
EXAMPLES = """\
examples:
  cliptrase words --vocabulary indoor
  cliptrase words --words floor 'mug|cup' bowl --distractors common --pairs 20
  cliptrase words --vocabulary mine.txt --check-only     (ids and grammar; loads no model)

exit codes: 0 the vocabulary is valid; 1 it is not, and each problem is printed
"""
# A pair stands out if its cosine is this many standard deviations above the mean of all pairs.
STANDS_OUT = 3.0
# The largest id that fits into an 8-bit label image.
LARGEST_8_BIT = 254


def add_arguments(parser: argparse.ArgumentParser) -> None:
    arguments.add_words(parser)
    parser.add_argument(
        '--pairs',
        type=arguments.count,
        default=10,
        metavar='N',
        help='number of similar pairs of prompts to list (default: 10)',
    )
    parser.add_argument(
        '--alike',
        type=float,
        default=0.9,
        metavar='COSINE',
        help='mark pairs with this cosine or more (default: 0.9, a guess, not measured)',
    )
    parser.add_argument(
        '--check-only', action='store_true', help='check grammar, ids and duplicates; load no model'
    )
    arguments.add_json(parser)
    arguments.add_settings(parser)


def run(options: argparse.Namespace) -> None:
    settings = Settings.from_mapping(arguments.settings_given(options))
    entries, given = arguments.words_of(options)
    console = Console(options.json)
    _refuse(check.problems(entries, given), console)
    classes, background = parse_vocabulary(entries, given)
    if any(c.id > LARGEST_8_BIT for c in classes):
        warn(
            f'ids above {LARGEST_8_BIT} need label images with 16 bits per pixel; for the node, '
            "set label_encoding to '16UC1'"
        )
    prompts = [*(prompt for c in classes for prompt in c.prompts), *background]
    if options.check_only:
        _warn_of_language(check.not_english(prompts))
        console.result(
            f'{len(classes)} classes and {len(background)} background words are valid',
            classes=[_class_values(c) for c in classes],
            background=list(background),
            problems=[],
        )
        return
    segmenter = ct.load(settings)
    _refuse(check.too_long(segmenter, prompts), console)
    _warn_of_language(check.not_english(prompts, segmenter.word_encoder.text))
    report = _report(options, segmenter, entries, background)
    if options.json:
        console.result('', **report)
    else:
        _show(report, options)


def _warn_of_language(sentence: str) -> None:
    if sentence:
        warn(sentence)


def _refuse(problems: list[str], console: Console) -> None:
    """Print the problems and raise VocabularyError if there are any."""
    if not problems:
        return
    for problem in problems:
        warn(problem)
    if console.as_json:
        console.result('', problems=problems)
    one = 'one problem' if len(problems) == 1 else f'{len(problems)} problems'
    raise VocabularyError(f'the vocabulary is invalid: {one}, printed above')


def _class_values(c: WordClass) -> dict[str, Any]:
    color = '#{:02x}{:02x}{:02x}'.format(*c.color)
    return {'id': c.id, 'name': c.name, 'color': color, 'prompts': list(c.prompts)}


def _report(
    options: argparse.Namespace,
    segmenter: ct.Segmenter,
    entries: Sequence[str],
    background: Sequence[str],
) -> dict[str, Any]:
    """Return what the model reads of the words, and the most similar pairs of prompts."""
    text = segmenter.word_encoder.text
    words = segmenter.vocabulary(entries, background)

    def read(prompts: Sequence[str]) -> dict[str, Any]:
        tokens = max((check.sentence_tokens(segmenter, p) for p in prompts), default=0)
        return {'tokens': tokens, 'pieces': [text.pieces(p) for p in prompts]}

    pairs = [
        {
            'prompts': pair.prompts,
            'classes': pair.names,
            'cosine': round(pair.cosine, 4),
            'deviation': round(pair.deviation, 2),
            'alike': pair.cosine >= options.alike,
            'stands_out': pair.deviation >= STANDS_OUT,
        }
        for pair in check.alike(words, options.pairs)
    ]
    own = segmenter.settings.distractors
    return {
        'classes': [{**_class_values(c), **read(c.prompts)} for c in words.classes],
        'background': {'words': background, **read(background)},
        'distractors': list(words.background[len(background) :]),
        'distractors_left_out': list(check.left_out(words.classes, background, own)),
        'context': text.context,
        'pairs': pairs,
        'problems': [],
    }


def _show(report: dict[str, Any], options: argparse.Namespace) -> None:
    rich = Rich(highlight=False)
    if not rich.is_terminal:
        # A file or a pipe has no width. Do not wrap or cut lines there.
        rich = Rich(highlight=False, width=200)
    table = _table('id', 'name', 'colour', 'prompts (· separates tokens)', 'tokens')
    for c in report['classes']:
        block = Text.assemble(('██ ', c['color']), c['color'])
        pieces = _joined(c['pieces'])
        table.add_row(str(c['id']), Text(c['name']), block, pieces, str(c['tokens']))
    background = report['background']
    if background['words']:
        pieces = _joined(background['pieces'])
        table.add_row('0', Text('(background)'), '', pieces, str(background['tokens']))
    rich.print(table)
    rich.print(
        f'tokens: in the longest sentence with the prompt; the model reads up to '
        f'{report["context"] - 1}'
    )
    if report['distractors']:
        rich.print(f'plus {len(report["distractors"])} distractors')
    if report['distractors_left_out']:
        left_out = ', '.join(report['distractors_left_out'])
        rich.print(Text(f'distractors left out, because they are your words: {left_out}'))
    if report['pairs']:
        rich.print(_pairs(report['pairs'], options.alike))


def _pairs(pairs: list[dict[str, Any]], limit: float) -> Table:
    table = _table('cosine', 'deviations', 'prompt', 'other prompt', '')
    table.title = 'similar prompts of different classes, most similar first'
    table.title_justify = 'left'
    for pair in pairs:
        marks = [f'cosine of {limit:g} or more'] * pair['alike']
        marks += ['stands out among all pairs'] * pair['stands_out']
        table.add_row(
            f'{pair["cosine"]:.3f}',
            f'{pair["deviation"]:+.1f}',
            *(_prompt(*both) for both in zip(pair['prompts'], pair['classes'], strict=True)),
            ', '.join(marks),
            style='bold' if marks else '',
        )
    return table


def _prompt(prompt: str, name: str) -> Text:
    """Return the prompt, with its class if that has another name."""
    return Text(prompt if prompt == name else f'{prompt} ({name or "background"})')


def _joined(pieces: list[list[str]]) -> Text:
    return Text('\n'.join('·'.join(of_prompt) for of_prompt in pieces))


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE, show_edge=False)
    for column in columns:
        numbers = column in ('id', 'tokens', 'cosine', 'deviations')
        table.add_column(column, justify='right' if numbers else 'left')
    return table
