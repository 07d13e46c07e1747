"""Scenes of the demo world: rooms and yards with things in free places, in PyBullet."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .textures import write_block_face, write_ducks, write_floors
from .things import ASSETS, COLORS, Thing, refuse_unknown

# Colour of the teddy bear: its model has none.
_TEDDY = (0.50, 0.30, 0.13)
_WALLS = (
    (0.95, 0.94, 0.90),
    (0.93, 0.88, 0.76),
    (0.80, 0.87, 0.93),
    (0.82, 0.91, 0.82),
    (0.90, 0.80, 0.78),
    (0.72, 0.72, 0.74),
)
TABLE_HEIGHT, TABLE_HALF = 0.625, (0.68, 0.44)
_WALL_HALF_HEIGHT = 1.6


@dataclass(frozen=True)
class PlacedThing:
    """A thing at its place: its middle [3] and its longest side, in metres."""

    position: np.ndarray
    size: float
    on_table: bool


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Silence PyBullet.

    It writes greetings and dozens of harmless warnings directly to the standard output of the
    process, not through Python. Errors still come as exceptions.
    """
    flush = ctypes.CDLL(None).fflush
    kept = [os.dup(number) for number in (1, 2)]
    flush(None)
    with open(os.devnull, 'w') as nowhere:
        for number in (1, 2):
            os.dup2(nowhere.fileno(), number)
    try:
        yield
    finally:
        flush(None)
        for number, file in zip((1, 2), kept, strict=True):
            os.dup2(file, number)
            os.close(file)


