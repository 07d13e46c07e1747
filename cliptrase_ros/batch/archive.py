"""Archives: trees of pictures, or recordings; what is in them, what of it is labelled, and
labelling the rest so that it can be stopped and gone on with at any time."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from .. import files
from ..errors import PictureError, SettingError, WeightsError
from ..media import pictures
from ..model import weights
from ..settings import Settings
from ..version import version
from ..words.vocabulary import parse_vocabulary

# What a folder of labels was made with.
RECORD = 'settings.json'
# Settings that say where and how fast it runs, not which labels come out.
NOT_OF_LABELS = ('device', 'compile', 'cache_dir')
# What makes a folder a recording.
_OF_BAGS = ('metadata.yaml', '.mcap', '.db3', '.mcap.zstd', '.db3.zstd')
# Of files, and so of no new folder.
_ENDINGS = ('.zstd', '.mcap', '.db3', '.bag', '.active')


class ArchiveItem(NamedTuple):
    """A picture or a recording.

    Attributes:
        source: its path.
        target: path of the folder for a recording; for a picture that of its files, without
            '_labels.png' and so on.
    """

    source: str
    target: str


class ItemOutcome(NamedTuple):
    """What became of an item.

    Attributes:
        error: why it is not labelled, or ''.
        notes: what of it could not be used, though it is labelled.
        images: how many are labelled.
        worker: who did it, HOST:PID.
    """

    item: ArchiveItem
    error: str = ''
    notes: tuple[str, ...] = ()
    images: int = 1
    worker: str = ''


@dataclass(frozen=True)
class Job:
    """How to label; it can be sent to other machines.

    Attributes:
        entries, background: the words.
        bags: whether the items are recordings.
        overlay: of pictures, whether to write the labels over them, too.
        topics, every: of recordings, see `bags.label_bag`.
    """

    settings: Settings
    entries: tuple[str, ...]
    background: tuple[str, ...] = ()
    bags: bool = False
    overlay: bool = False
    topics: tuple[str, ...] = ()
    every: int = 1

    def files(self, item: ArchiveItem) -> dict[str, Path]:
        """What is written for an item."""
        if self.bags:
            return {'bag': Path(item.target)}
        return pictures.label_paths(item.target, self.overlay)

    def done(self, item: ArchiveItem) -> bool:
        """Whether all of it is there."""
        return all(path.exists() for path in self.files(item).values())

    def notes(self, item: ArchiveItem) -> list[str]:
        """What of an item that is done could not be used; see ItemOutcome."""
        if not self.bags:
            return []
        # Only recordings need what reads them.
        from .bags import SKIPPED

        path = Path(item.target, SKIPPED)
        if not path.exists():
            return []
        try:
            return [str(note) for note in json.loads(path.read_text())]
        except (ValueError, TypeError):
            return [f'{path}, which says what could not be used, cannot be read']

    def record(self) -> dict[str, Any]:
        """What decides on the labels.

        Raises:
            VocabularyError: the words cannot be used.
            WeightsError: there is no file of the weights.
        """
        classes, background = parse_vocabulary(self.entries, self.background)
        settings = dataclasses.asdict(self.settings)
        file = weights.file_of(self.settings.weights)
        if file and not file.is_file():
            raise WeightsError(f'weights: no file {file}')
        return {
            'of': 'bags' if self.bags else 'pictures',
            'words': [[c.id, c.name, *c.prompts] for c in classes],
            'background': list(background),
            **({'topics': list(self.topics), 'every': self.every} if self.bags else {}),
            'settings': {k: v for k, v in settings.items() if k not in NOT_OF_LABELS},
            'sha256_of_weights': weights.sha256_of(file) if file else None,
        }


def list_items(sources: Sequence[Path], out: Path) -> tuple[list[ArchiveItem], bool]:
    """(items, whether they are recordings): all pictures below one folder, their tree kept below
    `out`; or recordings, each a folder of its name below `out`.

    Raises:
        PictureError: there is nothing to label, several items would be written to one place, or
            `out` is the folder itself or one around it.
        OSError: a folder cannot be read.
    """
    sources = [Path(os.path.abspath(path)) for path in sources]
    out = Path(os.path.abspath(out))
    for path in sources:
        if not path.exists():
            raise PictureError(f'there is no {path}')
        if path.suffix.lower() in pictures.SUFFIXES and path.is_file():
            raise PictureError(f'{path} is one picture; give its folder, or use cliptrase segment')
    if all(_is_bag(path) for path in sources):
        return _apart([ArchiveItem(str(path), str(out / _name(path))) for path in sources]), True
    if len(sources) > 1:
        raise PictureError('expected one folder of pictures, or recordings and nothing else')
    return _apart(_below(sources[0], out)), False


def _is_bag(path: Path) -> bool:
    if path.is_file():
        return True
    return any(child.name.endswith(_OF_BAGS) for child in path.iterdir())


def _name(bag: Path) -> str:
    while bag.suffix in _ENDINGS:
        bag = bag.with_suffix('')
    return bag.name


def _below(root: Path, out: Path) -> list[ArchiveItem]:
    """The pictures below a folder by name, but for what is hidden or was written by us."""
    if root.resolve().is_relative_to(out.resolve()):
        raise PictureError(f'{out} is the folder of the pictures, or one around it; give another')
    items = []
    for folder, folders, names in os.walk(root, onerror=_raise):
        if RECORD in names and _read_record(Path(folder)) is not None:
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not name.startswith('.'))
        place = out / Path(folder).relative_to(root)
        for name in sorted(names):
            stem, suffix = os.path.splitext(name)
            if suffix.lower() in pictures.SUFFIXES and not name.startswith('.'):
                items.append(ArchiveItem(os.path.join(folder, name), str(place / stem)))
    if not items:
        raise PictureError(f'no picture in or below the folder {root}')
    return items


def _raise(error: OSError) -> None:
    raise error


def _apart(items: list[ArchiveItem]) -> list[ArchiveItem]:
    """The items, if no two of them are written to one place."""
    seen: dict[str, str] = {}
    for source, target in items:
        if target in seen:
            raise PictureError(
                f'{seen[target]} and {source} would both be written to {target}; give each a name '
                'of its own'
            )
        seen[target] = source
    return items


def begin(out: Path, job: Job) -> list[str]:
    """Note in `out` what it is made with, or compare that with what is noted there.

    Returns:
        Sentences on versions that are others than before.

    Raises:
        SettingError: other words or settings made what is there.
        VocabularyError, WeightsError: the words or the weights cannot be used.
    """
    now = json.loads(json.dumps(job.record()))
    versions = {
        'torch': str(torch.__version__),
        'open_clip_torch': weights.open_clip_version(),
        'cliptrase_ros': version(),
    }
    then = _read_record(out)
    if then is None:
        if (out / RECORD).exists():
            raise SettingError(f'{out / RECORD} is none of ours, or damaged; give another folder')
        with files.whole(out / RECORD) as part:
            part.write_text(json.dumps({**now, 'versions': versions}, indent=1) + '\n')
        return []
    before = then.pop('versions')
    differ = _differences({**then, **then.pop('settings')}, {**now, **now.pop('settings')})
    if differ:
        raise SettingError(
            f'{out} was begun with other words or settings: {"; ".join(differ)}. Give the same, or '
            'another folder'
        )
    return [
        f'{out} was begun with {name} {before.get(name)}, this is {value}'
        for name, value in versions.items()
        if before.get(name) != value
    ]


def _read_record(folder: Path) -> dict[str, Any] | None:
    """What `begin` wrote, or None."""
    try:
        record = json.loads((folder / RECORD).read_text())
    except (OSError, ValueError):
        return None
    ours = isinstance(record, dict) and {'of', 'words', 'settings', 'versions'} <= record.keys()
    return record if ours else None


def _differences(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What two records differ in, said."""
    said = []
    for name in dict.fromkeys([*then, *now]):
        old: Any = then.get(name)
        new: Any = now.get(name)
        if old == new:
            continue
        if name in ('words', 'background'):
            # Of many words, those that differ.
            old, new = ([x for x in a if x not in b] or a for a, b in ((old, new), (new, old)))
        said.append(f'{name} {old!r} there, {new!r} here')
    return said
