#!/usr/bin/env python3
"""How long the nodes take to start and end, and their memory.

bench/start.py [--turns 5] [--other CHECKOUT] [--model NAME] [--weights TAG|FILE|random]

Each turn starts `camera_publisher` and then the node, each in its own process, and ends the node
with Ctrl-C. With --other, each turn also does this with the modules of another checkout (for
example the commit before a change), with the packages and messages of this one. The last column is
the median of the ratios of the turns. The default is the tiny model with random weights: this
measures the time that every model needs.
"""

import argparse
import contextlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
import rclpy
import torch
from sensor_msgs.msg import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from cliptrase_ros.cli import arguments
from cliptrase_ros.evaluation.timing import hardware, print_header, ratio, status_mb
from cliptrase_ros.ros.demo import domain
from cliptrase_ros.ros.qos import newest
from cliptrase_ros.ros.shutdown import spun

ROOT = Path(__file__).parents[1]
PATIENCE_S = 120
FIRST_IMAGE = 'camera_publisher: start to first image, s'
MEMORY = 'camera_publisher: memory, MB'
FIRST_MASK = 'node: start to first mask, s'
END = 'node: Ctrl-C to end, s'


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--turns', type=arguments.positive, default=5)
    parser.add_argument('--other', type=Path, help='another checkout to compare with')
    parser.add_argument('--model', default='cliptrase-tiny')
    parser.add_argument('--weights', default='random')
    options = parser.parse_args()
    checkouts = [ROOT, *([options.other.resolve()] if options.other else [])]
    found = {checkout: defaultdict(list) for checkout in checkouts}
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {'ROS_LOG_DIR': folder, 'XDG_CACHE_HOME': folder}
        picture = f'{folder}/picture.png'
        cv2.imwrite(picture, np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8))
        lock = domain.claim()
        rclpy.init()
        # Turn -1 is not counted; it fills the caches of files and words.
        for turn in range(-1, options.turns):
            for checkout in checkouts:
                for name, value in measured(checkout, picture, options):
                    if turn >= 0:
                        found[checkout][name].append(value)
        rclpy.try_shutdown()
        lock.close()
    machine = hardware(torch.device('cpu'))
    print(f'{machine}; {options.model} ({options.weights}); {options.turns} turns')
    print_table([found[checkout] for checkout in checkouts])


def measured(checkout, picture, options):
    """Measure one turn; yield (name, value) of each line."""
    with spun(rclpy.create_node('bench')) as robot:
        images, masks = [], []
        robot.create_subscription(Image, '/image', images.append, newest())
        robot.create_subscription(Image, '/segmentation/label_mask', masks.append, newest())
        begin = time.monotonic()
        with running(checkout, 'camera', f'source:={picture}', 'rate_hz:=20.0') as camera:
            yield FIRST_IMAGE, until(images, camera) - begin
            yield MEMORY, status_mb('VmRSS', camera.pid)
            begin = time.monotonic()
            node = running(
                checkout,
                'node',
                *(f'model:={options.model}', f'weights:={options.weights}', 'device:=cpu'),
                'input_size:=96',
            )
            with node as process:
                yield FIRST_MASK, until(masks, process) - begin
                process.send_signal(signal.SIGINT)
                begin = time.monotonic()
                process.wait(PATIENCE_S)
                yield END, time.monotonic() - begin


@contextlib.contextmanager
def running(checkout, module, *parameters):
    """Start a module of a checkout and yield its process."""
    command = [sys.executable, '-m', f'cliptrase_ros.ros.{module}', '--ros-args']
    command += ['--log-level', 'error', *(x for p in parameters for x in ('-p', p))]
    process = subprocess.Popen(command, cwd=checkout)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.wait(PATIENCE_S)


def until(heard, process):
    """Wait for the first message; return the time."""
    deadline = time.monotonic() + PATIENCE_S
    while not heard:
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f'{process.args[2]} ended, or sent no message in time')
        time.sleep(0.002)
    return time.monotonic()


def print_table(found):
    """Print the medians, and for two checkouts the median of the ratios of the turns."""
    heads = ['', 'median', 'smallest', 'largest', *(['other', 'this / other'] * (len(found) - 1))]
    print_header(*heads)
    for name, values in found[0].items():
        median = statistics.median(values)
        cells = [f'{value:.2f}' for value in (median, min(values), max(values))]
        for other in found[1:]:
            theirs = statistics.median(other[name])
            cells += [f'{theirs:.2f}', f'{ratio(values, other[name]):.2f}']
        print(f'| {name} | ' + ' | '.join(cells) + ' |')


if __name__ == '__main__':
    main()
