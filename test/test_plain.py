"""The segmenter gives the labels of a plain CLIPtrase made of other libraries' functions."""

import sys
from pathlib import Path

import numpy as np
import pytest
from towers import TINY_PATCH, picture

import cliptrase_ros as ct

sys.path.append(str(Path(__file__).parents[1] / 'bench'))

from plain import plain_of


def labelled(backbone, image, **settings):
    """Return labels [H, W] of the segmenter and of the plain pipeline, and the encoded image."""
    segmenter = ct.Segmenter(backbone, ct.Settings(precision='fp32', **settings))
    rows = np.random.default_rng(3).normal(size=(7, 16))
    words = ct.Vocabulary.from_embeddings(list('abcdefg'), rows)
    encoded = segmenter.encode(image)
    embeddings = words.embeddings.to(backbone.device)
    plain = plain_of(segmenter)(segmenter.view(image), embeddings, encoded.working_size)
    return segmenter(image, words).labels, plain.numpy() + 1, encoded


# The first two grids have published parameters; the others do not.
@pytest.mark.parametrize('grid', [(14, 14), (21, 21), (9, 16), (20, 11), (16, 16)])
def test_equal_labels_from_equal_pixels(backbone, grid):
    size = tuple(side * TINY_PATCH for side in grid)
    got, expected, encoded = labelled(backbone, picture(*size), input_size=min(size))
    assert encoded.working_size == size and len(np.unique(expected)) > 1
    assert (encoded.regions >= 0).all()
    assert (got == expected).mean() >= 0.999


def test_equal_labels_of_the_crop(backbone):
    got, expected, _ = labelled(backbone, picture(150, 200), input_size=112, protocol='cliptrase')
    assert got.shape == (112, 112) and (got == expected).mean() >= 0.999


def test_equal_labels_where_all_patches_are_noise(backbone):
    noise = np.random.default_rng(0).integers(0, 256, (72, 128, 3)).astype(np.uint8)
    got, expected, encoded = labelled(backbone, noise, input_size=72)
    assert (encoded.regions == -1).all() and len(np.unique(expected)) > 1
    assert (got == expected).mean() >= 0.999


def test_nearly_equal_labels_of_a_resized_image(backbone):
    """The labels differ slightly, because PIL and torch round differently."""
    got, expected, _ = labelled(backbone, picture(150, 200), input_size=112)
    assert got.shape == (150, 200) and (got == expected).mean() >= 0.98
