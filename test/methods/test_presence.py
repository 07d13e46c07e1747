"""Which words are in the picture, compared with naive float64 loops from the equations."""

import numpy as np
import pytest
import torch
from method_oracles import dots, earlier, maskclip, rows
from oracle import Oracle, softmax
from scipy import ndimage
from towers import TINY_HEADS, TINY_PATCH, make_visual, normalised, picture

import cliptrase_ros as ct
from cliptrase_ros.labels import components
from cliptrase_ros.methods import presence
from cliptrase_ros.methods.presence import PatchAttention

# Two prompts for class 1, and two background words.
OWNER = torch.tensor([0, 1, 1, 2, 3, 3])


def logits(seed=0, grid=(3, 5)):
    return 3 * torch.randn(6, *grid, generator=torch.Generator().manual_seed(seed))


def naive_probability(scores, owner, classes):
    """Return [K, rows, cols]: softmax of each patch, summed over the queries of each class."""
    scores = scores.double().numpy()
    result = np.zeros((classes, *scores.shape[1:]))
    for y, x in np.ndindex(scores.shape[1:]):
        for share, k in zip(softmax(scores[:, y, x]), owner.tolist(), strict=True):
            if k < classes:
                result[k, y, x] += share
    return result


def naive_boxes(mask):
    result = np.zeros_like(mask)
    for k, one in enumerate(mask):
        parts, _ = ndimage.label(one, np.ones((3, 3)))
        for box in ndimage.find_objects(parts):
            result[k][box] = True
    return result


def naive_attention(blocks, averaged, needed):
    """Return the attention [N, N] of `PatchAttention`.

    blocks: attention [H, 1 + N, 1 + N] of each block, in order; averaged: numbers of the averaged
    blocks, from 1.
    """
    n = blocks[0].shape[-1] - 1
    means = [block.double().numpy().mean(0)[1:, 1:] for block in blocks]
    result = np.zeros((n, n))
    for i, j in np.ndindex(n, n):
        if sum(mean[i, j] > mean.mean() for mean in means) >= needed:
            result[i, j] = sum(means[number - 1][i, j] for number in averaged) / len(averaged)
    return result


def naive_tagclip(probability, attention):
    """Return the scores before they are divided by the best one."""
    classes, rows, cols = probability.shape
    scores = []
    for k in range(classes):
        coarse = probability[k].ravel()
        refined = [sum(a * p for a, p in zip(row, coarse, strict=True)) for row in attention]
        refined = np.array(refined).reshape(rows, cols)
        [inside] = naive_boxes(refined[None] > refined.mean())
        scores.append(
            max(attention[i, inside.ravel()] @ coarse[inside.ravel()] for i in range(rows * cols))
        )
    return np.array(scores)


def maps(depth, grid=(3, 5), batch=2, seed=0):
    """Return the attention [B, H, 1 + N, 1 + N] of each block."""
    n = 1 + grid[0] * grid[1]
    noise = torch.randn(depth, batch, 2, n, n, generator=torch.Generator().manual_seed(seed))
    return (2 * noise).softmax(-1)


def voted(blocks):
    votes = PatchAttention(len(blocks))
    for block in blocks:
        votes.add(block)
    return votes.attention()


def test_prompts_of_a_class_add_up(device):
    scores = logits()
    found = presence.probabilities(scores.to(device), OWNER.to(device), 3).cpu().numpy()
    expected = naive_probability(scores, OWNER, 3)
    assert np.abs(found - expected).max() < 1e-6
    best = presence.denoise(scores.to(device), OWNER.to(device), 3).cpu().numpy()
    assert np.abs(best - expected.max((1, 2))).max() < 1e-6


