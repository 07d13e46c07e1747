"""`make demo`: pictures through camera_publisher -> segmentation_node over DDS, and what came out.

Everything is real: three processes, topics, parameters. Only the model is small and untrained
where neither weights are given nor the hub can be reached; the output says so.
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

import cv2
import numpy as np
import rclpy
from rcl_interfaces.srv import SetParameters
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.time import Time
from sensor_msgs.msg import Image

from ..demo import pictures
from ..msg import Vocabulary
from ..settings import Settings
from ..weights import RANDOM, TINY, hub_reachable
from . import domain, images

PROFILE = 'config/fastdds_large_images.xml'
NEW_WORD = 'lamp'
START_S = 1800
STALL_S = 60


class Failure(Exception):
    """What the demo promises did not happen."""


class Collector(Node):
    """Listens to what the segmentation node publishes, and checks it as a consumer would."""

    def __init__(self):
        super().__init__('collector')
        self.masks: list[Image] = []
        self.delays_s: list[float] = []
        self.arrivals_s: list[float] = []
        self.vocabularies: list[Vocabulary] = []
        self.versions: list[int] = []
        self._overlays: dict[tuple[int, int], Image] = {}
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.create_subscription(
            Vocabulary, '/segmentation/vocabulary', self.vocabularies.append, latched
        )
        self.create_subscription(Image, '/segmentation/label_mask', self._take_mask, 10)
        self.create_subscription(Image, '/segmentation/overlay', self._take_overlay, 10)
        self._setter = self.create_client(SetParameters, '/segmentation/set_parameters')

    def _take_mask(self, mask: Image) -> None:
        self.arrivals_s.append(time.monotonic())
        stamp = Time.from_msg(mask.header.stamp, clock_type=self.get_clock().clock_type)
        self.delays_s.append((self.get_clock().now() - stamp).nanoseconds * 1e-9)
        self.versions.append(self.vocabularies[-1].version if self.vocabularies else 0)
        self.masks.append(mask)

    def _take_overlay(self, message: Image) -> None:
        stamp = message.header.stamp
        self._overlays[stamp.sec, stamp.nanosec] = message

    def overlay_of(self, mask: Image) -> np.ndarray | None:
        """The overlay with the mask's stamp, RGB."""
        message = self._overlays.get((mask.header.stamp.sec, mask.header.stamp.nanosec))
        return None if message is None else images.to_rgb(message)

    def set_words(self, words: list[str]) -> None:
        """Change the vocabulary of the running node, as `ros2 param set` does."""
        parameter = Parameter('vocabulary', value=words).to_parameter_msg()
        answered = threading.Event()
        future = self._setter.call_async(SetParameters.Request(parameters=[parameter]))
        future.add_done_callback(lambda _: answered.set())
        if not answered.wait(30):
            raise Failure('the node did not answer to a new vocabulary')
        result = future.result().results[0]
        if not result.successful:
            raise Failure(f'the node refused the new vocabulary: {result.reason}')


def main(args: list[str] | None = None) -> int:
    """Run the demo; 0 if everything that it promises was seen."""
    options = _parse(args)
    weights, model = _choose_weights(options)
    out = options.out
    source = options.source or str(pictures.write_sequence(out / 'input'))
    lock = domain.claim()
    _use_transport_profile()
    rclpy.init()
    collector = Collector()
    spinner = threading.Thread(target=_spin, args=(collector,), daemon=True)
    spinner.start()
    processes = []
    try:
        camera = [f'source:={source}', f'rate_hz:={options.rate}', 'wait_for_subscriber:=true']
        topics = ['image:=/camera/image_raw', 'camera_info:=/camera/camera_info']
        processes.append(_start('camera', camera, topics))
        node = [f'model:={model}', f'weights:={weights}', f'vocabulary:={_yaml(options.words)}']
        processes.append(_start('node', node, topics[:1]))
        _watch(collector, processes, options)
        _report(collector, out)
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
    if weights == RANDOM:
        print(
            'These labels mean nothing: the model is small and untrained, since no weights were '
            'given and\nthe hub of the real ones cannot be reached. With weights: '
            "make demo ARGS='--weights FILE'"
        )
    return 0


def _parse(args: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog='make demo', description=__doc__.split('\n')[0])
    parser.add_argument('--weights', help='open_clip tag or local file; default: what can be had')
    parser.add_argument('--model', help=f'open_clip model (default {Settings.model})')
    parser.add_argument('--source', help='picture, folder, video or webcam (default: drawn)')
    parser.add_argument('--words', nargs='+', default=list(pictures.WORDS), help='vocabulary')
    parser.add_argument('--frames', type=int, default=40, help='label images a vocabulary')
    parser.add_argument('--rate', type=float, default=5.0, help='pictures a second')
    parser.add_argument('--out', type=Path, default=Path('demo_output'), help='folder for pictures')
    return parser.parse_args(args)


