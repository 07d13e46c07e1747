"""Crops for the training of the demo model, with captions and with answers for each whole crop.

They are drawn so that every class comes often.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from ..errors import SettingError
from . import captions, renders
from .things import CLASSES, Thing, shares_of

# (height, width) of the rendered pictures in pixels.
SIZE = (192, 256)
TOKENS_PER_STEP = 4096
BACKGROUND = ('floor', 'wall', 'sky', 'table')
BACKGROUND_SHARE = 0.3
# Above the first share a thing counts as visible, below the second as not visible. Between them
# the answer is not used.
VISIBLE, INVISIBLE = 0.04, 0.004


@dataclass(frozen=True, eq=False)
class Batch:
    """B crops with one caption each, and the answers for each whole crop.

    Attributes:
        pixels: [B, 3, h, w] float32 in 0..1.
        captions: the B captions.
        names: [B, K] int8, whether the crop shows each of CLASSES: 1 yes, 0 no, -1 so little that
            the answer is not used.
        colors: [B, C] int8, the same for captions.COLORED.
        same: [B, B] bool, whether two captions are equal.
        true: [B, B] bool, whether the crop (row) shows all names of the caption (column). Colours
            are not compared here; the prompts teach them.
    """

    pixels: Tensor
    captions: list[str]
    names: Tensor
    colors: Tensor
    same: Tensor
    true: Tensor


class Sampler:
    """Draws crops so that every class comes often, and writes their captions."""

    def __init__(self, pictures: renders.Renders, seed: int):
        self._pictures = pictures
        self._rng = np.random.default_rng(seed)
        self._classes = [
            np.array([CLASSES.index(thing.name) for thing in things], np.uint8)
            for things in pictures.things
        ]
        self._holding: list[list[int]] = [[] for _ in CLASSES]
        for number in range(len(pictures)):
            coarse = self._classes[number][pictures.instances[number, ::4, ::4]]
            for k in np.flatnonzero(np.bincount(coarse.ravel(), minlength=len(CLASSES)) >= 14):
                self._holding[k].append(number)
        empty = [name for name, count in self.counts().items() if not count]
        if empty:
            raise SettingError(f'no picture shows {", ".join(empty)}; render more pictures')
        self._order = [self._rng.permutation(numbers) for numbers in self._holding]
        self._next = [0] * len(CLASSES)

    def counts(self) -> dict[str, int]:
        """Return the number of pictures that hold each class."""
        return {name: len(held) for name, held in zip(CLASSES, self._holding, strict=True)}

    def batches(self, crops: dict[tuple[int, int], float], patch: int, parts: int) -> list[Batch]:
        """Return the crops of one step in `parts` batches.

        All have the same size, which is drawn by the shares.

        Args:
            crops: {(height, width): share}.
        """
        sizes = list(crops)
        size = sizes[self._rng.choice(len(sizes), p=list(crops.values()))]
        count = max(1, TOKENS_PER_STEP * patch * patch // (size[0] * size[1] * parts))
        return [self._batch(count, *size) for _ in range(parts)]

    def _batch(self, count: int, height: int, width: int) -> Batch:
        rng = self._rng
        pixels = np.empty((count, height, width, 3), np.uint8)
        names = np.empty((count, len(CLASSES)), np.int8)
        colors = np.empty((count, len(captions.COLORED)), np.int8)
        told = np.zeros((count, len(CLASSES)), bool)
        texts = []
        for b in range(count):
            pixels[b], shares = self._crop(height, width)
            names[b], colors[b] = answers(shares)
            seen = [thing for thing, share in shares.items() if share > VISIBLE]
            seen = seen or [max(shares, key=shares.get)]
            if len(seen) > 1 and rng.random() < 0.3:
                seen = [seen[k] for k in rng.permutation(len(seen))[: rng.integers(1, len(seen))]]
            texts.append(captions.caption(seen, rng))
            told[b, [CLASSES.index(thing.name) for thing in seen]] = True
        true = ~(told[None] & (names == 0)[:, None]).any(-1)
        same = np.array([[a == b for b in texts] for a in texts])
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
        return Batch(
            self._vary(images),
            texts,
            torch.from_numpy(names),
            torch.from_numpy(colors),
            torch.from_numpy(same),
            torch.from_numpy(true),
        )

    def _crop(self, height: int, width: int):
        """Return a crop [height, width, 3] that shows a drawn class, and each thing's share."""
        rng, pictures = self._rng, self._pictures
        for attempt in range(8):
            background = rng.random() < BACKGROUND_SHARE
            wanted = rng.choice(
                [k for k, n in enumerate(CLASSES) if (n in BACKGROUND) == background]
            )
            order = self._order[wanted]
            number = order[self._next[wanted] % len(order)]
            self._next[wanted] += 1
            zoom = rng.uniform(0.75, 1.25) if height < SIZE[0] and rng.random() < 0.5 else 1.0
            h, w = round(height * zoom), round(width * zoom)
            coarse = self._classes[number][pictures.instances[number, ::4, ::4]]
            ys, xs = np.nonzero(coarse == wanted)
            if background or rng.random() < 0.5:
                at = rng.integers(len(ys))
                y, x = ys[at], xs[at]
            else:
                y, x = np.median(ys), np.median(xs)
            top = int(np.clip(4 * y - h / 2 + rng.uniform(-0.25, 0.25) * h, 0, SIZE[0] - h))
            left = int(np.clip(4 * x - w / 2 + rng.uniform(-0.25, 0.25) * w, 0, SIZE[1] - w))
            area = (number, slice(top, top + h), slice(left, left + w))
            shares = shares_of(pictures.instances[area], pictures.things[number])
            share = sum(s for thing, s in shares.items() if thing.name == CLASSES[wanted])
            if share > (0.35 if background and attempt < 4 else 0.06):
                break
        image = pictures.images[area]
        if zoom != 1:
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        if rng.random() < 0.5:
            image = cv2.GaussianBlur(image, (3, 3), rng.uniform(0.35, 0.75))
        return (image[:, ::-1] if rng.random() < 0.5 else image), shares

    def _vary(self, images: Tensor) -> Tensor:
        """Change contrast, tint and brightness at random."""

        def draw(*shape: int) -> Tensor:
            return torch.from_numpy(self._rng.random(shape, dtype=np.float32))

        count = len(images)
        images = images * (0.8 + 0.4 * draw(count, 1, 1, 1)) * (0.94 + 0.12 * draw(count, 3, 1, 1))
        return (images + 0.12 * draw(count, 1, 1, 1) - 0.06).clamp(0, 1)


def answers(shares: dict[Thing, float]) -> tuple[list[int], list[int]]:
    """Return whether a crop with these shares shows each of CLASSES and of captions.COLORED.

    1 means yes, 0 no, -1 so little that the answer is not used.
    """
    by_name, by_color = dict.fromkeys(CLASSES, 0.0), dict.fromkeys(captions.COLORED, 0.0)
    for thing, share in shares.items():
        by_name[thing.name] += share
        if (thing.color, thing.name) in by_color:
            by_color[thing.color, thing.name] += share

    def answer(share: float) -> int:
        return 1 if share > VISIBLE else -1 if share > INVISIBLE else 0

    return [answer(s) for s in by_name.values()], [answer(s) for s in by_color.values()]