class Scenery:
    """A room or yard with things; each `furnish` makes another one.

    Args:
        bullet: client of PyBullet.
        rng: source of all random draws.
        data: folder of pybullet_data.
        folder: folder for textures.

    Attributes:
        bodies: {number of a body: its thing}.
        placed: the objects, except the table.
        half_m: half a side of the room or yard in metres.
        table_scale: scale of the table; 0: there is no table.
        light: arguments of the renderer.
        sky: colours [3] at its top and at the horizon.
    """

    def __init__(self, bullet: Any, rng: np.random.Generator, data: Path, folder: Path):
        self._bullet, self._rng = bullet, rng
        bullet.setAdditionalSearchPath(str(data))
        self._floors = write_floors(folder)
        self._block_face = write_block_face(folder)
        self._ducks = write_ducks(data / 'duckCM.png', folder)
        self._native_sizes: dict[str, float] = {}
        self.light: dict = {}

    def furnish(self, objects: list[tuple[str, str]] | None = None) -> None:
        """Furnish another room or yard; see `World.new_scene`."""
        for name, color in objects or ():
            refuse_unknown(name, color)
        rng, bullet = self._rng, self._bullet
        bullet.resetSimulation()
        self.bodies: dict[int, Thing] = {}
        self.placed: list[PlacedThing] = []
        self._has_room = objects is not None or rng.random() < 0.75
        self.half_m = rng.uniform(2.6, 4.2) if self._has_room else 8.0
        self._lay_floor()
        if self._has_room:
            self._raise_walls()
        self.table_scale = 0.0
        if objects is not None or rng.random() < 0.7:
            self.table_scale = rng.uniform(0.9, 1.15)
            self._add('table/table.urdf', self.table_scale, Thing('table'))
        if objects is None:
            for name, color in self._draw_objects():
                on_table = self.table_scale and ASSETS[name].table_m and rng.random() < 0.65
                self._put(name, color, bool(on_table))
        else:
            for name, color in objects:
                self._put(name, color, on_table=True)
        self._draw_light()

    def _draw_objects(self) -> list[tuple[str, str]]:
        """Return names with colours; a painted name often comes twice, in two colours."""
        objects = []
        for name in self._rng.choice(list(ASSETS), self._rng.integers(4, 8), replace=False):
            colors = self._rng.permutation(ASSETS[name].colors) if ASSETS[name].colors else ['']
            count = 1 + (self._rng.random() < 0.4)
            objects += [(str(name), str(color)) for color in colors[:count]]
        return objects

    def _lay_floor(self) -> None:
        # The floor is made of tiles: the renderer drops large triangles that reach behind the
        # camera.
        texture = self._bullet.loadTexture(str(self._floors[self._rng.integers(len(self._floors))]))
        half = self.half_m / 4
        for x in range(4):
            for y in range(4):
                center = (-self.half_m + half * (2 * x + 1), -self.half_m + half * (2 * y + 1))
                body = self._box((half, half, 0.02), (*center, -0.02), (1, 1, 1))
                self._bullet.changeVisualShape(body, -1, textureUniqueId=texture)
                self.bodies[body] = Thing('floor')

    def _raise_walls(self) -> None:
        color = np.array(_WALLS[self._rng.integers(len(_WALLS))]) + self._rng.uniform(-0.04, 0.04)
        for side in range(4):
            for piece in range(2):
                along, across = -self.half_m / 2 + self.half_m * piece, self.half_m
                across = across if side % 2 else -across
                if side < 2:
                    half, center = (self.half_m / 2, 0.03), (along, across)
                else:
                    half, center = (0.03, self.half_m / 2), (across, along)
                body = self._box(
                    (*half, _WALL_HALF_HEIGHT), (*center, _WALL_HALF_HEIGHT), np.clip(color, 0, 1)
                )
                self.bodies[body] = Thing('wall')

    def _box(self, half, center, color) -> int:
        shape = self._bullet.createVisualShape(
            self._bullet.GEOM_BOX, halfExtents=half, rgbaColor=(*color, 1)
        )
        return self._bullet.createMultiBody(0, -1, shape, center)

    def _put(self, name: str, color: str, on_table: bool) -> None:
        """Add an object at a free place; skip it if no free place is found."""
        asset, rng = ASSETS[name], self._rng
        file = str(rng.choice(asset.files))
        size = rng.uniform(*(asset.table_m if on_table and asset.table_m else asset.floor_m))
        place = self._free_place(size, on_table)
        if place is None:
            return
        turn = self._bullet.getQuaternionFromEuler
        rotation = turn((0, 0, rng.uniform(-math.pi, math.pi)))
        if asset.upright:
            upright = turn((math.pi / 2, 0, 0))
            rotation = self._bullet.multiplyTransforms((0, 0, 0), rotation, (0, 0, 0), upright)[1]
        body = self._add(file, size / self._native_size(file), Thing(name, color))
        self._dress(body, name, color)
        for joint in range(self._bullet.getNumJoints(body)):
            if asset.bend_rad and self._bullet.getJointInfo(body, joint)[2] == 0:
                angle = rng.uniform(-asset.bend_rad, asset.bend_rad)
                self._bullet.resetJointState(body, joint, angle)
        self._bullet.resetBasePositionAndOrientation(body, (0, 0, 0), rotation)
        low, high = self._bounds(body)
        center = (low + high) / 2
        ground = TABLE_HEIGHT * self.table_scale if on_table else 0.0
        base = (place[0] - center[0], place[1] - center[1], ground - low[2])
        self._bullet.resetBasePositionAndOrientation(body, base, rotation)
        middle = np.array([*place, ground + (high[2] - low[2]) / 2])
        self.placed.append(PlacedThing(middle, size, on_table))

    def _free_place(self, size: float, on_table: bool) -> tuple[float, float] | None:
        rng = self._rng
        for _ in range(20):
            if on_table:
                x, y = (rng.uniform(-0.85, 0.85) * half * self.table_scale for half in TABLE_HALF)
            else:
                angle = rng.uniform(-math.pi, math.pi)
                radius = rng.uniform(1.0 if self.table_scale else 0.0, 1.8)
                x, y = radius * math.cos(angle), radius * math.sin(angle)
            if all(
                math.hypot(x - p.position[0], y - p.position[1]) > 0.45 * (size + p.size)
                for p in self.placed
                if p.on_table == on_table
            ):
                return x, y
        return None

    def _add(self, file: str, scale: float, thing: Thing) -> int:
        body = self._load(file, scale)
        self.bodies[body] = thing
        return body

    def _load(self, file: str, scale: float) -> int:
        with silent():
            if file.endswith('.sdf'):
                return self._bullet.loadSDF(file, globalScaling=scale)[0]
            return self._bullet.loadURDF(file, useFixedBase=True, globalScaling=scale)

    def _native_size(self, file: str) -> float:
        if file not in self._native_sizes:
            body = self._load(file, 1.0)
            low, high = self._bounds(body)
            self._native_sizes[file] = float((high - low).max())
            self._bullet.removeBody(body)
        return self._native_sizes[file]

    def _bounds(self, body: int) -> tuple[np.ndarray, np.ndarray]:
        links = range(-1, self._bullet.getNumJoints(body))
        boxes = np.array([self._bullet.getAABB(body, link) for link in links])
        return boxes[:, 0].min(0), boxes[:, 1].max(0)

    def _dress(self, body: int, name: str, color: str) -> None:
        """Paint an object that comes in colours. Ducks keep eyes and beak; blocks have a frame."""
        tone = self._rng.normal(0, 0.03, 3)
        if name == 'duck':
            flat, texture = (1.0, 1.0, 1.0), self._bullet.loadTexture(str(self._ducks[color]))
        elif name == 'block':
            flat, texture = COLORS[color], self._bullet.loadTexture(str(self._block_face))
        elif color or name == 'teddy bear':
            flat, texture = COLORS.get(color, _TEDDY), -1
        else:
            return
        paint = np.clip(np.array(flat) + tone, 0, 1)
        for link in range(-1, self._bullet.getNumJoints(body)):
            self._bullet.changeVisualShape(
                body, link, rgbaColor=(*paint, 1), textureUniqueId=texture
            )

    def _draw_light(self) -> None:
        rng = self._rng
        self.light = {
            'shadow': int(rng.random() < 0.6),
            'lightDirection': [*rng.uniform(-1, 1, 2), rng.uniform(0.6, 1.6)],
            'lightColor': list(
                np.clip(rng.uniform(0.85, 1.05) + rng.uniform(-0.06, 0.06, 3), 0, 1.1)
            ),
            'lightDistance': 3.0,
            'lightAmbientCoeff': rng.uniform(0.4, 0.7),
            'lightDiffuseCoeff': rng.uniform(0.35, 0.65),
            'lightSpecularCoeff': rng.uniform(0, 0.3),
        }
        top = np.array([rng.uniform(90, 170), rng.uniform(130, 200), rng.uniform(190, 255)])
        self.sky = top, np.clip(top + rng.uniform(20, 70), 0, 255)
