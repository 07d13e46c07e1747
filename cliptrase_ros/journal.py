"""What is known of a long piece of work so far, a line each, so that it can go on where it was
stopped."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import files
from .errors import CliptraseError


class JournalError(CliptraseError):
    """A folder holds other work, or its journal is damaged."""


class Journal:
    """Lines in `folder`/pictures.jsonl, of work that `folder`/run.json describes.

    Args:
        folder: made if it is missing.
        description: of the work; JSON. What is there must be of the same.

    Raises:
        JournalError: the folder holds work of another description, and which part differs.
    """

    def __init__(self, folder: Path, description: dict[str, Any]):
        self._path = folder / 'pictures.jsonl'
        about = folder / 'run.json'
        if about.is_file():
            _refuse_other(folder, json.loads(about.read_text(encoding='utf-8')), description)
        elif self._path.exists():
            raise JournalError(
                f'{self._path} is there, but not what it is of; choose another folder'
            )
        else:
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
        """What is there, in order.

        Raises:
            JournalError: a line cannot be read.
        """
        with self._path.open(encoding='utf-8') as file:
            for number, line in enumerate(file, 1):
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise JournalError(
                        f'{self._path}, line {number} is damaged ({error})'
                    ) from error

    def add(self, line: dict[str, Any]) -> None:
        """Write a line; it is on its way to the disk when this returns."""
        self._file.write(json.dumps(line, separators=(',', ':')) + '\n')
        self._file.flush()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


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
    flat = {}
    for name, inner in value.items():
        if isinstance(inner, dict):
            flat |= _flat(inner, f'{prefix}{name}.')
        else:
            flat[prefix + name] = inner
    return flat


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f'{text[:57]}...'
