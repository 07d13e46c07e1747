import numpy as np
import pytest

import cliptrase_ros as ct

WORDS = ct.Vocabulary.from_embeddings(['a', 'b'], np.eye(2))
LABELS = np.array([[0, 1, 2]], np.uint8)


def test_colours_by_id():
    colors = ct.colorize(LABELS, WORDS)
    assert colors.dtype == np.uint8 and colors.shape == (1, 3, 3)
    assert colors[0, 0].tolist() == [0, 0, 0]
    assert tuple(colors[0, 2].tolist()) == WORDS.classes[1].color


@pytest.mark.parametrize('alpha', [0.0, 0.25, 1.0])
def test_the_overlay_mixes_colours_in_and_leaves_unlabelled_pixels(alpha):
    image = np.full((1, 3, 3), 200, np.uint8)
    mixed = ct.overlay(image, LABELS, WORDS, alpha)
    assert mixed[0, 0].tolist() == [200, 200, 200]
    for x in (1, 2):
        color = np.array(WORDS.classes[x - 1].color)
        assert np.abs(mixed[0, x] - (200 * (1 - alpha) + color * alpha)).max() <= 1


@pytest.mark.parametrize('alpha', [0.0, 0.3, 1.0])
def test_the_overlay_of_every_value_is_that_of_wide_integers(alpha):
    image = np.arange(256, dtype=np.uint8)[:, None, None].repeat(3, 1).repeat(3, 2)
    labels = LABELS.repeat(256, 0)
    share = np.where(labels > 0, round(256 * alpha), 0)[..., None]
    expected = image.astype(int) * (256 - share) + ct.colorize(labels, WORDS).astype(int) * share
    assert np.array_equal(ct.overlay(image, labels, WORDS, alpha), expected >> 8)


def test_sizes_must_agree():
    with pytest.raises(ct.ShapeError, match='overlay'):
        ct.overlay(np.zeros((2, 3, 3), np.uint8), LABELS, WORDS)
