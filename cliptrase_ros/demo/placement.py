"""How well things are placed in space: the labels of a segmenter against the demo world's truth."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..segmenter import Segmenter
from ..space.clouds import grown
from ..space.geometry import Pinhole
from ..space.objects import number_things
from .things import CLASSES, View

# Things with fewer pixels, and what has no place of its own, are not counted.
MIN_PIXELS = 100
SURROUNDINGS = ('floor', 'wall', 'sky')
# A thing counts as found where it and the component that covers most of it are so much alike.
FOUND_IOU = 0.5


@dataclass(frozen=True)
class Placed:
    """A thing of the truth that was found.

    Attributes:
        iou: of its pixels and those of the component.
        off_m: between the centroids of both, in metres.
        left: share of its pixels with depth that stay in a depth image without its class, 0..1.
    """

    iou: float
    off_m: float
    left: float


def placed(
    segmenter: Segmenter, views: Iterable[View], jump: float, margin_m: float
) -> tuple[int, list[Placed]]:
    """How many things are in view, and those that are found.

    Args:
        jump: see `objects.components`.
        margin_m: see `clouds.grown`.
    """
    words = segmenter.vocabulary(CLASSES)
    count, result = 0, []
    for view in views:
        labels = segmenter(view.image, words).labels
        k = view.camera_matrix
        camera = Pinhole(k[0, 0], k[1, 1], k[0, 2], k[1, 2])
        x, y = camera.rays(view.depth.shape)
        points = np.stack([x * view.depth, y[:, None] * view.depth, view.depth], axis=-1)
        numbers = number_things(labels, view.depth, jump)
        for index, thing in enumerate(view.things):
            own = (view.instances == index) & (view.depth > 0)
            if thing.name in SURROUNDINGS or own.sum() < MIN_PIXELS:
                continue
            count += 1
            named = labels == words.ids[thing.name]
            covering = np.bincount(numbers[own & named], minlength=1)
            covering[0] = 0
            if not covering.any():
                continue
            component = numbers == covering.argmax()
            iou = (component & own).sum() / (component | own).sum()
            if iou >= FOUND_IOU:
                off = points[component].mean(0) - points[own].mean(0)
                left = own & ~grown(view.depth, named, camera.fx, margin_m)
                result.append(
                    Placed(float(iou), float(np.linalg.norm(off)), float(left.sum() / own.sum()))
                )
    return count, result


def lines(count: int, found: list[Placed], jump: float, margin_m: float) -> list[str]:
    """The result for people."""
    if not found:
        return [f'none of {count} things found']
    off_cm = 100 * np.array([thing.off_m for thing in found])
    left = np.array([thing.left for thing in found])
    p50, p95 = np.percentile(off_cm, (50, 95))
    return [
        f'{len(found)} of {count} things found (IoU {FOUND_IOU:g}), depth jump {jump:g}',
        f'centroids off by {p50:.1f} cm (median), {p95:.1f} cm (p95); {(off_cm <= 3).mean():.0%} '
        'within 3 cm',
        f'without their class, with a margin of {margin_m:g} m, {left.mean():.1%} of a thing stay '
        f'in the depth image (mean), nothing of {(left == 0).mean():.0%} of them',
    ]
