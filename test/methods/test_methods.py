"""Every method on small towers: compared with naive equations, and rules that hold for all."""

import copy
import gc
import re
from pathlib import Path

import method_oracles as naive
import numpy as np
import oracle
import pytest
import torch
from oracle import relative
from towers import (
    TINY_HEADS,
    TINY_PATCH,
    make_turned_visual,
    make_visual,
    normalised,
    picture,
)

import cliptrase_ros as ct
from cliptrase_ros.methods import gclip, resclip, sc_clip, table
from cliptrase_ros.model import attention, recipes, windows
from cliptrase_ros.model.visual import Tower

ALL = tuple(ct.METHODS)
# Blocks that the recipes choose by depth in a tower with 4 blocks.
MIDDLE, LOW, LEVELS, RESIDUAL = 3, 1, (2, 3), (3,)
SIZES = [(48, 48), (40, 64), (64, 40)]


def recipe(tower, method, **changes):
    return table.build(tower, ct.Settings.from_mapping({'method': method, **changes}))


def images(height, width, count=1, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, height, width, generator=generator)


def tokens(visual, pixels, method, **changes):
    tower = Tower(visual)
    return recipes.run(tower, pixels, recipe(tower, method, **changes))


CASES = {
    'clip': ('clip', {}, lambda r, x: r.run(x, ['qk'])[0]),
    'cliptrase': ('cliptrase', {}, lambda r, x: r.run(x, ['qq', 'kk', 'vv'])[0]),
    'cliptrase, paper': ('cliptrase', {'method_form': 'paper'}, naive.cliptrase_paper),
    'maskclip': ('maskclip', {}, naive.maskclip),
    'sclip': ('sclip', {}, naive.sclip),
    'clearclip': ('clearclip', {}, naive.clearclip),
    'naclip': ('naclip', {}, naive.naclip),
    'naclip, sigma': ('naclip', {'naclip.sigma': 1.5}, lambda r, x: naive.naclip(r, x, 1.5)),
    'naclip, no prior': ('naclip', {'naclip.sigma': 'none'}, naive.key_key),
    'resclip': ('resclip', {}, lambda r, x: naive.resclip(r, x, RESIDUAL)),
    'resclip, numbers': (
        'resclip',
        {'resclip.lambda': 0.3, 'resclip.tau': 1.2, 'naclip.sigma': 2.0},
        lambda r, x: naive.resclip(r, x, RESIDUAL, 0.3, 1.2, 2.0),
    ),
    'gclip': ('gclip', {'gclip.block': 1}, lambda r, x: naive.gclip(r, x, 1)),
    'gclip, second block': ('gclip', {'gclip.block': 2}, lambda r, x: naive.gclip(r, x, 2)),
    'gclip, no suppression': (
        'gclip',
        {'gclip.block': 1, 'gclip.suppression': False},
        lambda r, x: naive.gclip(r, x, 1, suppression=False),
    ),
    'sc_clip': ('sc_clip', {}, lambda r, x: naive.sc_clip(r, x, MIDDLE, LOW, LEVELS)),
    'sc_clip, paper': (
        'sc_clip',
        {'method_form': 'paper'},
        lambda r, x: naive.sc_clip(r, x, MIDDLE, LOW, LEVELS, paper_form=True),
    ),
}


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('case', CASES)
def test_features_follow_the_equations(visual, case, size):
    method, changes, expected = CASES[case]
    pixels = images(*size)
    got = Tower(visual).project(tokens(visual, pixels.to(visual.proj.device), method, **changes))
    reference = oracle.Oracle(make_visual(), TINY_HEADS, TINY_PATCH)
    expected = expected(reference, pixels[0].double().numpy())
    got = got[0].cpu().numpy()[-len(expected) :]
    assert len(expected) >= size[0] * size[1] // TINY_PATCH**2
    assert relative(got, expected) < 1e-4


def test_every_method_has_a_case():
    assert {method for method, _, _ in CASES.values()} == set(ALL)


