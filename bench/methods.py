#!/usr/bin/env python3
"""What each method costs over the unchanged tower.

bench/methods.py [--model NAME] [--weights TAG|FILE|random] [--device D] [--precision P]
                 [--sizes 224x224 336x448] [--words 20] [--repeats 12]

The time to encode an image of that size, regions off, all methods in turn within one process; the
ratio is to clip, turn by turn. ResCLIP's feedback works with words, so its line is encoding and
scoring.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from segment import machine, measure

import cliptrase_ros as ct


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--model', default=ct.Settings.model)
    parser.add_argument('--weights', default='random')
    parser.add_argument('--device', default='auto')
    parser.add_argument('--precision', default='fp32', choices=('auto', 'fp32', 'bf16', 'fp16'))
    parser.add_argument('--sizes', nargs='+', default=['224x224', '336x448'], metavar='HxW')
    parser.add_argument('--words', type=int, default=20)
    parser.add_argument('--repeats', type=int, default=12)
    options = parser.parse_args()
    settings = ct.Settings(
        model=options.model,
        weights=options.weights,
        device=options.device,
        precision=options.precision,
        regions='none',
    )
    segmenter = ct.load(settings)
    print(machine(segmenter))
    print('| input | method | p50 ms | p95 ms | of clip |\n|---|---|---|---|---|')
    for size in options.sizes:
        height, width = map(int, size.split('x'))
        table(segmenter.replace(input_size=min(height, width)), (height, width), options)


def table(segmenter, size, options):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    generator = torch.Generator().manual_seed(0)
    channels = segmenter.encode(image).features.shape[-1]
    words = ct.Vocabulary.from_embeddings(
        [f'w{n}' for n in range(options.words)],
        torch.randn(options.words, channels, generator=generator),
    )

    def encode(method):
        run = segmenter.replace(method=method)
        return lambda: run.encode(image)

    work = {method: encode(method) for method in reversed(ct.METHODS)}
    fed_back = segmenter.replace(method='resclip', resclip_feedback=True)
    work['resclip, feedback'] = lambda: fed_back.scores(fed_back.encode(image), words)
    times = measure(work, options.repeats, segmenter.backbone.device)
    for name, values in times.items():
        p50, p95 = np.percentile(values, (50, 95))
        ratio = np.median(np.divide(values, times['clip']))
        size_text = f'{size[0]} x {size[1]}'
        print(f'| {size_text} | {name} | {p50:.1f} | {p95:.1f} | {ratio:.2f} |', flush=True)


if __name__ == '__main__':
    main()
