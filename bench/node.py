#!/usr/bin/env python3
"""What the node costs in addition to its engine: latency, CPU, and gaps at changes of words.

bench/node.py [--model NAME] [--weights TAG|FILE|random] [--device D] [--input-size 96]
              [--prompt-templates imagenet80]
              [--tables latency cpu words topics] [--sizes 640x480 1920x1080] [--frames 100]
              [--seconds 4] [--turns 5] [--names 150] [--no-profile]

The node runs in its own process. The camera and the consumer are this process, connected by DDS.
The lines of a table are measured in turn, so that changes of the machine's speed affect all of them
equally. The default is the tiny model with random weights, because the node's own cost is then a
large part.
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import torch
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.time import Time
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from cliptrase_ros.msg import ClassMaskArray
from cliptrase_ros.srv import SetVocabulary
from own_world import PROFILE, world

from cliptrase_ros.cli import arguments
from cliptrase_ros.evaluation.timing import hardware
from cliptrase_ros.media import encodings
from cliptrase_ros.ros import diagnostics, messages
from cliptrase_ros.ros.camera.publisher import pinhole
from cliptrase_ros.ros.parameters import NodeOptions
from cliptrase_ros.ros.qos import newest

ROOT = Path(__file__).parents[1]
WORDS = list(NodeOptions.vocabulary)
OTHERS = ['cup', 'lamp', *WORDS[2:]]
OPTIONAL = {
    'confidence': Image,
    'color_mask': Image,
    'overlay': Image,
    'overlay/compressed': CompressedImage,
    'masks': ClassMaskArray,
    f'mask/{WORDS[0]}': Image,
    'camera_info': CameraInfo,
}
WARM_UP = 20
PATIENCE_S = 600
# The default of compressed_image_transport.
JPEG_QUALITY = 80


def main():
    tables = {'latency': latency, 'cpu': cpu, 'words': words, 'topics': topics}
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--model', default='cliptrase-tiny')
    parser.add_argument('--weights', default='random')
    parser.add_argument('--device', default='auto')
    parser.add_argument('--input-size', type=int, default=96)
    parser.add_argument('--prompt-templates', default='imagenet80')
    parser.add_argument('--tables', nargs='+', default=list(tables), choices=tables)
    parser.add_argument(
        '--sizes', type=arguments.size, nargs='+', default=[(640, 480), (1920, 1080)]
    )
    parser.add_argument('--frames', type=int, default=100, help='images per line of latency')
    parser.add_argument(
        '--seconds', type=float, default=4.0, help='length of each turn at a fixed rate'
    )
    parser.add_argument('--turns', type=int, default=5)
    parser.add_argument('--names', type=int, default=150, help='size of the vocabulary of topics')
    parser.add_argument(
        '--no-profile', action='store_true', help="use Fast DDS's default transport"
    )
    options = parser.parse_args()
    options.parameters = [
        f'{name}:={getattr(options, name)}'
        for name in ('model', 'weights', 'device', 'input_size', 'prompt_templates')
    ]
    with (
        tempfile.TemporaryDirectory() as folder,
        world(folder, not options.no_profile) as robot,
        nodes(robot, options) as cameras,
    ):
        print(_machine(options))
        first = next(iter(cameras.values()))
        for name in options.tables:
            tables[name](cameras if name == 'latency' else first, options)


@contextlib.contextmanager
def nodes(robot, options):
    """Start a node per size and transport; yield {(size, transport): Camera} when all answer."""
    with contextlib.ExitStack() as stack:
        cameras = {}
        for width, height in options.sizes:
            for transport in ('raw', 'compressed'):
                namespace = f'{transport}{width}'
                process = stack.enter_context(running(namespace, transport, options))
                camera = Camera(robot, process, namespace, (width, height), transport)
                cameras[(width, height), transport] = camera
        for camera in cameras.values():
            camera.meet()
        yield cameras


@contextlib.contextmanager
def running(namespace, transport, options):
    """Start a node and yield its process."""
    command = [sys.executable, '-m', 'cliptrase_ros.ros.node', '--ros-args']
    command += ['--log-level', 'warn', '-r', f'__ns:=/{namespace}']
    for parameter in (*options.parameters, f'image_transport:={transport}'):
        command += ['-p', parameter]
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


class Camera:
    """The camera of a node and the consumer of its label masks."""

    def __init__(self, robot, process, namespace, size, transport):
        self.robot, self.process, self.size = robot, process, size
        self._outputs = f'/{namespace}/segmentation/'
        self._status_name = f'/{namespace}/segmentation: camera'
        compressed = transport == 'compressed'
        self._image, topic = _image(size, compressed), f'/{namespace}/image'
        self._images = robot.create_publisher(
            type(self._image), topic + '/compressed' * compressed, newest()
        )
        self._info = messages.camera_info(size[::-1], pinhole(*size, 60.0), Image().header)
        self._infos = robot.create_publisher(CameraInfo, f'/{namespace}/camera_info', newest())
        self._arrived = threading.Condition()
        self.sent, self.arrivals, self.stamps, self.facts = 0, [], [], {}
        robot.create_subscription(Image, f'{self._outputs}label_mask', self._take, newest(depth=10))
        robot.create_subscription(DiagnosticArray, '/diagnostics', self._take_diagnostics, 10)
        self._service = robot.create_client(
            SetVocabulary, f'/{namespace}/segmentation/set_vocabulary'
        )

    def _take(self, mask):
        now = time.monotonic()
        with self._arrived:
            self.arrivals.append(now)
            self.stamps.append(_nanoseconds(mask.header.stamp))
            self._arrived.notify()

    def _take_diagnostics(self, message):
        for status in message.status:
            if status.name == self._status_name:
                self.facts = {pair.key: pair.value for pair in status.values}

    def send(self):
        """Publish an image; return its stamp."""
        stamp = self.robot.get_clock().now().to_msg()
        self._image.header.stamp = self._info.header.stamp = stamp
        self._images.publish(self._image)
        self._infos.publish(self._info)
        self.sent += 1
        return _nanoseconds(stamp)

    def round_trip(self, timeout_s=5.0):
        """Return the milliseconds from before an image is published until its mask arrives."""
        started = time.monotonic()
        stamp = self.send()
        with self._arrived:
            if self._arrived.wait_for(lambda: self.stamps[-1:] == [stamp], timeout_s):
                return 1e3 * (self.arrivals[-1] - started)
        return None

    def meet(self):
        """Wait until the node answers."""
        deadline = time.monotonic() + PATIENCE_S
        while self.round_trip(0.5) is None:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f'no label mask on {self._outputs}label_mask')

    def stream(self, rate_hz, seconds):
        """Send images at a fixed rate; return the times (start, end)."""
        start = time.monotonic()
        for number in range(max(1, round(rate_hz * seconds))):
            time.sleep(max(0.0, start + number / rate_hz - time.monotonic()))
            self.send()
        time.sleep(max(0.0, start + seconds - time.monotonic()))
        return start, time.monotonic()

    def diagnose(self):
        """Wait for diagnostics that count all masks that have arrived."""
        deadline = time.monotonic() + 60
        while int(self.facts.get(diagnostics.PUBLISHED, 0)) < len(self.arrivals):
            if time.monotonic() > deadline:
                raise SystemExit(f'no diagnostics of {self._status_name}')
            time.sleep(0.01)

    def quantiles(self, name):
        """Return (p50, p95) in ms of the node's last 100 frames."""
        return [float(self.facts[f'{name} {quantile} ms']) for quantile in ('p50', 'p95')]

    def hear(self):
        """Subscribe to all optional outputs; return the subscriptions when each has received a
        message."""
        heard = set()
        made = [
            self.robot.create_subscription(
                kind, self._outputs + topic, lambda _, topic=topic: heard.add(topic), newest()
            )
            for topic, kind in OPTIONAL.items()
        ]
        while len(heard) < len(OPTIONAL):
            self.round_trip()
        return made

    def set_words(self, names, answered):
        """Request other words; append the milliseconds until the answer to `answered`."""
        started = time.monotonic()
        self._service.wait_for_service()
        future = self._service.call_async(SetVocabulary.Request(prompts=names))

        def done(future):
            if not future.result().success:
                raise SystemExit(future.result().message)
            answered.append(1e3 * (time.monotonic() - started))

        future.add_done_callback(done)
        return future


