"""`make demo`: demo_world -> segmentation_node over DDS, scored against the simulator's truth.

Everything is real: three processes, topics, parameters, a model that was trained. What is small is
the world and its model: it knows that world only, and its scores are never CLIP's. With --source
a camera_publisher takes the place of the world, and there are no scores.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node

from ..demo import SETTINGS
from ..demo.world import CLASSES, THINGS, MissingExtra, require_pybullet
from ..settings import Settings
from ..weights import hub_reachable
from . import domain
from .collector import TOPICS, Collector, Failure
from .parameters import NodeOptions
from .report import lines, report

PROFILE = 'config/fastdds_large_images.xml'
# Where the camera is not the demo world, one word more.
NEW_WORD = 'lamp'
START_S = 1800
STALL_S = 60


def main(args: list[str] | None = None) -> int:
    """Run the demo; 0 if everything that it promises was seen."""
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
    collector = Collector()
    spinner = threading.Thread(target=_spin, args=(collector,), daemon=True)
    spinner.start()
    processes = []
    try:
        processes.append(_start_camera(options))
        values = {**settings, 'vocabulary': _yaml(first)}
        node = [f'{name}:={value}' for name, value in values.items()]
        processes.append(_start('node', node, [f'image:={TOPICS["camera"]}']))
        _watch(collector, processes, options.frames, second)
        print('\n' + '\n'.join(lines(report(collector, settings, options.out))))
    except Failure as failure:
        print(f'\nthe demo failed: {failure}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        codes = [_end(process) for process in processes]
        rclpy.try_shutdown()
        spinner.join(10)
        lock.close()
    if any(codes):
        print(f'the demo failed: the processes ended with {codes}', file=sys.stderr)
        return 1
    return 0


def _parse(args: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog='make demo', description=__doc__.split('\n')[0])
    parser.add_argument('--weights', help='open_clip tag or local file (default: the demo model)')
    parser.add_argument('--model', help=f'open_clip model (with --weights: {Settings.model})')
    parser.add_argument(
        '--source', help='picture, folder, video or webcam number in place of the demo world'
    )
    parser.add_argument('--words', nargs='+', help='vocabulary')
    parser.add_argument('--frames', type=int, default=100, help='label images a vocabulary')
    parser.add_argument('--rate', type=float, default=5.0, help='camera images a second')
    parser.add_argument('--seed', type=int, default=None, help='of the demo world')
    parser.add_argument('--out', type=Path, default=Path('demo_output'), help='folder for pictures')
    return parser.parse_args(args)


def _choose_model(options: argparse.Namespace) -> dict[str, str]:
    """The engine's settings: those asked for; for pictures from outside the real CLIP where it can
    be had; else the demo model."""
    if options.weights or options.model:
        return {
            'model': options.model or Settings.model,
            'weights': options.weights or Settings.weights,
        }
    if options.source and hub_reachable():
        print(f'using {Settings.model} ({Settings.weights}); the first run downloads its weights')
        return {'model': Settings.model, 'weights': Settings.weights}
    if options.source:
        print(
            'no weights given and the hub cannot be reached: using the demo model, which knows the '
            'demo world only'
        )
    return SETTINGS


def _choose_words(options: argparse.Namespace) -> tuple[list[str], list[str]]:
    """The words at first, and those after the change."""
    if options.source or options.words:
        words = options.words or list(NodeOptions.vocabulary)
        return words, [*words[1:], NEW_WORD]
    # Every painted thing by its colour; 'yellow duck' and 'blue block' were in no caption.
    return list(CLASSES), [thing.title for thing in THINGS]


def _start_camera(options: argparse.Namespace) -> subprocess.Popen:
    folder = TOPICS['camera'].rsplit('/', 1)[0]
    topics = [f'image:={TOPICS["camera"]}', f'camera_info:={folder}/camera_info']
    common = [f'rate_hz:={options.rate}', 'wait_for_subscriber:=true']
    if options.source:
        return _start('camera', [f'source:={options.source}', *common], topics)
    seed = [] if options.seed is None else [f'seed:={options.seed}']
    return _start('world', [*seed, *common], topics)


def _use_transport_profile() -> None:
    """Large images need a larger shared-memory segment than Fast DDS has by default."""
    for root in (Path(__file__).parents[2], Path(sys.prefix) / 'share' / 'cliptrase_ros'):
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


def _yaml(words: list[str]) -> str:
    return '[' + ', '.join(f'"{word}"' for word in words) + ']'


def _spin(node: Node) -> None:
    with contextlib.suppress(ExternalShutdownException):
        rclpy.spin(node)


def _watch(collector: Collector, processes, frames: int, new_words: list[str]) -> None:
    """Collect label images, change the words from here, and collect again."""

    def collect(count: int, patience_s: float) -> None:
        have = len(collector.labelled)
        _wait(
            lambda: len(collector.labelled) >= have + count and collector.vocabularies,
            processes,
            patience_s,
            'label images stopped coming' if have else 'no label image came',
        )

    collect(1, START_S)
    collect(frames - 1, STALL_S + 10 * frames)
    first = collector.vocabularies[-1].version
    collector.set_words(new_words)
    _wait(
        lambda: collector.vocabularies[-1].version > first, processes, 600, 'no new vocabulary came'
    )
    collect(frames, STALL_S + 10 * frames)


def _wait(condition, processes, timeout_s: float, failure: str) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if not rclpy.ok():
            raise Failure('it was ended from outside')
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


if __name__ == '__main__':
    sys.exit(main())
