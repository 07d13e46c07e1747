"""Scores of the demo model on views that it was not trained on: python -m cliptrase_ros.demo.score

These are not scores of a real CLIP: the model and the ground truth come from the demo world.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from ..evaluation.metrics import Confusion
from ..methods.table import METHODS
from ..options import options_of, unknown
from ..segmenter import Segmenter, load
from ..settings import Settings
from . import SETTINGS, placement
from .captions import HELD_OUT
from .things import ASSETS, CLASSES, THINGS, Thing, View
from .world import World

# Far from the seeds of the training (train.FIRST_SEED and higher).
HELD_OUT_SEED = 500_000
PAIR_SEED = 600_000
# Every painted thing by its colour, and the other names.
COLORED_WORDS = tuple(thing.title for thing in THINGS)


def held_out(
    count: int, size: tuple[int, int] = (240, 320), seed: int = HELD_OUT_SEED
) -> Iterator[View]:
    """Yield `count` views, each of a different scene."""
    with World(seed, size) as world:
        for _, view in zip(range(count), world.views(per_scene=1), strict=False):
            yield view


def score(
    segmenter: Segmenter, views: Iterable[View], names: tuple[str, ...] = CLASSES
) -> Confusion:
    """Return the confusion matrix of the names over the views; class k + 1 is names[k]."""
    words = segmenter.vocabulary(names)
    confusion = Confusion(len(names))
    for view in views:
        confusion.add(view.labels(words.ids), segmenter(view.image, words).labels)
    return confusion


# Two things with one name in two colours: (name, colour, colour). Pairs with white are separate:
# the tint of the light and the tables make them hard.
_ALL_PAIRS = tuple(
    (name, *colors)
    for name, asset in ASSETS.items()
    for colors in itertools.combinations(asset.colors, 2)
)
PAIRS = tuple(pair for pair in _ALL_PAIRS if 'white' not in pair)
WHITE_PAIRS = tuple(pair for pair in _ALL_PAIRS if 'white' in pair)
# Pairs with a word that no caption contained.
UNREAD_PAIRS = tuple(
    pair for pair in PAIRS if any((color, pair[0]) in HELD_OUT for color in pair[1:])
)


def pair_views(
    pairs: Sequence[tuple[str, str, str]],
    count: int,
    size: tuple[int, int] = (240, 320),
    seed: int = PAIR_SEED,
) -> Iterator[tuple[View, str, str]]:
    """Yield (view, word, word): views of a table with a drawn pair on it.

    Each of the two things covers more than 1 % of the picture.
    """
    rng = np.random.default_rng(seed)
    with World(seed, size) as world:
        while count:
            name, one, two = pairs[int(rng.integers(len(pairs)))]
            world.new_scene([(name, one), (name, two)])
            pair = Thing(name, one), Thing(name, two)
            for _ in range(10):
                view = world.render(world.draw_camera())
                shares = view.share()
                if min(shares.get(thing, 0.0) for thing in pair) > 0.01:
                    yield view, pair[0].title, pair[1].title
                    count -= 1
                    break


def own_masks(segmenter: Segmenter, views: Iterable[tuple[View, str, str]]) -> list[bool]:
    """Return for each view whether both words got a mask on the right thing.

    This means: more than half of each thing has its word as label, and more than half of each
    word's pixels are on its thing. The vocabulary also contains floor, wall and table.
    """
    results = []
    for view, one, two in views:
        matrix = score(segmenter, [view], ('floor', 'wall', 'table', one, two)).matrix
        right = np.diag(matrix)[-2:]
        recall, precision = right / matrix.sum(1)[-2:], right / np.maximum(matrix.sum(0)[-2:], 1)
        results.append(bool(recall.min() > 0.5 and precision.min() > 0.5))
    return results


def parse_changes(variant: str) -> dict[str, Any]:
    """Parse settings: 'method=clip,input_size=240' -> {'method': 'clip', 'input_size': 240}."""
    known = {option.name: option for option in options_of(Settings)}
    changes: dict[str, Any] = {}
    for item in variant.split(','):
        name, _, value = item.partition('=')
        if name not in known:
            raise unknown(name, Settings)
        changes[name] = known[name].from_text(value)
    return changes


def method_table(segmenter: Segmenter, views: Sequence[View]) -> Iterator[str]:
    """Yield the lines of a table: mIoU and time of each method with regions none, vote and mean."""
    kinds = ('none', 'vote', 'mean')
    yield '| method | ' + ' | '.join(f'regions {kind}' for kind in kinds) + ' |'
    yield '|---' * (1 + len(kinds)) + '|'
    for method in METHODS:
        cells = []
        for kind in kinds:
            variant = segmenter.replace(method=method, regions=kind)
            started = time.monotonic()
            miou = score(variant, views).miou
            milliseconds = 1e3 * (time.monotonic() - started) / len(views)
            cells.append(f'{miou:.3f}, {milliseconds:.0f} ms')
        yield f'| {method} | ' + ' | '.join(cells) + ' |'


def main(args: list[str] | None = None) -> None:
    """Print the scores of variants of the demo's settings."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--views', type=int, default=200)
    parser.add_argument('--pairs', type=int, default=50)
    parser.add_argument('--model', default=SETTINGS['model'])
    parser.add_argument('--weights', default=SETTINGS['weights'])
    parser.add_argument(
        '--methods', action='store_true', help='print a table of all methods and regions instead'
    )
    parser.add_argument(
        '--space', action='store_true', help='print the score of places in space instead'
    )
    parser.add_argument('--depth-jump', type=float, default=0.03, help='only with --space')
    parser.add_argument('--margin', type=float, default=0.02, help='in metres, only with --space')
    parser.add_argument(
        'variants',
        nargs='*',
        default=['method=cliptrase', 'regions=none', 'method=clip', 'method=gclip'],
        metavar='NAME=VALUE,...',
        help='settings to change, for example method=clip,regions=none',
    )
    options = parser.parse_args(args)
    named = {'model': options.model, 'weights': options.weights}
    segmenter = load(Settings(**{**SETTINGS, **named}))
    views = list(held_out(options.views))
    if options.methods:
        for line in method_table(segmenter, views):
            print(line, flush=True)
        return
    if options.space:
        how = options.depth_jump, options.margin
        print('\n'.join(placement.lines(*placement.placed(segmenter, views, *how), *how)))
        return
    pairs = {
        'colour pairs': list(pair_views(PAIRS, options.pairs)),
        'pairs with unread words': list(pair_views(UNREAD_PAIRS, options.pairs)),
        'pairs with white': list(pair_views(WHITE_PAIRS, options.pairs)),
    }
    for variant in options.variants:
        changed = segmenter.replace(**parse_changes(variant))
        started = time.monotonic()
        confusion = score(changed, views)
        milliseconds = 1e3 * (time.monotonic() - started) / len(views)
        colored = score(changed, views, COLORED_WORDS).miou
        print(
            f'{variant}: mIoU {confusion.miou:.3f}, accuracy {confusion.accuracy:.3f}, '
            f'coloured words {colored:.3f}, '
            + ', '.join(f'{n} {np.mean(own_masks(changed, p)):.2f}' for n, p in pairs.items())
            + f', {milliseconds:.0f} ms a view'
        )
        classes = zip(CLASSES, confusion.iou, strict=True)
        print('  ' + ', '.join(f'{name} {iou:.2f}' for name, iou in classes), flush=True)


if __name__ == '__main__':
    main()
