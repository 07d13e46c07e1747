"""Label archives: all pictures below a folder, their tree kept below OUT, or several recordings.
What is there already is left alone, so a run that was ended goes on where it was. For each picture
NAME_labels.png (class ids, 0 unlabelled) and NAME_confidence.png (0..255) are written, for each
recording what `cliptrase bag` writes. OUT/settings.json notes the words and settings."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Iterator
from itertools import chain, compress
from operator import not_
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import PictureError, SettingError
from ..settings import Settings
from . import arguments
from .console import Console, warn

if TYPE_CHECKING:
    from ..batch.archive import ArchiveItem, ItemOutcome, Job

USAGE = 'DIR|BAG... (--words WORD... | --vocabulary FILE) -o OUT [options]'
EXAMPLES = """\
examples:
  cliptrase label photos/ --vocabulary indoor -o labels/
  cliptrase label monday/ tuesday/ --words road car person --every 10 -o labels/
  cliptrase label photos/ --vocabulary indoor -o labels/ --engine ray --workers 4
  cliptrase label /nfs/photos --vocabulary indoor -o /nfs/labels --engine ray --address auto

--json: a line for each picture or recording, and one of the sums
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        'sources', nargs='+', type=Path, metavar='DIR|BAG', help='a folder of pictures, or bags'
    )
    arguments.add_words(parser)
    arguments.add_out(parser, None, 'folder; what is in it already is not labelled again')
    parser.add_argument(
        '--overlay', action='store_true', help='also write NAME_overlay.png for each picture'
    )
    parser.add_argument(
        '--topics',
        nargs='+',
        default=[],
        metavar='TOPIC',
        help='of bags (default: the only one in colour)',
    )
    arguments.add_every(parser, 'of bags, every Nth image')
    _add_engine(parser)
    arguments.add_json(parser)
    arguments.add_settings(parser)


def _add_engine(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('workers')
    group.add_argument(
        '--engine',
        choices=('local', 'ray'),
        default='local',
        help='local: this process (default); ray: several, each with a model, on this machine or '
        "on a cluster; needs pip install 'ray>=2.9'",
    )
    group.add_argument(
        '--workers',
        type=arguments.positive,
        metavar='N',
        help='of ray (default: one a GPU, or one)',
    )
    group.add_argument(
        '--gpus-per-worker',
        type=_share,
        metavar='X',
        help='parts too, such as 0.5 (default: 1 where there are GPUs, else 0)',
    )
    group.add_argument(
        '--cpus-per-worker',
        type=arguments.positive,
        metavar='N',
        help='threads, too (default: its share of this machine; on a cluster 1)',
    )
    group.add_argument(
        '--address',
        help="of a Ray cluster that runs, 'auto' for that of this machine; its machines have to "
        'reach all paths (default: Ray is started here and stopped at the end)',
    )


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1000:
        raise argparse.ArgumentTypeError('expected 0 or more')
    return value


def run(options: argparse.Namespace) -> bool:
    from ..batch import archive

    engine = _engine(options)
    items, bags = archive.list_items(options.sources, options.out)
    job = _job(options, bags)
    for sentence in archive.begin(options.out, job):
        warn(sentence)
    done = [job.done(item) for item in items]
    left = list(compress(items, map(not_, done)))
    outcomes = engine(left, job) if left else iter(())
    there = [job.notes(item) for item in compress(items, done)]
    return _told(outcomes, job, there, len(left), Console(options.json))


def _job(options: argparse.Namespace, bags: bool) -> Job:
    from ..batch.archive import Job

    if bags and options.overlay:
        raise SettingError('--overlay is of pictures; the overlays of bags are topics in them')
    if not bags and (options.topics or options.every > 1):
        raise SettingError('--topics and --every are of bags; these are pictures')
    entries, background = arguments.words_of(options)
    return Job(
        Settings(**arguments.settings_given(options)),
        tuple(entries),
        tuple(background),
        bags,
        options.overlay,
        tuple(options.topics),
        options.every,
    )


def _engine(options: argparse.Namespace):
    """A function (items, job) -> outcomes."""
    asked = ('workers', 'gpus_per_worker', 'cpus_per_worker', 'address')
    given = [name for name in asked if getattr(options, name) is not None]
    if options.engine == 'local':
        if given:
            flag = given[0].replace('_', '-')
            raise SettingError(f'--{flag}: of --engine ray; local is this process alone')
        return _local
    from ..batch.on_ray import Pool, label

    pool = Pool(
        options.workers or 0,
        options.gpus_per_worker,
        options.cpus_per_worker or 0,
        options.address or '',
    )
    return lambda items, job: label(items, job, pool)


def _local(items: list[ArchiveItem], job: Job) -> Iterator[ItemOutcome]:
    from ..batch.local import Labeller

    return Labeller(job)(items)


def _told(
    outcomes: Iterable[ItemOutcome],
    job: Job,
    notes_there: list[list[str]],
    left: int,
    console: Console,
) -> bool:
    """Say what became of each, and of all; whether every item could be used.

    Args:
        notes_there: of each item that was there already, what of it could not be used.
        left: how many were not.
    """
    there = len(notes_there)
    what = 'recordings' if job.bags else 'pictures'
    labelled = images = failed = 0
    partly = sum(map(bool, notes_there))
    for note in chain.from_iterable(notes_there):
        warn(f'{note}; skipped')
    began = time.monotonic()
    for item, error, notes, count, worker in console.progress(outcomes, what, left):
        for note in [error] if error else notes:
            warn(f'{note}; skipped')
        failed += bool(error)
        labelled += not error
        partly += bool(notes)
        images += count
        if console.as_json:
            paths = {} if error else {k: str(path) for k, path in job.files(item).items()}
            values = {'error': error} if error else {'images': count, 'notes': notes, **paths}
            console.result('', source=item.source, **values, worker=worker)
    if failed and not labelled and not there:
        raise PictureError(f'none of {failed} {what} could be used')
    seconds = time.monotonic() - began
    rate = images / seconds if images else 0.0
    text = f'{labelled} {what} labelled ({images} images, {rate:.2f} a second, loading included)'
    text += f', {there} were there already' if there else ''
    text += f', {failed} skipped' if failed else ''
    text += f', of {partly} parts are missing' if partly else ''
    console.result(
        text,
        labelled=labelled,
        images=images,
        there=there,
        skipped=failed,
        partly=partly,
        seconds=round(seconds, 3),
    )
    return not failed and not partly
