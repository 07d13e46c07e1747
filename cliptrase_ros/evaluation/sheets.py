"""Sheets for people: a picture, its truth and its labels, side by side."""

from __future__ import annotations

import numpy as np
from PIL import Image

from ..media import drawing
from ..words.colors import RGB
from ..words.vocabulary import Vocabulary
from .metrics import IGNORED

GREY = (128, 128, 128)
# The largest width of a panel, and the gap between two panels, in pixels.
WIDEST, GAP = 640, 4


def sheet(
    picture: np.ndarray, truth: np.ndarray, labels: np.ndarray, words: Vocabulary, zero: str
) -> np.ndarray:
    """Return [h, w, 3] uint8: three panels, and below them a legend of all classes that occur.

    Args:
        picture: [H, W, 3] uint8 RGB.
        truth, labels: [H, W] ids of the vocabulary, or 0; in the truth also IGNORED (grey).
        zero: the name of id 0, which is drawn black.
    """
    height, width = picture.shape[:2]
    scale = min(1.0, WIDEST / width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    nearest = Image.Resampling.NEAREST
    shown = (
        ('picture', picture, Image.Resampling.BILINEAR),
        ('truth', _coloured(truth, words), nearest),
        ('labels', _coloured(labels, words), nearest),
    )
    panels = [
        drawing.titled(np.asarray(Image.fromarray(panel).resize(size, rule)), title)
        for title, panel, rule in shown
    ]
    gap = np.full((len(panels[0]), GAP, 3), 255, np.uint8)
    row = np.hstack([panels[0], gap, panels[1], gap, panels[2]])
    legend = drawing.legend(_legend(truth, labels, words, zero), row.shape[1])
    return np.vstack([row, drawing.titled(legend, 'share of truth / share of labels, IoU; in %')])


def _coloured(ids: np.ndarray, words: Vocabulary) -> np.ndarray:
    table = np.zeros((IGNORED + 1, 3), np.uint8)
    table[: len(words.palette)] = words.palette
    table[IGNORED] = GREY
    return table[ids]


def _legend(
    truth: np.ndarray, labels: np.ndarray, words: Vocabulary, zero: str
) -> list[tuple[str, RGB]]:
    """Return (text, colour) of each class in the picture, largest in the truth first."""
    counted = truth != IGNORED
    truth, labels = truth[counted], labels[counted]
    total, lines = max(1, truth.size), []
    for number in np.union1d(truth, labels).tolist():
        true, given = truth == number, labels == number
        iou = (true & given).sum() / (true | given).sum()
        text = (
            f'{words.name_of(number) or zero} {100 * true.sum() / total:.1f} / '
            f'{100 * given.sum() / total:.1f}, {100 * iou:.0f}'
        )
        lines.append((true.sum(), text, tuple(words.palette[number].tolist())))
    lines.sort(key=lambda line: -line[0])
    legend = [line[1:] for line in lines]
    if not counted.all():
        legend.append((f'not counted {100 - 100 * counted.mean():.1f}', GREY))
    return legend