def test_channel_suppression_changes_something(visual, device):
    pixels = images(40, 24).to(device)
    plain = tokens(visual, pixels, 'gclip', gclip={'suppression': False})
    assert relative(tokens(visual, pixels, 'gclip').cpu().numpy(), plain.cpu().numpy()) > 1e-4


def tokens_and_correlation(tower, pixels, run):
    trace, correlation = recipes.follow(tower, pixels, run, correlation=True)
    return run.last(trace), correlation


@pytest.mark.parametrize('method', ALL)
def test_turning_image_and_weights_turns_the_result(device, method):
    """Rows and columns are not mixed up: transposed input gives transposed features."""
    visual, turned = make_visual().to(device), make_turned_visual().to(device)
    pixels = images(40, 72, seed=2).to(device)
    one, other = Tower(visual), Tower(turned)
    a, like_a = tokens_and_correlation(one, pixels, recipe(one, method))
    b, like_b = tokens_and_correlation(other, pixels.transpose(2, 3), recipe(other, method))
    swapped = b[0, 1:].view(9, 5, -1).transpose(0, 1).reshape(45, -1)
    assert torch.allclose(a[0, 1:], swapped, atol=1e-4)
    assert torch.allclose(a[0, 0], b[0, 0], atol=1e-4)
    assert torch.allclose(like_a[0, 0, 0], like_b[0, 0, 0], atol=1e-4)


@pytest.mark.parametrize('method', ALL)
def test_a_batch_is_the_images_one_by_one(visual, device, method):
    pixels = images(40, 48, count=3, seed=3).to(device)
    tower = Tower(visual)
    run = recipe(tower, method)
    batch, likeness = tokens_and_correlation(tower, pixels, run)
    for n in range(3):
        single, own = tokens_and_correlation(tower, pixels[n : n + 1], run)
        assert torch.allclose(batch[n], single[0], atol=1e-5)
        assert torch.allclose(likeness[n], own[0], atol=1e-5)


@pytest.mark.parametrize('method', ALL)
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_running_in_low_precision_is_close_and_changes_no_weight(visual, device, method, dtype):
    before = copy.deepcopy(visual.state_dict())
    pixels = images(40, 24).to(device)
    low, full = Tower(visual, dtype), Tower(visual)
    got = recipes.run(low, pixels, recipe(low, method, gclip={'block': 1}))
    expected = recipes.run(full, pixels, recipe(full, method, gclip={'block': 1}))
    assert got.dtype == torch.float32 and not torch.equal(got, expected)
    limit = 0.05 if dtype == torch.bfloat16 else 0.02
    if method == 'sc_clip':  # at its thresholds, rounding can select other patches
        limit = 0.2
    compared = (got.float() - expected).norm(dim=-1) / expected.norm(dim=-1)
    assert float(compared.median()) < limit
    after = visual.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert after['conv1.weight'].dtype == torch.float32


def test_rows_of_weights_sum_to_one_or_tau(visual, device):
    tower = Tower(visual)
    fused, residual = recipe(tower, 'gclip', gclip={'block': 1}), recipe(tower, 'resclip')
    pixels = images(40, 24).to(device)
    fused_trace, _ = recipes.follow(tower, pixels, fused)
    trace, _ = recipes.follow(tower, pixels, residual)
    heads = tower.blocks[-1].heads(trace.x)

    def total(weights):
        sums = weights.sum(-1)
        assert torch.allclose(sums, sums.mean(), atol=1e-5)
        return float(sums.mean())

    assert total(fused.weights(heads, fused_trace)) == pytest.approx(1, abs=1e-5)
    semantics = resclip.semantic_map(torch.tensor([[[0, 1, 1]] * 5], device=device))
    assert total(residual.weights(heads, trace)) == pytest.approx(2, abs=1e-5)
    assert total(residual.weights(heads, trace, semantics)) == pytest.approx(2, abs=1e-5)
    weaker = recipe(tower, 'resclip', resclip={'tau': 1.3})
    assert total(weaker.weights(heads, trace)) == pytest.approx(1.3, abs=1e-5)

    patches = tower.blocks[-1].heads(trace.x[:, 1:])
    similar = sc_clip.cosines(trace.x[:, 1:])
    code = recipe(tower, 'sc_clip')
    assert total(code.weights(patches, code.steering(similar))) == pytest.approx(1, abs=1e-5)
    paper = recipe(tower, 'sc_clip', method_form='paper')
    assert total(paper.weights(patches, paper.steering(similar))) == pytest.approx(2, abs=1e-5)


