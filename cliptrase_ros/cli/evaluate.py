"""Measure accuracy on a labelled data set with the protocols that papers use. The settings are
those of the method's published numbers on this data set. Flags override them; the result lists what
was overridden. The default protocol is sliding. doc/evaluation.md describes the expected folders.

With -o, OUT gets result.json (all that is needed to repeat the run), pictures.jsonl (one line for
each picture) and worst/ (the pictures with the lowest mIoU). The same command resumes a stopped
run."""

from __future__ import annotations

import argparse
import datetime
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cliptrase_ros as ct

from .. import files
from ..errors import SettingError
from ..evaluation import layouts, protocols, summary
from ..evaluation.journal import Journal
from ..settings import Settings
from . import arguments
from .console import Console, warn

if TYPE_CHECKING:
    from ..evaluation import accuracy

USAGE = '--dataset NAME --root DIR [-o OUT] [options]'
EXAMPLES = """\
examples:
  cliptrase evaluate --dataset voc20 --root VOCdevkit/VOC2012 --protocol cliptrase -o voc20/
  cliptrase evaluate --dataset ade150 --root ADEChallengeData2016 --method sc_clip --limit 100
  cliptrase evaluate --dataset folder --root mine/ --protocol native --input-size 448
"""
WORST = 12


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--dataset', required=True, choices=layouts.NAMES)
    parser.add_argument('--root', required=True, type=Path, help='folder of the data set')
    parser.add_argument('--split', default='', help='part of the data set (default: the usual one)')
    parser.add_argument(
        '--limit', type=arguments.positive, metavar='N', help='use only the first N pictures'
    )
    parser.add_argument('-o', '--out', type=Path, help='output folder for the results')
    parser.add_argument(
        '--worst',
        type=arguments.count,
        metavar='N',
        help=f'number of pictures with the lowest mIoU in OUT/worst (default: {WORST})',
    )
    arguments.add_json(parser)
    arguments.add_settings(parser)


def run(options: argparse.Namespace) -> bool:
    from ..evaluation import accuracy, datasets

    if options.worst is not None and not options.out:
        raise SettingError('worst: needs an output folder; add -o OUT')
    given = arguments.settings_given(options)
    method = given.get('method', Settings().method)
    protocol = given.get('protocol', protocols.PROTOCOLS[0])
    prescribed = protocols.settings_of(protocol, method, options.dataset) | {'method': method}
    labelled = datasets.open_set(options.dataset, options.root, options.split, protocol)
    settings = _settings(prescribed, given, protocol)
    evaluated = accuracy.Evaluation.of(labelled, ct.load(settings))
    description, console = evaluated.description(), Console(options.json)
    outcome = _measure(options, evaluated, description, console)
    changed = protocols.overridden(prescribed, settings)
    result = {
        'command': options.command_line,
        'date': datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='seconds'),
        'root': str(options.root.resolve()),
        'limit': options.limit,
        'measured': len(outcome.miou),
        'unreadable': outcome.unreadable,
        **description,
        **accuracy.numbers(evaluated, outcome.confusion),
        'overridden': changed,
        'differs': accuracy.differs(evaluated, changed),
        'published': _published(evaluated, changed, outcome),
    }
    if options.out:
        with files.whole(options.out / 'result.json') as part:
            part.write_text(summary.dumped(result), encoding='utf-8')
        count = WORST if options.worst is None else options.worst
        accuracy.write_worst(evaluated, outcome, count, options.out / 'worst')
    console.result(summary.text(result), **result)
    return not outcome.unreadable


def _settings(prescribed: dict[str, Any], given: dict[str, Any], protocol: str) -> Settings:
    try:
        return Settings.from_mapping({**prescribed, **given})
    except SettingError as error:
        raise SettingError(
            f'{error}. Protocol {protocol!r} prescribes settings; override them with flags, or use '
            '--protocol native, which prescribes none'
        ) from error


def _measure(
    options: argparse.Namespace,
    evaluated: accuracy.Evaluation,
    description: dict[str, Any],
    console: Console,
) -> accuracy.Measured:
    """Measure with a progress bar, and with a journal if there is an output folder."""
    from ..evaluation import accuracy

    def progress(items: Any, count: int, done: int) -> Any:
        if done:
            warn(f'resuming: {done} of {done + count} pictures are already done')
        return console.progress(items, 'pictures', count)

    examples = evaluated.labelled.examples[: options.limit]
    with Journal(options.out, description) if options.out else nullcontext() as journal:
        try:
            return accuracy.measure(evaluated, examples, journal, warn, progress)
        except KeyboardInterrupt:
            if journal:
                warn(f'the results so far are in {options.out}; run the same command to resume')
            raise


def _published(
    evaluated: accuracy.Evaluation,
    changed: dict[str, list[Any]],
    outcome: accuracy.Measured,
) -> list[dict[str, Any]]:
    """Return the published numbers, each with the reasons why it is not comparable (if any)."""
    from ..evaluation import published

    labelled, settings = evaluated.labelled, evaluated.settings
    incomplete = labelled.incomplete(len(outcome.miou))
    bfloat16 = evaluated.arithmetic == 'bfloat16'
    return [
        {
            'source': row.source,
            'miou': row.miou[labelled.name] / 100,
            'conditions': dict(row.conditions),
            'differs': published.differences(row, settings, changed, incomplete, bfloat16),
        }
        for row in published.rows_for(labelled.name, settings)
    ]
