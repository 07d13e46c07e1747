"""The loss of the demo model's training, by hand and by its properties."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cliptrase_ros.demo import captions, losses, sampler
from cliptrase_ros.demo.things import CLASSES, Thing

ROWS, COLS = 2, 4


def log(probabilities):
    return torch.tensor(probabilities).clamp(min=1e-9).log()


def test_a_true_word_needs_sure_patches_but_not_all():
    logp = log([[[0.9, 0.1], [0.7, 0.3], [0.2, 0.8]]])
    one = losses.shown(logp, torch.tensor([[1, 0]]), torch.tensor([2, 1]))
    assert float(one) == pytest.approx(-math.log((0.9 + 0.7) / 2))
    # Two true words: the mean of both. Answers of -1 and 0 ask for nothing.
    both = losses.shown(logp, torch.tensor([[1, 1]]), torch.tensor([2, 1]))
    assert float(both) == pytest.approx((-math.log(0.8) - math.log(0.8)) / 2)
    assert float(losses.shown(logp, torch.tensor([[-1, 0]]), torch.tensor([2, 1]))) == 0
    # A word that few crops show counts as much as one that many show.
    crops = log([[[0.5, 0.5]], [[0.5, 0.5]], [[0.9, 0.1]]])
    rare = losses.shown(crops, torch.tensor([[1, 0], [1, 0], [0, 1]]), torch.tensor([1, 1]))
    assert float(rare) == pytest.approx((-math.log(0.5) - math.log(0.1)) / 2)
    # There may be fewer patches than are asked for.
    many = losses.shown(logp, torch.tensor([[1, 0]]), torch.tensor([9, 1]))
    assert float(many) == pytest.approx(-math.log(0.6))


def test_no_patch_may_say_an_absent_word():
    logp = log([[[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]])
    loss = losses.absent(logp, torch.tensor([[1, -1, 0]]))
    mean, worst = -(math.log(0.8) + math.log(0.2)) / 2, -math.log(0.2)
    assert float(loss) == pytest.approx((mean + worst) / 2)
    # Of 20 patches, the two worst count twice.
    many = log([[[1.0, 0.0]] * 17 + [[0.5, 0.5]] + [[0.25, 0.75]] * 2])
    mean, worst = (math.log(2) + 2 * math.log(4)) / 20, math.log(4)
    loss = losses.absent(many, torch.tensor([[1, 0]]))
    assert float(loss) == pytest.approx((mean + worst) / 2, abs=1e-4)
    nothing = torch.zeros(0, 4, 3), torch.zeros(0, 3)
    assert float(losses.absent(*nothing)) == 0
    assert float(losses.shown(*nothing, torch.ones(3, dtype=torch.long))) == 0


def test_a_true_caption_of_another_crop_is_no_negative_example():
    logits = torch.tensor([[2.0, 1.0], [0.0, 3.0]])
    same = torch.eye(2, dtype=torch.bool)
    expected = F.cross_entropy(logits, torch.arange(2)) + F.cross_entropy(logits.T, torch.arange(2))
    assert float(losses.contrast(logits, same, same)) == pytest.approx(float(expected) / 2)
    assert float(losses.contrast(logits, same, torch.ones_like(same))) == pytest.approx(0)
    assert float(losses.contrast(logits, torch.ones_like(same), same)) == pytest.approx(0, abs=1e-6)


def test_neighbours_of_one_colour_say_the_same():
    left = torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(
        ROWS, 1
    )  # the first column says the first word
    logp = torch.stack([left, 1 - left], -1).clamp(min=1e-9).log().view(1, ROWS * COLS, 2)
    flat = torch.full((1, 3, ROWS, COLS), 0.5)
    # Of the pairs side by side, a third disagree; of those above each other, none.
    assert float(losses.alike(logp, flat)) == pytest.approx(1 / 6, abs=1e-6)
    edge = flat.clone()
    edge[..., 0] = 1.0
    assert float(losses.alike(logp, edge)) < 1e-3


def test_the_affinity_of_patches_is_that_of_their_words():
    says = log([[[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.4, 0.2, 0.4]]])
    answers = torch.tensor([[1, 1, 0]])
    agree = torch.tensor([[[1, 1, 0, 2 / 3], [1, 1, 0, 2 / 3], [0, 0, 1, 1 / 3]]])
    last = torch.tensor([[[2 / 3, 2 / 3, 1 / 3, 5 / 9]]])
    agree = torch.cat([agree, last], 1)
    assert float(losses.regions(agree, says, answers)) == pytest.approx(0, abs=1e-9)
    # Two patches of a large region weigh as much as one of a small region.
    pure = says[:, :3]
    wrong_large, wrong_small = agree[:, :3, :3].clone(), agree[:, :3, :3].clone()
    wrong_large[:, :2, :2] -= 0.5
    wrong_small[:, 2, 2] -= 0.5
    large, small = (float(losses.regions(a, pure, answers)) for a in (wrong_large, wrong_small))
    assert large == pytest.approx(small) and large == pytest.approx(0.25 / 4)


class ByName:
    """A text tower with one direction for each word; other words have one direction in common."""

    words = (*CLASSES, *(' '.join(pair) for pair in captions.COLORED))

    def embed(self, texts, rng):
        def direction(text):
            found = [k for k, word in enumerate(self.words) if word in text]
            return max(found) if found else len(self.words)

        index = torch.tensor([direction(text) for text in texts])
        return F.one_hot(index, len(self.words) + 1).float()


ONE = sampler.Windows(0, 0, 1, 1, ROWS, COLS)
HALVES = sampler.Windows(0, 0, 1, 2, ROWS, COLS // 2)


def batch_of(*windows, count=2, where=ONE):
    """Return a batch whose crops all show the same things in their windows."""
    visible = dict.fromkeys(CLASSES, 100)
    rows = [sampler.answers(areas, visible) for areas in windows] * count
    names, colors = (torch.tensor(part) for part in zip(*rows, strict=True))
    true = torch.ones(count, count, dtype=torch.bool)
    pixels = torch.zeros(count, 3, 8 * ROWS, 8 * COLS)
    shows = (names.view(count, len(windows), -1) != 0).any(1)
    least = torch.full((len(CLASSES),), 2)
    text = ['a photo of a duck.'] * count
    return sampler.Batch(pixels, None, text, where, names, colors, least, shows, true, true)


def loss_of(batch, words, step=1000):
    """Return the loss and its parts if the patches of all crops say these words."""
    patches = ByName().embed(words, None).expand(len(batch.captions), -1, -1)
    means = F.normalize(patches.mean(1), dim=1)
    affinity = patches @ patches.transpose(1, 2)
    seen = losses.Seen(patches, means, means, affinity, (ROWS, COLS))
    rng = np.random.default_rng(5)
    return losses.loss_of(batch, seen, ByName(), torch.tensor(14.0), rng, step)


def test_the_loss_rewards_what_is_true():
    batch = batch_of({Thing('duck', 'red'): 500, Thing('floor'): 500})
    both, parts = loss_of(batch, ['duck'] * 4 + ['floor'] * 4)
    for words in (['duck'] * 8, ['duck'] * 4 + ['sky'] * 4, ['sky'] * 8):
        assert both < loss_of(batch, words)[0]
    assert set(parts) == {'loss', *losses.WEIGHTS}
    assert parts['contrast'] == pytest.approx(0, abs=1e-5)  # both captions are equal and true
    painted = loss_of(batch, ['red duck'] * 4 + ['floor'] * 4)[1]
    assert painted['shown_color'] < 0.1 < parts['shown_color']
    other = loss_of(batch, ['blue mug'] * 4 + ['floor'] * 4)[1]
    assert other['absent_color'] > 1 > painted['absent_color']
    strange = loss_of(batch, ['giraffe'] * 8)[1]
    assert strange['unknown'] > 10 > parts['unknown']


def test_a_word_is_true_of_its_own_window():
    duck, floor = {Thing('duck', 'red'): 500}, {Thing('floor'): 500}
    apart = batch_of(duck, floor, where=HALVES)
    left, right = (words * ROWS for words in (['red duck'] * 2, ['floor'] * 2))
    rows = ['red duck', 'red duck', 'floor', 'floor'] * ROWS
    _, good = loss_of(apart, rows)
    _, turned = loss_of(apart, rows[::-1])
    for name in ('shown', 'absent', 'shown_color', 'absent_color'):
        assert good[name] < turned[name] - 1
    # In one window, both orders are right.
    together = batch_of({**duck, **floor})
    one, other = (loss_of(together, words)[1]['shown'] for words in (rows, rows[::-1]))
    assert one == pytest.approx(other)
    assert loss_of(apart, left + right)[1]['absent'] > good['absent'] + 1


def test_a_colour_that_is_never_read_is_left_out_in_its_window_only():
    unread, red = {Thing('duck', 'yellow'): 500}, {Thing('mug', 'red'): 500}
    _, parts = loss_of(batch_of(unread, red, where=HALVES), ['mug', 'mug', 'duck', 'duck'] * ROWS)
    assert parts['shown_color'] > 1


def test_no_colour_is_asked_beside_one_that_is_never_read():
    batch = batch_of({Thing('duck', 'yellow'): 500, Thing('mug', 'red'): 500})
    loss, parts = loss_of(batch, ['duck'] * 4 + ['mug'] * 4)
    assert parts['shown_color'] == parts['absent_color'] == 0 and torch.isfinite(loss)


def test_what_spreads_starts_at_zero():
    batch = batch_of({Thing('duck', 'red'): 500, Thing('floor'): 500})
    words = ['duck', 'floor'] * 4
    (start, parts), (end, _) = loss_of(batch, words, 0), loss_of(batch, words, 5000)
    spread = sum(losses.WEIGHTS[name] * parts[name] for name in losses.SPREADING)
    assert float(end - start) == pytest.approx(spread, rel=1e-4) and spread > 0.1
