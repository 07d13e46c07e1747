"""Things in a label image with depth: connected pixels of one class, and where they are in space.

A thing is what the camera sees of it: its points are on the near side, so its box is a part of the
true one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from .errors import ShapeError
from .geometry import Pinhole

# The part of a thing's points that its box leaves out, at either end of each side.
OUTLYING = 0.01
BINS = 1024
# No side of a box is resolved finer, in metres.
FINEST = 1e-12
# Of an axis and its opposite, the one nearer to this direction is taken. Upright, level and
# receding things are all far from the plane where the choice changes.
TOWARDS = np.array([3.0, 2.0, 1.0])


@dataclass(frozen=True, eq=False)
class Found:
    """One thing, in the optical frame: x right, y down, z ahead, in metres."""

    id: int  # of its class: its label
    score: float  # largest confidence of its pixels
    confidence: float  # mean
    area: int  # pixels, all with valid depth
    box: tuple[int, int, int, int]  # x, y, width, height in pixels
    centroid: np.ndarray  # [3] mean of its points
    center: np.ndarray  # [3] of the oriented box
    axes: np.ndarray  # [3, 3] rotation: its columns are the box's x, y, z, longest side first
    size: np.ndarray  # [3] sides along the axes


def components(labels: np.ndarray, depth: np.ndarray, jump: float) -> np.ndarray:
    """The connected pixels of each class: [H, W] int32, 0 for none, 1 and up for the others.

    4-neighbours belong together iff they have the same label and |z1 - z2| <= jump * min(z1, z2).

    Args:
        labels: [H, W] uint8 or uint16, 0 for pixels that belong to nothing.
        depth: [H, W] float32 in metres, NaN where not valid: such pixels belong to nothing.

    Raises:
        ShapeError: another shape or dtype.
    """
    _check(labels, depth=depth)
    height, width = labels.shape
    z = np.full(labels.shape, np.nan, np.float32)
    np.copyto(z, depth, where=labels != 0)
    right, down = np.zeros((2, height, width), bool)
    right[:, :-1] = _joined((labels[:, :-1], labels[:, 1:]), (z[:, :-1], z[:, 1:]), jump)
    down[:-1] = _joined((labels[:-1], labels[1:]), (z[:-1], z[1:]), jump)
    # At twice the size there is room for what lies between neighbours: on where they are joined.
    grid = np.zeros((height, 2, width, 2), np.uint8)
    grid[:, 0] = cv2.merge([(z == z).view(np.uint8), right.view(np.uint8)])
    grid[:, 1, :, 0] = down
    grid = grid.reshape(2 * height, 2 * width)
    _, numbers = cv2.connectedComponents(grid, connectivity=4)
    return np.ascontiguousarray(numbers[::2, ::2])


def find(
    labels: np.ndarray,
    confidence: np.ndarray,
    depth: np.ndarray,
    camera: Pinhole,
    ids: Sequence[int],
    jump: float,
    min_pixels: int,
) -> list[Found]:
    """The things of some classes, in the order of `ids`, the largest area of each class first.

    Args:
        labels: [H, W] uint8 or uint16, 0 for pixels of no class.
        confidence: [H, W] float32, 0 .. 1.
        depth: [H, W] float32 in metres, NaN where not valid.
        camera: of these images.
        ids: the classes that are wanted, each once.
        jump: see `components`.
        min_pixels: things with fewer pixels are left out.

    Raises:
        ShapeError: another shape or dtype.
    """
    _check(labels, confidence=confidence, depth=depth)
    wanted = np.zeros(1 << 16, labels.dtype)
    wanted[list(ids)] = ids
    numbers = components(wanted[labels], depth, jump).ravel()
    areas = np.bincount(numbers)
    areas[0] = 0
    kept = np.flatnonzero(areas >= min_pixels)
    if not len(kept):
        return []
    # Small integers are sorted fast; a stable sort leaves the pixels of each thing in their order.
    key = np.zeros(len(areas), np.min_scalar_type(len(kept)))
    key[kept] = np.arange(1, len(kept) + 1)
    areas = areas[kept]
    order = np.argsort(key[numbers], kind='stable')[-areas.sum() :]
    things = [
        _found(labels, confidence, depth, camera, pixels)
        for pixels in np.split(order, np.cumsum(areas)[:-1])
    ]
    place = {label: n for n, label in enumerate(ids)}
    return sorted(things, key=lambda thing: (place[thing.id], -thing.area, thing.box))


def _check(labels: np.ndarray, **others: np.ndarray) -> None:
    if labels.ndim != 2 or labels.dtype not in (np.uint8, np.uint16):
        raise ShapeError(
            f'labels: expected [H, W] uint8 or uint16, got {list(labels.shape)} {labels.dtype}'
        )
    for name, image in others.items():
        if image.shape != labels.shape or image.dtype != np.float32:
            raise ShapeError(
                f'{name}: expected {list(labels.shape)} float32, as large as the labels, got '
                f'{list(image.shape)} {image.dtype}'
            )


def _joined(
    labels: tuple[np.ndarray, np.ndarray], z: tuple[np.ndarray, np.ndarray], jump: float
) -> np.ndarray:
    """Which pixels of two images of neighbours belong together; NaN with nothing."""
    return (np.abs(z[0] - z[1]) <= jump * np.minimum(*z)) & (labels[0] == labels[1])


def _found(
    labels: np.ndarray,
    confidence: np.ndarray,
    depth: np.ndarray,
    camera: Pinhole,
    pixels: np.ndarray,
) -> Found:
    """The thing with these pixels: [N] their places in the flat image, in order."""
    rows, columns = np.divmod(pixels, labels.shape[1])
    left, top = int(columns.min()), int(rows[0])
    x, y = camera.rays(labels.shape)
    z = depth.take(pixels).astype(np.float64)
    points = np.stack([x[columns] * z, y[rows] * z, z])
    centroid = points.mean(1)
    center, axes, size = oriented_box(points - centroid[:, None])
    certain = confidence.take(pixels)
    return Found(
        id=int(labels.take(pixels[0])),
        score=float(certain.max()),
        confidence=float(certain.mean(dtype=np.float64)),
        area=len(pixels),
        box=(left, top, int(columns.max()) + 1 - left, int(rows[-1]) + 1 - top),
        centroid=centroid,
        center=centroid + center,
        axes=axes,
        size=size,
    )


def oriented_box(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The box along the principal axes of points around 0 [3, N]: center [3], axes [3, 3], size [3].

    Each side reaches from the 1st to the 99th percentile, to 1/1024 of the whole extent: depth
    sensors put points between a thing and what is behind it, and of those that hang on, a few would
    make a box from smallest to largest much too long, while of a flat face this cuts 2 % only.
    """
    axes = np.linalg.eigh(points @ points.T)[1]
    low, high = _percentiles(axes.T @ points)
    order = np.argsort(low - high, kind='stable')
    center = axes @ (low + high) / 2
    axes = axes[:, order]
    axes *= np.where(TOWARDS @ axes < 0, -1, 1)
    axes[:, 2] = np.cross(axes[:, 0], axes[:, 1])
    return center, axes, (high - low)[order]


def _percentiles(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What leaves OUTLYING of each row of [M, N] below it, and above it: [M], [M].

    From a histogram: sorting takes several times as long.
    """
    count = values.shape[1]
    low = values.min(1)
    # A little wider than the values, so that the largest one is in the last bin.
    width = np.maximum((values.max(1) - low) * (1 + 1e-9), FINEST) / BINS
    ranks = np.array([OUTLYING, 1 - OUTLYING]) * count
    found = []
    for row, start, step in zip(values, low, width, strict=True):
        bins = ((row - start) / step).astype(np.intp)
        below = np.concatenate([[0], np.bincount(bins, minlength=BINS).cumsum()])
        found.append(start + step * np.interp(ranks, below, np.arange(BINS + 1)))
    return tuple(np.array(found).T)
