"""Parameters of the segmentation node as controls of the page, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...options import options_of
from ...view.chosen import TEXTS, entries
from ...view.feed import Controls, Value
from .. import parameters

SHOWN = (
    *TEXTS.values(),
    *('method', 'regions', 'refine', 'confidence_threshold', 'smoothing', 'overlay_alpha'),
)
# Parameters that decide what the other outputs mean.
READ = (*SHOWN, 'cameras', 'protocol', 'diagnostics_period_s')

_OPTIONS = {one.name: one for declared in parameters.OPTIONS for one in options_of(declared)}


def controls_of(values: Mapping[str, Any]) -> Controls:
    """Return what the page shows of the node's parameters."""
    shown: dict[str, Value] = {name: values[name] for name in SHOWN if name in values}
    for control, name in TEXTS.items():
        shown[control] = ', '.join(entry for entry in values.get(name, ()) if entry.strip())
        shown.pop(name, None)
    choices = {name: one.choices for name, one in _OPTIONS.items() if name in shown and one.choices}
    return Controls(shown, choices)


def parameters_of(changes: Mapping[str, Value]) -> dict[str, Any]:
    """Return the parameters of changed controls. The node checks their values."""
    changed: dict[str, Any] = {}
    for control, value in changes.items():
        name = TEXTS.get(control, control)
        changed[name] = entries(str(value)) if control in TEXTS else value
    return changed
