"""The legend of the page: colour, share and mean confidence of the classes, and ticks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import drawn
from .feed import LegendEntry, Shown

# Further classes have no row: so many rows would be slow.
MOST_ROWS = 100
# The row of a class: viser's tick with the name, and over its right half what is in the picture.
_NUMBERS = (
    '<div style="display:flex;align-items:center;gap:.6em;margin:-2.05em .75em .35em 11.2em;'
    'height:1.4em;font-size:.8em;pointer-events:none;{faint}"><span style="width:1.2em;'
    'height:1.2em;border-radius:.2em;flex:none;background:rgb{color}"></span>'
    '<span style="flex:1;text-align:right">{numbers}</span></div>'
)


class Legend:
    """Rows of the classes. Only the page's own thread uses it, except for `hidden`.

    Args:
        gui: viser's GUI.
        changed: called when a class was hidden or shown.
    """

    def __init__(self, gui: Any, changed: Callable[[], None]):
        self._gui, self._changed = gui, changed
        self._folder = gui.add_folder('Classes')
        self._entries: tuple[LegendEntry, ...] = ()
        self._rows: dict[int, tuple[Any, Any]] = {}
        self._rest: Any = None
        self._hidden_names: set[str] = set()

    @property
    def hidden(self) -> frozenset[int]:
        """Ids of the classes that are not drawn."""
        return frozenset(e.id for e in self._entries if e.name in self._hidden_names)

    def show(self, shown: Shown) -> None:
        """Show the classes of a picture, and how much there is of each."""
        if shown.legend != self._entries:
            self._make(shown.legend)
        shares = drawn.shares(shown)
        for entry in self._entries[:MOST_ROWS]:
            row, _ = self._rows[entry.id]
            content = _row(entry, *shares.get(entry.id, (0.0, None)))
            if row.content != content:
                row.content = content

    def _make(self, entries: tuple[LegendEntry, ...]) -> None:
        for handles in self._rows.values():
            for handle in handles:
                handle.remove()
        if self._rest:
            self._rest.remove()
        self._rows, self._rest, self._entries = {}, None, entries
        with self._folder:
            for entry in entries[:MOST_ROWS]:
                tick = self._gui.add_checkbox(
                    entry.name, initial_value=entry.name not in self._hidden_names
                )
                row = self._gui.add_html(_row(entry, 0.0, None))
                tick.on_update(lambda event, name=entry.name: self._turn(name, event.target.value))
                self._rows[entry.id] = row, tick
            if len(entries) > MOST_ROWS:
                self._rest = self._gui.add_html(f'and {len(entries) - MOST_ROWS} more')

    def _turn(self, name: str, on: bool) -> None:
        (self._hidden_names.discard if on else self._hidden_names.add)(name)
        self._changed()


def _row(entry: LegendEntry, share: float, confidence: float | None) -> str:
    numbers = f'{100 * share:.1f} %' if share else ''
    if confidence is not None and share:
        numbers += f' &middot; {confidence:.2f}'
    return _NUMBERS.format(
        color=tuple(int(value) for value in entry.color),
        numbers=numbers,
        faint='' if share else 'opacity:.45',
    )
