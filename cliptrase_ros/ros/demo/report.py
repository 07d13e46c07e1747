"""Report of the demo: checks, scores against the truth, pictures, result.json."""

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

from ...demo import SETTINGS
from ...demo.things import THINGS
from ...evaluation.metrics import Confusion
from ...msg import Vocabulary
from . import panels
from .collector import (
    Cloud,
    Collector,
    Failure,
    HeardLabels,
    Snapshot,
    ids_of,
    pixels_of,
    points_of,
)

RESULT, FILM = 'result.json', 'segmentation.webp'


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
        picture = panels.panels(collector, snapshot)
        path = out / f'frame_{number}.png'
        cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    panels.film(collector, out / FILM, result['camera_rate_hz'])
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
        ids = ids_of(one.mask)
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
    points, labels = points_of(cloud), pixels_of(mask)
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
    in_words = collector.truth_table(words)
    confusion = Confusion(max(ids.values()))
    frames = 0
    for one in labelled:
        # Close to a change, a mask may have the words before or after it.
        if one.truth and one.version == words.version and ids_of(one.mask) <= {0, *ids.values()}:
            confusion.add(in_words[pixels_of(one.truth)], pixels_of(one.mask))
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


def _versions() -> dict[str, str]:
    names = ('cliptrase_ros', 'torch', 'open_clip_torch', 'numpy', 'pybullet', 'rclpy')
    found = {'python': platform.python_version()}
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
