#!/usr/bin/env python3
"""Peak memory of a frame, and whether memory grows with the number of frames.

bench/memory.py [--model NAME] [--weights TAG|FILE|random] [--device D] [--precision P]
                [--sizes 480 336] [--words 150] [--frames 2000] [--warm-up 200]

First table: the peak memory of labelling a camera image of 640 x 480, in addition to the loaded
model. The segmenter and the plain pipeline of plain.py run in a new process each.
Second table: the memory of a process before and after many frames of cliptrase-tiny (random). The
size changes with each frame, and the words change every 100 frames.
On the CPU, memory is that of the process.
"""

import argparse
import gc
import sys
import tempfile
import tracemalloc
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from plain import CAMERA, plain_of

import cliptrase_ros as ct
from cliptrase_ros.cli import arguments
from cliptrase_ros.evaluation import speed, timing

SIZES = (480, 640), (360, 640), (240, 320)
FRAMES_A_VOCABULARY = 100


class Held(NamedTuple):
    """What a process holds.

    Attributes:
        rss_mb: memory of the process (RSS).
        python_mb: memory of Python's objects.
        objects: number of objects that the garbage collector tracks.
        cuda_mb: memory of tensors on CUDA.
    """

    rss_mb: float
    python_mb: float
    objects: int
    cuda_mb: float


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    arguments.add_model(parser)
    parser.add_argument('--precision', default='fp32')
    parser.add_argument('--sizes', type=arguments.positive, nargs='+', default=[480, 336])
    parser.add_argument('--words', type=arguments.positive, default=150)
    parser.add_argument('--frames', type=arguments.positive, default=2000)
    parser.add_argument('--warm-up', type=arguments.positive, default=200)
    options = parser.parse_args()
    cuda = options.device.startswith('cuda') or (
        options.device == 'auto' and torch.cuda.is_available()
    )
    print(timing.hardware(torch.device('cuda' if cuda else 'cpu')))
    print(f'{options.model} ({options.weights}), {options.precision}, {options.words} words')
    timing.print_header('input_size', 'what', 'peak MB')
    for side in options.sizes:
        for what in (segmenter_peak_mb, plain_peak_mb):
            print(f'| {side} | {what.__name__.split("_")[0]} | {fresh(what, options, side):.0f} |')
    timing.print_header('frames of cliptrase-tiny', 'RSS MB', 'Python MB', 'objects', 'CUDA MB')
    before, after = fresh(many_frames, options)
    for frames, at in ((options.warm_up, before), (options.warm_up + options.frames, after)):
        cells = (f'{at.rss_mb:.1f}', f'{at.python_mb:.2f}', at.objects, f'{at.cuda_mb:.1f}')
        print(f'| {frames} | {" | ".join(map(str, cells))} |')


def fresh(function, *arguments):
    """Run a function in a new process and return its result."""
    with ProcessPoolExecutor(1, get_context('spawn')) as process:
        return process.submit(function, *arguments).result()


def segmenter_peak_mb(options, side):
    segmenter, words = loaded(options, side)
    image = speed.scene(*CAMERA)
    return peak_of_three_mb(lambda: segmenter(image, words), segmenter)


def plain_peak_mb(options, side):
    segmenter, words = loaded(options, side)
    plain, image = plain_of(segmenter), speed.scene(*CAMERA)
    size = segmenter.encode(image).working_size
    embeddings = words.embeddings.to(segmenter.backbone.device)
    return peak_of_three_mb(lambda: plain(image, embeddings, size), segmenter)


def loaded(options, side):
    names = 'model', 'weights', 'device', 'precision'
    given = {name: getattr(options, name) for name in names}
    segmenter = ct.load(ct.Settings(**given, input_size=side))
    channels = segmenter.encode(speed.scene(64, 64)).features.shape[-1]
    return segmenter, speed.random_words(options.words, channels)


def peak_of_three_mb(call, segmenter):
    """Return the peak memory of three frames, because the first one may fill caches."""
    return timing.peak_mb(lambda: [call() for _ in range(3)], segmenter.backbone.device)


def many_frames(options):
    """Return `Held` before and after frames whose size and words change."""
    with tempfile.TemporaryDirectory() as folder:
        settings = ct.Settings(
            model='cliptrase-tiny',
            weights='random',
            device=options.device,
            input_size=96,
            prompt_templates='photo',
            cache_dir=folder,
        )
        segmenter = ct.load(settings)
        return growth(
            segmenter, segmenter, SIZES, options.warm_up, options.frames, FRAMES_A_VOCABULARY
        )


def growth(segmenter, label, sizes, warm_up, frames, frames_a_vocabulary):
    """Return `Held` after the warm-up, and after `frames` more frames.

    Each frame has the next of the sizes. Every `frames_a_vocabulary` frames the words switch
    between two vocabularies.

    Args:
        segmenter: makes the vocabularies.
        label: called with each image and its words.
    """
    images = [speed.scene(*size) for size in sizes]
    tracemalloc.start()
    before = None
    for frame in range(warm_up + frames):
        if frame == warm_up:
            before = held(segmenter.backbone.device)
        if frame % frames_a_vocabulary == 0:
            turn = frame // frames_a_vocabulary % 2
            words = segmenter.vocabulary([f'thing {turn} {n}' for n in range(5)])
        label(images[frame % len(images)], words)
    after = held(segmenter.backbone.device)
    tracemalloc.stop()
    return before, after


def held(device):
    gc.collect()
    timing.give_back_memory()
    cuda_mb = torch.cuda.memory_allocated(device) / 1e6 if device.type == 'cuda' else 0.0
    python_mb = tracemalloc.get_traced_memory()[0] / 1e6
    return Held(timing.status_mb('VmRSS'), python_mb, len(gc.get_objects()), cuda_mb)


if __name__ == '__main__':
    main()
