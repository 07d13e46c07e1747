#!/usr/bin/env python3
"""The cost of each method compared with the unchanged tower.

bench/methods.py [--model NAME] [--weights TAG|FILE|random] [--device D] [--precision P]
                 [--sizes 224x224 336x448] [--words 20] [--repeats 12]

The times are those of encoding an image of that size, without regions. All methods run in turn in
one process. The ratio to clip is the median over the turns. ResCLIP's feedback needs words, so its
line is encoding and scoring.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import cliptrase_ros as ct
from cliptrase_ros.cli import arguments
from cliptrase_ros.evaluation import speed, timing


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    arguments.add_model(parser)
    parser.add_argument('--precision', default='fp32')
    parser.add_argument(
        '--sizes', type=arguments.size, nargs='+', default=[(224, 224), (336, 448)], metavar='HxW'
    )
    parser.add_argument('--words', type=arguments.positive, default=20)
    parser.add_argument('--repeats', type=arguments.positive, default=12)
    options = parser.parse_args()
    segmenter = speed.load_printed(options, precision=options.precision, regions='none')
    timing.print_header('input', 'precision', 'method', 'p50 ms', 'p95 ms', 'of clip')
    for sides in options.sizes:
        table(segmenter.replace(input_size=min(sides)), sides, options)


def table(segmenter, sides, options):
    image = speed.scene(*sides)
    words = speed.random_words(options.words, segmenter.encode(image).features.shape[-1])

    def encode(method):
        run = segmenter.replace(method=method)
        return lambda: run.encode(image)

    work = {method: encode(method) for method in reversed(ct.METHODS)}
    fed_back = segmenter.replace(method='resclip', resclip={'feedback': {'enabled': True}})
    work['resclip, feedback'] = lambda: fed_back.scores(fed_back.encode(image), words)
    times = timing.timed(work, options.repeats, segmenter.backbone.device)
    lead = f'{sides[0]} x {sides[1]} | {speed.precision_of(segmenter)}'
    timing.print_rows(lead, times, times['clip'])


if __name__ == '__main__':
    main()
