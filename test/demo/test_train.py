"""Training of the demo model on pictures of noise: crops, their answers, repeatability."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import cliptrase_ros as ct
from cliptrase_ros import METHODS
from cliptrase_ros.demo import captions, sampler, texts, train
from cliptrase_ros.demo.renders import Renders
from cliptrase_ros.demo.things import THINGS, Thing
from cliptrase_ros.demo.world import CLASSES
from cliptrase_ros.errors import SettingError
from cliptrase_ros.model import attention, recipes, weights
from cliptrase_ros.model.visual import Tower

pytestmark = pytest.mark.slow

PATCH = 8
ALL_VISIBLE = dict.fromkeys(CLASSES, 100)
FILE = f'{train.MODEL}.safetensors'


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
def draws(pictures):
    return sampler.Sampler(pictures, 0, PATCH)


@pytest.fixture(scope='module')
def model():
    return weights.load_model(train.MODEL, weights.RANDOM)


@pytest.fixture
def small_steps(monkeypatch):
    monkeypatch.setattr(sampler, 'TOKENS_PER_STEP', 512)
    monkeypatch.setattr(train, 'CROPS', {(64, 64): (0.5, 0.5), (64, 96): (0.5, 0.5)})


def test_answers_follow_the_pixels_of_things():
    names, colors = sampler.answers({Thing('duck', 'red'): 500, Thing('floor'): 50}, ALL_VISIBLE)
    assert names[CLASSES.index('duck')] == 1 and names[CLASSES.index('floor')] == -1
    assert sum(value == 0 for value in names) == len(CLASSES) - 2
    assert colors[captions.COLORED.index(('red', 'duck'))] == 1 and sum(colors) == 1
    # Beside a yellow duck, nothing is known about colours: its word is never read.
    names, colors = sampler.answers({Thing('duck', 'yellow'): 500, Thing('sky'): 10}, ALL_VISIBLE)
    assert names[CLASSES.index('duck')] == 1 and names[CLASSES.index('sky')] == 0
    assert set(colors) == {-1}


def test_large_things_must_cover_more_patches_of_large_crops(draws):
    small, large = draws.visible_patches(64, 64), draws.visible_patches(*sampler.SIZE)
    # Every thing covers half of its pictures: 600 patches of 1200; of small crops, 32 of 64.
    assert set(small) == {round(0.3 * 32)} and set(large) == {round(0.3 * 600)}


@pytest.mark.parametrize('size', [(48, 48), (96, 160)])
def test_batches_are_true_of_the_pictures(draws, size):
    batches = draws.batches(1, {size: 1.0}, parts=2)
    assert len(batches) == 2
    rows, cols = (side // PATCH for side in size)
    for batch in batches:
        count = max(1, sampler.TOKENS_PER_STEP // (rows * cols * 2))
        assert batch.pixels.shape == (count, 3, *size)
        assert batch.pixels.min() >= 0 and batch.pixels.max() <= 1
        assert batch.same.diagonal().all() and batch.true.diagonal().all()
        assert (batch.corners >= 0).all()
        assert (batch.corners + torch.tensor([rows, cols]) <= torch.tensor([30, 40])).all()
        for text, names in zip(batch.captions, batch.names, strict=True):
            told = {name for name in CLASSES if name in text}
            shown = {CLASSES[k] for k in torch.nonzero(names == 1)[:, 0]}
            assert told and told <= shown
        for row, column in torch.nonzero(~batch.true):
            told = [k for k, name in enumerate(CLASSES) if name in batch.captions[column]]
            assert (batch.names[row, told] == 0).any()


@pytest.mark.parametrize('size', [(168, 224), sampler.SIZE])
def test_windows_of_views_are_true_of_their_pixels(size, monkeypatch):
    """The colour of each pixel tells its thing, and so each window has its own answers."""
    rng = np.random.default_rng(2)
    colors = rng.integers(0, 256, (len(CLASSES), 3), np.uint8)
    instances = rng.integers(0, len(CLASSES), (4, 6, 8), np.uint8).repeat(40, 1).repeat(40, 2)
    things = [next(t for t in THINGS if t.name == name) for name in CLASSES]
    pictures = Renders(colors[instances], instances, [tuple(things)] * 4)
    monkeypatch.setattr(sampler, '_vary', lambda images, rng: images)
    draws = sampler.Sampler(pictures, 0, PATCH)
    batches = [draws.batches(step, {size: 1.0}, 1)[0] for step in range(4)]
    for batch in batches:
        at, (rows, cols) = batch.windows, (side // PATCH for side in size)
        assert batch.corners is None and at.rows == at.cols and at.rows in (rows // 3, rows // 5)
        assert 0 <= at.top < at.rows and 0 <= rows - at.top - at.down * at.rows < at.rows
        assert 0 <= at.left < at.cols and 0 <= cols - at.left - at.across * at.cols < at.cols
        pixels = (255 * batch.pixels).round().permute(0, 2, 3, 1)
        places = [
            image[PATCH * y :, PATCH * x :][: PATCH * at.rows, : PATCH * at.cols]
            for image in pixels
            for y, x in at
        ]
        assert len(batch.names) == len(batch.colors) == len(places)
        for window, names in zip(places, batch.names, strict=True):
            for k, color in enumerate(torch.from_numpy(colors).float()):
                # Pixels at edges are mixtures, so the window has a few more than are counted.
                area = int(((window - color).abs().amax(-1) < 1.5).sum())
                assert names[k] == 1 or area < batch.patches[k] * PATCH**2
                assert names[k] != 0 or area < sampler.INVISIBLE_PX
                assert names[k] != 1 or area > 0.5 * batch.patches[k] * PATCH**2
    assert len({(batch.windows.top, batch.windows.left) for batch in batches}) > 1


def test_white_things_come_more_often(pictures):
    draws = sampler.Sampler(pictures, 0, PATCH)
    rng = np.random.default_rng(4)
    drawn = [THINGS[draws._draw(rng)[0]] for _ in range(4000)]
    ducks = {t.color: drawn.count(t) for t in THINGS if t.name == 'duck'}
    others = [count for color, count in ducks.items() if color != 'white']
    assert ducks['white'] == pytest.approx(sampler.WHITE * np.mean(others), rel=0.25)
    names = [thing.name for thing in drawn]
    assert names.count('duck') == pytest.approx(names.count('shelf'), rel=0.25)


def test_captions_leave_out_what_is_too_small(pictures):
    """A red duck may stand beside a blue duck of 16 px: the crop shows a duck, but no blue one."""
    tiny = Thing('duck', 'blue')
    kept = [n for n, things in enumerate(pictures.things) if tiny not in things]
    instances = pictures.instances[kept]
    instances[:, ::8, ::8] = 2
    things = [(*pictures.things[n], tiny) for n in kept]
    draws = sampler.Sampler(Renders(pictures.images[kept], instances, things), 0, PATCH)
    batches = [draws.batches(n, {(96, 96): 1.0}, 1)[0] for n in range(2)]
    told = ' '.join(text for batch in batches for text in batch.captions)
    assert 'duck' in told and 'blue duck' not in told


def test_crops_know_their_place_in_the_picture(pictures):
    """In pictures that get brighter from left to right, a crop's brightness tells its column."""
    ramp = np.broadcast_to(np.arange(sampler.SIZE[1])[:, None] / 2, pictures.images.shape)
    bright = Renders(ramp.astype(np.uint8), pictures.instances, pictures.things)
    draws = sampler.Sampler(bright, 3, PATCH)
    batch = draws.batches(1, {(64, 64): 1.0}, 1)[0]
    flipped = batch.pixels[..., 0].mean((1, 2)) > batch.pixels[..., -1].mean((1, 2))
    level = batch.pixels.mean((1, 2, 3))
    for side in (flipped, ~flipped):
        columns = batch.corners[side, 1].float()
        assert len(columns) > 20
        direction = torch.corrcoef(torch.stack([columns, level[side]]))[0, 1]
        assert abs(direction) > 0.8 and (direction < 0) == bool(flipped[side][0])