def latency(cameras, options):
    """Print the latency of one image at a time."""
    times = {line: [] for line in cameras}
    for turn in range(WARM_UP + options.frames):
        for line, camera in cameras.items():
            trip = camera.round_trip()
            if turn >= WARM_UP:
                times[line].append(np.nan if trip is None else trip)
            time.sleep(0.02)
    for camera in cameras.values():
        camera.diagnose()
    print(
        f'\nOne image at a time, {options.frames} per line, all lines in turn: p50 / p95 in '
        'ms.\n"all": from before the camera publishes until the mask arrives; "node": receipt to '
        'publish;\n"engine": inference (both from the node\'s diagnostics of its last 100 frames);'
        '\n"added": differences of these quantiles.\n'
    )
    _table('image', 'transport', 'all', 'node', 'engine', 'added in all', 'of it in the node')
    for ((width, height), transport), camera in cameras.items():
        trips = np.array(times[(width, height), transport])
        everything = np.nanpercentile(trips[-100:], (50, 95))
        inside = np.array(camera.quantiles(diagnostics.FROM_RECEIPT))
        engine = np.array(camera.quantiles(diagnostics.INFERENCE))
        values = (everything, inside, engine, everything - engine, inside - engine)
        cells = [f'{p50:.1f} / {p95:.1f}' for p50, p95 in values]
        _row(f'{width} x {height}', transport, *cells)
    lost = sum(np.isnan(trips).sum() for trips in times.values())
    print(f'\nMasks that did not come: {lost}.')


