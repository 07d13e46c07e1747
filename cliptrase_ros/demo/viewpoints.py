"""Places of the demo world's camera: single places, and tours of a robot."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .scenery import TABLE_HALF, TABLE_HEIGHT, PlacedThing, Scenery

MOTIONS = ('drive', 'pan')
_TOUR_S = 12.0


@dataclass(frozen=True)
class Camera:
    """Place of a camera: eye and target in metres; vertical field of view and roll in radians.

    The target must not be straight above or below the eye.
    """

    eye: tuple[float, float, float]
    target: tuple[float, float, float]
    fov: float = math.radians(52)
    roll: float = 0.0


def draw_camera(scene: Scenery, rng: np.random.Generator) -> Camera:
    """Draw a place for a robot's camera; mostly it looks at one of the objects."""
    if scene.placed and rng.random() < 0.8:
        thing = scene.placed[rng.integers(len(scene.placed))]
        close = rng.random() < 0.5
        distance = max(0.45, rng.uniform(1.4, 3.4) * thing.size if close else rng.uniform(0.8, 2.0))
        target = thing.position + rng.normal(0, 0.08 * distance, 3)
        height = rng.uniform(0.85, 1.5) if thing.on_table else rng.uniform(0.35, 1.4)
    else:
        target = np.array([*rng.uniform(-1, 1, 2), rng.uniform(0, 0.8)])
        distance, height = rng.uniform(1.0, 2.5), rng.uniform(0.4, 1.5)
    reach = math.sqrt(max(distance**2 - (height - target[2]) ** 2, 0.15))
    limit = scene.half_m - 0.15
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


def tour(scene: Scenery, rng: np.random.Generator, motion: str, step_s: float) -> Iterator[Camera]:
    """Yield cameras of a robot among the things, without end.

    It drives back and forth on an arc around one of them, or stands and pans.

    Args:
        motion: one of MOTIONS.
        step_s: time from one camera to the next in seconds.
    """
    anchor, eyes = _free_arc(scene, rng)
    swing = math.radians(25) if motion == 'pan' else math.radians(6)
    for step in itertools.count():
        phase = 2 * math.pi * step * step_s / _TOUR_S
        along = (1 - math.cos(phase)) / 2 if motion == 'drive' else 0.5
        eye = eyes[round(along * (len(eyes) - 1))]
        ahead = anchor[:2] - eye[:2]
        bearing = swing * math.sin(phase)
        target = (*(eye[:2] + rotation(bearing) @ ahead), anchor[2])
        yield Camera(tuple(eye), target)


def _free_arc(scene: Scenery, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the point that a tour looks at, and places of the eye [n, 3].

    The places keep away from all things. If 100 draws find no such places, the last draw is used.
    """
    for _ in range(100):
        if scene.placed:
            thing = scene.placed[rng.integers(len(scene.placed))]
            anchor, height = thing.position, 0.9 if thing.on_table else 0.6
        else:
            anchor, height = np.array([0.0, 0.0, 0.4]), 0.7
        radius, height = rng.uniform(0.9, 1.6), height + rng.uniform(0, 0.5)
        angles = rng.uniform(-math.pi, math.pi) + np.linspace(0, 1.2 / radius, 200)
        eyes = np.stack([np.cos(angles) * radius, np.sin(angles) * radius], 1) + anchor[:2]
        inside = np.abs(eyes).max() < scene.half_m - 0.2
        above = height > TABLE_HEIGHT * scene.table_scale + 0.15
        table = np.array(TABLE_HALF) * scene.table_scale + 0.15
        beside = not (np.abs(eyes) < table).all(1).any()
        free = all(_clear(eyes, height, thing) for thing in scene.placed)
        if inside and (above or beside) and free:
            break
    return anchor, np.column_stack([eyes, np.full(len(eyes), height)])


def _clear(eyes: np.ndarray, height: float, thing: PlacedThing) -> bool:
    gaps = np.hypot(*(eyes - thing.position[:2]).T)
    above = height > thing.position[2] + thing.size / 2 + 0.1
    return above or gaps.min() > thing.size / 2 + 0.2


def rotation(angle: float) -> np.ndarray:
    """Return the matrix [2, 2] that rotates counter-clockwise by the angle in radians."""
    return np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
