"""Low precision compared with float32, by the resulting labels."""

import numpy as np
import pytest
from sklearn.datasets import load_sample_image

import cliptrase_ros as ct
from cliptrase_ros.demo import SETTINGS, score
from cliptrase_ros.demo.world import CLASSES
from cliptrase_ros.evaluation import speed

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group('precision')]

SAME = 0.99


@pytest.fixture(scope='module')
def large():
    """Return a model of the size of ViT-B/16, with random weights."""
    return ct.load(ct.Settings(weights='random', device='cpu', input_size=224))


@pytest.mark.parametrize('regions', ['none', 'vote'])
@pytest.mark.parametrize('photo', ['china.jpg', 'flower.jpg'])
def test_photos_get_the_same_labels_from_a_large_tower(large, photo, regions):
    """Compare all pixels for five random vocabularies. Random words nearly tie in many places."""
    runs = [large.replace(precision=precision, regions=regions) for precision in ('fp32', 'bf16')]
    seen = [run.encode(load_sample_image(photo)) for run in runs]
    shares = []
    for seed in range(5):
        words = speed.random_words(20, 512, seed)
        full, low = (r.label(d, words).labels for r, d in zip(runs, seen, strict=True))
        shares.append((full == low).mean())
    assert np.mean(shares) >= SAME and min(shares) > 0.95


def test_the_demo_model_finds_the_same():
    pytest.importorskip('pybullet', reason='the extra [demo] is not installed')
    segmenter = ct.load(ct.Settings(**SETTINGS, device='cpu'))
    words = segmenter.vocabulary(list(CLASSES))
    for regions in ('none', 'vote'):
        full, low = (segmenter.replace(precision=p, regions=regions) for p in ('fp32', 'bf16'))
        for view in score.held_out(3):
            same = full(view.image, words).labels == low(view.image, words).labels
            assert same.mean() >= SAME
