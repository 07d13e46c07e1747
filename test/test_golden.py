"""The whole method, compared with a naive oracle and with the numbers of the official code."""

import os
from pathlib import Path

import numpy as np
import oracle
import pytest
import torch
from open_clip.transformer import QuickGELU, VisionTransformer
from oracle import relative
from safetensors.torch import load_file
from towers import TINY_HEADS, TINY_PATCH, make_visual, normalised, picture

import cliptrase_ros as ct
from cliptrase_ros.labels import clusters
from cliptrase_ros.model.preprocessing import centre_crop

ROOT = Path(__file__).parents[1]
PAIRS = {'clip': ['qk'], 'cliptrase': ['qq', 'kk', 'vv']}


@pytest.mark.parametrize('size', [(32, 32), (48, 48), (40, 64), (64, 40)])
@pytest.mark.parametrize('method', PAIRS)
def test_features_and_affinity_follow_the_equations(device, method, size):
    visual = make_visual().to(device)
    backbone = ct.Backbone(visual)
    settings = ct.Settings(method=method, precision='fp32', input_size=min(size))
    image = picture(*size)
    encoded = ct.Segmenter(backbone, settings).encode(image)

    reference = oracle.Oracle(make_visual(), TINY_HEADS, TINY_PATCH)
    tokens, correlation, grid = reference.run(normalised(image, backbone), PAIRS[method])
    assert tuple(encoded.features.shape[:2]) == grid == (size[0] // 8, size[1] // 8)
    assert relative(encoded.features.cpu().numpy().reshape(-1, 16), tokens[1:]) < 1e-4
    assert relative(encoded.cls.cpu().numpy(), tokens[0]) < 1e-4
    assert np.abs(encoded.affinity.cpu().numpy() - oracle.affinity(correlation)).max() < 1e-5


@pytest.mark.parametrize('size', [(64, 64), (48, 80), (80, 48)])
@pytest.mark.parametrize('mode', ['plain', 'cls_weighted', 'with_background'])
def test_labels_follow_the_equations(device, words, mode, size):
    # With this radius the small grid splits into several regions.
    eps, min_samples = 1.0, 3
    settings = ct.Settings(
        precision='fp32',
        input_size=min(size),
        cluster={'eps': eps, 'min_samples': min_samples},
        cls_weighting=mode == 'cls_weighted',
    )
    backbone = ct.Backbone(make_visual().to(device))
    text = words.embeddings.double().numpy()
    if mode != 'with_background':
        words = ct.Vocabulary.from_embeddings([c.name for c in words.classes], text[:5])
        text = text[:5]
    image = picture(*size, seed=1)
    segmenter = ct.Segmenter(backbone, settings)
    encoded = segmenter.encode(image)
    result = segmenter.label(encoded, words)

    reference = oracle.Oracle(make_visual(), TINY_HEADS, TINY_PATCH)
    tokens, correlation, grid = reference.run(normalised(image, backbone), PAIRS['cliptrase'])
    rows = oracle.affinity(correlation)
    clustered = oracle.cluster(rows, eps, min_samples)
    assert clustered.max() >= 1
    assert (encoded.clusters.cpu().numpy().ravel() == clustered).all()
    best = oracle.scores(tokens, text, grid, size, mode == 'cls_weighted').argmax(0)
    predicted = np.minimum(best, 5)
    expected = oracle.vote(predicted, oracle.region_of_pixels(rows, clustered, grid, size))
    ids = np.where(expected == 5, 0, expected + 1)
    assert len(np.unique(ids)) > 1
    assert (result.labels == ids).mean() >= 0.999


def official_numbers():
    """Return the folder with the official code's numbers: CLIPTRASE_GOLDEN, or one next to this
    repository."""
    folder = os.environ.get('CLIPTRASE_GOLDEN')
    if folder:
        return Path(folder)
    found = sorted(ROOT.parent.glob('*/golden/official.npz'))
    return found[0].parent if found else None


GOLDEN = official_numbers()
needs_golden = pytest.mark.skipif(
    GOLDEN is None, reason='set CLIPTRASE_GOLDEN to the folder with the official numbers'
)


@pytest.fixture(scope='module')
def official():
    return np.load(GOLDEN / 'official.npz')


@pytest.fixture
def official_backbone(device):
    visual = VisionTransformer(
        image_size=224,
        patch_size=16,
        width=128,
        layers=12,
        heads=2,
        mlp_ratio=4,
        output_dim=64,
        act_layer=QuickGELU,
    )
    visual.load_state_dict(load_file(GOLDEN / 'tiny_visual.safetensors'))
    return ct.Backbone(visual.to(device).eval(), logit_scale=100.0)


def paper_settings(size=224, **changes):
    fixed = {'protocol': 'cliptrase', 'input_size': size, 'precision': 'fp32'}
    return ct.Settings.from_mapping({**fixed, **changes})


FEATURES = {
    'clip': {'method': 'clip'},
    'cliptrase': {'method': 'cliptrase'},
    'sclip': {'method': 'sclip'},
    'naclip': {'method': 'naclip'},
    'kk_no_residual_no_ffn': {'method': 'naclip', 'naclip.sigma': 'none'},
    'resclip_rcs_tau2_lambda0.6': {'method': 'resclip', 'resclip.lambda': 0.6},
    'sc_clip': {'method': 'sc_clip'},
}


@needs_golden
@pytest.mark.parametrize('name', FEATURES)
def test_official_features(official, official_backbone, name):
    segmenter = ct.Segmenter(official_backbone, paper_settings(**FEATURES[name]))
    features = segmenter.encode(official['photo/astronaut']).features
    assert relative(features.cpu().numpy().reshape(-1, 64), official[f'features/{name}']) < 1e-4


@needs_golden
def test_official_features_of_another_grid(official, official_backbone):
    settings = ct.Settings(method='naclip', precision='fp32', input_size=160, regions='none')
    encoded = ct.Segmenter(official_backbone, settings).encode(
        official['crop/224/astronaut'][32:192]
    )
    got = torch.cat([encoded.cls[None], encoded.features.flatten(0, 1)]).cpu().numpy()
    assert encoded.features.shape[:2] == (10, 14)
    assert relative(got, official['features/naclip_10x14']) < 1e-4


@needs_golden
@pytest.mark.parametrize('size', [224, 336])
@pytest.mark.parametrize('photo', ['astronaut', 'chelsea', 'coffee'])
def test_official_crops_affinity_and_clusters(official, official_backbone, photo, size):
    image = official[f'photo/{photo}']
    assert (centre_crop(image, size) == official[f'crop/{size}/{photo}']).all()
    encoded = ct.Segmenter(official_backbone, paper_settings(size)).encode(image)
    if size == 224:
        expected = official[f'affinity/224/{photo}']
        assert np.abs(encoded.affinity.cpu().numpy() - expected).max() < 1e-5
    # If the distance of two patches equals eps up to float32's rounding, the result depends on the
    # processor.
    rows = encoded.affinity.cpu().double()
    at_eps = (torch.cdist(rows, rows) - clusters.PUBLISHED[len(rows)][0]).abs() < 1e-6
    decided = ~at_eps.any(1).numpy()
    assert (~decided).sum() <= 2
    found = encoded.clusters.flatten().cpu().numpy()
    assert (found == official[f'cluster/{size}/{photo}'])[decided].all()


@needs_golden
@pytest.mark.parametrize('photo', ['astronaut', 'chelsea', 'coffee'])
def test_official_affinity_has_the_official_clusters(official, device, photo):
    rows = torch.from_numpy(official[f'affinity/224/{photo}']).to(device)
    found = clusters.dbscan(rows, *clusters.PUBLISHED[len(rows)]).cpu().numpy()
    assert (found == official[f'cluster/224/{photo}']).all()


@needs_golden
@pytest.mark.parametrize('size', [224, 336])
@pytest.mark.parametrize('photo', ['astronaut', 'chelsea', 'coffee'])
@pytest.mark.parametrize('mode', ['plain', 'cls_weighted', 'with_background'])
def test_official_labels(official, official_backbone, mode, photo, size):
    settings = paper_settings(size, cls_weighting=mode == 'cls_weighted')
    words = ct.Vocabulary.from_embeddings(
        list('abcdef'),
        official['text'],
        background=official['background'] if mode == 'with_background' else None,
    )
    labels = ct.Segmenter(official_backbone, settings)(official[f'photo/{photo}'], words).labels
    expected = official[f'labels/{mode}/{size}/{photo}'].astype(int)
    assert labels.shape == (size, size)
    assert (labels == np.where(expected == 6, 0, expected + 1)).mean() >= 0.999


@needs_golden
def test_official_affinity_clusters_as_scikit_learn_does(official, device):
    rows = official['affinity/224/coffee']
    for eps in (0.3, 0.5, 0.7, 0.9, 1.5):
        got = clusters.dbscan(torch.from_numpy(rows).to(device), eps, 3).cpu().numpy()
        assert (got == oracle.cluster(rows, eps, 3)).all()