def test_resclip_without_its_residual_is_naclip(visual, device):
    pixels = images(40, 24).to(device)
    plain = tokens(visual, pixels, 'naclip')
    got = tokens(visual, pixels, 'resclip', resclip={'lambda': 0.0, 'tau': 1.0})
    assert torch.allclose(got, plain, atol=1e-6)


def test_all_methods_differ_and_share_the_model(backbone, words):
    image = picture(48, 64)
    run = ct.Segmenter(backbone, ct.Settings(precision='fp32', input_size=48))
    encoded = {method: run.replace(method=method).encode(image) for method in ALL}
    for one in ALL:
        for other in ALL:
            close = torch.allclose(encoded[one].features, encoded[other].features, rtol=1e-2)
            assert close == (one == other), (one, other)
    # Regions come from the correlation of an unchanged block. The method of the last block does not
    # matter.
    for method in set(ALL) - {'gclip'}:
        assert torch.equal(encoded[method].affinity, encoded['clip'].affinity)


@pytest.mark.parametrize('regions', ['vote', 'mean', 'none'])
@pytest.mark.parametrize('method', ALL)
def test_a_method_is_chosen_per_call(backbone, words, method, regions):
    image = picture(40, 72)
    settings = ct.Settings(precision='fp32', input_size=40, cluster={'eps': 1.0, 'min_samples': 3})
    run = ct.Segmenter(backbone, settings)
    here = run(image, words, method=method, regions=regions)
    fixed = ct.Segmenter(backbone, settings.replace(method=method, regions=regions))
    assert (here.labels == fixed(image, words).labels).all()
    assert run.settings == settings


@pytest.mark.parametrize('name, value', [('distractors', 'stuff'), ('prompt_templates', 'photo')])
def test_a_call_cannot_change_what_words_were_made_with(backbone, words, name, value):
    with pytest.raises(ct.SettingError, match=f'{name}: belongs to the words'):
        ct.Segmenter(backbone)(picture(40, 72), words, method='clip', **{name: value})


@pytest.mark.parametrize('regions', ['vote', 'none'])
@pytest.mark.parametrize('method', ALL)
def test_windows_are_pictures_of_their_own(backbone, words, method, regions):
    settings = ct.Settings(method=method, regions=regions, precision='fp32', input_size=48)
    sliding = settings.replace(sliding={'window_px': 32, 'stride_px': 16})
    image = picture(48, 80)
    encoded = ct.Segmenter(backbone, sliding).encode(image)
    small = ct.Segmenter(backbone, settings.replace(input_size=32, regions='none'))
    for features, (top, left) in zip(encoded.features, encoded.offsets, strict=True):
        tile = image[top : top + 32, left : left + 32]
        assert torch.allclose(features, small.encode(tile).features, atol=1e-5)
    whole = ct.Segmenter(backbone, settings).encode(image)
    assert (encoded.regions is None) == (regions == 'none')
    if regions == 'vote':
        assert torch.allclose(encoded.affinity, whole.affinity, atol=1e-6)
        assert torch.equal(encoded.regions, whole.regions)


@pytest.mark.parametrize('layers, refused', [(2, {'gclip', 'resclip', 'sc_clip'}), (3, set())])
def test_towers_that_are_too_short_are_refused_at_load(layers, refused):
    backbone = ct.Backbone(make_visual(layers=layers))
    for method in ALL:
        settings = ct.Settings(method=method)
        if method not in refused:
            ct.Segmenter(backbone, settings)
            continue
        with pytest.raises(ct.UnsupportedBackbone) as error:
            ct.Segmenter(backbone, settings)
        assert f"method '{method}' needs a tower of at least 3 blocks, this one has 2" in str(
            error.value
        )
        assert 'Use one of cliptrase, naclip' in str(error.value)