def test_floor_and_wall_often_come_alone():
    instances = np.zeros((len(CLASSES), *sampler.SIZE), np.uint8)
    instances[:, 120:] = 1
    things = [(Thing('wall'), next(t for t in THINGS if t.name == name)) for name in CLASSES]
    things[CLASSES.index('wall')] = Thing('wall'), Thing('floor')
    pictures = Renders(np.zeros((len(CLASSES), *sampler.SIZE, 3), np.uint8), instances, things)
    batches = sampler.Sampler(pictures, 0, PATCH).batches(1, {(64, 64): 1.0}, 1)
    floor, wall = (batches[0].names[:, CLASSES.index(name)] for name in sampler.TOGETHER)
    assert ((floor == 1) & (wall == 0)).sum() > ((floor == 1) & (wall != 0)).sum() / 2


def test_a_step_has_its_own_crops(draws):
    one, again, other = (draws.batches(n, {(64, 64): 1.0}, 1)[0] for n in (1, 1, 2))
    assert torch.equal(one.pixels, again.pixels) and one.captions == again.captions
    assert not torch.equal(one.pixels, other.pixels)


def test_all_classes_come(draws):
    assert min(draws.counts().values()) >= 2
    seen = torch.cat([draws.batches(n, {(64, 64): 1.0}, 1)[0].names for n in range(3)])
    assert (seen == 1).any(0).all()


