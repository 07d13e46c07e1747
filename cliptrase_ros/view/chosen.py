"""What the page asks for: words, settings and how they look, and changes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..errors import SettingError, did_you_mean
from ..options import Option, options_of
from ..settings import Settings
from ..words.stream_options import StreamOptions, not_empty
from .feed import Controls, Value

# Controls of words, and their parameters.
TEXTS = {'class_names': 'vocabulary', 'background_names': 'background'}
SHOWN_SETTINGS = ('method', 'regions', 'refine', 'confidence_threshold')
SHOWN = (*TEXTS, *SHOWN_SETTINGS, 'overlay_alpha', 'smoothing')

_SETTINGS, _STREAM = ({one.name: one for one in options_of(of)} for of in (Settings, StreamOptions))


def entries(text: str) -> list[str]:
    """Return the entries of a text, separated by commas or line ends."""
    parts = (part.strip() for line in text.splitlines() for part in line.split(','))
    return [part for part in parts if part]


@dataclass(frozen=True)
class Chosen:
    """The settings and the words that the page asks for."""

    settings: Settings
    stream: StreamOptions

    def changed(self, changes: Mapping[str, Value]) -> Chosen:
        """Return it with some controls changed.

        Raises:
            SettingError: there is no such control, or the value is bad.
        """
        settings: dict[str, Any] = {}
        stream: dict[str, Any] = {}
        for control, value in changes.items():
            name = TEXTS.get(control, control)
            if control not in SHOWN:
                raise SettingError(f'no control {control!r}.{did_you_mean(control, SHOWN)}')
            if control in TEXTS:
                stream[name] = tuple(entries(str(value)))
            elif name in _STREAM:
                stream[name] = _typed(_STREAM[name], value)
            else:
                settings[name] = _typed(_SETTINGS[name], value)
        return replace(
            self,
            settings=self.settings.replace(**settings),
            stream=self.stream.replace(**stream),
        )

    @property
    def controls(self) -> Controls:
        """The values for the page."""
        values: dict[str, Value] = {
            control: ', '.join(not_empty(getattr(self.stream, name)))
            for control, name in TEXTS.items()
        }
        values |= {name: getattr(self.settings, name) for name in SHOWN_SETTINGS}
        values |= {name: getattr(self.stream, name) for name in ('overlay_alpha', 'smoothing')}
        choices = {n: _SETTINGS[n].choices for n in SHOWN_SETTINGS if _SETTINGS[n].choices}
        return Controls(values, choices)

    @property
    def parameters(self) -> dict[str, object]:
        """The parameters of a node that differ from its defaults, in groups, and the words."""
        given: dict[str, Any] = {'vocabulary': list(self.stream.vocabulary)}
        for options, known in ((self.stream, _STREAM), (self.settings, _SETTINGS)):
            for name, value in options.flat().items():
                if value == known[name].default:
                    continue
                *groups, last = name.split('.')
                place = given
                for group in groups:
                    place = place.setdefault(group, {})
                # ROS has no typed empty list.
                place[last] = list(value or ('',)) if isinstance(value, tuple) else value
        return given


def _typed(one: Option, value: Value) -> Any:
    """Return a value of the page as the option takes it.

    Raises:
        SettingError: it has another type, or is out of range.
    """
    return one.checked(one.from_text(value) if isinstance(value, str) else value)
