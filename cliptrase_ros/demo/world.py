"""The demo world: a simulated robot camera in small furnished scenes, with ground truth.

PyBullet's CPU renderer draws objects of pybullet_data, most of them in a random colour. The same
seed gives the same pictures.
"""

from __future__ import annotations

import importlib.util
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..errors import CliptraseError
from . import viewpoints
from .scenery import Scenery, silent
from .things import CLASSES as CLASSES
from .things import SKY, Thing, View
from .viewpoints import Camera, rotation

NEAR_M, FAR_M = 0.05, 30.0


class MissingExtra(CliptraseError):
    """PyBullet is not installed."""


def require_pybullet() -> None:
    """Raise MissingExtra unless PyBullet is installed."""
    if importlib.util.find_spec('pybullet') is None:
        raise MissingExtra(
            "the demo world needs PyBullet: pip install pybullet, or pip install '.[demo]' in a "
            'clone'
        )


class World:
    """Scenes with a camera.

    Args:
        seed: seed of all scenes and views.
        size: (height, width) of the pictures in pixels.

    Raises:
        MissingExtra: PyBullet is not installed.
    """

    def __init__(self, seed: int, size: tuple[int, int] = (240, 320)):
        require_pybullet()
        with silent():
            import pybullet
            import pybullet_data
            from pybullet_utils.bullet_client import BulletClient

            self._bullet = BulletClient(connection_mode=pybullet.DIRECT)
        self.size = size
        self._rng = np.random.default_rng(seed)
        self._textures = tempfile.TemporaryDirectory(prefix='cliptrase_world_')
        data = Path(pybullet_data.getDataPath())
        self._scenery = Scenery(self._bullet, self._rng, data, Path(self._textures.name))
        self.new_scene()

    def close(self) -> None:
        """Close the renderer and delete the temporary files. A second call does nothing."""
        if self._bullet.isConnected():
            self._bullet.disconnect()
        self._textures.cleanup()

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def new_scene(self, objects: list[tuple[str, str]] | None = None) -> None:
        """Furnish another room or yard.

        Args:
            objects: (name in ASSETS, one of its colours or '') of the objects on the table. None:
                random objects on the table and on the floor.

        Raises:
            SettingError: there is no such object, or it does not have this colour.
        """
        self._scenery.furnish(objects)

    @property
    def half_m(self) -> float:
        """Half a side of the room or yard in metres."""
        return self._scenery.half_m

    def draw_camera(self) -> Camera:
        """Draw a place for a robot's camera; mostly it looks at one of the objects."""
        return viewpoints.draw_camera(self._scenery, self._rng)

    def tour(self, motion: str = 'drive', step_s: float = 0.1) -> Iterator[Camera]:
        """Yield cameras of a robot among the things, without end.

        It drives back and forth on an arc around one of them, or stands and pans.

        Args:
            motion: one of MOTIONS.
            step_s: time from one camera to the next in seconds.
        """
        return viewpoints.tour(self._scenery, self._rng, motion, step_s)

    def views(self, per_scene: int = 4) -> Iterator[View]:
        """Yield views from random cameras; after `per_scene` cameras comes another scene.

        Views of almost only one thing are skipped.
        """
        while True:
            self.new_scene()
            for _ in range(per_scene):
                view = self.render(self.draw_camera())
                shares = view.share()
                if len(shares) > 1 and max(shares.values()) < 0.93:
                    yield view

    def render(self, camera: Camera) -> View:
        """Return the view of a camera."""
        height, width = self.size
        bullet = self._bullet
        eye, target = np.array(camera.eye), np.array(camera.target)
        ahead = (target - eye) / np.linalg.norm(target - eye)
        right = np.cross(ahead, (0, 0, 1))
        right /= np.linalg.norm(right)
        down = np.cross(ahead, right)
        right, down = rotation(camera.roll) @ np.stack([right, down])
        view = bullet.computeViewMatrix(camera.eye, camera.target, -down)
        projection = bullet.computeProjectionMatrixFOV(
            math.degrees(camera.fov), width / height, NEAR_M, FAR_M
        )
        _, _, pixels, buffer, bodies = bullet.getCameraImage(
            width, height, view, projection, renderer=bullet.ER_TINY_RENDERER, **self._scenery.light
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
        # With this matrix the depth points lie on floors and walls to 0.1 mm (test_world.py).
        matrix = np.array([[focal, 0, width / 2], [0, focal, height / 2 - 1], [0, 0, 1]])
        return View(image, depth.astype(np.float32), instances, things, matrix, pose)

    def _instances(self, bodies: np.ndarray) -> tuple[tuple[Thing, ...], np.ndarray]:
        numbers = {-1: 0} | {body: n for n, body in enumerate(self._scenery.bodies, 1)}
        found, where = np.unique(bodies, return_inverse=True)
        instances = np.array([numbers[int(body)] for body in found], np.uint8)
        return (SKY, *self._scenery.bodies.values()), instances[where].reshape(bodies.shape)

    def _paint_sky(self, image: np.ndarray, sky: np.ndarray) -> None:
        top, horizon = self._scenery.sky
        fade = np.linspace(0, 1, len(image))[:, None, None]
        colors = np.broadcast_to(top * (1 - fade) + horizon * fade, image.shape)
        image[sky] = colors[sky].astype(np.uint8)
