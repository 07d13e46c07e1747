"""Pictures for people: labels in colours, labels over the image."""

from __future__ import annotations

import numpy as np

from .errors import ShapeError
from .vocabulary import Vocabulary


def colorize(labels: np.ndarray, words: Vocabulary) -> np.ndarray:
    """Labels [H, W] of a vocabulary -> [H, W, 3] uint8 RGB; unlabelled is black."""
    return words.palette.take(labels, axis=0)  # four times as fast as palette[labels]


def overlay(
    image: np.ndarray, labels: np.ndarray, words: Vocabulary, alpha: float = 0.5
) -> np.ndarray:
    """The image [H, W, 3] uint8 RGB with class colours mixed in; unlabelled pixels stay as is.

    Args:
        alpha: share of the colour, 0..1.

    Raises:
        ShapeError: image and labels differ in size.
    """
    if image.shape[:2] != labels.shape:
        raise ShapeError(
            f'overlay: image is {list(image.shape[:2])}, labels are {list(labels.shape)}'
        )
    share = np.uint16(round(256 * alpha))
    kept = np.full(len(words.palette), 256 - share, np.uint16)
    kept[0] = 256
    mixed = np.multiply(image, kept.take(labels)[..., None], dtype=np.uint16)
    mixed += (words.palette * share).take(labels, axis=0)
    return (mixed >> 8).astype(np.uint8)
