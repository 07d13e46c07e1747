"""Files that are whole or not there."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A path to write to instead of `path`, file or folder, in the same folder and of the same
    suffix. What is there at the end takes the place of `path`; after an error it is removed, and
    `path` is as before. The folder is made if it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f'.{path.stem}.part{path.suffix}')
    remove(part)
    try:
        yield part
        if path.is_dir():
            _exchange(part, path)
        else:
            part.replace(path)
    except BaseException:
        remove(part)
        raise


def _exchange(part: Path, path: Path) -> None:
    """Put `part` in the place of a folder; there is one of them at any time."""
    old = path.with_name(f'.{path.name}.old')
    remove(old)
    try:
        path.rename(old)
        part.rename(path)
    except BaseException:
        if old.exists() and not path.exists():
            old.rename(path)
        raise
    remove(old)


def remove(path: Path) -> None:
    """Delete a file or a folder, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
