#!/usr/bin/env python3
"""How many pictures per second the demo world renders.

bench/world.py [--width 320] [--height 240] [--scenes 10] [--views 5]

Building a scene and rendering a view of it are timed separately, after a warm-up.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from cliptrase_ros.demo.world import World


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--width', type=int, default=320)
    parser.add_argument('--height', type=int, default=240)
    parser.add_argument('--scenes', type=int, default=10)
    parser.add_argument('--views', type=int, default=5)
    options = parser.parse_args()
    times = {'new_scene': [], 'render': []}

    def timed(name, function, *arguments):
        started = time.perf_counter()
        function(*arguments)
        times[name].append(1e3 * (time.perf_counter() - started))

    with World(0, (options.height, options.width)) as world:
        world.render(world.draw_camera())
        for _ in range(options.scenes):
            timed('new_scene', world.new_scene)
            for _ in range(options.views):
                timed('render', world.render, world.draw_camera())
    for name, milliseconds in times.items():
        p50, p95 = np.percentile(milliseconds, (50, 95))
        print(f'{name:10} p50 {p50:6.1f} ms   p95 {p95:6.1f} ms   {1e3 / p50:5.1f} a second')


if __name__ == '__main__':
    main()
