"""Pictures of the demo for people: panels of one image, and a film of all."""

from __future__ import annotations

import textwrap
from pathlib import Path

import cv2
import numpy as np
from PIL import Image as Pillow
from sensor_msgs.msg import Image, PointCloud2

from ...media import drawing, encodings
from ...msg import Vocabulary
from ...space.views import aside_view
from .collector import FILM_PX, Collector, FilmFrame, Snapshot, ids_of, pixels_of, points_of

_UNLABELED_COLOR = (40, 40, 40)
# Panels are enlarged by a whole factor until they have this width.
PANEL_PX = 480
# The limit of the film's size, and the qualities to try.
FILM_BYTES, QUALITIES = 3_000_000, (75, 60, 45, 30, 15)
TITLE_LETTERS = 90


def panels(collector: Collector, snapshot: Snapshot) -> np.ndarray:
    """Return one picture of camera, truth (if there is one), labels, confidence, overlay and cloud
    (if there is one), with a legend of what is there."""
    labelled = snapshot.labelled
    words = collector.words_of(labelled)
    labels, palette = pixels_of(labelled.mask), _palette(words)
    height, width = labels.shape
    larger = -(-PANEL_PX // width)
    size = width * larger, height * larger
    present = ids_of(labelled.mask)
    parts = {'camera': encodings.to_rgb(snapshot.camera)}
    if labelled.truth:
        truth = collector.truth_table(words)[pixels_of(labelled.truth)]
        parts['truth'] = palette[truth]
        present |= set(np.unique(truth).tolist())
    parts['labels'] = palette[labels]
    parts['confidence: dark 0, bright 1'] = _heat(snapshot.confidence)
    parts['overlay'] = encodings.to_rgb(snapshot.overlay)
    smooth = ('camera', 'overlay')
    parts = {
        title: cv2.resize(part, size, interpolation=cv2.INTER_CUBIC if title in smooth else 0)
        for title, part in parts.items()
    }
    if snapshot.cloud:
        parts['cloud, seen from the side'] = _cloud(snapshot.cloud, palette, size)
    columns = 3 if len(parts) > 4 else 2
    tiles = [drawing.titled(part, title, larger) for title, part in parts.items()]
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % columns)
    rows = [np.hstack(tiles[n : n + columns]) for n in range(0, len(tiles), columns)]
    return np.vstack([*rows, _legend(words, palette, present, columns * size[0], larger)])


def film(collector: Collector, path: Path, rate_hz: float) -> None:
    """Write an animated WebP of camera and overlay, with the words and a legend of what is there.

    It stays below FILM_BYTES if one of QUALITIES allows it.
    """
    frames = [_frame(*shown) for shown in collector.filmed()]
    height = max(len(frame) for frame in frames)
    padded = [
        np.pad(frame, ((0, height - len(frame)), (0, 0), (0, 0)), constant_values=255)
        for frame in frames
    ]
    first, *others = map(Pillow.fromarray, padded)
    for quality in QUALITIES:
        first.save(
            path,
            save_all=True,
            append_images=others,
            duration=round(1000 / rate_hz),
            loop=0,
            quality=quality,
        )
        if path.stat().st_size < FILM_BYTES:
            break


def _frame(frame: FilmFrame, words: Vocabulary, ids: set[int]) -> np.ndarray:
    row = np.hstack([_of_height(part, FILM_PX) for part in (frame.camera, frame.overlay)])
    title = f'{len(words.classes)} words: {", ".join(c.name for c in words.classes)}'
    title = textwrap.shorten(title, TITLE_LETTERS, placeholder=' ...')
    return np.vstack(
        [drawing.titled(row, title), _legend(words, _palette(words), ids, row.shape[1])]
    )


def _of_height(picture: np.ndarray, height: int) -> np.ndarray:
    width = round(picture.shape[1] * height / len(picture))
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_CUBIC)


def _palette(words: Vocabulary) -> np.ndarray:
    """Return the colour [256, 3] uint8 of each id."""
    palette = np.full((256, 3), _UNLABELED_COLOR, np.uint8)
    for c in words.classes:
        palette[c.id] = [round(255 * value) for value in (c.color.r, c.color.g, c.color.b)]
    return palette


def _legend(
    words: Vocabulary, palette: np.ndarray, ids: set[int], width: int, larger: int = 1
) -> np.ndarray:
    entries = [(f'{c.id} {c.name}', palette[c.id]) for c in words.classes if c.id in ids]
    return drawing.legend(entries, width, larger)


def _heat(confidence: Image) -> np.ndarray:
    """Return a confidence image in colours, [H, W, 3] uint8 RGB."""
    grey = encodings.to_rgb(confidence)[..., 0]
    return cv2.cvtColor(cv2.applyColorMap(grey, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB)


def _cloud(cloud: PointCloud2, palette: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a cloud from the side. Its colours are half its own, half those of the classes.

    Args:
        size: (width, height).
    """
    points = points_of(cloud).ravel()
    xyz = np.stack([points[axis] for axis in 'xyz'], axis=-1)
    packed = np.ascontiguousarray(points['rgb'], np.float32).view(np.uint32)
    rgb = np.stack([packed >> shift & 255 for shift in (16, 8, 0)], axis=-1)
    colors = ((palette[points['label']] + rgb) // 2).astype(np.uint8)
    return aside_view(xyz, colors, size[::-1])
