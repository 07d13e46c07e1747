#!/usr/bin/env python3
"""What each method costs over the unchanged tower.

bench/methods.py [--model NAME] [--weights TAG|FILE|random] [--device D] [--precision P]
                 [--sizes 224x224 336x448] [--words 20] [--repeats 12]

The time to encode an image of that size, regions off, all methods in turn within one process; the
ratio is to clip, turn by turn. ResCLIP's feedback works with words, so its line is encoding and
scoring.
"""

import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from segment import arguments, load, measure, print_rows, random_words, size

import cliptrase_ros as ct


def main():
    parser = arguments(__doc__, repeats=12)
    parser.add_argument(
        '--sizes', type=size, nargs='+', default=[(224, 224), (336, 448)], metavar='HxW'
    )
    options = parser.parse_args()
    segmenter = load(options, regions='none')
    print('| input | method | p50 ms | p95 ms | of clip |\n|---|---|---|---|---|')
    for sides in options.sizes:
        table(segmenter.replace(input_size=min(sides)), sides, options)


def table(segmenter, sides, options):
    image = np.random.default_rng(0).integers(0, 256, (*sides, 3)).astype(np.uint8)
    channels = segmenter.encode(image).features.shape[-1]
    words = random_words(options.words, channels, torch.Generator().manual_seed(0))

    def encode(method):
        run = segmenter.replace(method=method)
        return lambda: run.encode(image)

    work = {method: encode(method) for method in reversed(ct.METHODS)}
    fed_back = segmenter.replace(method='resclip', resclip_feedback=True)
    work['resclip, feedback'] = lambda: fed_back.scores(fed_back.encode(image), words)
    times = measure(work, options.repeats, segmenter.backbone.device)
    print_rows(f'{sides[0]} x {sides[1]}', times, times['clip'])


if __name__ == '__main__':
    main()
