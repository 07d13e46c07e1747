"""What crosses the seam between the page and its feeder: labelled pictures, numbers, settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

# A value of a control. Words are text in the node's grammar.
Value = str | float | bool


@dataclass(frozen=True)
class LegendEntry:
    """One class of the vocabulary that labels were made with."""

    id: int
    name: str
    # RGB, 0 to 255.
    color: tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class ShownCloud:
    """Labelled points in the camera's optical frame, in metres."""

    # [N, 3] float32, [N] class ids, [N, 3] uint8 RGB of the picture.
    points: np.ndarray
    labels: np.ndarray
    colors: np.ndarray


@dataclass(frozen=True)
class ShownThing:
    """One object in 3D, in the camera's optical frame. Lengths in metres."""

    class_id: int
    name: str
    centroid: tuple[float, float, float]
    # Centre, edge lengths and orientation (w, x, y, z) of the box.
    center: tuple[float, float, float]
    size: tuple[float, float, float]
    orientation: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0)
    confidence: float = 0.0


@dataclass(frozen=True, eq=False)
class Shown:
    """One labelled picture, with the classes that its labels mean."""

    # [H, W, 3] uint8 RGB, [H, W] uint8 or uint16, [H, W] float32 from 0 to 1 or None.
    image: np.ndarray
    labels: np.ndarray
    legend: tuple[LegendEntry, ...]
    confidence: np.ndarray | None = None
    # Seconds.
    stamp: float = 0.0
    cloud: ShownCloud | None = None
    things: tuple[ShownThing, ...] = ()
    # [3, 3].
    camera_matrix: np.ndarray | None = None


@dataclass(frozen=True)
class Status:
    """Numbers and sentences about the source of the pictures."""

    model: str = ''
    device: str = ''
    method: str = ''
    rate_hz: float = 0.0
    latency_ms: float = 0.0
    # What goes on, such as: encoding 'fire extinguisher' ...
    note: str = ''
    # What is wrong, in a sentence; '' if nothing is.
    problem: str = ''


@dataclass(frozen=True)
class Controls:
    """The present values of the settings, and the choices for them.

    `values` has the node's parameter names (`class_names`, `background_names`, `method`, `regions`,
    `refine`, `confidence_threshold`, `overlay_alpha`, ...); the words are text, separated by `, `
    as in a command. The page shows a control only for names that are in `values`. A control is a
    drop-down if its name is in `choices`.
    """

    values: Mapping[str, Value] = field(default_factory=dict)
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


class Sink(Protocol):
    """What a feeder knows of the page. All calls return at once, from any thread."""

    def show(self, shown: Shown) -> None:
        """Show a labelled picture. The newest replaces one that is not drawn yet."""

    def status(self, status: Status) -> None:
        """Show numbers and sentences."""

    def controls(self, controls: Controls) -> None:
        """Show the present settings: at the start, and after every change, whoever made it."""

    def cameras(self, names: tuple[str, ...], chosen: str) -> None:
        """Show these cameras in a drop-down."""


class Feeder(Protocol):
    """What the page knows of a feeder. The page calls it on a worker thread, one call at a time.

    A feeder is made without a page; `start` gives it the page.
    """

    # If the feeder can pause and step.
    can_pause: bool

    def start(self, sink: Sink) -> None:
        """Begin to feed the page."""

    def apply(self, changes: Mapping[str, Value]) -> str:
        """Make changes to `Controls.values`. Return '' or what is wrong, in a sentence."""

    def pause(self, paused: bool) -> None:
        """Stop at this picture, or go on."""

    def step(self) -> None:
        """Go on by one picture while paused."""

    def choose(self, camera: str) -> None:
        """Show another camera."""

    def watched(self, watched: bool) -> None:
        """Hear that the first browser came, or the last one left."""

    def parameters(self) -> Mapping[str, object]:
        """Return the node's parameters that make these settings and words, for a YAML file."""

    def close(self) -> None:
        """End all threads."""
