"""Labels in space: the points and things of a labelled picture with depth."""

from __future__ import annotations

import numpy as np

from ..segmenter import Segmentation, Segmenter
from ..space import clouds, objects
from ..space.geometry import Pinhole, after, looked_up, quaternion, resized
from ..words.vocabulary import Vocabulary
from .feed import ShownCloud, ShownThing
from .shots import Shot

# Labels end up to this share of a patch off the edge of a thing.
EDGE_PATCHES = 0.5
# The node's defaults: objects.depth_jump and objects.min_pixels.
JUMP, MIN_PIXELS = 0.03, 100


def lift(
    shot: Shot, picture: np.ndarray, result: Segmentation, segmenter: Segmenter, words: Vocabulary
) -> tuple[ShownCloud, tuple[ShownThing, ...], np.ndarray] | None:
    """Return the labelled points, the things, and the camera matrix [3, 3] of the labels.

    Points just behind an edge are left out: their label may be that of the thing in front. None if
    the picture has no depth.

    Args:
        picture: [H, W, 3] uint8 RGB, the picture that the labels fit.
    """
    if shot.depth is None or shot.camera is None:
        return None
    size = shot.image.shape[:2]
    _, move = segmenter.view_geometry(size)
    to_labels = after(move, resized(shot.depth.shape, size))
    margin = round(EDGE_PATCHES * segmenter.patch_size(size) / float(to_labels[0, 0]))
    sure = np.where(clouds.behind_edges(shot.depth, margin), np.float32(np.nan), shot.depth)
    depth = looked_up(sure, to_labels, result.labels.shape, np.nan)
    camera = shot.camera.moved(move)
    matrix = np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]])
    cloud = _cloud(depth, camera, picture, result.labels)
    return cloud, _things(depth, camera, result, words), matrix


def _cloud(
    depth: np.ndarray, camera: Pinhole, picture: np.ndarray, labels: np.ndarray
) -> ShownCloud:
    x, y = camera.rays(depth.shape)
    points = np.stack([depth * x, depth * y[:, None], depth], axis=-1)
    there = depth > 0  # NaN compares as False
    return ShownCloud(points[there], labels[there], picture[there])


def _things(
    depth: np.ndarray, camera: Pinhole, result: Segmentation, words: Vocabulary
) -> tuple[ShownThing, ...]:
    ids = [c.id for c in words.classes if c.name not in objects.STUFF]
    found = objects.find(result.labels, result.confidence, depth, camera, ids, JUMP, MIN_PIXELS)
    return tuple(_thing(one, words.name_of(one.id)) for one in found)


def _thing(found: objects.Found, name: str) -> ShownThing:
    x, y, z, w = quaternion(found.axes)
    return ShownThing(
        class_id=found.id,
        name=name,
        centroid=_three(found.centroid),
        center=_three(found.center),
        size=_three(found.size),
        orientation=(w, x, y, z),
        confidence=found.confidence,
    )


def _three(values: np.ndarray) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in values)
    return x, y, z