@pytest.mark.parametrize(
    'depth, averaged, needed',
    [
        (12, [9, 10, 11], 4),  # as published
        (24, [17, 18, 19, 20, 21, 22, 23], 8),
        (5, [4], 2),
        (4, [3], 2),
        (3, [2], 1),
        (2, [1], 1),
    ],
)
def test_attention_that_a_third_of_the_blocks_vote_for(device, depth, averaged, needed):
    blocks = maps(depth)
    found = voted(blocks.to(device)).cpu().numpy()
    for image in range(2):
        expected = naive_attention(list(blocks[:, image]), averaged, needed)
        assert np.abs(found[image] - expected).max() < 1e-6
        assert 0 < (expected == 0).sum() < expected.size


@pytest.mark.parametrize('may_look', [True, False])
@pytest.mark.parametrize('grid', [(3, 5), (5, 3), (1, 6), (8, 8)])
def test_boxes_of_parts(device, monkeypatch, grid, may_look):
    monkeypatch.setattr(components, 'may_look', lambda x: may_look)
    rng = np.random.default_rng(0)
    mask = np.stack([rng.random(grid) < share for share in (0, 0.1, 0.3, 0.5, 0.9, 1)])
    found = presence.boxes(torch.from_numpy(mask).to(device)).cpu().numpy()
    assert (found == naive_boxes(mask)).all()


@pytest.mark.parametrize('may_look', [True, False])
def test_a_part_may_wind(device, monkeypatch, may_look):
    monkeypatch.setattr(components, 'may_look', lambda x: may_look)
    mask = np.array(
        [
            [c == '#' for c in row]
            for row in (
                '#######.#',
                '......#..',
                '#####.#..',
                '#...#.#..',
                '#.#...#..',
                '#.#####..',
                '#........',
            )
        ]
    )[None]
    found = presence.boxes(torch.from_numpy(mask).to(device)).cpu().numpy()
    assert (found == naive_boxes(mask)).all()
    assert not presence.boxes(torch.zeros(2, 3, 4, dtype=torch.bool, device=device)).any()


@pytest.mark.parametrize('grid', [(3, 5), (6, 4), (2, 2)])
def test_tagclip_follows_the_equations(device, grid):
    scores = logits(1, grid)
    attention = voted(maps(4, grid, seed=1))[0]
    probability = presence.probabilities(scores.to(device), OWNER.to(device), 3)
    found = presence.tagclip(probability, attention.to(device)).cpu().numpy()
    naive = naive_attention(list(maps(4, grid, seed=1)[:, 0]), [3], 2)
    expected = naive_tagclip(naive_probability(scores, OWNER, 3), naive)
    assert np.abs(found - expected / expected.max()).max() < 1e-5
    assert found.max() == 1 and found.min() < 0.99


def test_where_no_patch_belongs_to_another_no_word_is_dropped():
    one = presence.probabilities(logits(grid=(1, 1)), OWNER, 3)
    assert presence.tagclip(one, voted(maps(4, (1, 1)))[0]).tolist() == [1, 1, 1]


def segmenter(backbone, **changes):
    return ct.Segmenter(
        backbone, ct.Settings.from_mapping({'precision': 'fp32', 'input_size': 48, **changes})
    )


def without(words, absent):
    """Return the vocabulary without some classes. The ids of the others do not change."""
    kept = [k for k in range(len(words.classes)) if k not in absent]
    classes = tuple(words.classes[k] for k in kept)
    rows = [q for q, k in enumerate(words.owner.tolist()) if k not in absent]
    owner = [kept.index(k) if k in kept else len(kept) for k in words.owner[rows].tolist()]
    return ct.Vocabulary(classes, words.background, words.embeddings[rows], torch.tensor(owner))