@pytest.mark.parametrize('layers', [3, 4, 5, 7, 8, 12, 24, 40])
def test_blocks_by_depth_exist(layers):
    tower = Tower(make_visual(layers=layers, width=16))
    for method in ('gclip', 'resclip', 'sc_clip'):
        run = recipe(tower, method)
        chosen = run.states | run.maps
        assert chosen and min(chosen) >= 1 and max(chosen) < layers


def test_blocks_by_depth_are_the_published_ones_at_12():
    tower = Tower(make_visual(layers=12, width=16))
    assert recipe(tower, 'resclip').maps == {6, 7, 8, 9}
    chosen = recipe(tower, 'sc_clip')
    assert (chosen.middle, chosen.low, chosen.levels) == (9, 4, (4, 5, 6, 7, 8, 9, 10))
    assert recipe(tower, 'gclip').maps == {7, 8}
    assert recipe(tower, 'gclip', gclip={'block': 6}).maps == {6, 7}
    deep = Tower(make_visual(layers=24, width=16))
    assert recipe(deep, 'resclip').maps == set(range(11, 19))
    assert recipe(deep, 'sc_clip').levels == tuple(range(7, 21))


def test_a_gclip_block_too_late_is_refused(backbone):
    with pytest.raises(ct.SettingError, match=r'gclip.block: 3 leaves no block .* takes 1 \.\. 2'):
        ct.Segmenter(backbone, ct.Settings(method='gclip', gclip={'block': 3}))


