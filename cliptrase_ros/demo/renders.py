"""Pictures of the demo world on disk, rendered once and trained on for hours."""

from __future__ import annotations

import json
import multiprocessing
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .world import Thing, World


@dataclass(frozen=True, eq=False)
class Renders:
    """N pictures.

    Attributes:
        images: [N, H, W, 3] uint8 RGB.
        instances: [N, H, W] uint8, index into the picture's `things`.
        things: for each picture what stands in its scene.
    """

    images: np.ndarray
    instances: np.ndarray
    things: list[tuple[Thing, ...]]

    def __len__(self) -> int:
        return len(self.images)


def render(seed: int, count: int, size: tuple[int, int]) -> Renders:
    """`count` views (World.views) of a world with this seed; size is (height, width)."""
    images = np.empty((count, *size, 3), np.uint8)
    instances = np.empty((count, *size), np.uint8)
    things = []
    with World(seed, size) as world:
        for number, view in zip(range(count), world.views(), strict=False):
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
    """The pictures of seeds seed, seed + 1, ... (`per_file` of each) from the folder; those that
    are not there yet are rendered by `jobs` processes and kept."""
    folder.mkdir(parents=True, exist_ok=True)
    tasks = [
        (folder / f'{seed + k}_{per_file}_{size[1]}x{size[0]}.npz', seed + k, per_file, size)
        for k in range(-(-count // per_file))
    ]
    missing = [task for task in tasks if not task[0].is_file()]
    with multiprocessing.get_context('spawn').Pool(jobs) as pool:
        for path in pool.imap_unordered(_write, missing):
            print(f'rendered {path}', flush=True)
    files = [np.load(task[0]) for task in tasks]
    things = [
        tuple(Thing(*pair) for pair in things)
        for file in files
        for things in json.loads(str(file['things']))
    ]
    return Renders(
        np.concatenate([file['images'] for file in files])[:count],
        np.concatenate([file['instances'] for file in files])[:count],
        things[:count],
    )
