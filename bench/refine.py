#!/usr/bin/env python3
"""The cost of the refinement rules during labelling, by the number of words.

bench/refine.py [--device D] [--words 5 50 150] [--labels 240x320 480x640] [--repeats 10]

Random scores on the patch grid of a working image of 336 x 448 become labels and confidences. Sizes
are HEIGHTxWIDTH. All lines of a table are measured in turn in one process, after a warm-up. Ratios
are to the plain enlargement. 'all words' is without the limit of refine_words.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

import cliptrase_ros as ct
from cliptrase_ros.cli import arguments
from cliptrase_ros.evaluation import timing
from cliptrase_ros.labels import refine, voting

WORKING = (336, 448)
PATCH = 16


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--words', type=int, nargs='+', default=[5, 50, 150])
    parser.add_argument(
        '--labels', type=arguments.size, nargs='+', default=[(240, 320), (480, 640)]
    )
    parser.add_argument('--repeats', type=int, default=10)
    options = parser.parse_args()
    device = torch.device(options.device)
    print(f'{timing.hardware(device)}; refine_words {ct.Settings.refine_words}')
    timing.print_header('labels', 'words', 'rule', 'p50 ms', 'p95 ms', 'of plain')
    for labels in options.labels:
        for words in options.words:
            table(labels, words, options.repeats, device)


def table(labels, words, repeats, device):
    generator = torch.Generator().manual_seed(0)
    grid = tuple(side // PATCH for side in WORKING)
    scores = torch.randn(words, *grid, generator=generator).to(device)
    picture = torch.randint(0, 256, (3, *labels), generator=generator, dtype=torch.uint8)
    seen = torch.rand(3, *WORKING, generator=generator).to(device)
    queries = voting.Queries.of(range(words), words, device)
    cells = tuple(refine.CELLS * side for side in grid)
    guided = partial(refine.guided_rows, image=picture.to(device), grid=cells)
    pamr = partial(refine.pamr_rows, image=seen)
    most = ct.Settings.refine_words

    work = {
        'plain': lambda: voting.label_pixels(scores, labels, queries),
        **{
            name: partial(follow, scores, labels, queries, rule, bound)
            for name, rule, bound in (
                ('guided', guided, most),
                ('guided, all words', guided, words),
                ('pamr', pamr, most),
                ('pamr, all words', pamr, words),
            )
        },
    }
    times = timing.timed(work, repeats, device)
    timing.print_rows(f'{labels[0]} x {labels[1]} | {words}', times, times['plain'], digits=1)


def follow(scores, labels, queries, rule, most):
    enlarge = partial(refine.along, rule=rule, most=most)
    return voting.label_pixels(scores, labels, queries, enlarge)


if __name__ == '__main__':
    main()