def make_global(block):
    """Return a tower of 6 blocks in which, from `block` on, all patches attend to a few patches."""
    visual = make_visual(layers=6, image_size=64)
    attention = visual.transformer.resblocks[block - 1].attn
    width = attention.embed_dim
    # All queries are the same long vector; the keys similar to it win the softmax of every row.
    attention.in_proj_weight.data[:width] = 0
    attention.in_proj_bias.data[:width] = 0
    attention.in_proj_bias.data[: 2 * width : width // TINY_HEADS] = 40.0
    return visual


@pytest.mark.parametrize('block', [2, 3, 4])
def test_global_tokens_are_found_where_they_emerge(device, block):
    tower = Tower(make_global(block).to(device))
    ratios = gclip.global_ratios(tower, gclip.pink_noise(tower))
    assert len(ratios) == 5
    assert [n for n, ratio in enumerate(ratios, 1) if ratio > gclip.EMERGING_RATIO] == [block]
    assert recipe(tower, 'gclip').maps == {block, block + 1}


def test_global_tokens_that_emerge_too_late_leave_the_last_two_blocks(device):
    assert recipe(Tower(make_global(5).to(device)), 'gclip').maps == {4, 5}


def test_the_emerging_block_is_worked_out_once_a_tower(visual, monkeypatch):
    tower, calls = Tower(visual), []
    ratios = gclip.global_ratios
    monkeypatch.setattr(gclip, 'global_ratios', lambda *a: (calls.append(1), ratios(*a))[1])
    assert gclip.emerging_block(tower) == gclip.emerging_block(tower)
    assert len(calls) == 1
    remembered = len(gclip._EMERGING)
    del tower
    gc.collect()
    assert len(gclip._EMERGING) < remembered


def test_pink_noise_has_the_spectrum_of_photographs(visual):
    noise = gclip.pink_noise(Tower(make_visual(image_size=(96, 128))))[0, 0].cpu().numpy()
    assert noise.shape == (96, 128) and noise.std() == pytest.approx(1, abs=0.1)
    power = np.abs(np.fft.fft2(noise)) ** 2
    radius = np.hypot(np.fft.fftfreq(96)[:, None], np.fft.fftfreq(128))
    low = power[(radius > 0.02) & (radius < 0.06)].mean()
    high = power[(radius > 0.2) & (radius < 0.6)].mean()
    assert 30 < low / high < 500  # amplitude 1 / f: about (0.35 / 0.035)²


def test_outlier_factors_and_repair_follow_the_equations(device):
    x = images(1, 1, count=63 * 4)[..., 0, 0].view(1, 63, 12)
    x[0, 5] += 4
    x[0, 6] -= 3
    factors = sc_clip.outlier_factors(x.to(device))[0].cpu().numpy()
    expected = naive.outlier_factors(x[0].double().numpy())
    assert np.abs(factors - expected).max() < 1e-4
    odd = sc_clip.anomalies(x.to(device))
    assert odd.sum() == 4 and odd[0, 5] and odd[0, 6]
    odd[0, :4] = odd[0, 9:13] = True  # the corner of a 7 x 9 grid and all its neighbours
    fixed = sc_clip.repaired(x.to(device), odd, (7, 9))[0].cpu().numpy()
    expected = naive.repair(x[0].double().numpy(), odd[0].cpu().numpy(), (7, 9))
    assert np.abs(fixed - expected).max() < 1e-5
    assert (fixed[0] == x[0, 0].numpy()).all() and (fixed[5] != x[0, 5].numpy()).any()


def test_alike_patches_are_no_trouble_for_sc_clip(backbone, words):
    image = np.full((48, 64, 3), 128, np.uint8)
    features = ct.Segmenter(backbone, ct.Settings(method='sc_clip')).encode(image).features
    assert bool(torch.isfinite(features).all())
    same = torch.full((1, 20, 8), 3000.1)
    assert bool(torch.isfinite(sc_clip.outlier_factors(same)).all())
    run = recipe(Tower(make_visual()), 'sc_clip')
    similar = torch.ones(1, 6, 6)
    similar[0, 2] -= 1e-6  # a whole row is below the mean
    heads = attention.Heads(*torch.zeros(3, 1, 2, 6, 4))
    weights = run.weights(heads, run.steering(similar))
    assert torch.allclose(weights.sum(-1), torch.ones(1, 2, 6))


# Islands, bridges and a diagonal, on a grid that is not square.
ISLANDS = np.array(
    [
        [0, 0, 0, 1, 1, 0, 0],
        [0, 2, 0, 1, 0, 0, 2],
        [0, 2, 2, 2, 0, 1, 2],
        [1, 0, 0, 2, 2, 1, 1],
    ]
)


@pytest.mark.parametrize('labels', [ISLANDS, ISLANDS.T, ISLANDS[:2, :2], np.zeros((6, 9), int)])
def test_semantic_map_follows_its_equations(device, labels):
    both = torch.from_numpy(np.stack([labels, labels[::-1]])).to(device)
    got = resclip.semantic_map(both).cpu().numpy()
    assert np.abs(got[0] - naive.semantic_map(labels)).max() < 1e-6
    assert np.abs(got[1] - naive.semantic_map(labels[::-1])).max() < 1e-6
    assert (got[:, 0] == 0).all() and (got[:, :, 0] == 0).all() and got.max() == 1


def test_a_patch_takes_its_most_frequent_label_and_the_lowest_of_two():
    pixels = torch.tensor([[[0, 0, 5, 1], [0, 3, 1, 5]]])
    assert resclip.patch_labels(pixels, 2).tolist() == [[[0, 1]]]


@pytest.mark.slow
@pytest.mark.parametrize('size', [(48, 48), (40, 64), (64, 40)])
@pytest.mark.parametrize('threshold', [0.0, 0.3])
def test_feedback_follows_its_equations(device, words, size, threshold):
    settings = ct.Settings(
        method='resclip',
        precision='fp32',
        input_size=min(size),
        regions='none',
        resclip={'feedback': {'enabled': True, 'threshold': threshold}},
    )
    backbone = ct.Backbone(make_visual().to(device))
    run, image = ct.Segmenter(backbone, settings), picture(*size, seed=1)
    encoded = run.encode(image)
    got = run.scores(encoded, words).cpu().numpy()

    pixels = normalised(image, backbone)
    reference, text = oracle.Oracle(make_visual(), 2, 8), words.embeddings.double().numpy()
    first = unit(naive.resclip(reference, pixels, RESIDUAL)[1:]) @ text.T
    grid = tuple(encoded.features.shape[:2])
    maps = np.array([oracle.bilinear(m.reshape(grid), size) for m in first.T])
    refined = 40 * oracle.pamr(maps, pixels, 10, (8, 16))
    probability = np.exp(refined) / np.exp(refined).sum(0)
    best = np.array([1, 2, 3, 4, 5, 0, 0])[refined.argmax(0)]  # the last two are background
    best[probability.max(0) < threshold] = 0
    cells = best.reshape(grid[0], 8, grid[1], 8).transpose(0, 2, 1, 3).reshape(*grid, 64)
    labels = np.array([[np.bincount(cell).argmax() for cell in row] for row in cells])
    assert len(np.unique(labels)) > 1
    semantics = naive.semantic_map(labels), 0.7, 1.8
    again = naive.resclip(reference, pixels, RESIDUAL, semantics=semantics)
    expected = (100 * unit(again[1:]) @ text.T).T.reshape(-1, *grid)
    assert np.abs(got - expected).max() < 1e-3 * np.abs(expected).max()
    plain = run.replace(resclip={'feedback': {'enabled': False}})
    assert np.abs(plain.scores(plain.encode(image), words).cpu().numpy() - got).max() > 1e-2


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_feedback_with_windows_and_batches(backbone, words):
    settings = ct.Settings(
        method='resclip',
        precision='fp32',
        input_size=48,
        resclip={'feedback': {'enabled': True}},
        regions='none',
    )
    sliding = ct.Segmenter(backbone, settings.replace(sliding={'window_px': 32, 'stride_px': 16}))
    encoded = sliding.encode(picture(48, 80))
    assert encoded.feedback.images.shape == (8, 3, 32, 32)
    small = ct.Segmenter(backbone, settings.replace(input_size=32))
    tiles = [picture(48, 80)[top : top + 32, left : left + 32] for top, left in encoded.offsets]
    alone = torch.stack([small.scores(small.encode(tile), words) for tile in tiles])
    expected = windows.merge(alone, encoded.offsets, 32, (48, 80))
    assert torch.allclose(sliding.scores(encoded, words), expected, atol=1e-3)

    run = ct.Segmenter(backbone, settings)
    images = [picture(48, 64, seed=n) for n in range(3)]
    for image, encoded in zip(images, run.encode_batch(images), strict=True):
        alone = run.scores(run.encode(image), words)
        assert torch.allclose(run.scores(encoded, words), alone, atol=1e-3)


def test_feedback_belongs_to_who_encoded(backbone, words):
    settings = ct.Settings(method='resclip', precision='fp32', input_size=48)
    plain = ct.Segmenter(backbone, settings)
    feeding = plain.replace(resclip={'feedback': {'enabled': True}})
    image = picture(48, 64)
    encoded = feeding.encode(image)
    assert torch.equal(plain.scores(encoded, words), plain.scores(plain.encode(image), words))
    with pytest.raises(
        ct.SettingError, match=r'resclip\.feedback\.enabled: the image was encoded without'
    ):
        feeding.scores(plain.encode(image), words)


def test_feedback_without_its_share_and_gain_is_no_feedback(backbone, words):
    settings = ct.Settings(
        method='resclip',
        precision='fp32',
        input_size=48,
        resclip={'feedback': {'enabled': True, 'lambda': 0.0, 'tau': 1.0}},
    )
    run, image = ct.Segmenter(backbone, settings), picture(48, 64)
    plain = run.replace(resclip={'feedback': {'enabled': False}})
    expected = plain.scores(plain.encode(image), words)
    assert torch.allclose(run.scores(run.encode(image), words), expected, atol=1e-3)


def test_every_method_has_its_screen_and_source():
    text = (Path(__file__).parents[2] / 'doc' / 'methods.md').read_text()
    screens = {part.split('\n')[0].split()[0]: part for part in text.split('\n## ')[1:]}
    for name, method in ct.METHODS.items():
        assert re.search(r'arXiv \d{4}\.\d{5}', method.source)[0] in screens[name], name
        assert len(screens[name].splitlines()) <= 60
    assert '(reconstructed)' in text and 'reconstructed' in ct.METHODS['gclip'].source
