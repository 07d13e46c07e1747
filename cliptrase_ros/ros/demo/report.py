"""Report of the demo: checks, scores against the truth, pictures, result.json."""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from sensor_msgs.msg import Image

from ...demo import SETTINGS
from ...demo.things import THINGS
from ...evaluation.metrics import Confusion
from ...media import drawing, encodings
from ...msg import Vocabulary
from ...space.views import front_view, top_view
from .collector import Cloud, Collector, Failure, HeardLabels, Snapshot, points_of

RESULT = 'result.json'
_UNLABELED_COLOR = (40, 40, 40)


def report(
    collector: Collector, snapshots: list[Snapshot], settings: dict[str, Any], out: Path
) -> dict:
    """Check, score and save. Return the content of result.json.

    Raises:
        Failure: a label image or a cloud does not follow the interface.
    """
    labelled = list(collector.labelled)
    _check(labelled, collector.vocabularies)
    for snapshot in snapshots:
        _check_cloud(snapshot)
    result = {
        'frames': len(labelled),
        'size': [labelled[-1].mask.width, labelled[-1].mask.height],
        'rate_hz': _rate_hz([one.arrival_s for one in labelled]),
        'camera_rate_hz': _rate_hz(sorted(collector.camera.stamps_s)),
        'latency_ms': _latency_ms(labelled),
        **_space(collector),
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
                'these scores are of the small demo model, which knows only the demo world; '
                'they say nothing about CLIP'
            )
    out.mkdir(parents=True, exist_ok=True)
    (out / RESULT).write_text(json.dumps(result, indent=2, allow_nan=False) + '\n')
    for number, snapshot in enumerate(snapshots, 1):
        picture = _panel(collector, snapshot)
        path = out / f'frame_{number}.png'
        cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    return result


def lines(result: dict) -> list[str]:
    """Return the result as lines of text, for people."""
    width, height = result['size']
    delay = result['latency_ms']
    text = [
        f'{result["frames"]} label images of {width} x {height} px',
        f'rate     {result["rate_hz"]:.1f} Hz (camera {result["camera_rate_hz"]:.1f} Hz)',
        f'latency  p50 {delay["p50"]:.0f} ms, p95 {delay["p95"]:.0f} ms '
        '(camera stamp to label image received)',
    ]
    if 'clouds' in result:
        clouds = result['clouds']
        delay = clouds['latency_ms']
        text += [
            f'clouds   {clouds["rate_hz"]:.1f} Hz, latency p50 {delay["p50"]:.0f} ms, '
            f'p95 {delay["p95"]:.0f} ms; {clouds["valid"]:.0%} of the points are valid',
            f'objects  {result["objects"]["per_frame"]:.1f} per image',
        ]
    if 'depth_error_mm' in result:
        error = result['depth_error_mm']
        text.append(
            f'depth    error of labelled points: largest {error["max"]:.3f} mm, '
            f'p99 {error["p99"]:.3f} mm, in {error["clouds"]} clouds'
        )
    for words in result['vocabularies']:
        names = ', '.join(f'{number} {name}' for name, number in words['ids'].items())
        text.append(f'words    version {words["version"]}: {names}')
        if 'miou' in words:
            ranked = sorted((v, n) for n, v in words['iou'].items() if v is not None)
            worst = ', '.join(f'{name} {value:.2f}' for value, name in ranked[:3])
            text.append(
                f'mIoU     {words["miou"]:.2f} over {len(ranked)} words in {words["frames"]} '
                f'images; lowest: {worst}'
            )
    if 'note' in result:
        text.append(f'note     {result["note"]}')
    return text


def _check(labelled: list[HeardLabels], vocabularies: list[Vocabulary]) -> None:
    described = {v.version: {c.id for c in v.classes} | {0} for v in vocabularies}
    for one in labelled:
        ids = _ids(one.mask)
        # The order between topics is not guaranteed: mask and vocabulary can overtake each other.
        near = (one.version - 1, one.version, one.version + 1)
        if not any(ids <= described.get(version, set()) for version in near):
            raise Failure(f'a label image has the ids {ids}, but no published vocabulary has all')
        if one.mask.step != one.mask.width or not one.mask.header.frame_id:
            raise Failure('a label image has padded rows or no frame_id')


def _check_cloud(snapshot: Snapshot) -> None:
    """Check that the cloud fits the label image, pixel by pixel."""
    cloud, mask = snapshot.cloud, snapshot.labelled.mask
    if cloud is None:
        return
    points, labels = points_of(cloud), _pixels(mask)
    if points.shape != labels.shape or cloud.header != mask.header:
        raise Failure('a cloud and its label image differ in size or header')
    valid = np.isfinite(points['z'])
    if (points['label'] != labels)[valid].any():
        raise Failure('a cloud and its label image differ in labels')


def _space(collector: Collector) -> dict:
    """Return results on clouds, objects and the depth of labelled points, or {} without clouds.

    Raises:
        Failure: a cloud does not follow the interface.
    """
    if collector.failures:
        raise collector.failures[0]
    clouds, counts = list(collector.clouds), list(collector.object_counts)
    if not clouds:
        return {}
    result = {
        'clouds': {
            'number': len(clouds),
            'rate_hz': _rate_hz([one.arrival_s for one in clouds]),
            'latency_ms': _latency_ms(clouds),
            'valid': float(np.mean([one.valid for one in clouds])),
        },
        'objects': {'messages': len(counts), 'per_frame': float(np.mean(counts))},
    }
    errors = np.array([one.error_mm for one in clouds if one.error_mm])
    if len(errors):
        # The errors of the worst cloud.
        largest, p99 = (float(value) for value in errors.max(axis=0))
        result['depth_error_mm'] = {'clouds': len(errors), 'max': largest, 'p99': p99}
    return result


