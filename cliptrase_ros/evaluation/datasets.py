"""Labelled sets of pictures, in the folder layouts of their authors and of common converters."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import PictureError, SettingError, did_you_mean
from ..media import pictures
from ..words import lists
from ..words.vocabulary import parse_entry
from .layouts import FOLDER, LAYOUTS, NAMES, NONE, Coding, Layout, classes, coding
from .metrics import IGNORED

# Class ids are 1 .. 254; 255 is IGNORED.
MOST = 254


class Example(NamedTuple):
    """A labelled picture: its name in the set, and its two files."""

    name: str
    picture: Path
    label: Path


@dataclass(frozen=True, eq=False)
class LabelledSet:
    """A set of labelled pictures on disk.

    Attributes:
        name: name of the set, such as voc21.
        split: part of the set; empty if the set has no parts.
        examples: all labelled pictures, in order.
        coding: how the labels are stored.
        entries: K classes as entries of a vocabulary, with the ids 1 .. K.
        background: words for background; None if background is no class.
        merged: True if unlabelled pixels count as background (the cliptrase protocol).
    """

    name: str
    split: str
    examples: tuple[Example, ...]
    coding: Coding
    entries: tuple[str, ...]
    background: tuple[str, ...] | None
    merged: bool

    @property
    def usual(self) -> bool:
        """True if the split is the one that published numbers use."""
        return self.name == FOLDER or self.split == LAYOUTS[self.name].split

    def incomplete(self, measured: int) -> str:
        """Return how `measured` pictures differ from those of the published numbers, or ''.

        The files on disk may be only a part of the official set.
        """
        if not self.usual:
            return f'the split is {self.split}'
        official = len(self.examples) if self.name == FOLDER else LAYOUTS[self.name].count
        if measured > official:
            return f'{measured} pictures, the official set has {official}'
        return f'{measured} of {official} pictures' if measured < official else ''

    @property
    def sha256(self) -> str:
        """SHA-256 of the names of all examples, one line each."""
        names = ''.join(f'{example.name}\n' for example in self.examples)
        return hashlib.sha256(names.encode(errors='surrogateescape')).hexdigest()

    def values(self, example: Example) -> np.ndarray:
        """Return the values in the label file, [H, W] uint8.

        Raises:
            PictureError: the file is damaged.
            LabelError: the file holds no class indices, or an index that no class has.
        """
        values = _indices(example.label)
        known = np.isin(values, np.flatnonzero(self.coding.ids != NONE))
        if not known.all():
            raise LabelError(
                f'{example.label} holds the value {values[~known][0]}; expected values of the '
                f'{len(self.entries)} classes of {self.name}, or 255 (ignored)'
            )
        return values.astype(np.uint8)

    def truth(self, values: np.ndarray) -> np.ndarray:
        """Return the truth [H, W] uint8 for `values`: class ids, IGNORED, and 0 for background.

        0 occurs only if background is a class. If unlabelled pixels are merged with background, a
        picture with only such pixels is all IGNORED: the official code leaves it out.
        """
        truth = self.coding.ids.astype(np.uint8)[values]
        if self.background is None:
            truth[truth == 0] = IGNORED
        elif self.merged:
            truth[values == 255] = 0
            if np.isin(values, self.coding.void).all():
                truth[:] = IGNORED
        return truth


class LabelError(PictureError):
    """A label does not fit its picture or its set. The scores would be wrong."""


def open_set(name: str, root: Path, split: str = '', protocol: str = 'sliding') -> LabelledSet:
    """Open a labelled set on disk.

    Args:
        name: one of NAMES.
        root: folder of the set, see doc/evaluation.md.
        split: part of the set; empty: the usual one.
        protocol: protocol of the evaluation; 'cliptrase' has its own words and its own truth.

    Raises:
        SettingError: the set is unknown, or it has no splits.
        PictureError: a folder, a list or a label is missing. The message says what is expected.
        VocabularyError: the classes of a `folder` cannot be used.
    """
    if name not in NAMES:
        raise SettingError(
            f'dataset: {name!r} is not one of {", ".join(NAMES)}.' + did_you_mean(name, NAMES)
        )
    if name == FOLDER:
        return _open_folder(root, split, protocol)
    layout = LAYOUTS[name]
    split, own = split or layout.split, protocol == 'cliptrase'
    background, codings = layout.background, layout.codings
    if own and layout.cliptrase:
        background, codings = layout.cliptrase
    expected = _expected(name, layout, split, codings)
    found = _pictures(root, layout, split, expected)
    stored, examples = _with_labels(root, codings, found, split, expected)
    entries = []
    for number, entry in enumerate(classes(layout.words), 1):
        _, word, prompts = parse_entry(entry)
        entries.append(_entry(number, word, (word,) if own and not layout.ours else prompts))
    taken = {prompt for entry in entries for prompt in parse_entry(entry)[2]}
    if background is not None:
        # A word that is already a class is not a background word.
        background = tuple(word for word in background if word not in taken)
    return LabelledSet(name, split, examples, stored, tuple(entries), background, own)


def _entry(number: int, name: str, prompts: Iterable[str]) -> str:
    return f'{number}:{name}={";".join(prompts)}'


def _expected(name: str, layout: Layout, split: str, codings: Sequence[Coding]) -> str:
    paths = [f'{layout.pictures}/*{layout.ending}', codings[0].path]
    if layout.listing:
        paths.append(layout.listing)
    shown = ', '.join(path.format(split=split, name='*') for path in paths)
    return f'{name} expects {shown} below its root folder (see doc/evaluation.md)'


def _pictures(root: Path, layout: Layout, split: str, expected: str) -> list[tuple[str, Path]]:
    """Return (name, path) of each picture."""
    folder = root / layout.pictures.format(split=split)
    if not folder.is_dir():
        raise PictureError(f'no folder {folder}; {expected}')
    if layout.listing:
        listing = root / layout.listing.format(split=split)
        try:
            names = listing.read_text(encoding='utf-8').split()
        except OSError as error:
            raise PictureError(f'no list {listing}; {expected}') from error
        except UnicodeDecodeError as error:
            raise PictureError(f'{listing} is not UTF-8 text ({error})') from error
    else:
        found = sorted(folder.rglob(f'*{layout.ending}'))
        names = [p.relative_to(folder).as_posix().removesuffix(layout.ending) for p in found]
    if not names:
        raise PictureError(f'no picture in {folder}; {expected}')
    return [(name, folder / f'{name}{layout.ending}') for name in names]


def _with_labels(
    root: Path,
    codings: tuple[Coding, ...],
    found: list[tuple[str, Path]],
    split: str,
    expected: str,
) -> tuple[Coding, tuple[Example, ...]]:
    """Return the first coding that has labels on disk, and all examples with it."""

    def label(stored: Coding, name: str) -> Path:
        return root / stored.path.format(split=split, name=name)

    first = found[0][0]
    there = [stored for stored in codings if label(stored, first).is_file()]
    stored = (there or codings)[0]
    examples = tuple(Example(name, path, label(stored, name)) for name, path in found)
    for example in examples:
        if not example.label.is_file():
            raise PictureError(f'no label {example.label} for {example.picture.name}; {expected}')
    return stored, examples


def _open_folder(root: Path, split: str, protocol: str) -> LabelledSet:
    """Open a folder with images/, labels/NAME.png and classes.txt."""
    expected = (
        'folder expects images/, labels/*.png (same names; the values are class indices, 255 is '
        'ignored) and classes.txt (one class per line) below its root folder'
    )
    if split:
        raise SettingError(f'split: the layout folder has no splits, got {split!r}; leave it out')
    if not (root / 'classes.txt').is_file():
        raise PictureError(f'no file {root / "classes.txt"}; {expected}')
    lines = [parse_entry(line) for line in lists.read_words(str(root / 'classes.txt'))[0]]
    given = [name for number, name, _ in lines if number is not None]
    if given:
        raise PictureError(
            f'{root / "classes.txt"}: {given[0]!r} has an id; remove it: ids follow the line order'
        )
    background = None
    if lines[0][1] == 'background':
        background, lines = lines[0][2], lines[1:]
    if not 1 <= len(lines) <= MOST:
        raise PictureError(
            f'{root / "classes.txt"}: expected 1 .. {MOST} classes, got {len(lines)}'
        )
    if not (root / 'images').is_dir():
        raise PictureError(f'no folder {root / "images"}; {expected}')
    first = 0 if background is None else 1
    other = {} if background is None else {0: 0}
    stored = coding('labels/{name}.png', first, len(lines), other)
    found = [(path.stem, path) for path in pictures.list_pictures(root / 'images')]
    name, times = Counter(name for name, _ in found).most_common(1)[0]
    if times > 1:
        raise PictureError(f'{root / "images"}: several pictures are called {name!r}')
    _, examples = _with_labels(root, (stored,), found, '', expected)
    entries = tuple(_entry(n, name, prompts) for n, (_, name, prompts) in enumerate(lines, 1))
    return LabelledSet(FOLDER, '', examples, stored, entries, background, protocol == 'cliptrase')


def _indices(path: Path) -> np.ndarray:
    """Return the stored values [H, W] of a file. For a palette picture these are its indices."""
    with pictures.opened(path) as file:
        values = np.asarray(file)
    if values.ndim != 2 or values.dtype.kind not in 'uib':
        raise LabelError(
            f'{path} holds colours, mode {file.mode}; expected one class index per pixel'
        )
    return values.astype(np.int64)
