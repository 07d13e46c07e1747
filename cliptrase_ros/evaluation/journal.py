"""What is known of a long piece of work so far, a line each, so that it can go on where it was
stopped."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .. import files
from ..errors import CliptraseError


class JournalError(CliptraseError):
    """A folder holds other work, or its journal is damaged."""


class Journal:
    """Lines in `folder`/pictures.jsonl, of work that `folder`/run.json describes.

    Args:
        folder: made if it is missing.
        description: of the work; JSON. What is there must be of the same.

    Raises:
        JournalError: the folder holds work of another description, and which part differs; or
            files that are none of ours.
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
        """Of the last line all was written, or the machine stopped in the middle of it."""
        if not self._path.exists():
            return
        with self._path.open('rb+') as file:
            content = file.read()
            file.truncate(content.rfind(b'\n') + 1)

    def lines(self) -> Iterator[dict[str, Any]]:
        """What is there, in order: {'picture': name, 'miou': number or None, 'pairs': [[truth,
        label, pixels], ...]}.

        Raises:
            JournalError: a line cannot be read, or is none of ours.
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
        """Write a line; it is on its way to the disk when this returns."""
        self._file.write(json.dumps(line, separators=(',', ':')) + '\n')
        self._file.flush()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _described(about: Path) -> dict[str, Any]:
    """What run.json says."""
    try:
        value = json.loads(about.read_bytes().decode())
    except (ValueError, RecursionError) as error:
        raise JournalError(f'{about} is damaged ({error}); choose another folder') from error
    if not isinstance(value, dict):
        raise JournalError(f'{about} is none of ours, or damaged; choose another folder')
    return value


def _refuse_foreign(folder: Path) -> None:
    """Results replace what is in the folder, so nothing of others may be there. Hidden files are
    never replaced, and what a crash leaves of run.json is one."""
    names = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    names = [name for name in names if not name.startswith('.')]
    if names:
        raise JournalError(
            f'{folder} holds {names[0]!r}, but no run.json of an evaluation; choose a new or an '
            'empty folder'
        )


def _of_a_picture(value: Any) -> bool:
    """Whether it is what is written of a picture."""
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
    """[truth, label, pixels], each of at most 63 bits."""
    return [*map(type, pair)] == [int] * 3 and 0 <= min(pair) <= max(pair) < 2**63


def _refuse_other(folder: Path, was: dict[str, Any], now: dict[str, Any]) -> None:
    old, new = _flat(was), _flat(json.loads(json.dumps(now)))
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    if not names:
        return
    shown = '; '.join(f'{n} was {_short(old.get(n))}, is {_short(new.get(n))}' for n in names[:3])
    more = f' and {len(names) - 3} more' if len(names) > 3 else ''
    raise JournalError(
        f'{folder} holds results of another run: {shown}{more}. Choose another folder, or repeat '
        'that run to go on with it'
    )


def _flat(value: dict[str, Any], prefix: str = '') -> dict[str, Any]:
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
