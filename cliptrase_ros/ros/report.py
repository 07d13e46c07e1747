"""What came out of the demo: checks, scores against the truth, pictures, result.json."""

from __future__ import annotations

import contextlib
import json
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from sensor_msgs.msg import Image

from ..demo import SETTINGS
from ..demo.world import THINGS
from ..metrics import Confusion
from ..msg import Vocabulary
from . import images
from .collector import Collector, Failure, Labelled, Snapshot

RESULT = 'result.json'
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_UNLABELED_COLOR = (40, 40, 40)


def report(
    collector: Collector, snapshots: list[Snapshot], settings: dict[str, Any], out: Path
) -> dict:
    """Check, score and save; returns what result.json holds.

    Raises:
        Failure: a label image is not what the interface promises.
    """
    labelled = list(collector.labelled)
    _check(labelled, collector.vocabularies)
    delays_ms = 1e3 * np.array([one.delay_s for one in labelled])
    p50, p95 = (float(value) for value in np.percentile(delays_ms, (50, 95)))
    result = {
        'frames': len(labelled),
        'size': [labelled[-1].mask.width, labelled[-1].mask.height],
        'rate_hz': _rate_hz([one.arrival_s for one in labelled]),
        'camera_rate_hz': _rate_hz(sorted(collector.camera.stamps_s)),
        'latency_ms': {'p50': p50, 'p95': p95},
        'settings': settings,
        'versions': _versions(),
        'machine': {'cpus': os.cpu_count(), 'architecture': platform.machine()},
        'vocabularies': [_score(collector, words, labelled) for words in collector.vocabularies],
    }
    first = result['vocabularies'][0]
    if 'miou' in first:
        result.update(miou=first['miou'], iou=first['iou'])
        if settings['model'] == SETTINGS['model']:
            result['note'] = (
                'scores of the small demo model in the demo world, the only one that it knows; '
                'they say nothing of CLIP'
            )
    out.mkdir(parents=True, exist_ok=True)
    (out / RESULT).write_text(json.dumps(result, indent=2, allow_nan=False) + '\n')
    for number, snapshot in enumerate(snapshots, 1):
        picture = _panel(collector, snapshot)
        path = out / f'frame_{number}.png'
        cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    return result


def lines(result: dict) -> list[str]:
    """The result for people."""
    width, height = result['size']
    delay = result['latency_ms']
    text = [
        f'{result["frames"]} label images of {width} x {height} px',
        f'rate     {result["rate_hz"]:.1f} Hz (camera {result["camera_rate_hz"]:.1f} Hz)',
        f'latency  p50 {delay["p50"]:.0f} ms, p95 {delay["p95"]:.0f} ms '
        '(camera stamp to label image received)',
    ]
    for words in result['vocabularies']:
        names = ', '.join(f'{number} {name}' for name, number in words['ids'].items())
        text.append(f'words    version {words["version"]}: {names}')
        if 'miou' in words:
            ranked = sorted((v, n) for n, v in words['iou'].items() if v is not None)
            worst = ', '.join(f'{name} {value:.2f}' for value, name in ranked[:3])
            text.append(
                f'mIoU     {words["miou"]:.2f} over {len(ranked)} words in {words["frames"]} '
                f'pictures; lowest: {worst}'
            )
    if 'note' in result:
        text.append(f'note     {result["note"]}')
    return text


def _check(labelled: list[Labelled], vocabularies: list[Vocabulary]) -> None:
    described = {v.version: {c.id for c in v.classes} | {0} for v in vocabularies}
    for one in labelled:
        ids = _ids(one.mask)
        # Topics are not ordered among each other: mask and vocabulary may overtake one another.
        near = (one.version - 1, one.version, one.version + 1)
        if not any(ids <= described.get(version, set()) for version in near):
            raise Failure(f'a label image holds ids {ids} of no published vocabulary')
        if one.mask.step != one.mask.width or not one.mask.header.frame_id:
            raise Failure('a label image is padded or lacks its camera frame')


def _rate_hz(times_s: list[float]) -> float:
    """Of events at these times; 0 for fewer than two."""
    return (len(times_s) - 1) / (times_s[-1] - times_s[0]) if len(times_s) > 1 else 0.0


