"""Contents of the demo world: things with names and colours, and views with ground truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import SettingError, did_you_mean

COLORS = {
    'red': (0.80, 0.08, 0.08),
    'green': (0.10, 0.60, 0.15),
    'blue': (0.10, 0.20, 0.80),
    'yellow': (0.95, 0.82, 0.10),
    'purple': (0.50, 0.15, 0.60),
    'white': (0.95, 0.95, 0.95),
}


@dataclass(frozen=True)
class Asset:
    """Objects of one name.

    Attributes:
        files: URDF or SDF files of pybullet_data to choose from.
        floor_m, table_m: range of the longest side in metres, on the floor and on the table;
            None: never there.
        colors: names of COLORS to paint it in; empty: not painted.
        upright: whether its mesh has y up and must be turned.
        bend_rad: largest angle of its joints in radians.
    """

    files: tuple[str, ...]
    floor_m: tuple[float, float]
    table_m: tuple[float, float] | None = (0.2, 0.35)
    colors: tuple[str, ...] = ()
    upright: bool = False
    bend_rad: float = 0.0


PAINTED = tuple(COLORS)
ASSETS = {
    'duck': Asset(('duck_vhacd.urdf',), (0.35, 0.6), (0.2, 0.36), PAINTED, upright=True),
    'teddy bear': Asset(('teddy_vhacd.urdf',), (0.5, 0.9), (0.24, 0.4), upright=True),
    'soccer ball': Asset(('soccerball.urdf',), (0.25, 0.45), (0.18, 0.3)),
    'mug': Asset(('objects/mug.urdf',), (0.28, 0.42), (0.16, 0.28), PAINTED),
    'block': Asset(('cube_small.urdf',), (0.25, 0.45), (0.14, 0.24), PAINTED),
    'tray': Asset(('tray/traybox.urdf',), (0.5, 0.8), (0.35, 0.55)),
    'r2d2': Asset(('r2d2.urdf',), (0.6, 1.1), (0.25, 0.4)),
    'race car': Asset(('racecar/racecar.urdf',), (0.5, 0.9), (0.3, 0.45)),
    'wheeled robot': Asset(('husky/husky.urdf',), (0.7, 1.1), (0.3, 0.45)),
    'robot dog': Asset(
        ('laikago/laikago_toes_zup_lores.urdf', 'aliengo/aliengo.urdf'),
        (0.6, 1.1),
        (0.28, 0.42),
        bend_rad=0.25,
    ),
    'robot arm': Asset(('kuka_iiwa/model.urdf',), (0.8, 1.3), (0.35, 0.55), bend_rad=0.7),
    'shelf': Asset(('kiva_shelf/model.sdf',), (1.1, 1.9), None),
}
CLASSES = ('floor', 'wall', 'sky', 'table', *ASSETS)


@dataclass(frozen=True)
class Thing:
    """A named thing in the scene; `color` is a name of COLORS, or empty."""

    name: str
    color: str = ''

    @property
    def title(self) -> str:
        """'red mug', or 'table'."""
        return f'{self.color} {self.name}'.strip()

    def id_in(self, words: Mapping[str, int]) -> int:
        """Return its id in a vocabulary {word: id}; 0 if no word names it.

        'red mug' has priority over 'mug'.
        """
        return words.get(self.title) or words.get(self.name, 0)


SKY = Thing('sky')
THINGS = tuple(
    Thing(name, color)
    for name in CLASSES
    for color in (ASSETS[name].colors if name in ASSETS else ()) or ('',)
)


@dataclass(frozen=True, eq=False)
class View:
    """One picture of the simulated camera with its ground truth.

    Attributes:
        image: [H, W, 3] uint8 RGB.
        depth: [H, W] float32, metres along the optical axis; NaN for sky.
        instances: [H, W] uint8, index into `things`.
        things: the things in the scene; the first is the sky.
        camera_matrix: [3, 3] float64 K of the pinhole camera in pixels; pixel centres are integers.
        pose: [4, 4] float64, camera optical frame (x right, y down, z ahead) in the world frame
            (z up), in metres.
    """

    image: np.ndarray
    depth: np.ndarray
    instances: np.ndarray
    things: tuple[Thing, ...]
    camera_matrix: np.ndarray
    pose: np.ndarray

    def labels(self, words: Mapping[str, int]) -> np.ndarray:
        """Return the ground truth [H, W] uint16 for a vocabulary {word: id}.

        Pixels of things without a word are 0; see Thing.id_in.
        """
        ids = [thing.id_in(words) for thing in self.things]
        return np.array(ids, np.uint16)[self.instances]

    def share(self) -> dict[Thing, float]:
        """Return the share of the picture that each thing covers, 0..1; equal things are added."""
        return shares_of(self.instances, self.things)


def areas_of(instances: np.ndarray, things: Sequence[Thing]) -> dict[Thing, int]:
    """Return the pixels that each thing covers of an array of indices into `things`.

    Equal things are added. Things without a pixel are left out.
    """
    areas: dict[Thing, int] = {}
    pixels = np.bincount(instances.ravel(), minlength=len(things))
    for thing, count in zip(things, pixels.tolist(), strict=True):
        if count:
            areas[thing] = areas.get(thing, 0) + count
    return areas


def shares_of(instances: np.ndarray, things: Sequence[Thing]) -> dict[Thing, float]:
    """Return the share that each thing covers of an array of indices into `things`."""
    areas = areas_of(instances, things)
    return {thing: area / instances.size for thing, area in areas.items()}


def refuse_unknown(name: str, color: str) -> None:
    """Raise SettingError unless there is such an object in this colour; '' means not painted."""
    if name not in ASSETS:
        raise SettingError(f'the demo world has no {name!r}.{did_you_mean(name, list(ASSETS))}')
    colors = ASSETS[name].colors or ('',)
    if color not in colors:
        raise SettingError(f'{name}: no colour {color!r}; expected {", ".join(map(repr, colors))}')