@pytest.mark.parametrize(
    'settings',
    [
        {'regions': 'vote'},
        {'regions': 'mean'},
        {'regions': 'none', 'sliding.window_px': 32, 'sliding.stride_px': 16},
        {'regions': 'vote', 'sliding.window_px': 32, 'sliding.stride_px': 16},
        {'regions': 'none', 'refine': 'guided', 'margin_threshold': 0.02},
        {'regions': 'none', 'refine': 'pamr'},
    ],
)
def test_absent_words_might_as_well_not_be_asked_for(backbone, words, settings):
    run = segmenter(backbone, present={'method': 'denoise'}, logit_scale=10.0, **settings)
    encoded = run.encode(picture(64, 96))
    scores = run.presence(encoded, words)
    run = run.replace(present={'threshold': float(scores.median())})
    absent = {k for k, score in enumerate(scores) if score < scores.median()}
    assert len(absent) == 2
    found = run.label(encoded, words)
    expected = segmenter(backbone, logit_scale=10.0, **settings).label(
        encoded, without(words, absent)
    )
    assert (found.labels == expected.labels).all() and found.labels.any()
    assert np.abs(found.confidence - expected.confidence).max() < 1e-6


def test_presence_is_the_largest_probability_anywhere(backbone, words):
    run = segmenter(backbone, present={'method': 'denoise'}, regions='none', logit_scale=20.0)
    encoded = run.encode(picture(48, 72))
    scores = run.presence(encoded, words)
    labelled = run.replace(present={'method': 'none'}, output_size='9x6')(picture(48, 72), words)
    assert len(np.unique(labelled.labels)) > 2
    for number in set(np.unique(labelled.labels)) - {0}:
        largest = labelled.confidence[labelled.labels == number].max()  # a pixel is a patch
        assert largest == pytest.approx(float(scores[number - 1]), abs=1e-5)
    flat = torch.zeros(7, 6, 9, device=backbone.device)
    assert torch.allclose(run.presence(encoded, words, flat).cpu(), torch.tensor(1 / 7))


def test_who_calls_may_decide_what_is_there(backbone, words):
    image = picture(64, 96)
    for mode in ('none', 'denoise'):
        run = segmenter(backbone, present={'method': mode}, regions='none')
        present = torch.tensor([False, True, False, True, False])
        found = run.label(run.encode(image), words, present=present)
        assert set(np.unique(found.labels)) <= {0, 2, 4}
        expected = segmenter(backbone, regions='none')(image, without(words, {0, 2, 4}))
        assert (found.labels == expected.labels).all()


@pytest.mark.parametrize(
    'present',
    [
        torch.ones(4, dtype=torch.bool),
        torch.ones(7, dtype=torch.bool),
        torch.tensor([0, 1, 0, 1, 0]),
        torch.ones(5),
        np.ones(5, bool),
        [True] * 5,
    ],
)
def test_what_is_there_is_one_flag_a_class(backbone, words, present):
    run = segmenter(backbone)
    with pytest.raises(ct.ShapeError, match=r'present: expected a bool tensor \[5\]'):
        run.label(run.encode(picture(64, 96)), words, present=present)


@pytest.mark.parametrize('regions', ['vote', 'mean', 'none'])
def test_where_no_word_is_there_nothing_is_labelled(backbone, words, regions):
    run = segmenter(
        backbone, present={'method': 'denoise', 'threshold': 1.0}, logit_scale=1.0, regions=regions
    )
    alone = ct.Vocabulary.from_embeddings(list('abcde'), words.embeddings[:5])
    for vocabulary in (words, alone):
        result = run(picture(64, 96), vocabulary)
        assert result.labels.shape == (64, 96) and result.labels.dtype == np.uint8
        assert not result.labels.any() and not result.confidence.any()


def test_thresholds_are_the_published_ones_unless_given(backbone, words):
    for mode, threshold in (('denoise', 0.5), ('tagclip', 0.1)):
        run = segmenter(backbone, present={'method': mode}, logit_scale=20.0)
        assert run.present_threshold == threshold
        assert run.replace(present={'threshold': 0.25}).present_threshold == 0.25
        encoded = run.encode(picture(64, 96))
        present = run.presence(encoded, words) >= threshold
        assert 0 < present.sum() < 5
        found, expected = run.label(encoded, words), run.label(encoded, words, present=present)
        assert (found.labels == expected.labels).all()


def test_off_costs_nothing_and_says_nothing(backbone, words):
    run = segmenter(backbone)
    encoded = run.encode(picture(48, 48))
    assert encoded.evidence is None and run.presence(encoded, words) is None
    with pytest.raises(ct.SettingError, match='encoded without tagclip'):
        run.replace(present={'method': 'tagclip'}).label(encoded, words)


