"""Textures of the demo world, as files for its renderer."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from .things import COLORS

_FLOORS = (
    (0.62, 0.62, 0.62),
    (0.72, 0.60, 0.45),
    (0.50, 0.50, 0.53),
    (0.66, 0.52, 0.38),
    (0.80, 0.76, 0.68),
    (0.45, 0.42, 0.40),
)
_FLOOR_PATTERNS = 3


def write_floors(folder: Path, side: int = 256) -> list[Path]:
    """Write floor textures: checks, joints and boards in each colour of _FLOORS."""
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


def write_block_face(folder: Path, side: int = 64) -> Path:
    """Write a face with a dark frame, like that of toy blocks. The paint comes on top of it."""
    face = np.full((side, side), 255, np.uint8)
    cv2.rectangle(face, (0, 0), (side - 1, side - 1), 110, round(0.28 * side))
    path = folder / 'block.png'
    cv2.imwrite(str(path), cv2.cvtColor(face, cv2.COLOR_GRAY2BGR))
    return path


def write_ducks(original: Path, folder: Path) -> dict[str, Path]:
    """Write the duck's texture once for each of COLORS, with the body in this colour."""
    read = cv2.imread(str(original))
    if read is None:
        raise FileNotFoundError(f'cannot read the picture {original}')
    image = cv2.cvtColor(read, cv2.COLOR_BGR2RGB)
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
