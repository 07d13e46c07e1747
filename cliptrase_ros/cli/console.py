"""What commands say: results on standard output, for people or as JSON; all else on standard
error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from rich.console import Console as Rich
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

Item = TypeVar('Item')


def warn(text: object) -> None:
    """A line on standard error."""
    print(f'cliptrase: {text}', file=sys.stderr, flush=True)


class Console:
    """Standard output of a command.

    Args:
        as_json: whether a script reads it: then every result is one line of JSON, and nothing else
            is printed there.
    """

    def __init__(self, as_json: bool):
        self.as_json = as_json

    def result(self, text: str, **values: Any) -> None:
        """A result: the text for people, or the values as JSON."""
        print(json.dumps(values) if self.as_json else text, flush=True)

    def progress(
        self, items: Iterable[Item], what: str, total: int | None = None
    ) -> Iterator[Item]:
        """The items, with a bar on standard error if that is a terminal.

        Args:
            total: how many there are, if known.
        """
        columns = (
            TextColumn('{task.description}'),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        rich = Rich(stderr=True)
        # A file or a pipe gets its results itself, not by way of the bar.
        together = sys.stdout.isatty() and not self.as_json
        with Progress(
            *columns,
            console=rich,
            transient=True,
            disable=not rich.is_terminal,
            redirect_stdout=together,
        ) as bar:
            yield from bar.track(items, total, description=what)