def naive_evidence(backbone, image):
    """Return (joint-space values [N, E], attention [N, N], grid) of an image [H, W, 3]."""
    reference = Oracle(make_visual(), TINY_HEADS, TINY_PATCH)
    pixels = normalised(image, backbone)
    states, grid = earlier(reference, pixels)
    blocks = []
    for block, x in enumerate(states):
        q, k, _ = reference.qkv(block, x)
        maps = [rows(dots(*head)) for head in zip(q, k, strict=True)]
        blocks.append(torch.from_numpy(np.array(maps)))
    return maskclip(reference, pixels)[1:], naive_attention(blocks, [3], 2), grid


@pytest.mark.parametrize('shape', [(48, 72), (64, 48)])
@pytest.mark.parametrize('changes', [{}, {'method': 'clip', 'regions': 'none'}])
def test_tagclip_from_pixels_to_scores(backbone, words, shape, changes):
    image = picture(*shape)
    run = segmenter(backbone, present={'method': 'tagclip', 'threshold': 0.5}, **changes)
    encoded = run.encode(image)
    values, attention, grid = naive_evidence(backbone, image)
    assert np.abs(encoded.evidence.attention.cpu().numpy() - attention).max() < 1e-5
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    logits = torch.from_numpy(100 * words.embeddings.double().numpy() @ unit.T).view(7, *grid)
    expected = naive_tagclip(naive_probability(logits, words.owner, 5), attention)
    found = run.presence(encoded, words).cpu().numpy()
    assert np.abs(found - expected / expected.max()).max() < 1e-3

    absent = {k for k, score in enumerate(found) if score < 0.5}
    assert 0 < len(absent) < 5
    reduced = run.replace(present={'method': 'none'})(image, without(words, absent))
    assert (run(image, words).labels == reduced.labels).all()


def test_tagclip_leaves_the_features_as_they_are(backbone):
    images = [picture(96, 128), picture(64, 48), picture(48, 64)]
    run, plain = segmenter(backbone, present={'method': 'tagclip'}), segmenter(backbone)
    for image, encoded in zip(images, run.encode_batch(images), strict=True):
        alone = run.encode(image)
        assert torch.allclose(encoded.features, plain.encode(image).features, atol=1e-5)
        assert torch.allclose(encoded.evidence.values, alone.evidence.values, atol=1e-5)
        assert (encoded.evidence.attention - alone.evidence.attention).abs().mean() < 1e-5


@pytest.mark.parametrize('regions', ['vote', 'none'])
def test_with_windows_the_whole_image_is_judged(backbone, words, regions):
    image = picture(60, 100)
    run = segmenter(backbone, present={'method': 'tagclip'}, regions=regions)
    sliding = run.replace(sliding={'window_px': 32, 'stride_px': 16})
    whole, encoded = run.encode(image), sliding.encode(image)
    assert encoded.features.shape[0] == 8 and (encoded.clusters is None) == (regions == 'none')
    assert torch.allclose(sliding.presence(encoded, words), run.presence(whole, words), atol=1e-4)
    assert sliding.label(encoded, words).labels.shape == (60, 100)


def test_the_attention_of_every_block_is_seen_once(backbone):
    from cliptrase_ros.model import recipes

    tower, seen = backbone.tower('fp32', 0.1), []
    pixels = torch.randn(2, 3, 24, 40, device=backbone.device)
    recipe = recipes.LastBlock(tower.blocks, maps=frozenset({2, 3}))
    trace, _ = recipes.follow(tower, pixels, recipe, watch=seen.append)
    assert [tuple(weights.shape) for weights in seen] == 3 * [(2, TINY_HEADS, 16, 16)]
    assert torch.equal(trace.attention, seen[1] + seen[2])
    assert torch.allclose(recipe.last(trace), recipes.run(tower, pixels, recipe), atol=1e-5)
