"""What the page draws of a labelled picture: mixtures of picture, labels and confidence."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Set

import cv2
import numpy as np
import yaml

from ..media.drawing import mixed
from .feed import LegendEntry, Shown, ShownCloud

OVERLAY, LABELS, CONFIDENCE, SIDE_BY_SIDE, POINTS = (
    *('overlay', 'labels', 'confidence', 'side by side'),
    'points in 3D',
)
PICTURES = (OVERLAY, LABELS, CONFIDENCE, SIDE_BY_SIDE)
# More points are thinned out: a browser without a graphics card draws them slowly.
MOST_POINTS = 40_000
# Grey around a picture, as the page itself.
GROUND = 20


def palette(legend: tuple[LegendEntry, ...], labels: np.ndarray) -> np.ndarray:
    """Return the colour [ids, 3] uint8 of each id; black for ids without a class."""
    largest = max([int(labels.max(initial=0)), *(entry.id for entry in legend)])
    colors = np.zeros((1 + largest, 3), np.uint8)
    for entry in legend:
        colors[entry.id] = entry.color
    return colors


def visible(shown: Shown, hidden: Set[int]) -> np.ndarray:
    """Return the labels [H, W] with 0 for hidden classes."""
    if not hidden:
        return shown.labels
    return np.where(np.isin(shown.labels, list(hidden)), 0, shown.labels)


def picture(shown: Shown, mode: str, strength: float, hidden: Set[int]) -> np.ndarray:
    """Return what to show [h, w, 3] uint8 RGB.

    Args:
        mode: one of PICTURES.
        strength: share of the colours in the overlay, 0..1.
        hidden: ids of classes that are not drawn.
    """
    if mode == CONFIDENCE:
        return _confidence(shown)
    labels = visible(shown, hidden)
    colors = palette(shown.legend, labels)
    if mode == LABELS:
        return colors.take(labels, axis=0)
    overlay = mixed(shown.image, labels, colors, strength)
    return np.hstack([shown.image, overlay]) if mode == SIDE_BY_SIDE else overlay


def fitted(image: np.ndarray, aspect: float) -> np.ndarray:
    """Return a picture [H, W, 3] in a grey one that has this width / height.

    A browser stretches it over its window. In a window that is higher than wide the picture is at
    the top, because the controls are at the bottom.
    """
    high, wide = image.shape[:2]
    aspect = min(8.0, max(0.125, aspect))
    size = max(high, round(wide / aspect)), max(wide, round(high * aspect))
    top = 0 if aspect < 1 else (size[0] - high) // 2
    left = (size[1] - wide) // 2
    result = np.full((*size, 3), GROUND, np.uint8)
    result[top : top + high, left : left + wide] = image
    return result


def _confidence(shown: Shown) -> np.ndarray:
    values = shown.confidence
    if values is None:
        return np.zeros_like(shown.image)
    grey = np.clip(255 * values, 0, 255).astype(np.uint8)
    return np.ascontiguousarray(cv2.applyColorMap(grey, cv2.COLORMAP_VIRIDIS)[..., ::-1])


def shares(shown: Shown) -> dict[int, tuple[float, float | None]]:
    """Return {id: (share of the picture, mean confidence or None)} of the labels in the picture."""
    flat = shown.labels.ravel()
    counts = np.bincount(flat)
    sums = None
    if shown.confidence is not None:
        sums = np.bincount(flat, shown.confidence.ravel())
    return {
        int(k): (counts[k] / flat.size, None if sums is None else float(sums[k] / counts[k]))
        for k in np.flatnonzero(counts)
    }


def points(cloud: ShownCloud, legend: tuple[LegendEntry, ...], strength: float, hidden: Set[int]):
    """Return points [N, 3] float32 and their colours [N, 3] uint8, at most MOST_POINTS."""
    keep = ~np.isin(cloud.labels, list(hidden)) if hidden else np.ones(len(cloud.labels), bool)
    index = np.flatnonzero(keep)
    index = index[:: max(1, -(-len(index) // MOST_POINTS))]
    labels, colors = cloud.labels[index], cloud.colors[index]
    shown = mixed(colors, labels, palette(legend, labels), strength)
    return cloud.points[index].astype(np.float32), shown


def archive(shown: Shown, strength: float, parameters: Mapping[str, object]) -> bytes:
    """Return a ZIP file: the picture, its labels (ids), confidence (0..255) and overlay as PNG,
    and the words and settings as parameters of the node."""
    pictures = {
        'picture.png': shown.image[..., ::-1],
        'labels.png': shown.labels,
        'overlay.png': picture(shown, OVERLAY, strength, frozenset())[..., ::-1],
    }
    if shown.confidence is not None:
        pictures['confidence.png'] = np.round(255 * shown.confidence).astype(np.uint8)
    written = io.BytesIO()
    with zipfile.ZipFile(written, 'w') as file:
        for name, array in pictures.items():
            file.writestr(name, cv2.imencode('.png', array)[1].tobytes())
        words = {'/**': {'ros__parameters': dict(parameters)}}
        file.writestr('parameters.yaml', yaml.safe_dump(words, allow_unicode=True, sort_keys=False))
    return written.getvalue()
