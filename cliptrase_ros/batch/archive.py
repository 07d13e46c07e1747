"""Archives (trees of pictures, or recordings): their items, which of them are labelled, and the
settings that an output folder was made with. A run can be stopped and continued at any time."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from .. import files
from ..errors import PictureError, SettingError
from ..media import pictures
from ..model import weights
from ..settings import Settings
from ..version import version
from ..words.vocabulary import parse_vocabulary

# The file in a folder of labels that holds the words, settings and versions it was made with.
RECORD = 'settings.json'
# Settings that change where and how fast the code runs, but not the labels.
NOT_OF_LABELS = ('device', 'compile', 'cache_dir')
# Suffixes of recording files, packed or not, which the names of new folders must not have.
_ENDINGS = ('.mcap', '.db3', '.bag', '.active', '.zstd', '.zst', '.lz4', '.gz', '.bz2', '.xz')


class ArchiveItem(NamedTuple):
    """A picture or a recording.

    Attributes:
        source: its path.
        target: for a recording, the path of the new folder; for a picture, the path of its label
            files without '_labels.png' and so on.
    """

    source: str
    target: str


class ItemOutcome(NamedTuple):
    """The result of one item.

    Attributes:
        error: why it is not labelled, or ''.
        notes: sentences about the parts that were skipped, if it is labelled.
        images: how many images are labelled.
        worker: the Ray worker that did it, HOST:PID, or ''.
    """

    item: ArchiveItem
    error: str = ''
    notes: tuple[str, ...] = ()
    images: int = 1
    worker: str = ''


@dataclass(frozen=True)
class Job:
    """How to label; can be sent to other machines.

    Attributes:
        entries, background: the words.
        bags: whether the items are recordings.
        overlay: for pictures: whether to also write the labels drawn over the picture.
        topics, every: for recordings: see `bags.label_bag`.
    """

    settings: Settings
    entries: tuple[str, ...]
    background: tuple[str, ...] = ()
    bags: bool = False
    overlay: bool = False
    topics: tuple[str, ...] = ()
    every: int = 1

    def files(self, item: ArchiveItem) -> dict[str, Path]:
        """Return {kind: path} of the files that are written for an item."""
        if self.bags:
            return {'bag': Path(item.target)}
        return pictures.label_paths(item.target, self.overlay)

    def done(self, item: ArchiveItem) -> bool:
        """Return whether all files of an item exist."""
        return all(path.exists() for path in self.files(item).values())

    def notes(self, item: ArchiveItem) -> list[str]:
        """Return the notes of an item that is done; see ItemOutcome."""
        if not self.bags:
            return []
        # Imported here because only recordings need it.
        from .bags import SKIPPED

        path = Path(item.target, SKIPPED)
        if not path.exists():
            return []
        try:
            return [str(note) for note in json.loads(path.read_text())]
        except (ValueError, TypeError):
            return [f'cannot read {path}, which lists what was skipped']

    def record(self) -> dict[str, Any]:
        """Return all that determines the labels.

        Raises:
            VocabularyError: the words cannot be used.
            WeightsError: the file of the weights does not exist or cannot be read.
        """
        classes, background = parse_vocabulary(self.entries, self.background)
        settings = self.settings.flat()
        file = weights.file_of(self.settings.weights, self.settings.model)
        return {
            'of': 'bags' if self.bags else 'pictures',
            'words': [[c.id, c.name, *c.prompts] for c in classes],
            'background': list(background),
            **({'topics': list(self.topics), 'every': self.every} if self.bags else {}),
            'settings': {k: v for k, v in settings.items() if k not in NOT_OF_LABELS},
            'sha256_of_weights': weights.sha256_of(file) if file else None,
        }


def list_items(sources: Sequence[Path], out: Path) -> tuple[list[ArchiveItem], bool]:
    """Return (items, whether they are recordings).

    The items are all pictures below one folder; `out` gets the same tree. Or they are recordings;
    each gets a folder with its name in `out`.

    Raises:
        PictureError: there is nothing to label, two items would be written to the same path, or
            `out` is the folder of the pictures or contains it.
        OSError: a folder cannot be read.
    """
    sources = [Path(os.path.abspath(path)) for path in sources]
    out = Path(os.path.abspath(out))
    for path in sources:
        if not path.exists():
            raise PictureError(f'no file or folder {path}')
        if path.suffix.lower() in pictures.SUFFIXES and path.is_file():
            raise PictureError(f'{path} is one picture; give its folder or use cliptrase segment')
    if all(_is_bag(path) for path in sources):
        return _apart([ArchiveItem(str(path), str(out / _name(path))) for path in sources]), True
    if len(sources) > 1:
        raise PictureError('expected one folder of pictures, or only recordings')
    return _apart(_below(sources[0], out)), False


def _is_bag(path: Path) -> bool:
    if path.is_file():
        return True
    # Imported here because the import of rosbags takes time.
    from ..recordings.folder import has_recording

    return has_recording(path)


def _name(bag: Path) -> str:
    while bag.suffix.lower() in _ENDINGS:
        bag = bag.with_suffix('')
    return bag.name


def _below(root: Path, out: Path) -> list[ArchiveItem]:
    """Return the pictures below a folder by name, without hidden files and our own output."""
    if root.resolve().is_relative_to(out.resolve()):
        raise PictureError(
            f'{out} is the folder of the pictures or contains it; choose another output folder'
        )
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
    """Return the items; raise PictureError if two of them have the same target."""
    seen: dict[str, str] = {}
    for source, target in items:
        if target in seen:
            raise PictureError(
                f'{seen[target]} and {source} would both be written to {target}; rename one of them'
            )
        seen[target] = source
    return items


def begin(out: Path, job: Job) -> list[str]:
    """Write the words, settings and versions of a run to `out`, or compare them with those there.

    Returns:
        Sentences about versions that changed.

    Raises:
        SettingError: the labels in `out` were made with other words or settings.
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
            raise SettingError(
                f'{out / RECORD} is damaged, or another program wrote it; choose another folder'
            )
        with files.whole(out / RECORD) as part:
            part.write_text(json.dumps({**now, 'versions': versions}, indent=1) + '\n')
        return []
    before = then.pop('versions')
    differ = _differences({**then, **then.pop('settings')}, {**now, **now.pop('settings')})
    if differ:
        raise SettingError(
            f'{out} was made with other words or settings: {"; ".join(differ)}. Use the same ones '
            'or choose another folder'
        )
    return [
        f'{out} was made with {name} {before.get(name)}, now it is {value}'
        for name, value in versions.items()
        if before.get(name) != value
    ]


def _read_record(folder: Path) -> dict[str, Any] | None:
    """Return what `begin` wrote to this folder, or None."""
    try:
        record = json.loads((folder / RECORD).read_text())
    except (OSError, ValueError):
        return None
    ours = isinstance(record, dict) and {'of', 'words', 'settings', 'versions'} <= record.keys()
    return record if ours else None


def _differences(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return a phrase for each difference of two records."""
    said = []
    for name in dict.fromkeys([*then, *now]):
        old: Any = then.get(name)
        new: Any = now.get(name)
        if old == new:
            continue
        if name in ('words', 'background'):
            # Show only the words that differ.
            old, new = ([x for x in a if x not in b] or a for a, b in ((old, new), (new, old)))
        said.append(f'{name} was {old!r}, is {new!r}')
    return said
