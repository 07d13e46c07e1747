"""Writing of files and folders so that they are complete or do not exist."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to instead of `path`, a file or a folder.

    It is in the same folder and has the same suffix. At the end it replaces `path`; after an error
    it is removed and `path` is unchanged. Missing parent folders are made.
    """
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
    """Replace a folder by `part`. If this is interrupted, the old or the new folder is there."""
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
    """Delete a file or a folder if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