def _choose_weights(options: argparse.Namespace) -> tuple[str, str]:
    if options.weights or options.model:
        return options.weights or Settings.weights, options.model or Settings.model
    if hub_reachable():
        print(f'using {Settings.model} ({Settings.weights}); the first run downloads its weights')
        return Settings.weights, Settings.model
    print(f'no weights given and the hub cannot be reached: using the untrained {TINY.stem}')
    return RANDOM, TINY.stem


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


def _watch(collector: Collector, processes, options: argparse.Namespace) -> None:
    """Collect label images, change the words from here, and collect again."""
    _wait(
        lambda: collector.masks and collector.vocabularies,
        processes,
        START_S,
        'no label image came',
    )

    def collect(count: int) -> None:
        patience_s = STALL_S + 10 * options.frames
        _wait(
            lambda: len(collector.masks) >= count,
            processes,
            patience_s,
            'label images stopped coming',
        )

    collect(options.frames)
    first = collector.vocabularies[-1].version
    collector.set_words([*options.words[1:], NEW_WORD])
    _wait(
        lambda: collector.vocabularies[-1].version > first, processes, 600, 'no new vocabulary came'
    )
    collect(len(collector.masks) + options.frames)


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


def _report(collector: Collector, out: Path) -> None:
    """Check ids, sizes and headers; save pictures; print rates and latencies."""
    described = {v.version: {c.id for c in v.classes} | {0} for v in collector.vocabularies}
    masks, versions = list(collector.masks), list(collector.versions)
    for mask, version in zip(masks, versions, strict=False):
        ids = _ids(mask)
        # Topics are not ordered among each other: a mask may overtake its vocabulary.
        if not any(ids <= described.get(v, set()) for v in (version, version + 1)):
            raise Failure(f'a label image holds ids {ids} of no published vocabulary')
        if mask.encoding != 'mono8' or mask.step != mask.width or not mask.header.frame_id:
            raise Failure('a label image is not an unpadded mono8 with its camera frame')
    saved = _save(collector, masks, versions, out)
    duration = collector.arrivals_s[-1] - collector.arrivals_s[0]
    p50, p95 = 1e3 * np.percentile(collector.delays_s, (50, 95))
    print(f'\n{len(masks)} label images of {masks[-1].width} x {masks[-1].height} px')
    print(f'rate     {(len(masks) - 1) / duration:.1f} Hz')
    print(f'latency  p50 {p50:.0f} ms, p95 {p95:.0f} ms (camera stamp to label image received)')
    for words in collector.vocabularies:
        names = ', '.join(f'{c.id} {c.name}' for c in words.classes)
        print(f'words    version {words.version}: {names}')
    print(f'pictures {", ".join(map(str, saved))}')


def _ids(mask: Image) -> set[int]:
    return set(np.unique(np.frombuffer(mask.data, np.uint8)).tolist())


def _save(collector: Collector, masks, versions, out: Path) -> list[Path]:
    saved = []
    out.mkdir(parents=True, exist_ok=True)
    names = {v.version: v for v in collector.vocabularies}
    for number, k in enumerate(np.linspace(0, len(masks) - 1, 4).astype(int), 1):
        picture = collector.overlay_of(masks[k])
        if picture is None:
            continue
        present = _ids(masks[k])
        # The first masks may have overtaken the first vocabulary.
        words = names.get(versions[k], collector.vocabularies[0])
        classes = [c for c in words.classes if c.id in present]
        path = out / f'overlay_{number}.png'
        cv2.imwrite(str(path), cv2.cvtColor(_with_legend(picture, classes), cv2.COLOR_RGB2BGR))
        saved.append(path)
    if not saved:
        raise Failure('no overlay came')
    return saved


def _with_legend(picture: np.ndarray, classes) -> np.ndarray:
    row = 26
    legend = np.full((row * max(1, (len(classes) + 3) // 4), picture.shape[1], 3), 255, np.uint8)
    for n, c in enumerate(classes):
        x, y = (n % 4) * picture.shape[1] // 4, n // 4 * row
        color = tuple(round(255 * v) for v in (c.color.r, c.color.g, c.color.b))
        cv2.rectangle(legend, (x + 6, y + 5), (x + 24, y + 21), color, cv2.FILLED)
        cv2.putText(
            legend,
            f'{c.id} {c.name}',
            (x + 30, y + 19),
            cv2.FONT_HERSHEY_SIMPLEX,
            0.5,
            (0, 0, 0),
            1,
            cv2.LINE_AA,
        )
    return np.concatenate([picture, legend])


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
