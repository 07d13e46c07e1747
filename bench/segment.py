#!/usr/bin/env python3
"""Where the time of a frame goes: the model's own forward, and every stage of the segmenter.

bench/segment.py [--model NAME] [--weights TAG|FILE|random] [--device D] [--precision P]
                 [--sizes 224 336] [--words 20] [--repeats 20]

All lines of a table are measured in turn within one process (so that the machine's moods hit all
of them alike), after a warm-up; ratios are to the model's own forward at the same size.
"""

import argparse
import platform
import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

import cliptrase_ros as ct
from cliptrase_ros import clusters, recipes

CAMERA = (480, 640)


def main():
    parser = arguments(__doc__, repeats=20)
    parser.add_argument('--sizes', type=int, nargs='+', default=[224, 336])
    options = parser.parse_args()
    segmenter = load(options)
    print('| input | what | p50 ms | p95 ms | of forward |\n|---|---|---|---|---|')
    for side in options.sizes:
        table(segmenter.replace(input_size=side), options.words, options.repeats)


def arguments(doc, repeats):
    """A parser of what all benchmarks of a segmenter take."""
    parser = argparse.ArgumentParser(description=doc.split('\n')[0])
    parser.add_argument('--model', default=ct.Settings.model)
    parser.add_argument('--weights', default='random')
    parser.add_argument('--device', default='auto')
    parser.add_argument('--precision', default='fp32', choices=('auto', 'fp32', 'bf16', 'fp16'))
    parser.add_argument('--words', type=int, default=20)
    parser.add_argument('--repeats', type=int, default=repeats)
    return parser


def load(options, **changes):
    """The segmenter of the options; prints the machine and the model."""
    names = 'model', 'weights', 'device', 'precision'
    segmenter = ct.load(ct.Settings(**{name: getattr(options, name) for name in names}, **changes))
    print(machine(segmenter))
    return segmenter


def size(text):
    """'224x304' -> (224, 304)."""
    return tuple(int(side) for side in text.split('x'))


def random_words(count, channels, generator):
    embeddings = torch.randn(count, channels, generator=generator)
    return ct.Vocabulary.from_embeddings([f'w{n}' for n in range(count)], embeddings)


def print_rows(lead, times, base, digits=2):
    """A line for each of {name: [ms]}; the ratio is to `base`, one number or one a turn."""
    for name, values in times.items():
        p50, p95 = np.percentile(values, (50, 95))
        ratio = np.median(np.divide(values, base))
        print(f'| {lead} | {name} | {p50:.1f} | {p95:.1f} | {ratio:.{digits}f} |', flush=True)


def table(segmenter, word_count, repeats):
    generator = torch.Generator().manual_seed(0)
    image = np.random.default_rng(0).integers(0, 256, (*CAMERA, 3)).astype(np.uint8)
    dense = segmenter.encode(image)
    height, width = dense.working_size
    words = random_words(word_count, dense.features.shape[-1], generator)
    mean = segmenter.replace(regions='mean')
    none = segmenter.replace(regions='none')
    plain = none.encode(image)
    tower = segmenter._encoder.tower
    clip = recipes.unchanged(tower)
    pixels = torch.randn(1, 3, height, width, generator=generator).to(tower.device)
    eps, min_samples = clusters.dbscan_parameters(len(dense.affinity))

    work = {
        'forward (clip)': lambda: recipes.run(tower, pixels, clip),
        'encode, no regions': lambda: none.encode(image),
        'encode': lambda: segmenter.encode(image),
        'of it DBSCAN': lambda: clusters.dbscan(dense.affinity, eps, min_samples),
        'label, no regions': lambda: none.label(plain, words),
        'segment, vote': lambda: segmenter(image, words),
        'segment, mean': lambda: mean(image, words),
    }
    times = measure(work, repeats, tower.device)
    print_rows(f'{height} x {width}', times, np.median(times['forward (clip)']))


@torch.no_grad()
def measure(work, repeats, device):
    """{name: [ms]}, all in turn."""
    times = {name: [] for name in work}
    for turn in range(repeats + 2):
        for name, function in work.items():
            start = time.perf_counter()
            function()
            if device.type == 'cuda':
                torch.cuda.synchronize()
            if turn >= 2:
                times[name].append(1e3 * (time.perf_counter() - start))
    return times


def machine(segmenter):
    settings, dtype = segmenter.settings, segmenter._encoder.tower.dtype
    return f'{hardware(segmenter.backbone.device)}; {settings.model} ({settings.weights}), {dtype}'


def hardware(device):
    if device.type == 'cuda':
        name = torch.cuda.get_device_name(device)
    else:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
        name = next((x.split(':')[1].strip() for x in lines if 'model name' in x), 'CPU')
        name += f', {torch.get_num_threads()} threads'
    return f'{name}; torch {torch.__version__}; Python {platform.python_version()}'


if __name__ == '__main__':
    main()
