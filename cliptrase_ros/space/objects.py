"""Things in a label image with depth: connected pixels of one class, and their place in space.

The camera sees only the near side of a thing, so the box of its points is a part of the true box.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from ..errors import ShapeError
from .geometry import Pinhole

# Share of a thing's points that its box leaves out at either end of each side.
OUTLYING = 0.01
# Up to this number of points are sorted. For more points a histogram with BINS bins is used.
MANY = 2048
BINS = 1024
# Smallest extent of a histogram, in metres.
FINEST = 1e-12
# An axis may point either way; the way nearer to this direction is used. Upright, level and
# receding things are all far from the plane where the choice changes.
TOWARDS = np.array([3.0, 2.0, 1.0])
# Surfaces in config/vocabularies/ and in COCO-Stuff, ADE20K and Cityscapes. A box around one
# covers much of the view and says nothing.
STUFF = (
    *('floor', 'carpet', 'floor marking', 'wall', 'ceiling', 'sky'),
    *('ground', 'earth', 'land', 'terrain', 'field', 'grass', 'dirt', 'dirt track'),
    *('sand', 'gravel', 'snow', 'hill', 'mountain', 'water', 'sea', 'river', 'lake'),
    *('road', 'street', 'lane marking', 'crosswalk', 'sidewalk', 'pavement', 'path', 'runway'),
)


@dataclass(frozen=True, eq=False)
class Found:
    """One thing, in the optical frame: x right, y down, z ahead, in metres."""

    id: int  # the id of its class, which is its label
    score: float  # largest confidence of its pixels
    confidence: float  # mean confidence of its pixels
    area: int  # pixels, all with valid depth
    box: tuple[int, int, int, int]  # x, y, width, height in pixels
    centroid: np.ndarray  # [3] mean of its points
    center: np.ndarray  # [3] centre of the oriented box
    axes: np.ndarray  # [3, 3] rotation: its columns are the box's x, y, z, longest side first
    size: np.ndarray  # [3] sides of the box along the axes


def number_things(labels: np.ndarray, depth: np.ndarray, jump: float) -> np.ndarray:
    """Number the connected pixels of each class: [H, W] int32, 0: no thing, 1 and up: the things.

    4-neighbours are connected if and only if they have the same label and
    |z1 - z2| <= jump * min(z1, z2).

    Args:
        labels: [H, W] uint8 or uint16, 0 for pixels that belong to no thing.
        depth: [H, W] float32 in metres, NaN if not valid; such pixels belong to no thing.

    Raises:
        ShapeError: the shape or the dtype is another.
    """
    _check(labels, depth=depth)
    # If two nonzero cells of this grid touch at a corner, both touch the same pixel. So
    # 8-neighbours give the same result as 4-neighbours, and OpenCV finds them faster.
    _, numbers = cv2.connectedComponents(_grid(labels, depth, jump), connectivity=8)
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
    """Return the things of some classes, in the order of `ids`; in a class the largest area first.

    Args:
        labels: [H, W] uint8 or uint16, 0 for pixels of no class.
        confidence: [H, W] float32, 0 .. 1.
        depth: [H, W] float32 in metres, NaN if not valid.
        camera: the camera of these images.
        ids: ids of the wanted classes, each once.
        jump: see `number_things`.
        min_pixels: things with fewer pixels are skipped; at least 1.

    Raises:
        ShapeError: the shape or the dtype is another.
    """
    _check(labels, confidence=confidence, depth=depth)
    wanted = np.zeros(1 << 16, np.uint16)
    wanted[list(ids)] = ids
    pixels, areas = _grouped(number_things(wanted.take(labels), depth, jump).ravel(), min_pixels)
    if not len(areas):
        return []
    ends = areas.cumsum()
    starts = ends - areas
    points = _points(depth, camera, pixels)
    centroids = np.add.reduceat(points, starts, axis=1, dtype=np.float64).T / areas[:, None]
    clouds = np.split(points, starts[1:], axis=1)
    origins = centroids.astype(np.float32)
    for cloud, origin in zip(clouds, origins, strict=True):
        cloud -= origin[:, None]
    centers, axes, sizes = oriented_boxes(clouds)
    certain = confidence.take(pixels)
    rows = pixels // labels.shape[1]
    columns = pixels - rows * labels.shape[1]
    left, right = (f.reduceat(columns, starts) for f in (np.minimum, np.maximum))
    top, bottom = rows[starts], rows[ends - 1]
    boxes = np.stack([left, top, right - left + 1, bottom - top + 1], axis=1)
    things = map(
        Found,
        labels.take(pixels[starts]).tolist(),
        np.maximum.reduceat(certain, starts).tolist(),
        (np.add.reduceat(certain, starts, dtype=np.float64) / areas).tolist(),
        areas.tolist(),
        map(tuple, boxes.tolist()),
        centroids,
        origins + centers,
        axes,
        sizes,
    )
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
                f'{name}: expected {list(labels.shape)} float32, the size of the labels, got '
                f'{list(image.shape)} {image.dtype}'
            )


def _grid(labels: np.ndarray, depth: np.ndarray, jump: float) -> np.ndarray:
    """Return a grid [2 H, 2 W] uint8 of the pixels and of the connections between them.

    The pixels are at even rows and columns. The cell between two neighbours is 1 if they are
    connected.
    """
    height, width = labels.shape
    z = np.full(labels.shape, np.nan, np.float32)
    np.copyto(z, depth, where=labels != 0)
    right, down = np.zeros((2, height, width), bool)
    right[:, :-1] = _joined((labels[:, :-1], labels[:, 1:]), (z[:, :-1], z[:, 1:]), jump)
    down[:-1] = _joined((labels[:-1], labels[1:]), (z[:-1], z[1:]), jump)
    grid = np.zeros((height, 2, width, 2), np.uint8)
    grid[:, 0] = cv2.merge([(~np.isnan(z)).view(np.uint8), right.view(np.uint8)])
    grid[:, 1, :, 0] = down
    return grid.reshape(2 * height, 2 * width)


def _joined(
    labels: tuple[np.ndarray, np.ndarray], z: tuple[np.ndarray, np.ndarray], jump: float
) -> np.ndarray:
    """Return which pixels of two images of neighbours are connected. NaN connects with nothing."""
    return (np.abs(z[0] - z[1]) <= jump * np.minimum(*z)) & (labels[0] == labels[1])


def _grouped(numbers: np.ndarray, min_pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the flat places [N] of the pixels of all large components, and their pixel counts [K].

    One component follows the other; inside a component the places are in order.

    Args:
        numbers: the number of the component of each pixel, flat.
    """
    areas = np.bincount(numbers)
    areas[0] = 0
    kept = np.flatnonzero(areas >= min_pixels)
    # Small integers are sorted fast.
    key = np.zeros(len(areas), np.min_scalar_type(len(kept)))
    key[kept] = np.arange(1, len(kept) + 1)
    order = np.argsort(key.take(numbers), kind='stable')
    return order[len(order) - areas[kept].sum() :], areas[kept]


