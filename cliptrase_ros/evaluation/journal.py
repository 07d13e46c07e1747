"""A journal of a long run, with one line for each finished picture, so that a stopped run can
resume."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .. import files
from ..errors import CliptraseError


class JournalError(CliptraseError):
    """A folder belongs to other work, or its journal is damaged."""


class Journal:
    """The lines in `folder`/pictures.jsonl. `folder`/run.json describes their run.

    Args:
        folder: created if it is missing.
        description: JSON values that describe the run. An existing run must have the same.

    Raises:
        JournalError: the folder holds a run with another description (the message says what
            differs), or files that are not from an evaluation.
    """

    def __init__(self, folder: Path, description: dict[str, Any]):
        self._path = folder / 'pictures.jsonl'
        about = folder / 'run.json'
        if about.is_file():
            _refuse_other(folder, _described(about), description)
        else:
            _refuse_foreign(folder)
            with files.whole(about) as part:
                part.write_text(json.dumps(description, indent=1) + '\n', encoding='utf-8')
        self._drop_half_line()
        self._file = self._path.open('a', encoding='utf-8')

    def _drop_half_line(self) -> None:
        """Remove an incomplete last line, which a crash can leave."""
        if not self._path.exists():
            return
        with self._path.open('rb+') as file:
            content = file.read()
            file.truncate(content.rfind(b'\n') + 1)

    def lines(self) -> Iterator[dict[str, Any]]:
        """Yield the lines in order.

        Each is {'picture': name, 'miou': number or None, 'pairs': [[truth, label, pixels], ...]}.

        Raises:
            JournalError: a line cannot be read, or has another form.
        """
        with self._path.open('rb') as file:
            for number, line in enumerate(file, 1):
                try:
                    value = json.loads(line.decode())
                except (ValueError, RecursionError) as error:
                    raise JournalError(
                        f'{self._path}, line {number} is damaged ({error})'
                    ) from error
                if not _of_a_picture(value):
                    raise JournalError(
                        f'{self._path}, line {number} is damaged (expected picture, miou and '
                        f'pairs, got {_short(value)})'
                    )
                yield value

    def add(self, line: dict[str, Any]) -> None:
        """Append a line and flush it to the operating system."""
        self._file.write(json.dumps(line, separators=(',', ':')) + '\n')
        self._file.flush()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _described(about: Path) -> dict[str, Any]:
    """Return the content of run.json."""
    try:
        value = json.loads(about.read_bytes().decode())
    except (ValueError, RecursionError) as error:
        raise JournalError(f'{about} is damaged ({error}); choose another folder') from error
    if not isinstance(value, dict):
        raise JournalError(
            f'{about} is not from an evaluation, or is damaged; choose another folder'
        )
    return value


def _refuse_foreign(folder: Path) -> None:
    """Raise JournalError if the folder has foreign files, because results could replace them.

    Hidden files are allowed: they are never replaced, and a crash can leave a hidden part of
    run.json.
    """
    names = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    names = [name for name in names if not name.startswith('.')]
    if names:
        raise JournalError(
            f'{folder} holds {names[0]!r}, but no run.json of an evaluation; choose a new or an '
            'empty folder'
        )


def _of_a_picture(value: Any) -> bool:
    """Return True if the value has the form of a journal line."""
    if not isinstance(value, dict) or not {'picture', 'miou', 'pairs'} <= value.keys():
        return False
    miou, pairs = value['miou'], value['pairs']
    return (
        isinstance(value['picture'], str)
        and (miou is None or type(miou) in (int, float))
        and isinstance(pairs, list)
        and all(isinstance(pair, list) and _are_counts(pair) for pair in pairs)
    )


def _are_counts(pair: list[Any]) -> bool:
    """Return True if the pair is [truth, label, pixels], integers from 0 to 2^63 - 1."""
    return [*map(type, pair)] == [int] * 3 and 0 <= min(pair) <= max(pair) < 2**63


def _refuse_other(folder: Path, was: dict[str, Any], now: dict[str, Any]) -> None:
    """Raise JournalError if the two descriptions differ."""
    old, new = _flat(was), _flat(json.loads(json.dumps(now)))
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    if not names:
        return
    shown = '; '.join(f'{n} was {_short(old.get(n))}, is {_short(new.get(n))}' for n in names[:3])
    more = f' and {len(names) - 3} more' if len(names) > 3 else ''
    raise JournalError(
        f'{folder} holds results of another run: {shown}{more}. Choose another folder, or repeat '
        'that run unchanged to resume it'
    )


def _flat(value: dict[str, Any], prefix: str = '') -> dict[str, Any]:
    """Flatten nested dictionaries: {'a': {'b': 1}} -> {'a.b': 1}."""
    flat: dict[str, Any] = {}
    for name, inner in value.items():
        if isinstance(inner, dict):
            flat |= _flat(inner, f'{prefix}{name}.')
        else:
            flat[prefix + name] = inner
    return flat


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f'{text[:57]}...'
