"""The controls of the page: words, look, settings, and how it stands."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from typing import Any

from . import drawn
from .feed import Controls, Status, Value

WORDS = {'class_names': 'Words', 'background_names': 'Background'}
TITLES = {
    'method': 'Method',
    'regions': 'Regions',
    'refine': 'Refinement',
    'confidence_threshold': 'Confidence from',
    'smoothing': 'Smoothing',
}
STRENGTH = 'overlay_alpha'
# Longer text is not a list of words.
MOST_CHARACTERS = 20_000
# Place of the settings: below the classes.
LAST = 1e6


class Panel:
    """Shows the controls of a feed and calls back when somebody uses them.

    Text in a box that was typed but not applied stays when the words change elsewhere.

    Args:
        gui: viser's GUI.
        apply: called with changes of Controls.values.
        redraw: called when the look has changed.
    """

    def __init__(
        self,
        gui: Any,
        apply: Callable[[Mapping[str, Value]], None],
        redraw: Callable[[], None],
    ):
        self._gui, self._apply, self._redraw = gui, apply, redraw
        self._state = gui.add_html('')
        self._boxes: dict[str, Any] = {}
        self._applied: dict[str, str] = {}
        self._settings: dict[str, Any] = {}
        self._known = Controls()
        with gui.add_folder('Words'):
            for name, title in WORDS.items():
                box = gui.add_text(title, initial_value='', multiline=name == 'class_names')
                self._boxes[name], self._applied[name] = box, ''
            self._button = gui.add_button('Apply')
            self._button.on_click(lambda _: self._send_words())
            self._answer = gui.add_html('')
        self.look = gui.add_folder('Look')
        with self.look:
            self.mode = gui.add_dropdown('Show', drawn.PICTURES, initial_value=drawn.OVERLAY)
            self.strength = gui.add_slider(
                'Strength', min=0.0, max=1.0, step=0.05, initial_value=0.5
            )
            for handle in (self.mode, self.strength):
                handle.on_update(lambda _: redraw())
        self._folder = gui.add_folder('Settings', order=LAST)

    def offer_points(self) -> None:
        """Offer the points in 3D: there is depth."""
        if drawn.POINTS not in self.mode.options:
            self.mode.options = (*drawn.PICTURES, drawn.POINTS)

    def say(self, problem: str, working: str = '') -> None:
        """Show what is wrong with the last change, or that it is being made."""
        color = 'inherit' if working else '#ff8787'
        text = html.escape(problem or working)
        self._answer.content = _line(text, f'color:{color}') if text else ''

    def status(self, status: Status) -> None:
        """Show numbers and sentences."""
        numbers = [
            *([f'{status.rate_hz:.1f} Hz'] if status.rate_hz else []),
            *([f'{status.latency_ms:.0f} ms'] if status.latency_ms else []),
        ]
        facts = [status.model, status.method, status.device]
        lines = [
            _line(html.escape(' · '.join(numbers) or 'no pictures yet'), 'font-weight:600'),
            _line(html.escape(' · '.join(fact for fact in facts if fact)), 'opacity:.7'),
        ]
        if status.note:
            lines.append(_line(html.escape(status.note), 'color:#74c0fc'))
        if status.problem:
            lines.append(_line(html.escape(status.problem), 'color:#ff8787'))
        self._state.content = ''.join(lines)

    def controls(self, controls: Controls) -> None:
        """Show the present values."""
        for name, box in self._boxes.items():
            text = str(controls.values.get(name, ''))
            if box.value == self._applied[name] and box.value != text:
                box.value = text
            self._applied[name] = text
        if STRENGTH in controls.values and STRENGTH not in self._known.values:
            self.strength.value = float(controls.values[STRENGTH])
        for name, title in TITLES.items():
            if name in controls.values:
                self._set(name, title, controls)
        self._known = controls

    def _set(self, name: str, title: str, controls: Controls) -> None:
        value = controls.values[name]
        choices = controls.choices.get(name)
        handle = self._settings.get(name)
        if handle is None:
            with self._folder:
                if choices:
                    handle = self._gui.add_dropdown(title, choices, initial_value=str(value))
                else:
                    handle = self._gui.add_slider(
                        title, min=0.0, max=1.0, step=0.01, initial_value=float(value)
                    )
            handle.on_update(lambda event: self._used(name, event))
            self._settings[name] = handle
        elif handle.value != value:
            handle.value = value

    def _used(self, name: str, event: Any) -> None:
        if event.client is not None:  # a browser, not the page itself
            self._apply({name: event.target.value})

    def _send_words(self) -> None:
        texts = {name: box.value for name, box in self._boxes.items()}
        if any(len(text) > MOST_CHARACTERS for text in texts.values()):
            self.say(f'the words are longer than {MOST_CHARACTERS} characters; use fewer words')
            return
        self._applied = dict(texts)
        self._apply(texts)


def _line(text: str, style: str) -> str:
    base = 'padding:0 .75em;font-size:.85em;overflow-wrap:anywhere'
    return f'<div style="{base};{style}">{text}</div>' if text else ''
