"""Score of places in space: compares a segmenter's labels with the demo world's ground truth."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..segmenter import Segmenter
from ..space.clouds import grown
from ..space.geometry import Pinhole
from ..space.objects import number_things
from .things import CLASSES, View

# Things with fewer pixels and the surroundings are not counted.
MIN_PIXELS = 100
SURROUNDINGS = ('floor', 'wall', 'sky')
# A thing counts as found if it and the component that covers most of it have at least this IoU.
FOUND_IOU = 0.5


@dataclass(frozen=True)
class Placed:
    """A thing of the ground truth that was found.

    Attributes:
        iou: IoU of its pixels and the pixels of the component.
        off_m: distance between the centroids of both, in metres.
        left: share of its pixels with depth that remain in a depth image without its class, 0..1.
    """

    iou: float
    off_m: float
    left: float


def placed(
    segmenter: Segmenter, views: Iterable[View], jump: float, margin_m: float
) -> tuple[int, list[Placed]]:
    """Return the number of things in view, and the things that were found.

    Args:
        jump: see `objects.number_things`.
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
    """Return the lines of text that report the result."""
    if not found:
        return [f'none of {count} things found']
    off_cm = 100 * np.array([thing.off_m for thing in found])
    left = np.array([thing.left for thing in found])
    p50, p95 = np.percentile(off_cm, (50, 95))
    return [
        f'{len(found)} of {count} things found (IoU {FOUND_IOU:g}), depth jump {jump:g}',
        f'centroids off by {p50:.1f} cm (median), {p95:.1f} cm (p95); {(off_cm <= 3).mean():.0%} '
        'within 3 cm',
        f'depth image without their class, margin {margin_m:g} m: {left.mean():.1%} of a thing '
        f'remains (mean); nothing remains of {(left == 0).mean():.0%} of the things',
    ]