def _points(depth: np.ndarray, camera: Pinhole, pixels: np.ndarray) -> np.ndarray:
    """Return the points [3, N] float32 of the pixels at flat places [N]."""
    x, y = camera.rays(depth.shape)
    points = np.empty((3, len(pixels)), np.float32)
    for row, ray in zip(points, (x, y[:, None], np.float32(1)), strict=True):
        row[:] = (ray * depth).take(pixels)
    return points


def oriented_boxes(
    clouds: Sequence[np.ndarray],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the boxes along the principal axes of point clouds: centers, axes, sizes.

    Each side leaves out the outermost 1 % of the points at either end. Reason: depth sensors put
    points between a thing and its background, and a box around all points is much too long. A
    rectangle becomes 2 % shorter by this.

    Args:
        clouds: K arrays [3, N] float32, each with its mean at 0.

    Returns:
        [K, 3], [K, 3, 3], [K, 3]: see `Found`.
    """
    # BLAS is not used: for so few rows its threads cost more time than they save.
    spreads = [cv2.mulTransposed(cloud, aTa=False, dtype=cv2.CV_64F) for cloud in clouds]
    _, axes = np.linalg.eigh(np.array(spreads))
    turned = (
        np.einsum('ik,in->kn', turn.astype(np.float32), cloud)
        for turn, cloud in zip(axes, clouds, strict=True)
    )
    ends = np.array([_ends(values) for values in turned], np.float64)  # [K, 3, 2]
    centers = (axes @ ends.mean(2)[:, :, None])[:, :, 0]
    sizes = ends[:, :, 1] - ends[:, :, 0]
    order = np.argsort(-sizes, axis=1, kind='stable')
    axes = np.take_along_axis(axes, order[:, None], axis=2)
    axes *= np.where(TOWARDS @ axes < 0, -1, 1)[:, None]
    axes[:, :, 2] = np.cross(axes[:, :, 0], axes[:, :, 1])
    return centers, axes, np.take_along_axis(sizes, order, axis=1)


def _ends(values: np.ndarray) -> np.ndarray:
    """Return the lowest and highest value [M, 2] of each row of [M, N] float32, without outliers.

    The share OUTLYING of the values is left out at either end. With many values the ends are exact
    to 1/1024 of the whole extent: they come from a histogram, because sorting takes several times
    as long. `values` is overwritten.
    """
    count = values.shape[1]
    left_out = int(OUTLYING * count)
    places = np.array([left_out, count - 1 - left_out])
    if count <= MANY:
        return np.partition(values, places, axis=1)[:, places]
    result = []
    for row in values:
        low = row.min()
        # A little wider than the values, so that the largest value is in the last bin.
        width = max(1.00001 * (row.max() - low), FINEST) / BINS
        row -= low
        row /= width
        below = np.concatenate([[0], np.bincount(row.astype(np.intp), minlength=BINS).cumsum()])
        result.append(low + width * np.interp(places + 0.5, below, np.arange(BINS + 1)))
    return np.array(result)
