"""Pictures for people: a picture, what is true of it, and what was found, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .metrics import IGNORED
from .vocabulary import Vocabulary

GREY = (128, 128, 128)
# Of one panel, in pixels.
WIDEST, GAP, LINE = 640, 4, 16


def sheet(
    picture: np.ndarray, truth: np.ndarray, labels: np.ndarray, words: Vocabulary, zero: str
) -> np.ndarray:
    """[h, w, 3] uint8: three panels, and below them a legend of all classes in the last two.

    Args:
        picture: [H, W, 3] uint8 RGB.
        truth, labels: [H, W] ids of the vocabulary, 0 or, in the truth, IGNORED (grey).
        zero: the name of 0, which is black.
    """
    panels = [picture, *(_coloured(ids, words) for ids in (truth, labels))]
    height, width = picture.shape[:2]
    scale = min(1.0, WIDEST / width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    rules = (Image.Resampling.BILINEAR, Image.Resampling.NEAREST, Image.Resampling.NEAREST)
    legend = _legend(truth, labels, words, zero)
    total = 3 * size[0] + 2 * GAP
    columns = max(1, total // 320)
    rows = -(-len(legend) // columns)
    made = Image.new('RGB', (total, size[1] + GAP + rows * LINE), 'white')
    for n, (panel, rule) in enumerate(zip(panels, rules, strict=True)):
        made.paste(Image.fromarray(panel).resize(size, rule), (n * (size[0] + GAP), 0))
    draw, font = ImageDraw.Draw(made), ImageFont.load_default()
    for n, (color, text) in enumerate(legend):
        x, y = n // rows * (total // columns), size[1] + GAP + n % rows * LINE
        draw.rectangle((x + 2, y + 3, x + 12, y + 13), fill=color, outline='black')
        draw.text((x + 18, y + 2), text, fill='black', font=font)
    return np.asarray(made)


def _coloured(ids: np.ndarray, words: Vocabulary) -> np.ndarray:
    table = np.zeros((IGNORED + 1, 3), np.uint8)
    table[: len(words.palette)] = words.palette
    table[IGNORED] = GREY
    return table[ids]


def _legend(
    truth: np.ndarray, labels: np.ndarray, words: Vocabulary, zero: str
) -> Sequence[tuple[tuple[int, int, int], str]]:
    """(colour, text) of each class of the picture, the largest in truth first."""
    counted = truth != IGNORED
    total = max(1, int(counted.sum()))
    lines = []
    for number, name in _there(truth, labels, words, zero).items():
        true, given = (ids[counted] == number for ids in (truth, labels))
        both, either = int((true & given).sum()), int((true | given).sum())
        text = (
            f'{name}: truth {100 * true.sum() / total:.0f} %, labels '
            f'{100 * given.sum() / total:.0f} %, IoU {100 * both / max(1, either):.0f} %'
        )
        lines.append((int(true.sum()), tuple(int(x) for x in words.palette[number]), text))
    lines.sort(key=lambda line: -line[0])
    legend = [line[1:] for line in lines]
    if not counted.all():
        share = 100 - 100 * counted.mean()
        legend.append((GREY, f'not counted: {share:.0f} % of the picture'))
    return legend


def _there(
    truth: np.ndarray, labels: np.ndarray, words: Vocabulary, zero: str
) -> Mapping[int, str]:
    counted = truth != IGNORED
    numbers = np.union1d(truth[counted], labels[counted]).tolist()
    return {number: words.name_of(number) or zero for number in numbers}
