"""Output of the commands. Results go to standard output, as text or JSON. Everything else goes to
standard error."""

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
    """Print one line on standard error."""
    print(f'cliptrase: {text}', file=sys.stderr, flush=True)


class Console:
    """Standard output of a command.

    Args:
        as_json: True prints each result as one line of JSON and nothing else, for scripts.
    """

    def __init__(self, as_json: bool):
        self.as_json = as_json

    def result(self, text: str, **values: Any) -> None:
        """Print a result: the text for people, or the values as JSON."""
        print(json.dumps(values) if self.as_json else text, flush=True)

    def progress(
        self, items: Iterable[Item], what: str, total: int | None = None
    ) -> Iterator[Item]:
        """Yield the items, with a progress bar on standard error if that is a terminal.

        Args:
            total: number of items, if known.
        """
        columns = (
            TextColumn('{task.description}'),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        rich = Rich(stderr=True)
        # Results pass through the bar only on a terminal, never into a file or a pipe.
        together = sys.stdout.isatty() and not self.as_json
        with Progress(
            *columns,
            console=rich,
            transient=True,
            disable=not rich.is_terminal,
            redirect_stdout=together,
        ) as bar:
            yield from bar.track(items, total, description=what)
