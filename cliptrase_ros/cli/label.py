"""Label large archives: all pictures below a folder, or several recordings. OUT gets the same
subfolders. Existing results are skipped, so the same command resumes a stopped run. For each
picture it writes NAME_labels.png (class ids, 0 unlabelled) and NAME_confidence.png (0..255). For
each recording it writes what `cliptrase bag` writes. OUT/settings.json records the words and the
settings."""

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

--json prints one line for each picture or recording, and a last line with the totals.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        'sources',
        nargs='+',
        type=Path,
        metavar='DIR|BAG',
        help='one folder of pictures, or recordings',
    )
    arguments.add_words(parser)
    arguments.add_out(parser, None, 'output folder; existing results in it are skipped')
    parser.add_argument(
        '--overlay', action='store_true', help='also write NAME_overlay.png for each picture'
    )
    parser.add_argument(
        '--topics',
        nargs='+',
        default=[],
        metavar='TOPIC',
        help='recordings: image topics to label (default: the only colour image topic)',
    )
    arguments.add_every(parser, 'recordings: label only every Nth image')
    _add_engine(parser)
    arguments.add_json(parser)
    arguments.add_settings(parser)


def _add_engine(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('workers')
    group.add_argument(
        '--engine',
        choices=('local', 'ray'),
        default='local',
        help='local: this process only (default); ray: several workers, each with its own model, '
        "on this machine or on a cluster; needs pip install 'ray>=2.9'",
    )
    group.add_argument(
        '--workers',
        type=arguments.positive,
        metavar='N',
        help='ray: number of workers (default: as many as the GPUs allow, or one)',
    )
    group.add_argument(
        '--gpus-per-worker',
        type=_share,
        metavar='X',
        help='ray: GPUs for each worker, also a fraction such as 0.5 (default: 1 if there is a GPU '
        'and --device is not cpu, otherwise 0)',
    )
    group.add_argument(
        '--cpus-per-worker',
        type=arguments.positive,
        metavar='N',
        help='ray: CPUs and threads for each worker (default: an equal share of this machine; 1 on '
        'a cluster)',
    )
    group.add_argument(
        '--address',
        help="ray: address of a running Ray cluster, or 'auto' for the cluster of this machine; "
        'all its machines must reach all paths (default: start Ray here and stop it at the end)',
    )


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1000:
        raise argparse.ArgumentTypeError('expected a number from 0 up to 1000')
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
        raise SettingError('--overlay is for pictures only: in recordings, overlays are topics')
    if not bags and (options.topics or options.every > 1):
        raise SettingError('--topics and --every are for recordings only: these are pictures')
    entries, background = arguments.words_of(options)
    return Job(
        Settings.from_mapping(arguments.settings_given(options)),
        tuple(entries),
        tuple(background),
        bags,
        options.overlay,
        tuple(options.topics),
        options.every,
    )


def _engine(options: argparse.Namespace):
    """Return a function (items, job) -> outcomes."""
    asked = ('workers', 'gpus_per_worker', 'cpus_per_worker', 'address')
    given = [name for name in asked if getattr(options, name) is not None]
    if options.engine == 'local':
        if given:
            flag = given[0].replace('_', '-')
            raise SettingError(
                f'--{flag} needs --engine ray: the local engine is this process only'
            )
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
    """Print the outcome of each item and the totals. Return True if every item was used in full.

    Args:
        notes_there: for each item that was already done, the notes about parts that were skipped.
        left: number of items that were not done yet.
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
        raise PictureError(f'none of the {failed} {what} could be used')
    seconds = time.monotonic() - began
    rate = images / seconds if images else 0.0
    text = f'{labelled} {what} labelled ({images} images, {rate:.2f} images/s with loading)'
    text += f', {there} already done' if there else ''
    text += f', {failed} skipped' if failed else ''
    text += f', {partly} only partly labelled' if partly else ''
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
