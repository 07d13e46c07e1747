#!/usr/bin/env python3
"""The cost of finding things in labels and depth, for several scenes.

bench/objects.py [--image 640x480] [--min-pixels 100] [--repeats 50] [--threads 1]

'room': things in front of a wall and a floor, with the noise and holes of a depth sensor.
'speckled': the room with a random class at each 50th pixel (on average).
'wall': one thing that fills the image.
'noise': a random class at each pixel.
All lines are measured in turn in one process, after a warm-up. Ratios are to the whole search in
the room. --threads is for OpenCV; OMP_NUM_THREADS sets the threads of NumPy.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from cliptrase_ros.cli import arguments
from cliptrase_ros.evaluation import timing
from cliptrase_ros.space import objects
from cliptrase_ros.space.geometry import Pinhole

CLASSES = 10
THINGS = 20
JUMP = 0.05
WALL_M, HEIGHT_M = 4.0, 1.2


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--image', type=arguments.size, default='640x480', metavar='WIDTHxHEIGHT')
    parser.add_argument('--min-pixels', type=arguments.positive, default=100)
    parser.add_argument('--repeats', type=arguments.positive, default=50)
    parser.add_argument('--threads', type=arguments.positive, default=1)
    options = parser.parse_args()
    cv2.setNumThreads(options.threads)
    # After a large array the allocator keeps free memory, as in a process that has used larger
    # arrays.
    np.zeros(30_000_000, np.uint8)
    cpu = torch.device('cpu')
    width, height = options.image
    camera = Pinhole(0.8 * width, 0.8 * width, (width - 1) / 2, (height - 1) / 2)
    work, counts = {}, {}
    for name, (labels, depth) in scenes(camera, (height, width)).items():
        confidence = np.random.default_rng(0).random(labels.shape, np.float32)
        ids = range(1, CLASSES + 1)
        scene = labels, confidence, depth, camera, ids, JUMP, options.min_pixels
        counts[name] = len(objects.find(*scene)), objects.number_things(labels, depth, JUMP).max()
        work[name, 'components'] = partial(objects.number_things, labels, depth, JUMP)
        work[name, 'find'] = partial(objects.find, *scene)
    times = timing.timed(work, options.repeats, cpu)
    print(f'{timing.hardware(cpu)}; OpenCV {cv2.__version__}, threads: {options.threads}')
    timing.print_header('scene', 'components', 'things', 'what', 'p50 ms', 'p95 ms', 'of the room')
    for (name, what), values in times.items():
        things, components = counts[name]
        base = times['room', 'find']
        timing.print_rows(f'{name} | {components} | {things}', {what: values}, base)


def scenes(camera, size):
    """Return {name: (labels, depth)}."""
    random = np.random.default_rng(0)
    labels, depth = room(random, camera, size)
    speckled = labels.copy()
    speckles = random.random(size) < 0.02
    speckled[speckles] = random.integers(1, CLASSES + 1, speckles.sum())
    wall = np.full(size, WALL_M, np.float32)
    noise = random.integers(1, CLASSES + 1, size).astype(np.uint8)
    return {
        'room': (labels, depth),
        'speckled': (speckled, depth),
        'wall': (np.ones(size, np.uint8), wall),
        'noise': (noise, depth),
    }


def room(random, camera, size):
    """Return labels and depth of slanted things in front of a wall (class 1) and a floor (2)."""
    _, y = camera.rays(size)
    floor = np.where(y > 0, HEIGHT_M / np.maximum(y, 1e-6), np.inf)[:, None]
    labels = np.where(floor < WALL_M, 2, 1).repeat(size[1], axis=1).astype(np.uint8)
    depth = np.minimum(floor, WALL_M).repeat(size[1], axis=1)
    for n in range(THINGS):
        top, left = (random.uniform(0, 0.75, 2) * size).astype(int)
        tall, wide = (random.uniform(0.08, 0.33, 2) * size).astype(int)
        at = np.s_[top : top + tall, left : left + wide]
        depth[at] = random.uniform(1, 3) + np.linspace(0, 0.3, depth[at].shape[1])
        labels[at] = 3 + n % (CLASSES - 2)
    depth *= 1 + random.normal(0, 0.003, size)
    depth[random.random(size) < 0.02] = np.nan
    return labels, depth.astype(np.float32)


if __name__ == '__main__':
    main()
