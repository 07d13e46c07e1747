"""Pictures of the demo world on disk: rendered once, then used for hours of training."""

from __future__ import annotations

import hashlib
import inspect
import json
import multiprocessing
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import scenery, textures, things, viewpoints, world
from .things import Thing
from .world import World


@dataclass(frozen=True, eq=False)
class Renders:
    """N pictures.

    Attributes:
        images: [N, H, W, 3] uint8 RGB.
        instances: [N, H, W] uint8, index into the picture's `things`.
        things: for each picture the things in its scene.
    """

    images: np.ndarray
    instances: np.ndarray
    things: list[tuple[Thing, ...]]

    def __len__(self) -> int:
        return len(self.images)


def render(seed: int, count: int, size: tuple[int, int]) -> Renders:
    """Render `count` views (World.views) of a world with this seed; size is (height, width)."""
    images = np.empty((count, *size, 3), np.uint8)
    instances = np.empty((count, *size), np.uint8)
    things = []
    with World(seed, size) as made:
        for number, view in zip(range(count), made.views(), strict=False):
            images[number], instances[number] = view.image, view.instances
            things.append(view.things)
    return Renders(images, instances, things)


def _write(task: tuple[Path, int, int, tuple[int, int]]) -> Path:
    path, seed, count, size = task
    made = render(seed, count, size)
    things = json.dumps([[[t.name, t.color] for t in things] for things in made.things])
    partial = path.with_suffix('.partial.npz')
    np.savez(partial, images=made.images, instances=made.instances, things=things)
    os.replace(partial, path)
    return path


def cached(
    folder: Path, seed: int, count: int, size: tuple[int, int], per_file: int = 500, jobs: int = 1
) -> Renders:
    """Return `count` pictures from the folder: `per_file` of each seed seed, seed + 1, ...

    If a file is missing, or the code of the demo world changed since, `jobs` processes render the
    pictures and save them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    height, width = size
    source = _digest_of_sources()[:12]
    tasks = [
        (folder / f'{seed + k}_{per_file}_{width}x{height}_{source}.npz', seed + k, per_file, size)
        for k in range(-(-count // per_file))
    ]
    missing = [task for task in tasks if not task[0].is_file()]
    if missing:
        with multiprocessing.get_context('spawn').Pool(jobs) as pool:
            for path in pool.imap_unordered(_write, missing):
                print(f'rendered {path}', flush=True)
    images = np.empty((count, *size, 3), np.uint8)
    instances = np.empty((count, *size), np.uint8)
    things: list[tuple[Thing, ...]] = []
    for path, *_ in tasks:
        with np.load(path) as file:
            part = slice(len(things), min(count, len(things) + per_file))
            wanted = part.stop - part.start
            images[part], instances[part] = file['images'][:wanted], file['instances'][:wanted]
            scenes = json.loads(str(file['things']))[:wanted]
            things += [tuple(Thing(*pair) for pair in scene) for scene in scenes]
    return Renders(images, instances, things)


def _digest_of_sources() -> str:
    """Return the SHA-256 of the code that determines the pictures."""
    digest = hashlib.sha256()
    for module in (scenery, textures, things, viewpoints, world):
        digest.update(Path(inspect.getfile(module)).read_bytes())
    return digest.hexdigest()