def test_words_that_are_never_read_stay_zero_and_differ_from_known_ones(model):
    known = texts.Texts(*model).known[:, 0].bool()
    tokens = [int(t) for t in model[1](['yellow duck, a giraffe'])[0] if t][1:-1]
    assert known[tokens[:2]].all() and not known[tokens[-1]]
    assert 80 < known.sum() < 300


def test_unknown_words_in_a_sentence(model):
    embedder, rng = texts.Texts(*model), np.random.default_rng(0)
    one, two, same, other = embedder.embed(['a ?', 'a ?', 'a mug', 'a mug'], rng)
    assert not torch.equal(one, two) and torch.equal(same, other)
    long = embedder._with_unknown('a photo of ' + 'mug ' * 26 + '?', rng)
    assert len(long) == 32 and long[-1] == long.max() == 49407


def test_positions_of_crops_are_parts_of_the_table():
    table = torch.arange(1.0 + 5 * 7)[:, None]
    got = train._positions(table, (5, 7), (2, 3), torch.tensor([[0, 0], [3, 4]]))
    assert got[..., 0].tolist() == [[0, 1, 2, 3, 8, 9, 10], [0, 26, 27, 28, 33, 34, 35]]


def test_a_crop_of_the_whole_picture_is_seen_as_by_the_model_itself(model):
    training = train.Training(train.TrainingPlan(device='cpu', precision='fp32'))
    pixels = torch.rand(1, 3, *sampler.SIZE, generator=torch.Generator().manual_seed(0))
    visual = training.model.visual
    corners = torch.zeros(1, 2, dtype=torch.long)
    batch = sampler.Batch(pixels, corners, *[None] * 8)
    whole = sampler.Batch(pixels, None, *[None] * 8)
    with torch.no_grad():
        own, other = (
            training._see(batch, rule, bare=False) for rule in (attention.clip, attention.cliptrase)
        )
        bare = training._see(batch, attention.query_query, bare=True)
        view = training._see(whole, attention.clip, bare=False)
        expected = visual((pixels - training._backbone.mean) / training._backbone.std)
    assert torch.cosine_similarity(own.means, expected) == pytest.approx(1, abs=1e-5)
    assert not torch.allclose(own.patches, other.patches, atol=1e-3)
    torch.testing.assert_close(view.patches, own.patches, atol=1e-5, rtol=0)
    clearclip = METHODS['clearclip'].build(Tower(visual), ct.Settings())
    with torch.no_grad():
        normed = (pixels - training._backbone.mean) / training._backbone.std
        trace, _ = recipes.follow(Tower(visual), normed, clearclip)
        expected = F.normalize(Tower(visual).project(clearclip.last(trace)), dim=-1)
    torch.testing.assert_close(bare.patches, expected[:, 1:], atol=1e-5, rtol=0)
    assert own.patches.shape == (1, 1200, 128) and own.affinity.shape == (1, 1200, 1200)
    assert Tower(visual).grid(pixels) == own.grid == (30, 40)


def test_training_in_bfloat16_has_nearly_the_same_gradients(draws, small_steps, monkeypatch):
    batch = draws.batches(1, {(64, 64): 1.0}, 2)[0]
    gradients = []
    for precision, dtype in (('fp32', torch.float32), ('bf16', torch.bfloat16)):
        plan = train.TrainingPlan(precision=precision, device='cpu')
        assert plan.dtype == dtype
        _, gradient = train.Training(plan)._work(batch, 0)
        assert all(g.dtype == torch.float32 for g in gradient)
        gradients.append(torch.cat([g.flatten() for g in gradient]))
    exact, rough = gradients
    assert 0 < (exact - rough).norm() < 0.1 * exact.norm()
    with pytest.raises(SettingError, match="precision: 'fp16'; expected auto, fp32 or bf16"):
        train.TrainingPlan(precision='fp16')
    for fast, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(train, 'fast_bfloat16', lambda device, fast=fast: fast)
        assert train.TrainingPlan(device='cpu').dtype == dtype


