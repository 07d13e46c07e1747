"""Drawing of labels: in colours, over the image, with a legend or a title."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from ..errors import ShapeError
from ..words.colors import RGB
from ..words.vocabulary import Vocabulary

_FONT, _SIZE = cv2.FONT_HERSHEY_SIMPLEX, 0.5


def colorize(labels: np.ndarray, words: Vocabulary) -> np.ndarray:
    """Return labels [H, W] of a vocabulary as [H, W, 3] uint8 RGB; unlabelled is black."""
    return words.palette.take(labels, axis=0)  # four times as fast as palette[labels]


def overlay(
    image: np.ndarray, labels: np.ndarray, words: Vocabulary, alpha: float = 0.5
) -> np.ndarray:
    """Return the image [H, W, 3] uint8 RGB mixed with class colours; unlabelled pixels stay.

    Args:
        alpha: share of the colour, 0..1.

    Raises:
        ShapeError: image and labels differ in size.
    """
    if image.shape[:2] != labels.shape:
        raise ShapeError(
            f'overlay: image is {list(image.shape[:2])}, labels are {list(labels.shape)}'
        )
    return mixed(image, labels, words.palette, alpha)


def mixed(pixels: np.ndarray, labels: np.ndarray, palette: np.ndarray, alpha: float) -> np.ndarray:
    """Return pixels or points [..., 3] uint8 RGB mixed with class colours; unlabelled ones stay.

    Args:
        labels: [...] ids.
        palette: [ids, 3] uint8, the colour of each id.
        alpha: share of the colour, 0..1.
    """
    share = np.uint16(round(256 * alpha))
    kept = np.full(len(palette), 256 - share, np.uint16)
    kept[0] = 256
    result = np.multiply(pixels, kept.take(labels)[..., None], dtype=np.uint16)
    result += (palette * share).take(labels, axis=0)
    return (result >> 8).astype(np.uint8)


def legend(entries: Sequence[tuple[str, RGB]], width: int, scale: int = 1) -> np.ndarray:
    """Return a strip [h, width, 3] uint8 RGB, h > 0, with a coloured square and a text per entry,
    black on white, in columns of equal width.

    Args:
        scale: makes text and squares larger.
    """
    row, square = 26 * scale, 30 * scale
    texts = [cv2.getTextSize(text, _FONT, _SIZE * scale, scale)[0][0] for text, _ in entries]
    column = square + max(texts, default=0) + 12 * scale
    columns = max(1, width // column)
    strip = np.full((row * max(1, -(-len(entries) // columns)), width, 3), 255, np.uint8)
    for n, (text, color) in enumerate(entries):
        x, y = n % columns * column, n // columns * row
        corners = (x + 6 * scale, y + 5 * scale), (x + 24 * scale, y + 21 * scale)
        red, green, blue = (int(value) for value in color)
        cv2.rectangle(strip, *corners, (red, green, blue), cv2.FILLED)
        _write(strip, text, (x + square, y + 19 * scale), scale)
    return strip


def titled(picture: np.ndarray, title: str, scale: int = 1) -> np.ndarray:
    """Return a picture [H, W, 3] uint8 RGB with a line of text above it.

    Args:
        scale: makes the text larger.
    """
    head = np.full((22 * scale, picture.shape[1], 3), 255, np.uint8)
    _write(head, title, (6 * scale, 16 * scale), scale)
    return np.vstack([head, picture])


def _write(picture: np.ndarray, text: str, at: tuple[int, int], scale: int) -> None:
    cv2.putText(picture, text, at, _FONT, _SIZE * scale, (0, 0, 0), scale, cv2.LINE_AA)