def cpu(camera, options):
    """Print the CPU time at a fixed rate, without and with subscribers of the optional outputs."""
    rate_hz, process = 10.0, camera.process
    used = {'none': [], 'all': []}
    for _ in range(options.turns):
        for state, results in used.items():
            subscriptions = camera.hear() if state == 'all' else []
            camera.stream(rate_hz, 0.5)
            before, frames = _cpu_s(process), len(camera.arrivals)
            start, end = camera.stream(rate_hz, options.seconds)
            spent = _cpu_s(process) - before
            frames = len(camera.arrivals) - frames
            results.append((spent / (end - start), 1e3 * spent / frames))
            for subscription in subscriptions:
                camera.robot.destroy_subscription(subscription)
    width, height = camera.size
    print(
        f"\nCPU time of the node's process at {rate_hz:.0f} Hz, {width} x {height}, raw: medians "
        f'of {options.turns} turns of\n{options.seconds:g} s. The turns alternate between no '
        f'subscribers and subscribers of the optional outputs\n({", ".join(OPTIONAL)}).\n'
        'The smallest and largest turn are in brackets.\n'
    )
    _table('subscribed', 'CPU s a second', 'CPU ms a frame', 'ratio')
    none = np.array(used['none'])
    for state, results in used.items():
        a_second, a_frame = np.transpose(results)
        ratios = a_frame / none[:, 1]
        _row(
            state,
            f'{np.median(a_second):.2f}',
            f'{np.median(a_frame):.1f} ({a_frame.min():.1f} - {a_frame.max():.1f})',
            f'{np.median(ratios):.2f} ({ratios.min():.2f} - {ratios.max():.2f})',
        )


def words(camera, options):
    """Print the rate and the gaps of masks with a fast camera while the words change."""
    rate_hz = 30.0
    for names in (OTHERS, WORDS):
        _finish(camera, camera.set_words(names, []))
    camera.diagnose()
    before, sent = _counters(camera), camera.sent
    # 'none' is last, so that the node's last 100 frames are without a change.
    states = {'two new words': Flow(), 'known words': Flow(), 'none': Flow()}
    for turn in range(options.turns):
        choices = ([*WORDS, f'cat {turn}', f'dog {turn}'], (OTHERS, WORDS)[turn % 2], None)
        for flow, names in zip(states.values(), choices, strict=True):
            flow.run(camera, rate_hz, options.seconds, names)
    camera.diagnose()
    counted, sent = _counters(camera) - before, camera.sent - sent
    engine_ms = camera.quantiles(diagnostics.INFERENCE)[0]
    width, height = camera.size
    print(
        f'\n{rate_hz:.0f} Hz, {width} x {height}, raw; {options.turns} turns of '
        f'{options.seconds:g} s, each with one change of words or none;\n'
        f'prompt_templates {options.prompt_templates}. "beyond": the largest gap between masks '
        f"minus the engine's\nown time (p50 {engine_ms:.1f} ms while no words change), "
        'divided by the median gap.\n'
    )
    _table('change', 'masks a second', 'gap p50 / max ms', 'beyond', 'answer p50 / max ms')
    for state, flow in states.items():
        p50, worst = flow.gaps_ms
        _row(
            state,
            f'{flow.rate_hz:.1f}',
            f'{p50:.1f} / {worst:.1f}',
            f'{(worst - engine_ms) / p50:.1f}',
            _p50_max(flow.answers) if flow.answers else '',
        )
    drops = [f'{name} {n}' for name, n in counted.items() if name.startswith('dropped') and n]
    received, published = counted[diagnostics.RECEIVED], counted[diagnostics.PUBLISHED]
    print(
        f'\nSent {sent}, received by the node {received}, published {published}; '
        f'{"; ".join(drops) or "none dropped"}.'
    )