def test_the_rate_rises_stays_and_falls():
    plan = train.TrainingPlan(steps=1000, rate=1.0, falling=0.5)
    rates = [plan.rate_at(step) for step in (1, 100, 200, 500, 751, 1000)]
    assert rates == pytest.approx([1 / 200, 0.5, 1.0, 1.0, 0.5, 0.002])


def test_crops_grow_and_a_bare_last_block_comes_later():
    plan = train.TrainingPlan(steps=1000)
    early, late = plan.crops_at(1), plan.crops_at(500)
    assert sum(early.values()) == pytest.approx(1) == sum(late.values())
    assert early[48, 48] > 0.24 and early[168, 224] < 0.01
    assert late[48, 48] == 0 and late[168, 224] == 0.4 and late == plan.crops_at(1000)
    bare = [plan.bare_at(step) for step in (1, 200, 300, 400, 1000)]
    assert bare == pytest.approx([0, 0, 0.1, 0.2, 0.2])


def test_training_repeats_itself_and_continues(pictures, small_steps, tmp_path, capsys):
    def digest(folder):
        return weights.sha256_of(tmp_path / folder / FILE)

    plan = train.TrainingPlan(steps=4, device='cpu')
    for folder, seed in (('one', 0), ('other', 1)):
        shown = train.train(pictures, dataclasses.replace(plan, seed=seed), tmp_path / folder)
        assert np.isfinite(list(shown.values())).all()
    # Stopped after two steps of the same plan. (The rate depends on the number of steps, so the
    # first part must not be trained with a plan of two steps.)
    stopped = train.Training(plan)
    draws = sampler.Sampler(pictures, plan.seed, PATCH)
    (tmp_path / 'parts').mkdir()
    with train.ThreadPoolExecutor(2) as workers:
        for step in (1, 2):
            stopped.learn(draws.batches(step, plan.crops_at(step), plan.jobs), workers)
    stopped.save(tmp_path / 'parts')
    train.train(pictures, plan, tmp_path / 'parts', resume=True)
    assert digest('one') == digest('parts') != digest('other')
    assert 'step 4/4' in capsys.readouterr().out
    trained, _ = weights.load_model(train.MODEL, str(tmp_path / 'one' / FILE))
    start, _ = weights.load_model(train.MODEL, weights.RANDOM)
    moved = trained.visual.proj - start.visual.proj
    assert 0 < moved.abs().max() < 0.1
    zero = (trained.token_embedding.weight == 0).all(1)
    assert 0.9 < zero.float().mean() < 1
    with pytest.raises(SettingError, match='4 steps already; set --steps to a larger number'):
        train.train(pictures, plan, tmp_path / 'one', resume=True)
    with pytest.raises(SettingError, match=r'no checkpoint .*; start without --resume'):
        train.train(pictures, plan, tmp_path / 'new', resume=True)


def test_training_saves_now_and_then(pictures, small_steps, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(train, 'SAVE_S', 0)
    train.train(pictures, train.TrainingPlan(steps=2, jobs=1, device='cpu'), tmp_path)
    assert capsys.readouterr().out.count('saved ') == 2


def test_training_lowers_the_loss(draws, small_steps, monkeypatch):
    monkeypatch.setattr(train, 'WARM_STEPS', 1)
    training = train.Training(train.TrainingPlan(rate=3e-4, device='cpu'))
    batches = draws.batches(1, {(64, 64): 1.0}, 1)
    with train.ThreadPoolExecutor(1) as workers:
        parts = [training.learn(batches, workers) for _ in range(14)]
    for name in ('loss', 'shown', 'absent', 'contrast'):
        assert parts[-1][name] < 0.5 * parts[0][name]


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
    flags = ['--pictures', '7', '--jobs', '1', '--device', 'cpu']
    train.main(['--out', str(tmp_path), *flags, '--steps', '1'])
    assert asked == [(tmp_path / 'renders', train.FIRST_SEED, 7, sampler.SIZE, 1)]
    assert '"steps": 1' in (tmp_path / 'training.json').read_text()
    assert (tmp_path / FILE).stat().st_size < 20e6
    train.main(['--out', str(tmp_path), *flags, '--steps', '2', '--resume'])
    assert '"steps": 2' in (tmp_path / 'training.json').read_text()
