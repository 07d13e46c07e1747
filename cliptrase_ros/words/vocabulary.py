"""Vocabularies: classes with permanent ids, prompts, distractor words, embeddings and colours.

An entry of a vocabulary reads ``[id:]name[=prompt;prompt...]``, such as ``floor`` or
``7:mug=mug;coffee cup``; ``mug|cup`` is short for ``mug=mug;cup``.

torch is imported only where embeddings are made, so that code that only reads words starts fast.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from ..errors import ShapeError, VocabularyError
from .colors import OF_NAME, RGB, color_of

if TYPE_CHECKING:
    from torch import Tensor

UNLABELED = 0
MAX_ID = 65534

_ID = re.compile(r'\s*(\d+)\s*:(.*)', re.DOTALL)


@dataclass(frozen=True)
class WordClass:
    """One class: its id in label images, its name, its prompts and its colour (RGB, 0..255).

    By default the colour is computed from the name.
    """

    id: int
    name: str
    prompts: tuple[str, ...]
    color: RGB = OF_NAME

    def __post_init__(self):
        if self.color in (None, OF_NAME):
            object.__setattr__(self, 'color', color_of(self.name))


@dataclass(frozen=True)
class Ids:
    """Rules for the ids of words.

    Attributes:
        known: name -> id of every name used before. A name keeps its id. An id is never given to
            another name.
        largest: the largest id that the label image can hold.
        unlabeled: the id of pixels without a label; no word can have it.
    """

    known: Mapping[str, int] = field(default_factory=dict)
    largest: int = MAX_ID
    unlabeled: int = UNLABELED


def parse_entry(entry: str) -> tuple[int | None, str, tuple[str, ...]]:
    """Parse one vocabulary entry into (id or None, name, prompts).

    Raises:
        VocabularyError: the entry is not a string, or it has no name, an empty prompt, a control
            character or an id out of range.
    """
    if not isinstance(entry, str):
        raise VocabularyError(f'vocabulary entry {entry!r}: expected text')

    def refuse(reason: str) -> NoReturn:
        raise VocabularyError(
            f'vocabulary entry {entry!r}: {reason}. Write [id:]name[=prompt;prompt...], such as '
            "'floor' or '7:mug=mug;coffee cup'"
        )

    match = _ID.fullmatch(entry)
    digits, rest = match.groups() if match else (None, entry)
    name, equals, prompts = rest.partition('=')
    words = prompts.split(';') if equals else name.split('|')
    words = tuple(' '.join(word.split()) for word in words)
    name = (name if equals else name.split('|')[0]).strip()
    if not name:
        refuse('it has no name')
    if not all(words):
        refuse('it has an empty prompt')
    if any(not c.isprintable() for c in name + ''.join(words)):
        refuse('it contains a control character')
    if digits is None:
        return None, name, words
    if len(digits) > 9 or not 1 <= int(digits) <= MAX_ID:
        refuse(f'the id must be 1 .. {MAX_ID}')
    return int(digits), name, words


def parse_vocabulary(
    entries: Sequence[str],
    background: Sequence[str] = (),
    ids: Ids | None = None,
) -> tuple[tuple[WordClass, ...], tuple[str, ...]]:
    """Parse and check a whole vocabulary; return its classes and background words.

    Args:
        entries: at least one; see the docstring of this module.
        background: distractor words; a pixel that one of them wins becomes unlabelled.
        ids: rules for the ids; None: any id above 0.

    Raises:
        VocabularyError: a word cannot be used. The message names it and the reason.
    """
    if isinstance(entries, str) or isinstance(background, str):
        raise VocabularyError('a vocabulary must be a list of entries, not one string')
    if not entries:
        raise VocabularyError('the vocabulary is empty; give at least one word')
    parsed = [parse_entry(entry) for entry in entries]
    ids = ids or Ids()
    taken = dict(ids.known)
    _refuse_twice('name', [name for _, name, _ in parsed])
    _refuse_twice('prompt', [p for _, _, prompts in parsed for p in prompts] + list(background))
    for word in background:
        if not isinstance(word, str) or not word.strip() or not word.isprintable():
            raise VocabularyError(f'background word {word!r}: expected printable text')

    holders = {number: name for name, number in taken.items()}
    for number, name, _ in parsed:
        if number is None:
            continue
        if number == ids.unlabeled:
            raise VocabularyError(
                f'{name!r} cannot have id {number}: this is the id of unlabelled pixels'
            )
        if taken.get(name, number) != number:
            raise VocabularyError(
                f'{name!r} already has id {taken[name]} and keeps it; it cannot get id {number}'
            )
        if holders.get(number, name) != name:
            raise VocabularyError(
                f'id {number} belongs to {holders[number]!r} and is never reused; '
                f'give {name!r} another id'
            )
        taken[name], holders[number] = number, name

    used = {*holders, ids.unlabeled}
    fresh = (number for number in range(1, MAX_ID + 1) if number not in used)
    classes = []
    for _, name, prompts in parsed:
        if name not in taken:
            taken[name] = next(fresh, MAX_ID + 1)
        if taken[name] > ids.largest:
            raise VocabularyError(
                f'{name!r} would need id {taken[name]}, but the largest id of this label image is '
                f"{ids.largest}; label_encoding '16UC1' holds more"
            )
        classes.append(WordClass(taken[name], name, prompts))
    return tuple(classes), tuple(' '.join(word.split()) for word in background)


def _refuse_twice(what: str, words: Iterable[str]) -> None:
    seen: dict[str, str] = {}
    for word in words:
        key = str(word).strip().casefold()
        if key in seen:
            raise VocabularyError(f'{what} {word!r} appears twice in the vocabulary')
        seen[key] = word


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Words with their embeddings, ready to be compared with images; immutable.

    Attributes:
        classes: K classes.
        background: distractor words; a pixel that one of them wins is unlabelled.
        embeddings: [Q, E] float32, unit rows, one per prompt and per background word.
        owner: [Q] int64, the class 0 .. K-1 of each row; K for background.
    """

    classes: tuple[WordClass, ...]
    background: tuple[str, ...]
    embeddings: Tensor
    owner: Tensor

    @classmethod
    def build(
        cls,
        classes: tuple[WordClass, ...],
        background: tuple[str, ...],
        embed: Callable[[Sequence[str]], Tensor],
    ) -> Vocabulary:
        """Build a vocabulary from parsed words; `embed` maps words to unit embeddings [n, E]."""
        import torch

        prompts = [p for c in classes for p in c.prompts]
        owner = [k for k, c in enumerate(classes) for _ in c.prompts]
        owner += [len(classes)] * len(background)
        return cls(classes, background, embed([*prompts, *background]), torch.tensor(owner))

    @classmethod
    def from_embeddings(
        cls,
        names: Sequence[str],
        embeddings: Tensor | np.ndarray,
        background: Tensor | np.ndarray | None = None,
    ) -> Vocabulary:
        """Build a vocabulary from your own embeddings; ids are 1 .. K in the given order.

        Args:
            names: K names.
            embeddings: [K, E], rows of any length; they are normalised here.
            background: [M, E] embeddings of distractors, or None.

        Raises:
            ShapeError: the arrays do not fit the names or each other, or a row is 0 or not finite.
            VocabularyError: there is no name, or a name is empty or appears twice.
        """
        import torch

        if (
            isinstance(names, str)
            or not names
            or not all(isinstance(name, str) and name for name in names)
        ):
            raise VocabularyError(f'names: expected a list of non-empty strings, got {names!r}')
        names = list(names)
        _refuse_twice('name', names)
        classes = tuple(WordClass(k, name, (name,)) for k, name in enumerate(names, 1))
        rows = _matrix('embeddings', embeddings)
        if rows.dim() != 2 or len(rows) != len(names):
            raise ShapeError(
                f'embeddings: expected [{len(names)}, E], one row per name; got {list(rows.shape)}'
            )
        extra = rows[:0] if background is None else _matrix('background', background)
        if extra.dim() != 2 or extra.shape[1] != rows.shape[1]:
            raise ShapeError(f'background: expected [M, {rows.shape[1]}], got {list(extra.shape)}')
        rows = torch.cat([rows, extra.to(rows.device)])
        length = rows.norm(dim=1, keepdim=True)
        if not bool((torch.isfinite(length) & (length > 0)).all()):
            raise ShapeError('embeddings: a row is zero or not finite')
        owner = [*range(len(names)), *[len(names)] * len(extra)]
        words = tuple(f'background {m}' for m in range(1, len(extra) + 1))
        return cls(classes, words, rows / length, torch.tensor(owner))

    def recolored(self, colors: Mapping[str, RGB]) -> Vocabulary:
        """Return the same words with these colours (by name).

        Each class that is not listed gets the colour of its name again.
        """
        classes = tuple(replace(c, color=colors.get(c.name, OF_NAME)) for c in self.classes)
        return replace(self, classes=classes)

    @cached_property
    def ids(self) -> dict[str, int]:
        """Name -> id."""
        return {c.name: c.id for c in self.classes}

    @cached_property
    def _names(self) -> dict[int, str]:
        return {c.id: c.name for c in self.classes}

    def name_of(self, number: int) -> str:
        """Return the name of an id in a label image; '' for 0, which is unlabelled.

        Raises:
            VocabularyError: no class has this id.
        """
        number = int(number)
        if number == UNLABELED:
            return ''
        if number not in self._names:
            raise VocabularyError(f'no class has id {number}; the ids are {sorted(self._names)}')
        return self._names[number]

    @cached_property
    def label_ids(self) -> Tensor:
        """[K + 1] int64: the id of class k; 0 for background."""
        import torch

        return torch.tensor([*(c.id for c in self.classes), UNLABELED])

    @cached_property
    def label_dtype(self) -> np.dtype:
        """The dtype of label images: uint8 up to id 254, otherwise uint16."""
        return np.dtype(np.uint8 if int(self.label_ids.max()) <= 254 else np.uint16)

    @cached_property
    def palette(self) -> np.ndarray:
        """[max id + 1, 3] uint8 RGB by id; black for ids without a class."""
        table = np.zeros((int(self.label_ids.max()) + 1, 3), np.uint8)
        for c in self.classes:
            table[c.id] = c.color
        return table


def _matrix(name: str, values: Tensor | np.ndarray) -> Tensor:
    import torch

    if isinstance(values, torch.Tensor):
        return values.float()
    try:
        return torch.from_numpy(np.array(values, np.float32, order='C'))
    except (TypeError, ValueError) as error:
        raise ShapeError(f'{name}: expected a matrix of numbers ({error})') from None
