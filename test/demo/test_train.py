"""Training of the demo model on pictures of noise: the inputs of the loss, and repeatability."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cliptrase_ros.demo import captions, sampler, train
from cliptrase_ros.demo.renders import Renders
from cliptrase_ros.demo.things import THINGS, Thing
from cliptrase_ros.demo.world import CLASSES
from cliptrase_ros.errors import SettingError
from cliptrase_ros.model import weights

pytestmark = pytest.mark.slow

HALVES = (Thing('duck', 'red'), Thing('floor'))


@pytest.fixture(scope='module')
def pictures():
    """Pictures with one thing on the left and one on the right; together they show all things."""
    rng = np.random.default_rng(0)
    count = len(THINGS)
    instances = np.zeros((count, *sampler.SIZE), np.uint8)
    instances[:, :, sampler.SIZE[1] // 2 :] = 1
    things = [(THINGS[n], THINGS[(n + 7) % count]) for n in range(count)]
    images = rng.integers(0, 256, (count, *sampler.SIZE, 3), np.uint8)
    return Renders(images, instances, things)


@pytest.fixture(scope='module')
def model():
    return weights.load_model(weights.DEMO_MODEL, weights.RANDOM)


@pytest.fixture
def small_steps(monkeypatch):
    monkeypatch.setattr(sampler, 'TOKENS_PER_STEP', 512)


def batch_of(things, shares, count=2):
    """Return a batch whose crops all show the same things."""
    names = torch.tensor([sampler.answers(dict(zip(things, shares, strict=True)))[0]] * count)
    colors = torch.tensor([sampler.answers(dict(zip(things, shares, strict=True)))[1]] * count)
    true = torch.ones(count, count, dtype=torch.bool)
    text = ['a photo of a duck.'] * count
    return sampler.Batch(torch.zeros(count, 3, 48, 48), text, names, colors, true, true)


def test_answers_follow_the_share_of_the_picture():
    names, colors = sampler.answers({Thing('duck', 'red'): 0.5, Thing('floor'): 0.02})
    assert names[CLASSES.index('duck')] == 1 and names[CLASSES.index('floor')] == -1
    assert sum(value == 0 for value in names) == len(CLASSES) - 2
    assert colors[captions.COLORED.index(('red', 'duck'))] == 1 and sum(colors) == 1
    # A yellow duck counts as a duck, but there is no prompt with its colour.
    names, colors = sampler.answers({Thing('duck', 'yellow'): 0.9, Thing('sky'): 0.001})
    assert names[CLASSES.index('duck')] == 1 and names[CLASSES.index('sky')] == 0
    assert not any(colors)


@pytest.mark.parametrize('size', [(48, 48), (96, 128), sampler.SIZE])
def test_batches_are_true_of_the_pictures(pictures, size):
    batches = sampler.Sampler(pictures, 0).batches({size: 1.0}, patch=8, parts=2)
    assert len(batches) == 2
    for batch in batches:
        count = max(1, sampler.TOKENS_PER_STEP * 64 // (size[0] * size[1] * 2))
        assert batch.pixels.shape == (count, 3, *size)
        assert batch.pixels.min() >= 0 and batch.pixels.max() <= 1
        assert batch.same.diagonal().all() and batch.true.diagonal().all()
        for text, names in zip(batch.captions, batch.names, strict=True):
            told = {name for name in CLASSES if name in text}
            shown = {CLASSES[k] for k in torch.nonzero(names == 1)[:, 0]}
            assert told and told <= shown
        for row, column in torch.nonzero(~batch.true):
            told = [k for k, name in enumerate(CLASSES) if name in batch.captions[column]]
            assert (batch.names[row, told] == 0).any()


def test_all_classes_come(pictures):
    draws = sampler.Sampler(pictures, 1)
    assert min(draws.counts().values()) >= 2
    seen = torch.cat([draws.batches({(64, 64): 1.0}, 8, 1)[0].names for _ in range(3)])
    assert (seen == 1).any(0).all()


def test_words_that_are_never_read_stay_zero_and_differ_from_known_ones(model):
    texts = train.Texts(*model)
    known = texts.known[:, 0].bool()
    tokens = [int(t) for t in model[1](['yellow duck, a giraffe'])[0] if t][1:-1]
    assert known[tokens[:2]].all() and not known[tokens[-1]]
    assert 80 < known.sum() < 300


def test_unknown_words_in_a_sentence(model):
    texts, rng = train.Texts(*model), np.random.default_rng(0)
    one, two, same, other = texts.embed(['a ?', 'a ?', 'a mug', 'a mug'], rng)
    assert not torch.equal(one, two) and torch.equal(same, other)
    long = texts._with_unknown('a photo of ' + 'mug ' * 26 + '?', rng)
    assert len(long) == 32 and long[-1] == long.max() == 49407


class ByName:
    """A text tower that knows the names: one direction for each name, another for other words."""

    def embed(self, texts, rng):
        rows = [[float(name in text) for name in CLASSES] for text in texts]
        return F.normalize(torch.tensor([[*row, float(not any(row))] for row in rows]), dim=1)


def test_the_loss_rewards_what_the_captions_say():
    batch = batch_of(HALVES, (0.9, 0.1))
    losses = {}
    for name in ('duck', 'sky'):
        features = ByName().embed([name] * 2, None)
        rng = np.random.default_rng(5)
        scale, bias = torch.tensor(14.0), torch.tensor([2.3, -6.0])
        losses[name], parts = train.loss_of(batch, features, ByName(), scale, bias, rng)
        assert parts['right'] == (name == 'duck')
        # Both captions are equal and true, so there is nothing to contrast.
        assert parts['contrast'] == pytest.approx(0, abs=1e-5)
    assert losses['duck'] < losses['sky']
    assert set(parts) == {'loss', 'contrast', 'single', 'choice', 'color', 'right'}


def test_choices_leave_out_what_is_not_asked():
    logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 5.0, 0.0]])
    # By hand: the first row chooses between 0 and 2; the second has no true prompt and is skipped.
    answers = torch.tensor([[1, -1, 0], [0, -1, 0]])
    expected = -F.log_softmax(torch.tensor([2.0, 0.0]), 0)[0]
    assert float(train._choice(logits, answers)) == pytest.approx(float(expected), rel=1e-5)
    assert float(train._choice(logits, -torch.ones_like(answers))) == 0


def test_training_learns_and_repeats_itself(pictures, small_steps, tmp_path, capsys):
    digests = []
    for run, seed in enumerate((0, 0, 1)):
        plan = train.TrainingPlan(steps=3, seed=seed, device='cpu')
        shown = train.train(pictures, plan, tmp_path / str(run))
        digests.append(weights.sha256_of(tmp_path / str(run) / 'cliptrase-demo.safetensors'))
        assert np.isfinite(list(shown.values())).all()
    assert digests[0] == digests[1] != digests[2]
    assert 'step 3/3' in capsys.readouterr().out
    file = str(tmp_path / '0' / 'cliptrase-demo.safetensors')
    trained, _ = weights.load_model(weights.DEMO_MODEL, file)
    start, _ = weights.load_model(weights.DEMO_MODEL, weights.RANDOM)
    moved = trained.visual.proj - start.visual.proj
    assert 0 < moved.abs().max() < 0.1
    zero = (trained.token_embedding.weight == 0).all(1)
    assert 0.9 < zero.float().mean() < 1


def test_training_lowers_the_loss(pictures, small_steps, tmp_path):
    first = train.train(pictures, train.TrainingPlan(steps=1, device='cpu'), tmp_path)
    monotone = Renders(pictures.images // 8 + 90, pictures.instances, pictures.things)
    later = train.train(monotone, train.TrainingPlan(steps=40, rate=1e-2, device='cpu'), tmp_path)
    assert later['loss'] < 0.9 * first['loss']


def test_pictures_that_lack_a_class_are_refused(pictures, tmp_path):
    few = Renders(pictures.images[:2], pictures.instances[:2], pictures.things[:2])
    with pytest.raises(SettingError, match=r'no picture shows .*; render more pictures'):
        train.train(few, train.TrainingPlan(steps=1), tmp_path)


def test_an_error_in_the_sampler_ends_the_training(pictures, tmp_path, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError('a broken picture')

    monkeypatch.setattr(sampler.Sampler, 'batches', fail)
    with pytest.raises(ZeroDivisionError, match='a broken picture'):
        train.train(pictures, train.TrainingPlan(steps=2, device='cpu'), tmp_path)


def test_the_command_renders_trains_and_writes_down_what_it_did(
    pictures, small_steps, tmp_path, monkeypatch
):
    asked = []

    def cached(folder, seed, count, size, jobs):
        asked.append((folder, seed, count, size, jobs))
        return pictures

    monkeypatch.setattr(train.renders, 'cached', cached)
    flags = ['--steps', '1', '--pictures', '7', '--jobs', '1', '--device', 'cpu']
    train.main(['--out', str(tmp_path), *flags])
    assert asked == [(tmp_path / 'renders', train.FIRST_SEED, 7, sampler.SIZE, 1)]
    assert '"steps": 1' in (tmp_path / 'training.json').read_text()
    assert (tmp_path / 'cliptrase-demo.safetensors').stat().st_size < 20e6
