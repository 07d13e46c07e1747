"""The demo world: a simulated robot camera in small furnished scenes, with ground truth.

PyBullet's CPU renderer draws objects of pybullet_data, most of them in a colour drawn for the
scene. Everything follows from the seed: the same seed gives the same pictures.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import itertools
import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ..errors import CliptraseError, SettingError, did_you_mean

COLORS = {
    'red': (0.80, 0.08, 0.08),
    'green': (0.10, 0.60, 0.15),
    'blue': (0.10, 0.20, 0.80),
    'yellow': (0.95, 0.82, 0.10),
    'purple': (0.50, 0.15, 0.60),
    'white': (0.95, 0.95, 0.95),
}
NEAR_M, FAR_M = 0.05, 30.0
MOTIONS = ('drive', 'pan')
_TOUR_S = 12.0


class MissingExtra(CliptraseError):
    """PyBullet is not installed."""


@dataclass(frozen=True)
class Asset:
    """Objects of one name.

    Attributes:
        files: URDF or SDF files of pybullet_data to choose from.
        floor_m, table_m: range of the longest side in metres, on the floor and on the table;
            None: never there.
        colors: names of COLORS that it is painted in; empty: as it comes.
        upright: whether its mesh has y up and must be turned.
        bend_rad: largest angle of its joints.
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

# Colours of the teddy bear, which comes without one.
_TEDDY = (0.50, 0.30, 0.13)
_WALLS = (
    (0.95, 0.94, 0.90),
    (0.93, 0.88, 0.76),
    (0.80, 0.87, 0.93),
    (0.82, 0.91, 0.82),
    (0.90, 0.80, 0.78),
    (0.72, 0.72, 0.74),
)
_FLOORS = (
    (0.62, 0.62, 0.62),
    (0.72, 0.60, 0.45),
    (0.50, 0.50, 0.53),
    (0.66, 0.52, 0.38),
    (0.80, 0.76, 0.68),
    (0.45, 0.42, 0.40),
)
_FLOOR_PATTERNS = 3
_TABLE_HEIGHT, _TABLE_HALF = 0.625, (0.68, 0.44)
_WALL_HALF_HEIGHT = 1.6


@dataclass(frozen=True)
class Thing:
    """Something with a name in the scene; `color` is a name of COLORS, or empty."""

    name: str
    color: str = ''

    @property
    def title(self) -> str:
        """'red mug', or 'table'."""
        return f'{self.color} {self.name}'.strip()

    def id_in(self, words: Mapping[str, int]) -> int:
        """Its id in a vocabulary {word: id}, 0 where no word names it. 'red mug' goes before
        'mug'."""
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
        depth: [H, W] float32, metres along the optical axis; NaN where there is only sky.
        instances: [H, W] uint8, index into `things`.
        things: what stands in the scene; the first is the sky.
        camera_matrix: [3, 3] float64 K of the pinhole, pixels; pixel centres are integers.
        pose: [4, 4] float64, camera optical frame (x right, y down, z ahead) in the world frame
            (z up), metres.
    """

    image: np.ndarray
    depth: np.ndarray
    instances: np.ndarray
    things: tuple[Thing, ...]
    camera_matrix: np.ndarray
    pose: np.ndarray

    def labels(self, words: Mapping[str, int]) -> np.ndarray:
        """Ground truth [H, W] uint16 for a vocabulary {word: id}; 0 where no word fits
        (Thing.id_in)."""
        ids = [thing.id_in(words) for thing in self.things]
        return np.array(ids, np.uint16)[self.instances]

    def share(self) -> dict[Thing, float]:
        """Part of the picture that each thing covers, 0..1; equal things count together."""
        return shares_of(self.instances, self.things)


def shares_of(instances: np.ndarray, things: Sequence[Thing]) -> dict[Thing, float]:
    """Part of an array of indices into `things` that each thing covers; see View.share."""
    pixels = np.bincount(instances.ravel(), minlength=len(things))
    shares: dict[Thing, float] = {}
    for thing, share in zip(things, pixels / instances.size, strict=True):
        if share:
            shares[thing] = shares.get(thing, 0.0) + float(share)
    return shares


@dataclass(frozen=True)
class Camera:
    """A camera's place: eye and target in metres, not one above the other; vertical field of view
    and roll in radians."""

    eye: tuple[float, float, float]
    target: tuple[float, float, float]
    fov: float = math.radians(52)
    roll: float = 0.0


@dataclass(frozen=True)
class _Placed:
    position: np.ndarray
    size: float
    on_table: bool


def require_pybullet() -> None:
    """Raise MissingExtra unless PyBullet is installed."""
    if importlib.util.find_spec('pybullet') is None:
        raise MissingExtra(
            "the demo world needs PyBullet: pip install pybullet, or pip install '.[demo]' in a "
            'clone'
        )


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """PyBullet writes greetings and dozens of harmless warnings past Python, straight to the
    process's standard output; errors come as exceptions all the same."""
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


