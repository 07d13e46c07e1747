"""`make demo`: run demo_world and segmentation_node over DDS, and score against the truth.

Everything is real: three processes, topics, parameters, and a trained model. But the world and its
model are small: the model knows only this world, and its scores are not those of CLIP. With
--source a camera_publisher replaces the world, and there are no scores. With --depth it plays an
RGB-D recording. With --view a page in the browser shows them until Ctrl-C, without scores.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rclpy

from ...demo import SETTINGS, palette
from ...demo.things import CLASSES, THINGS
from ...demo.world import MissingExtra, require_pybullet
from ...options import flattened
from ...settings import Settings
from ..camera.sources import MM
from ..parameters import NodeOptions
from ..shutdown import spun
from . import domain
from .collector import CAMERA, DEPTH, Collector, Failure, Snapshot
from .report import FILM, RESULT, lines, report

# Remaps: name in the camera and the node := name in the demo.
TOPICS = [
    f'image:={CAMERA}',
    f'camera_info:={CAMERA.rsplit("/", 1)[0]}/camera_info',
    f'depth/image_rect:={DEPTH}',
    f'depth/camera_info:={DEPTH.rsplit("/", 1)[0]}/camera_info',
]
PROFILE = 'config/fastdds_large_images.xml'
# The new word of the second vocabulary with --source or --words.
NEW_WORD = 'lamp'
# Seconds per scene of the demo world: short, so that many scenes are seen.
SCENE_S = 3.0
# With --view somebody looks at each of them.
SEEN_SCENE_S = 8.0
# Pictures saved for each vocabulary.
PICTURES = 3
START_S = 1800
STALL_S = 60


def main(args: list[str] | None = None) -> int:
    """Run the demo. Return 0 if everything that it promises was seen."""
    options = _parse(args)
    if not options.source:
        try:
            require_pybullet()
        except MissingExtra as missing:
            print(f'the demo failed: {missing}', file=sys.stderr)
            return 1
    settings = _choose_model(options)
    first, second = _choose_words(options)
    lock = domain.claim()
    _use_transport_profile()
    rclpy.init()
    processes: list[subprocess.Popen] = []
    try:
        if options.view:
            _serve(options, settings, first, processes)
            return 0
        _remove_pictures(options.out)
        has_depth = not options.source or bool(options.depth)
        with spun(Collector(has_depth, not options.source)) as collector:
            processes.append(_start_camera(options))
            processes.append(_start_node(settings, first))
            if not options.source:
                # A topic may be discovered late: scores start when the truth is received.
                heard = 'no label image with ground truth came'
                _wait(lambda: _has_truth(collector), processes, START_S, heard)
            if has_depth:
                heard = 'no cloud or no objects came'
                _wait(lambda: _in_space(collector), processes, START_S, heard)
            snapshots = _watch(collector, processes, options.frames, second)
            result = report(collector, snapshots, settings, options.out)
        print('\n' + '\n'.join([*lines(result), f'pictures and {RESULT} are in {options.out}/']))
    except Failure as failure:
        print(f'\nthe demo failed: {failure}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0 if options.view else 130
    finally:
        codes = [_end(process) for process in processes]
        rclpy.try_shutdown()
        lock.close()
    if any(codes):
        print(f'the demo failed: exit codes of its processes are {codes}', file=sys.stderr)
        return 1
    return 0


def _remove_pictures(folder: Path) -> None:
    """Remove what an earlier run wrote."""
    for path in (folder / RESULT, folder / FILM, *folder.glob('frame_*.png')):
        path.unlink(missing_ok=True)


def _parse(args: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog='make demo', description=__doc__.split('\n')[0])
    parser.add_argument('--weights', help='open_clip tag or local file (default: the demo model)')
    parser.add_argument(
        '--model', help=f'open_clip model (default with --weights: {Settings.model})'
    )
    parser.add_argument(
        '--source', help='picture, folder, video or webcam number instead of the demo world'
    )
    parser.add_argument(
        '--depth',
        help='depth picture, or folder with one depth picture for each picture of --source',
    )
    parser.add_argument(
        '--depth-unit', type=float, default=MM, help='metres per step of 16-bit depth pictures'
    )
    parser.add_argument(
        '--intrinsics', type=_intrinsics, help='fx,fy,cx,cy in pixels of the pictures of --source'
    )
    parser.add_argument('--words', nargs='+', help='vocabulary')
    parser.add_argument('--frames', type=int, default=100, help='label images per vocabulary')
    parser.add_argument('--rate', type=float, default=5.0, help='camera images per second')
    parser.add_argument('--seed', type=int, default=None, help='seed of the demo world')
    parser.add_argument(
        '--view', action='store_true', help='show a page in the browser until Ctrl-C'
    )
    parser.add_argument('--port', type=int, default=8765, help='port of this page')
    parser.add_argument('--out', type=Path, default=Path('demo_output'), help='folder for pictures')
    options = parser.parse_args(args)
    if not options.source and (options.depth or options.intrinsics):
        parser.error('--depth and --intrinsics need --source')
    return options


def _intrinsics(text: str) -> dict[str, float]:
    names = 'fx', 'fy', 'cx', 'cy'
    try:
        return dict(zip(names, map(float, text.split(',')), strict=True))
    except ValueError:
        raise argparse.ArgumentTypeError(f'expected fx,fy,cx,cy, got {text}') from None


def _choose_model(options: argparse.Namespace) -> dict[str, Any]:
    """Return the engine's settings: the given ones; otherwise, with --source and if the hub can be
    reached, the real CLIP; otherwise the demo model."""
    given = {'model': options.model, 'weights': options.weights}
    given = {name: value for name, value in given.items() if value}
    if any(SETTINGS[name] == value for name, value in given.items()):
        return {**SETTINGS, **given}
    real = {'model': Settings.model, 'weights': Settings.weights}
    if given:
        return {**real, **given}
    if options.source and _hub_reachable():
        print(f'using {Settings.model} ({Settings.weights}); the first run downloads its weights')
        return real
    if options.source:
        print(
            'no --weights given, and the hub cannot be reached: using the demo model, which knows '
            'only the demo world'
        )
    return dict(SETTINGS)


def _hub_reachable() -> bool:
    from ...model.weights import hub_reachable  # imports torch, which nothing else here needs

    return hub_reachable()


def _choose_words(options: argparse.Namespace) -> tuple[list[str], list[str]]:
    """Return the first words, and the words after the change."""
    if options.source or options.words:
        words = options.words or list(NodeOptions.vocabulary)
        return words, [*(word for word in words[1:] if word != NEW_WORD), NEW_WORD]
    # Every painted thing by its colour. No caption of the training had 'yellow duck' or 'blue
    # block'.
    return list(CLASSES), [thing.title for thing in THINGS]


def _start_camera(options: argparse.Namespace) -> subprocess.Popen:
    common = [f'rate_hz:={options.rate}', 'wait_for_subscriber:=true']
    if options.source:
        recording = dict(options.intrinsics or {})
        if options.depth:
            recording |= {'depth_source': options.depth, 'depth_unit_m': options.depth_unit}
        own = [f'{name}:={value}' for name, value in recording.items()]
        return _start('camera', [f'source:={options.source}', *own, *common], TOPICS)
    seed = [] if options.seed is None else [f'seed:={options.seed}']
    scene_s = SEEN_SCENE_S if options.view else SCENE_S
    return _start('demo.demo_world', [*seed, f'scene_s:={scene_s}', *common], TOPICS)


def _start_node(settings: dict[str, Any], words: Sequence[str]) -> subprocess.Popen:
    values = {**flattened(Settings, settings), 'vocabulary': _yaml(words)}
    values['colors'] = _yaml(palette.ENTRIES)
    return _start('node', [f'{name}:={value}' for name, value in values.items()], TOPICS)


def _serve(
    options: argparse.Namespace,
    settings: dict[str, Any],
    words: Sequence[str],
    processes,
) -> None:
    """Show the camera and the node in a page until Ctrl-C.

    Raises:
        Failure: one of the processes ended with an error.
    """
    processes.append(_start('view.web_view', [f'port:={options.port}'], []))
    processes.append(_start_camera(options))
    processes.append(_start_node(settings, words))
    while rclpy.ok():
        for process in processes:
            if process.poll():
                raise Failure(f'{" ".join(process.args[1:3])} ended with {process.returncode}')
        time.sleep(0.05)


def _use_transport_profile() -> None:
    """Set the profile of Fast DDS: large images need more shared memory than its default."""
    for root in (Path(__file__).parents[3], Path(sys.prefix) / 'share' / 'cliptrase_ros'):
        if (root / PROFILE).is_file():
            for name in ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE'):
                os.environ.setdefault(name, str(root / PROFILE))
            return


def _start(module: str, parameters: list[str], remaps: list[str]) -> subprocess.Popen:
    command = [sys.executable, '-m', f'cliptrase_ros.ros.{module}', '--ros-args']
    for parameter in parameters:
        command += ['-p', parameter]
    for remap in remaps:
        command += ['-r', remap]
    return subprocess.Popen(command)


def _yaml(words: Sequence[str]) -> str:
    return '[' + ', '.join(f'"{word}"' for word in words) + ']'


def _watch(collector: Collector, processes, frames: int, new_words: list[str]) -> list[Snapshot]:
    """Collect label images, change the words, and collect again. Return some of them with all
    messages that belong to them."""
    snapshots: dict[int, Snapshot] = {}

    def wait(condition, patience_s: float, failure: str) -> None:
        _wait(condition, processes, patience_s, failure)

    def keep() -> bool:
        snapshot = collector.snapshot()
        if snapshot is not None:
            snapshots[id(snapshot.labelled)] = snapshot
        return bool(snapshots)

    def collect() -> None:
        start = len(collector.labelled)
        for part in range(1, PICTURES + 1):
            goal = start + part * frames // PICTURES
            while (have := len(collector.labelled)) < goal:
                wait(
                    lambda have=have: len(collector.labelled) > have,
                    STALL_S,
                    'no new label image came',
                )
            keep()

    wait(lambda: collector.labelled and collector.vocabularies, START_S, 'no label image came')
    collect()
    first = collector.vocabularies[-1].version
    collector.set_words(new_words)
    wait(lambda: collector.vocabularies[-1].version > first, 600, 'no new vocabulary came')
    collect()
    wait(lambda: snapshots or keep(), STALL_S, 'no overlay, confidence or cloud came')
    return list(snapshots.values())


def _has_truth(collector: Collector) -> bool:
    return bool(collector.labelled) and collector.labelled[-1].truth is not None


def _in_space(collector: Collector) -> bool:
    """Return True if clouds and objects came, or a bad cloud (the report raises its error)."""
    return bool((collector.clouds and collector.object_counts) or collector.failures)


def _wait(condition, processes, timeout_s: float, failure: str) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if not rclpy.ok():
            raise Failure('it was ended from outside, for example by a signal')
        for process in processes:
            if process.poll() is not None:
                raise Failure(f'{" ".join(process.args[1:3])} ended with {process.returncode}')
        if time.monotonic() > deadline:
            raise Failure(f'{failure} within {timeout_s:.0f} s')
        time.sleep(0.05)


def _end(process: subprocess.Popen) -> int:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        return process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
