"""Scores in space: perfect labels get a perfect score, wrong labels a worse one."""

from types import SimpleNamespace

import numpy as np
import pytest

from cliptrase_ros.demo import placement, score
from cliptrase_ros.demo.world import CLASSES, World
from cliptrase_ros.words.vocabulary import Vocabulary

pytest.importorskip('pybullet', reason='the extra [demo] is not installed')

WORDS = Vocabulary.from_embeddings(CLASSES, np.eye(len(CLASSES)))


@pytest.fixture(scope='module')
def views():
    with World(5, (120, 160)) as world:
        return [view for _, view in zip(range(8), world.views(per_scene=1), strict=False)]


class Knowing:
    """A segmenter that returns the ground truth, changed by `spoil`."""

    def __init__(self, views, spoil=lambda labels: labels):
        self._labels = {
            view.image.tobytes(): spoil(view.labels(WORDS.ids).astype(np.uint8)) for view in views
        }

    def vocabulary(self, names):
        assert tuple(names) == CLASSES
        return WORDS

    def __call__(self, image, words):
        return SimpleNamespace(labels=self._labels[image.tobytes()])


def test_right_labels(views):
    count, found = placement.placed(Knowing(views), views, 1.0, 0.0)
    # A partly hidden thing may fall into two components; only one of them is compared.
    whole = [thing for thing in found if thing.iou > 0.99]
    assert len(whole) > 0.5 * count > 2
    assert max(thing.off_m for thing in whole) < 0.01
    assert not any(thing.left for thing in found)


def test_labels_that_are_moved(views):
    moved = Knowing(views, lambda labels: np.roll(labels, 3, axis=1))
    _, found = placement.placed(moved, views, 0.03, 0.0)
    assert found and all(0.5 <= thing.iou < 0.99 and thing.left > 0 for thing in found)
    _, with_margin = placement.placed(moved, views, 0.03, 0.1)
    lefts = [np.mean([thing.left for thing in some]) for some in (found, with_margin)]
    assert lefts[1] < 0.5 * lefts[0]


def test_labels_of_nothing(views):
    blind = Knowing(views, np.zeros_like)
    count, found = placement.placed(blind, views, 0.03, 0.0)
    assert count and not found
    assert placement.lines(count, found, 0.03, 0.0) == [f'none of {count} things found']


def test_the_command(capsys):
    score.main(['--space', '--views', '2', '--margin', '0.1'])
    found, off, left = capsys.readouterr().out.splitlines()
    assert 'things found (IoU 0.5), depth jump 0.03' in found
    assert 'within 3 cm' in off and 'margin 0.1 m' in left
