#!/usr/bin/env python3
"""What the live page costs the node: its rate and CPU with the page closed and open.

bench/view.py [--size 640x480] [--rate 20] [--turns 3] [--seconds 5] [--no-depth]

This process is the camera (with depth) and opens the page in Chromium, which draws it without a
GPU. The node (the tiny model) and web_view have their own processes. Turns alternate between the
page closed and open. "pictures in the page" are the large messages that the browser receives.
"""

import argparse
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from playwright.sync_api import sync_playwright
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

sys.path.insert(0, str(Path(__file__).parents[1]))

from own_world import world

from cliptrase_ros.cli import arguments
from cliptrase_ros.evaluation import speed
from cliptrase_ros.media import encodings
from cliptrase_ros.ros import messages
from cliptrase_ros.ros.camera.publisher import pinhole
from cliptrase_ros.ros.qos import newest

ROOT = Path(__file__).parents[1]
TINY = ('model:=cliptrase-tiny', 'weights:=random', 'device:=cpu', 'input_size:=96')
SOFTWARE = ['--no-sandbox', '--use-angle=swiftshader', '--enable-unsafe-swiftshader']
# A picture as JPEG is larger than this, and no other message that comes often is.
PICTURE_BYTES = 10_000
PATIENCE_S = 120


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--size', type=arguments.size, default=(640, 480))
    parser.add_argument('--rate', type=float, default=20.0, help='camera images per second')
    parser.add_argument('--turns', type=int, default=3)
    parser.add_argument('--seconds', type=float, default=5.0, help='length of each turn')
    parser.add_argument('--no-depth', action='store_true', help='a camera without depth')
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, world(folder) as robot:
        with socket.socket() as free:
            free.bind(('127.0.0.1', 0))
            port = free.getsockname()[1]
        with (
            running('node', TINY) as node,
            running('view.web_view', [f'port:={port}']) as view,
            Camera(robot, options),
            Chromium(f'http://127.0.0.1:{port}') as browser,
        ):
            measure(Masks(robot), browser, {'node': node, 'web_view': view}, options)


@contextlib.contextmanager
def running(module, parameters):
    """Start a node and yield its process."""
    command = [sys.executable, '-m', f'cliptrase_ros.ros.{module}', '--ros-args']
    for parameter in parameters:
        command += ['-p', parameter]
    process = subprocess.Popen([*command, '--log-level', 'warn'], cwd=ROOT)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


class Camera:
    """Publishes images, and depth with them, at a rate; on a thread."""

    def __init__(self, robot, options):
        width, height = options.size
        header, matrix = Header(frame_id='eye'), pinhole(width, height, 60.0)
        pixels = speed.scene(height, width)
        mm = (800 + 8 * (pixels.astype(np.uint16).sum(2) // 24)).astype(np.uint16)
        sent = {
            'image': messages.picture(pixels, header),
            'camera_info': messages.camera_info((height, width), matrix, header),
        }
        if not options.no_depth:
            sent['depth/image_rect'] = encodings.fill_image(Image(), mm, '16UC1', header)
            sent['depth/camera_info'] = sent['camera_info']
        self._sent = [
            (robot.create_publisher(CameraInfo if 'info' in name else Image, name, newest()), one)
            for name, one in sent.items()
        ]
        self._clock, self._period_s = robot.get_clock(), 1 / options.rate
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()

    def _run(self):
        while not self._ended.wait(self._period_s):
            stamp = self._clock.now().to_msg()
            for publisher, message in self._sent:
                message.header.stamp = stamp
                publisher.publish(message)


class Masks:
    """Counts the node's label masks."""

    def __init__(self, robot):
        self.count = 0
        robot.create_subscription(Image, '/segmentation/label_mask', self._take, newest())

    def _take(self, _):
        self.count += 1


class Chromium:
    """A headless browser that counts the pictures that it receives."""

    def __init__(self, address):
        self.count, self._address, self._page = 0, address, None

    def __enter__(self):
        self._play = sync_playwright().start()
        path = shutil.which('chromium')
        self._browser = self._play.chromium.launch(executable_path=path, args=SOFTWARE)
        return self

    def __exit__(self, *_):
        self._browser.close()
        self._play.stop()

    def open(self):
        self._page = self._browser.new_page(viewport={'width': 1280, 'height': 800})
        self._page.on('websocket', lambda one: one.on('framereceived', self._take))
        self._page.goto(self._address)

    def close(self):
        self._page.close()

    def wait(self, seconds):
        """Let the browser's events come for this long."""
        if self._page and not self._page.is_closed():
            self._page.wait_for_timeout(1e3 * seconds)
        else:
            time.sleep(seconds)

    def _take(self, payload):
        self.count += len(payload) > PICTURE_BYTES


def measure(masks, browser, processes, options):
    """Print rates and CPU of turns with the page closed and open."""
    wait_until(lambda: masks.count, browser, 'no label mask came')
    rows = {'closed': [], 'open': []}
    for _ in range(options.turns):
        for state, results in rows.items():
            if state == 'open':
                seen = browser.count
                browser.open()
                wait_until(lambda seen=seen: browser.count > seen + 5, browser, 'no picture came')
            results.append(turn(masks, browser, processes, options.seconds))
        browser.close()
    width, height = options.size
    depth = 'without' if options.no_depth else 'with'
    print(
        f'Camera {width} x {height} at {options.rate:g} Hz {depth} depth, tiny model: medians of '
        f'{options.turns} turns of {options.seconds:g} s'
    )
    print('page', *('masks Hz', 'pictures Hz', *(f'{name} CPU' for name in processes)), sep='  ')
    for state, results in rows.items():
        print(state, *(f'{value:.2f}' for value in np.median(results, axis=0)), sep='  ')


def turn(masks, browser, processes, seconds):
    """Return masks and pictures a second, and the CPU seconds a second of each process."""
    before = [masks.count, browser.count, *map(cpu_s, processes.values())]
    start = time.monotonic()
    browser.wait(seconds)
    after = [masks.count, browser.count, *map(cpu_s, processes.values())]
    return (np.array(after) - before) / (time.monotonic() - start)


def cpu_s(process):
    """Return the CPU time of a process so far."""
    fields = Path(f'/proc/{process.pid}/stat').read_text().rpartition(')')[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf('SC_CLK_TCK')


def wait_until(condition, browser, failure):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(failure)
        browser.wait(0.05)


if __name__ == '__main__':
    main()