def _score(collector: Collector, words: Vocabulary, labelled: list[Labelled]) -> dict:
    """Words with their ids and, where they name all things of a truth, how well they were found."""
    ids = {c.name: c.id for c in words.classes}
    result = {'version': words.version, 'ids': ids}
    if not collector.truth_vocabularies or not all(thing.id_in(ids) for thing in THINGS):
        return result
    in_words = _truth_table(collector, ids)
    confusion = Confusion(max(ids.values()))
    frames = 0
    for one in labelled:
        # Beside a change, a mask may be of the words before or after.
        if one.truth and one.version == words.version and _ids(one.mask) <= {0, *ids.values()}:
            confusion.add(in_words[_pixels(one.truth)], _pixels(one.mask))
            frames += 1
    if frames:
        all_iou = confusion.iou
        iou = {name: float(all_iou[number - 1]) for name, number in ids.items()}
        result.update(
            frames=frames,
            miou=confusion.miou,
            accuracy=confusion.accuracy,
            iou={name: None if np.isnan(value) else value for name, value in iou.items()},
        )
    return result


def _pixels(mask: Image) -> np.ndarray:
    """[H, W] uint8 of an unpadded mono8 image."""
    if mask.encoding != 'mono8':
        raise Failure(f'expected mono8, got {mask.encoding}')
    return np.frombuffer(mask.data, np.uint8).reshape(mask.height, mask.width)


def _ids(mask: Image) -> set[int]:
    return set(np.unique(_pixels(mask)).tolist())


def _truth_table(collector: Collector, ids: dict[str, int]) -> np.ndarray:
    """[256] uint8: ids of the truth -> ids of the words."""
    true_ids = {c.name: c.id for c in collector.truth_vocabularies[-1].classes}
    table = np.zeros(256, np.uint8)
    for thing in THINGS:
        table[true_ids[thing.title]] = thing.id_in(ids)
    return table


def _panel(collector: Collector, snapshot: Snapshot) -> np.ndarray:
    """Camera, truth (where there is one), labels, confidence and overlay, with a legend."""
    labelled = snapshot.labelled
    labels = _pixels(labelled.mask)
    versions = {words.version: words for words in collector.vocabularies}
    words = versions.get(labelled.version, collector.vocabularies[0])
    ids = {c.name: c.id for c in words.classes}
    palette = np.full((256, 3), _UNLABELED_COLOR, np.uint8)
    for c in words.classes:
        palette[c.id] = [round(255 * value) for value in (c.color.r, c.color.g, c.color.b)]
    present = _ids(labelled.mask)
    parts = {'camera': cv2.resize(images.to_rgb(snapshot.camera), labels.shape[::-1])}
    if labelled.truth:
        truth = _truth_table(collector, ids)[_pixels(labelled.truth)]
        parts['truth'] = palette[truth]
        present |= set(np.unique(truth).tolist())
    parts['labels'] = palette[labels]
    parts['confidence'] = images.to_rgb(snapshot.confidence)
    parts['overlay'] = images.to_rgb(snapshot.overlay)
    row = np.hstack([_titled(picture, title) for title, picture in parts.items()])
    classes = [c for c in words.classes if c.id in present]
    return np.vstack([row, _legend(classes, palette, row.shape[1])])


def _titled(picture: np.ndarray, title: str) -> np.ndarray:
    head = np.full((22, picture.shape[1], 3), 255, np.uint8)
    cv2.putText(head, title, (6, 16), _FONT, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    return np.vstack([head, picture])


def _legend(
    classes, palette: np.ndarray, width: int, row: int = 26, column: int = 200
) -> np.ndarray:
    columns = max(1, width // column)
    legend = np.full((row * max(1, -(-len(classes) // columns)), width, 3), 255, np.uint8)
    for n, c in enumerate(classes):
        x, y = n % columns * column, n // columns * row
        color = tuple(int(value) for value in palette[c.id])
        cv2.rectangle(legend, (x + 6, y + 5), (x + 24, y + 21), color, cv2.FILLED)
        text = f'{c.id} {c.name}'
        cv2.putText(legend, text, (x + 30, y + 19), _FONT, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    return legend


def _versions() -> dict[str, str]:
    names = ('cliptrase_ros', 'torch', 'open_clip_torch', 'numpy', 'pybullet', 'rclpy')
    found = {'python': platform.python_version()}
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