def topics(camera, options):
    """Print the gaps for vocabularies with many names; each name has its own topic."""
    rate_hz = 10.0
    many = [f'thing {number}' for number in range(options.names)]
    for names in (many, WORDS):
        _finish(camera, camera.set_words(names, []))
    flows = {f'to {len(many)} names': Flow(), f'back to {len(WORDS)}': Flow()}
    for _ in range(options.turns):
        for flow, names in zip(flows.values(), (many, WORDS), strict=True):
            flow.run(camera, rate_hz, options.seconds, names)
    publishers = [camera.robot.create_publisher(Image, f'm{n}', newest()) for n in range(len(many))]
    asked = []
    for _ in range(20):
        started = time.perf_counter()
        for publisher in publishers:
            publisher.get_subscription_count()
        asked.append(1e3 * (time.perf_counter() - started))
    print(
        f'\nThe embeddings of the words are cached, and each name has its own topic; '
        f'{rate_hz:.0f} Hz, {options.turns} turns.\n'
    )
    _table('change', 'answer p50 / max ms', 'gap p50 / max ms')
    for state, flow in flows.items():
        p50, worst = flow.gaps_ms
        _row(state, _p50_max(flow.answers), f'{p50:.1f} / {worst:.1f}')
    print(
        f'\nCounting the subscribers of {len(many)} publishers, as for each frame: p50 / max '
        f'{_p50_max(asked, 3)} ms.'
    )


class Flow:
    """The masks of several time spans at a fixed rate."""

    def __init__(self):
        self.answers = []
        self._gaps, self._masks, self._seconds = [], 0, 0.0

    def run(self, camera, rate_hz, seconds, names):
        """Measure one more time span; request the words `names`, if any, at its start."""
        camera.stream(rate_hz, 0.3)  # so that the change comes during the stream
        future = names and camera.set_words(names, self.answers)
        start, end = camera.stream(rate_hz, seconds)
        if future:
            _finish(camera, future)
        arrivals = np.array(camera.arrivals)
        inside = (start <= arrivals) & (arrivals < end)
        self._masks += inside.sum()
        self._seconds += end - start
        self._gaps.extend(1e3 * np.diff(arrivals)[inside[1:]])

    @property
    def rate_hz(self):
        return self._masks / self._seconds

    @property
    def gaps_ms(self):
        """The gaps between masks as (p50, max)."""
        return np.percentile(self._gaps, (50, 100))


def _image(size, compressed):
    """Make an image message with content between a flat picture and noise, like a camera's."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (12, 16, 3)).astype(np.uint8)
    pixels = cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC).astype(float)
    pixels = np.clip(pixels + random.normal(0, 4, pixels.shape), 0, 255).astype(np.uint8)
    if not compressed:
        return encodings.fill_image(Image(), pixels, 'bgr8', Image().header)
    return messages.jpeg(pixels, Image().header, JPEG_QUALITY)


def _counters(camera):
    keys = (diagnostics.RECEIVED, diagnostics.PUBLISHED)
    return Counter(
        {k: int(v) for k, v in camera.facts.items() if k in keys or k.startswith('dropped')}
    )


def _finish(camera, future):
    """Send images until the answer arrives."""
    while not future.done():
        camera.stream(10.0, 0.1)


def _cpu_s(process):
    """Return the user and system seconds of a process and its threads."""
    fields = Path(f'/proc/{process.pid}/stat').read_text().rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def _nanoseconds(stamp):
    return Time.from_msg(stamp).nanoseconds


def _machine(options):
    device = 'cuda' if options.device == 'auto' and torch.cuda.is_available() else options.device
    device = torch.device('cpu' if device == 'auto' else device)
    transport = "Fast DDS's default transport" if options.no_profile else PROFILE
    return (
        f'{hardware(device)}; {options.model} ({options.weights}), input_size '
        f'{options.input_size}; {transport}'
    )


def _table(*columns):
    _row(*columns)
    _row(*['---'] * len(columns))


def _row(*cells):
    print('| ' + ' | '.join(cells) + ' |', flush=True)


def _p50_max(values, digits=0):
    return ' / '.join(f'{value:.{digits}f}' for value in np.percentile(values, (50, 100)))


if __name__ == '__main__':
    main()