class World:
    """Scenes with a camera in them.

    Args:
        seed: of all scenes and views.
        size: (height, width) of the pictures in pixels.

    Raises:
        MissingExtra: PyBullet is not installed.
    """

    def __init__(self, seed: int, size: tuple[int, int] = (240, 320)):
        require_pybullet()
        with _silent():
            import pybullet
            import pybullet_data
            from pybullet_utils.bullet_client import BulletClient

            self._bullet = BulletClient(connection_mode=pybullet.DIRECT)
        self.size = size
        self._rng = np.random.default_rng(seed)
        self._bullet.setAdditionalSearchPath(pybullet_data.getDataPath())
        self._textures = tempfile.TemporaryDirectory(prefix='cliptrase_world_')
        folder = Path(self._textures.name)
        self._floors = _write_floors(folder)
        self._block_face = _write_block_face(folder)
        self._ducks = _write_ducks(Path(pybullet_data.getDataPath()) / 'duckCM.png', folder)
        self._native_sizes: dict[str, float] = {}
        self._light: dict = {}
        self.new_scene()

    def close(self) -> None:
        """Let the renderer and the temporary files go; a second time does nothing."""
        if self._bullet.isConnected():
            self._bullet.disconnect()
        self._textures.cleanup()

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    # -- scenes

    def new_scene(self, objects: list[tuple[str, str]] | None = None) -> None:
        """Furnish another room or yard.

        Args:
            objects: (name in ASSETS, one of its colours or '') of what to put on a table; None:
                drawn, on the table and on the floor.

        Raises:
            SettingError: there is no such object, or not in that colour.
        """
        for name, color in objects or ():
            _refuse_unknown(name, color)
        rng, bullet = self._rng, self._bullet
        bullet.resetSimulation()
        self._bodies: dict[int, Thing] = {}
        self._placed: list[_Placed] = []
        self._has_room = objects is not None or rng.random() < 0.75
        self.half_m = rng.uniform(2.6, 4.2) if self._has_room else 8.0
        self._lay_floor()
        if self._has_room:
            self._raise_walls()
        self._table_scale = 0.0
        if objects is not None or rng.random() < 0.7:
            self._table_scale = rng.uniform(0.9, 1.15)
            self._add('table/table.urdf', self._table_scale, Thing('table'))
        if objects is None:
            for name, color in self._draw_objects():
                on_table = self._table_scale and ASSETS[name].table_m and rng.random() < 0.65
                self._put(name, color, bool(on_table))
        else:
            for name, color in objects:
                self._put(name, color, on_table=True)
        self._draw_light()

    def _draw_objects(self) -> list[tuple[str, str]]:
        """Names with colours; of what is painted often two, in two colours."""
        objects = []
        for name in self._rng.choice(list(ASSETS), self._rng.integers(4, 8), replace=False):
            colors = self._rng.permutation(ASSETS[name].colors) if ASSETS[name].colors else ['']
            count = 1 + (self._rng.random() < 0.4)
            objects += [(str(name), str(color)) for color in colors[:count]]
        return objects

    def _lay_floor(self) -> None:
        # Tiles, since the renderer drops large triangles that reach behind the camera.
        texture = self._bullet.loadTexture(str(self._floors[self._rng.integers(len(self._floors))]))
        half = self.half_m / 4
        for x in range(4):
            for y in range(4):
                center = (-self.half_m + half * (2 * x + 1), -self.half_m + half * (2 * y + 1))
                body = self._box((half, half, 0.02), (*center, -0.02), (1, 1, 1))
                self._bullet.changeVisualShape(body, -1, textureUniqueId=texture)
                self._bodies[body] = Thing('floor')

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
                self._bodies[body] = Thing('wall')

    def _box(self, half, center, color) -> int:
        shape = self._bullet.createVisualShape(
            self._bullet.GEOM_BOX, halfExtents=half, rgbaColor=(*color, 1)
        )
        return self._bullet.createMultiBody(0, -1, shape, center)

    def _put(self, name: str, color: str, on_table: bool) -> None:
        """Add an object at a free place; left out where none is found."""
        asset, rng = ASSETS[name], self._rng
        file = str(rng.choice(asset.files))
        size = rng.uniform(*(asset.table_m if on_table else asset.floor_m))
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
        ground = _TABLE_HEIGHT * self._table_scale if on_table else 0.0
        base = (place[0] - center[0], place[1] - center[1], ground - low[2])
        self._bullet.resetBasePositionAndOrientation(body, base, rotation)
        middle = np.array([*place, ground + (high[2] - low[2]) / 2])
        self._placed.append(_Placed(middle, size, on_table))

    def _free_place(self, size: float, on_table: bool) -> tuple[float, float] | None:
        rng = self._rng
        for _ in range(20):
            if on_table:
                x, y = (rng.uniform(-0.85, 0.85) * half * self._table_scale for half in _TABLE_HALF)
            else:
                angle = rng.uniform(-math.pi, math.pi)
                radius = rng.uniform(1.0 if self._table_scale else 0.0, 1.8)
                x, y = radius * math.cos(angle), radius * math.sin(angle)
            if all(
                math.hypot(x - p.position[0], y - p.position[1]) > 0.45 * (size + p.size)
                for p in self._placed
                if p.on_table == on_table
            ):
                return x, y
        return None

    def _add(self, file: str, scale: float, thing: Thing) -> int:
        body = self._load(file, scale)
        self._bodies[body] = thing
        return body

    def _load(self, file: str, scale: float) -> int:
        with _silent():
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
        """Paint what comes in colours; ducks keep their eyes and beak, blocks have a frame."""
        tone = self._rng.normal(0, 0.03, 3)
        if name == 'duck':
            paint, texture = np.ones(3), self._bullet.loadTexture(str(self._ducks[color]))
        elif name == 'block':
            paint, texture = COLORS[color], self._bullet.loadTexture(str(self._block_face))
        elif color or name == 'teddy bear':
            paint, texture = COLORS.get(color, _TEDDY), -1
        else:
            return
        paint = np.clip(np.array(paint) + tone, 0, 1)
        for link in range(-1, self._bullet.getNumJoints(body)):
            self._bullet.changeVisualShape(
                body, link, rgbaColor=(*paint, 1), textureUniqueId=texture
            )

    def _draw_light(self) -> None:
        rng = self._rng
        self._light = {
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
        self._sky = top, np.clip(top + rng.uniform(20, 70), 0, 255)

    # -- cameras

    def draw_camera(self) -> Camera:
        """A place that a robot's camera may look from, mostly at one of the objects."""
        rng = self._rng
        if self._placed and rng.random() < 0.8:
            thing = self._placed[rng.integers(len(self._placed))]
            close = rng.random() < 0.5
            distance = max(
                0.45, rng.uniform(1.4, 3.4) * thing.size if close else rng.uniform(0.8, 2.0)
            )
            target = thing.position + rng.normal(0, 0.08 * distance, 3)
            height = rng.uniform(0.85, 1.5) if thing.on_table else rng.uniform(0.35, 1.4)
        else:
            target = np.array([*rng.uniform(-1, 1, 2), rng.uniform(0, 0.8)])
            distance, height = rng.uniform(1.0, 2.5), rng.uniform(0.4, 1.5)
        reach = math.sqrt(max(distance**2 - (height - target[2]) ** 2, 0.15))
        limit = self.half_m - 0.15
        for _ in range(20):
            angle = rng.uniform(-math.pi, math.pi)
            eye = np.array(
                [*(target[:2] + reach * np.array([math.cos(angle), math.sin(angle)])), height]
            )
            if np.abs(eye[:2]).max() < limit:
                break
        eye[:2] = np.clip(eye[:2], -limit, limit)
        fov = math.radians(rng.uniform(42, 60))
        return Camera(tuple(eye), tuple(target), fov, float(rng.normal(0, 0.03)))

    def tour(self, motion: str = 'drive', step_s: float = 0.1) -> Iterator[Camera]:
        """Cameras of a robot among the things, without end: it drives to and fro on an arc around
        one of them, or stands and pans.

        Args:
            motion: one of MOTIONS.
            step_s: time from one camera to the next in seconds.
        """
        anchor, eyes = self._free_arc()
        swing = math.radians(25) if motion == 'pan' else math.radians(6)
        for step in itertools.count():
            phase = 2 * math.pi * step * step_s / _TOUR_S
            along = (1 - math.cos(phase)) / 2 if motion == 'drive' else 0.5
            eye = eyes[round(along * (len(eyes) - 1))]
            ahead = anchor[:2] - eye[:2]
            bearing = swing * math.sin(phase)
            target = (*(eye[:2] + _rotation(bearing) @ ahead), anchor[2])
            yield Camera(tuple(eye), target)

    def _free_arc(self) -> tuple[np.ndarray, np.ndarray]:
        """What a tour looks at, and places for the eye [n, 3] that keep clear of everything, if
        100 draws find such."""
        rng = self._rng
        for _ in range(100):
            if self._placed:
                thing = self._placed[rng.integers(len(self._placed))]
                anchor, height = thing.position, 0.9 if thing.on_table else 0.6
            else:
                anchor, height = np.array([0.0, 0.0, 0.4]), 0.7
            radius, height = rng.uniform(0.9, 1.6), height + rng.uniform(0, 0.5)
            angles = rng.uniform(-math.pi, math.pi) + np.linspace(0, 1.2 / radius, 200)
            eyes = np.stack([np.cos(angles) * radius, np.sin(angles) * radius], 1) + anchor[:2]
            inside = np.abs(eyes).max() < self.half_m - 0.2
            above = height > _TABLE_HEIGHT * self._table_scale + 0.15
            table = np.array(_TABLE_HALF) * self._table_scale + 0.15
            beside = not (np.abs(eyes) < table).all(1).any()
            free = all(self._clear(eyes, height, thing) for thing in self._placed)
            if inside and (above or beside) and free:
                break
        return anchor, np.column_stack([eyes, np.full(len(eyes), height)])

    @staticmethod
    def _clear(eyes: np.ndarray, height: float, thing: _Placed) -> bool:
        gaps = np.hypot(*(eyes - thing.position[:2]).T)
        above = height > thing.position[2] + thing.size / 2 + 0.1
        return above or gaps.min() > thing.size / 2 + 0.2

    # -- pictures

    def views(self, per_scene: int = 4) -> Iterator[View]:
        """Views from drawn cameras, another scene after every few; none of nearly one thing."""
        while True:
            self.new_scene()
            for _ in range(per_scene):
                view = self.render(self.draw_camera())
                shares = view.share()
                if len(shares) > 1 and max(shares.values()) < 0.93:
                    yield view

    def render(self, camera: Camera) -> View:
        """What the camera sees."""
        height, width = self.size
        bullet = self._bullet
        eye, target = np.array(camera.eye), np.array(camera.target)
        ahead = (target - eye) / np.linalg.norm(target - eye)
        right = np.cross(ahead, (0, 0, 1))
        right /= np.linalg.norm(right)
        down = np.cross(ahead, right)
        right, down = _rotation(camera.roll) @ np.stack([right, down])
        view = bullet.computeViewMatrix(camera.eye, camera.target, -down)
        projection = bullet.computeProjectionMatrixFOV(
            math.degrees(camera.fov), width / height, NEAR_M, FAR_M
        )
        _, _, pixels, buffer, bodies = bullet.getCameraImage(
            width, height, view, projection, renderer=bullet.ER_TINY_RENDERER, **self._light
        )
        image = np.reshape(pixels, (height, width, 4))[..., :3].astype(np.uint8)
        buffer = np.reshape(buffer, (height, width)).astype(np.float64)
        depth = FAR_M * NEAR_M / (FAR_M - (FAR_M - NEAR_M) * buffer)
        things, instances = self._instances(np.reshape(bodies, (height, width)))
        sky = instances == 0
        depth[sky] = np.nan
        self._paint_sky(image, sky)
        pose = np.eye(4)
        pose[:3] = np.stack([right, down, ahead, eye], 1)
        focal = height / 2 / math.tan(camera.fov / 2)
        # Where this renderer's rays of depth meet floors and walls to 0.1 mm (test_world.py).
        matrix = np.array([[focal, 0, width / 2], [0, focal, height / 2 - 1], [0, 0, 1]])
        return View(image, depth.astype(np.float32), instances, things, matrix, pose)

    def _instances(self, bodies: np.ndarray) -> tuple[tuple[Thing, ...], np.ndarray]:
        numbers = {-1: 0} | {body: n for n, body in enumerate(self._bodies, 1)}
        found, where = np.unique(bodies, return_inverse=True)
        instances = np.array([numbers[int(body)] for body in found], np.uint8)
        return (SKY, *self._bodies.values()), instances[where].reshape(bodies.shape)

    def _paint_sky(self, image: np.ndarray, sky: np.ndarray) -> None:
        top, horizon = self._sky
        fade = np.linspace(0, 1, len(image))[:, None, None]
        colors = np.broadcast_to(top * (1 - fade) + horizon * fade, image.shape)
        image[sky] = colors[sky].astype(np.uint8)


def _rotation(angle: float) -> np.ndarray:
    """[2, 2], counter-clockwise by the angle in radians."""
    return np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


def _refuse_unknown(name: str, color: str) -> None:
    if name not in ASSETS:
        raise SettingError(f'the demo world has no {name!r}.{did_you_mean(name, list(ASSETS))}')
    colors = ASSETS[name].colors or ('',)
    if color not in colors:
        raise SettingError(
            f'{name}: no colour {color!r}; it comes in {", ".join(map(repr, colors))}'
        )


def _write_floors(folder: Path, side: int = 256) -> list[Path]:
    """Floor textures: checks, joints and boards in each colour of _FLOORS."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:side, :side]
    paths = []
    for number, color in enumerate(_FLOORS):
        for pattern in range(_FLOOR_PATTERNS):
            cell = 32 if (number + pattern) % 2 else 16
            dark = (
                (x // cell + y // cell) % 2,
                (x % cell < 3) | (y % cell < 3),
                ((x + 37 * (y // cell)) % (4 * cell) < 2) | (y % cell < 2),
            )[pattern]
            texture = np.array(color) * (1 - 0.22 * dark[..., None].astype(float))
            texture = np.clip(texture + rng.normal(0, 0.02, texture.shape), 0, 1) * 255
            paths.append(folder / f'floor_{number}_{pattern}.png')
            cv2.imwrite(str(paths[-1]), cv2.cvtColor(texture.astype(np.uint8), cv2.COLOR_RGB2BGR))
    return paths


def _write_block_face(folder: Path, side: int = 64) -> Path:
    """A face with a dark frame, as toy blocks have; the paint comes on top."""
    face = np.full((side, side), 255, np.uint8)
    cv2.rectangle(face, (0, 0), (side - 1, side - 1), 110, round(0.28 * side))
    path = folder / 'block.png'
    cv2.imwrite(str(path), cv2.cvtColor(face, cv2.COLOR_GRAY2BGR))
    return path


def _write_ducks(original: Path, folder: Path) -> dict[str, Path]:
    """The duck's texture with its body in each of COLORS."""
    image = cv2.cvtColor(cv2.imread(str(original)), cv2.COLOR_BGR2RGB)
    height, width = image.shape[:2]
    body = (image[..., 0] > 200) & (image[..., 2] < 100)  # not the eye
    body[int(0.6 * height) :, int(0.8 * width) :] = False  # nor the beak
    shade = np.clip(image[..., 1:2] / 215.0, 0.7, 1.0)
    paths = {}
    for name, color in COLORS.items():
        painted = np.where(body[..., None], 255 * shade * np.array(color), image)
        paths[name] = folder / f'duck_{name}.png'
        cv2.imwrite(str(paths[name]), cv2.cvtColor(painted.astype(np.uint8), cv2.COLOR_RGB2BGR))
    return paths