def _latency_ms(heard: list[HeardLabels] | list[Cloud]) -> dict[str, float]:
    delays_ms = 1e3 * np.array([one.delay_s for one in heard])
    p50, p95 = (float(value) for value in np.percentile(delays_ms, (50, 95)))
    return {'p50': p50, 'p95': p95}


def _rate_hz(times_s: list[float]) -> float:
    """Return the rate of events at these times; 0 for fewer than two."""
    return (len(times_s) - 1) / (times_s[-1] - times_s[0]) if len(times_s) > 1 else 0.0


def _score(collector: Collector, words: Vocabulary, labelled: list[HeardLabels]) -> dict:
    """Return the words with their ids. Add scores if there is a truth and the words name all of
    its things."""
    ids = {c.name: c.id for c in words.classes}
    result = {'version': words.version, 'ids': ids}
    if not collector.truth_vocabularies or not all(thing.id_in(ids) for thing in THINGS):
        return result
    in_words = _truth_table(collector, ids)
    confusion = Confusion(max(ids.values()))
    frames = 0
    for one in labelled:
        # Close to a change, a mask may have the words before or after it.
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
    """Return [H, W] uint8 of an unpadded mono8 image."""
    if mask.encoding != 'mono8':
        raise Failure(f'encoding of a label image: expected mono8, got {mask.encoding}')
    return np.frombuffer(mask.data, np.uint8).reshape(mask.height, mask.width)


def _ids(mask: Image) -> set[int]:
    return set(np.unique(_pixels(mask)).tolist())


def _truth_table(collector: Collector, ids: dict[str, int]) -> np.ndarray:
    """Return [256] uint8: ids of the truth -> ids of the words."""
    true_ids = {c.name: c.id for c in collector.truth_vocabularies[-1].classes}
    table = np.zeros(256, np.uint8)
    for thing in THINGS:
        table[true_ids[thing.title]] = thing.id_in(ids)
    return table


def _panel(collector: Collector, snapshot: Snapshot) -> np.ndarray:
    """Return one picture of camera, truth (if there is one), labels, confidence, overlay and the
    cloud (if there is one) from the front and from above, with a legend."""
    labelled = snapshot.labelled
    labels = _pixels(labelled.mask)
    versions = {words.version: words for words in collector.vocabularies}
    words = versions.get(labelled.version, collector.vocabularies[0])
    ids = {c.name: c.id for c in words.classes}
    palette = np.full((256, 3), _UNLABELED_COLOR, np.uint8)
    for c in words.classes:
        palette[c.id] = [round(255 * value) for value in (c.color.r, c.color.g, c.color.b)]
    present = _ids(labelled.mask)
    parts = {'camera': cv2.resize(encodings.to_rgb(snapshot.camera), labels.shape[::-1])}
    if labelled.truth:
        truth = _truth_table(collector, ids)[_pixels(labelled.truth)]
        parts['truth'] = palette[truth]
        present |= set(np.unique(truth).tolist())
    parts['labels'] = palette[labels]
    parts['confidence'] = encodings.to_rgb(snapshot.confidence)
    parts['overlay'] = encodings.to_rgb(snapshot.overlay)
    if snapshot.cloud:
        parts |= _views(points_of(snapshot.cloud), palette)
    row = np.hstack([drawing.titled(picture, title) for title, picture in parts.items()])
    legend = [(f'{c.id} {c.name}', palette[c.id]) for c in words.classes if c.id in present]
    return np.vstack([row, drawing.legend(legend, row.shape[1])])


def _views(points: np.ndarray, palette: np.ndarray) -> dict[str, np.ndarray]:
    """Return a cloud [H, W] from the front and from above, each [H, W, 3] uint8 RGB. The scales
    show all points except the outermost. Colours are half the cloud's own, half the classes'."""
    height, width = points.shape
    points = points[np.isfinite(points['z'])]
    xyz = np.stack([points[axis] for axis in 'xyz'], axis=-1)
    words = np.ascontiguousarray(points['rgb'], np.float32).view(np.uint32)
    rgb = np.stack([words >> shift & 255 for shift in (16, 8, 0)], axis=-1)
    colors = ((palette[points['label']] + rgb) // 2).astype(np.uint8)
    aspect = width / height
    low, high = np.percentile(xyz, (1, 99), axis=0) if len(xyz) else (np.zeros(3), np.ones(3))
    (x, y, _), (wide, tall, _), far = (low + high) / 2, high - low, high[2]
    half, deep = _half_metres(max(tall, wide / aspect) / 2), _half_metres(max(far, wide / aspect))
    across = half * aspect, deep * aspect / 2
    return {
        'front': front_view(
            xyz,
            colors,
            x_m=(x - across[0], x + across[0]),
            y_m=(y - half, y + half),
            pixels_per_m=height / (2 * half),
        ),
        'top': top_view(
            xyz,
            colors,
            x_m=(x - across[1], x + across[1]),
            z_m=(0.0, deep),
            pixels_per_m=height / deep,
        ),
    }


def _half_metres(value: float) -> float:
    """Return the next half metre above the value."""
    return math.floor(2 * value) / 2 + 0.5


def _versions() -> dict[str, str]:
    names = ('cliptrase_ros', 'torch', 'open_clip_torch', 'numpy', 'pybullet', 'rclpy')
    found = {'python': platform.python_version()}
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
