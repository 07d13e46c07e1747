"""Crops for the training of the demo model, with captions and with answers for each whole crop.

They are drawn so that every class comes often. Each step has its own random numbers, so a training
that was stopped continues with the crops that it would have seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from ..errors import SettingError
from . import captions, renders
from .things import CLASSES, Thing

# (height, width) of the rendered pictures in pixels: the size that the demo runs at.
SIZE = (240, 320)
TOKENS_PER_STEP = 6144
BACKGROUND = ('floor', 'wall', 'sky', 'table')
BACKGROUND_SHARE = 0.3
# These two nearly always come together. Crops with only one of them tell them apart.
TOGETHER = ('floor', 'wall')
# A thing is visible in a crop if it covers this share of the area that is usual for its name, and
# this number of patches. Presence is asked of as many patches (losses.shown). The usual area is
# taken to be at most half of the crop.
USUAL_SHARE, FEWEST_PATCHES = 0.3, 3
# Below this number of pixels it is not visible. Between the two the answer is not used.
INVISIBLE_PX = 16
LONGEST_CAPTION = 4
# Crops lie within so many patches of their true place in the table of positions.
JITTER = 2


@dataclass(frozen=True, eq=False)
class Batch:
    """B crops of h x w patches with one caption each, and the answers for each whole crop.

    Attributes:
        pixels: [B, 3, H, W] float32 in 0..1.
        corners: [B, 2] int64, row and column of each crop's first patch in the whole picture.
        captions: the B captions.
        names: [B, K] int8, whether the crop shows each of CLASSES: 1 yes, 0 no, -1 so little that
            the answer is not used.
        colors: [B, C] int8, the same for captions.COLORED. -1 everywhere if the crop shows a
            colour that no caption may name.
        patches: [K] int64, number of patches that a visible thing of each name covers at least.
        same: [B, B] bool, whether two captions are equal.
        true: [B, B] bool, whether the crop (row) shows all names of the caption (column). Colours
            are not compared here; the prompts teach them.
    """

    pixels: Tensor
    corners: Tensor
    captions: list[str]
    names: Tensor
    colors: Tensor
    patches: Tensor
    same: Tensor
    true: Tensor


class Sampler:
    """Draws crops so that every class comes often, and writes their captions.

    Raises:
        SettingError: no picture shows one of CLASSES.
    """

    def __init__(self, pictures: renders.Renders, seed: int, patch: int):
        self._pictures, self._seed, self._patch = pictures, seed, patch
        self._classes = [
            np.array([CLASSES.index(thing.name) for thing in things], np.uint8)
            for things in pictures.things
        ]
        coarse = [self._coarse(number) for number in range(len(pictures))]
        pixels = 16 * np.array([np.bincount(c.ravel(), minlength=len(CLASSES)) for c in coarse])
        self._holding = [np.flatnonzero(column > 200) for column in pixels.T]
        empty = [name for name, count in self.counts().items() if not count]
        if empty:
            raise SettingError(f'no picture shows {", ".join(empty)}; render more pictures')
        held = [column[column > 200] for column in pixels.T]
        self._usual = np.array([np.median(areas) for areas in held]) / patch**2

    def _coarse(self, number: int) -> np.ndarray:
        """Return the class of every fourth pixel of every fourth row of a picture."""
        return self._classes[number][self._pictures.instances[number, ::4, ::4]]

    def counts(self) -> dict[str, int]:
        """Return the number of pictures that hold each class."""
        return {name: len(held) for name, held in zip(CLASSES, self._holding, strict=True)}

    def visible_patches(self, height: int, width: int) -> np.ndarray:
        """Return how many patches [K] a thing must cover to be visible in a crop of this size."""
        most = height * width / self._patch**2 / 2
        share = np.minimum(self._usual, most) * USUAL_SHARE
        return np.maximum(np.round(share).astype(np.int64), FEWEST_PATCHES)

    def batches(self, step: int, crops: dict[tuple[int, int], float], parts: int) -> list[Batch]:
        """Return the crops of one step in `parts` batches.

        All have the same size, which is drawn by the shares.

        Args:
            crops: {(height, width): share}.
        """
        rng = np.random.default_rng([self._seed, step])
        sizes = list(crops)
        size = sizes[rng.choice(len(sizes), p=list(crops.values()))]
        count = max(1, TOKENS_PER_STEP * self._patch**2 // (size[0] * size[1] * parts))
        return [self._batch(rng, count, *size) for _ in range(parts)]

    def _batch(self, rng: np.random.Generator, count: int, height: int, width: int) -> Batch:
        pixels = np.empty((count, height, width, 3), np.uint8)
        corners = np.empty((count, 2), np.int64)
        names = np.empty((count, len(CLASSES)), np.int8)
        colors = np.empty((count, len(captions.COLORED)), np.int8)
        told = np.zeros((count, len(CLASSES)), bool)
        patches, texts = self.visible_patches(height, width), []
        least = dict(zip(CLASSES, patches * self._patch**2, strict=True))
        for b in range(count):
            pixels[b], corners[b], areas = self._crop(rng, height, width)
            names[b], colors[b] = answers(areas, least)
            seen = [thing for thing, area in areas.items() if area >= least[thing.name]]
            seen = seen or [max(areas, key=areas.get)]
            few = len(seen) > LONGEST_CAPTION or rng.random() < 0.3
            most = min(len(seen), LONGEST_CAPTION)
            seen = [seen[k] for k in rng.permutation(len(seen))]
            seen = seen[: rng.integers(1, most + 1) if few else most]
            texts.append(captions.caption(seen, rng))
            told[b, [CLASSES.index(thing.name) for thing in seen]] = True
        true = ~(told[None] & (names == 0)[:, None]).any(-1)
        same = np.array([[a == b for b in texts] for a in texts])
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
        return Batch(
            _vary(images, rng),
            torch.from_numpy(corners),
            texts,
            *(torch.from_numpy(array) for array in (names, colors, patches, same, true)),
        )

    def _crop(self, rng: np.random.Generator, height: int, width: int):
        """Return a crop of a drawn class: [height, width, 3], its corner, each thing's pixels."""
        small = height < SIZE[0]
        background = rng.random() < BACKGROUND_SHARE
        wanted = rng.choice([k for k, n in enumerate(CLASSES) if (n in BACKGROUND) == background])
        for attempt in range(8):
            number = rng.choice(self._holding[wanted])
            zoom = rng.uniform(0.75, 1.33) if small and rng.random() < 0.5 else 1.0
            h, w = min(round(height * zoom), SIZE[0]), min(round(width * zoom), SIZE[1])
            top, left = self._corner(rng, number, wanted, h, w)
            cut = slice(top, top + h), slice(left, left + w)
            areas = self._areas(number, cut, height * width / (h * w))
            if not small or attempt == 7 or _shows(areas, CLASSES[wanted], height * width, rng):
                break
        image = self._pictures.images[number][cut]
        if image.shape[:2] != (height, width):
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        if rng.random() < 0.5:
            image = cv2.GaussianBlur(image, (3, 3), rng.uniform(0.35, 0.75))
        middle = np.array([top + h / 2, left + w / 2])
        jitter = rng.integers(-JITTER, JITTER + 1, 2) if small else 0
        corner = np.round((middle - np.array([height, width]) / 2) / self._patch).astype(int)
        last = (np.array(SIZE) - (height, width)) // self._patch
        corner = np.clip(corner + jitter, 0, last)
        if rng.random() < 0.5:
            image, corner[1] = image[:, ::-1], last[1] - corner[1]
        return image, corner, areas

    def _corner(self, rng, number: int, wanted: int, h: int, w: int) -> tuple[int, int]:
        """Return top and left of a crop of a picture, around the wanted class."""
        ys, xs = np.nonzero(self._coarse(number) == wanted)
        if CLASSES[wanted] in BACKGROUND or rng.random() < 0.3:
            at = rng.integers(len(ys))
            y, x = ys[at], xs[at]
        else:
            y, x = np.median(ys), np.median(xs)
        top = np.clip(4 * y - h / 2 + rng.uniform(-0.25, 0.25) * h, 0, SIZE[0] - h)
        left = np.clip(4 * x - w / 2 + rng.uniform(-0.25, 0.25) * w, 0, SIZE[1] - w)
        return int(top), int(left)

    def _areas(self, number: int, cut: tuple[slice, slice], scale: float) -> dict[Thing, float]:
        """Return the pixels of each thing in a crop; `scale` is the crop's change of area."""
        things, areas = self._pictures.things[number], dict[Thing, float]()
        pixels = np.bincount(self._pictures.instances[number][cut].ravel(), minlength=len(things))
        for thing, count in zip(things, pixels, strict=True):
            if count:
                areas[thing] = areas.get(thing, 0.0) + float(count) * scale
        return areas


def _shows(areas: dict[Thing, float], name: str, total: int, rng: np.random.Generator) -> bool:
    """Return whether a crop of `total` pixels is a good one of the name."""
    shares = dict.fromkeys(CLASSES, 0.0)
    for thing, area in areas.items():
        shares[thing.name] += area / total
    if name in TOGETHER and rng.random() < 0.7:
        (other,) = set(TOGETHER) - {name}
        return shares[name] > 0.3 and shares[other] * total < INVISIBLE_PX
    return shares[name] > (0.3 if name in BACKGROUND else 0.05)


def _vary(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Change contrast, tint and brightness of [B, 3, H, W] at random, and the light of a side."""
    count, _, height, width = images.shape

    def draw(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.from_numpy(rng.random((count, *shape), np.float32))

    images = images ** draw(0.85, 1.15, 1, 1, 1)
    images = images * draw(0.8, 1.2, 1, 1, 1) * draw(0.93, 1.07, 3, 1, 1)
    down = torch.linspace(-1, 1, height)[:, None] * draw(-0.08, 0.08, 1, 1, 1)
    across = torch.linspace(-1, 1, width) * draw(-0.08, 0.08, 1, 1, 1)
    images = images * (1 + down + across) + draw(-0.06, 0.06, 1, 1, 1)
    return images.clamp_(0, 1)


def answers(
    areas: Mapping[Thing, float], visible: Mapping[str, float]
) -> tuple[list[int], list[int]]:
    """Return whether a crop shows each of CLASSES and of captions.COLORED.

    1 means yes, 0 no, -1 so little that the answer is not used.

    Args:
        areas: pixels of each thing.
        visible: for each of CLASSES the pixels from which on it is visible.
    """
    by_name, by_color = dict.fromkeys(CLASSES, 0.0), dict.fromkeys(captions.COLORED, 0.0)
    unread = False
    for thing, area in areas.items():
        by_name[thing.name] += area
        if (thing.color, thing.name) in by_color:
            by_color[thing.color, thing.name] += area
        unread |= (thing.color, thing.name) in captions.HELD_OUT

    def answer(area: float, name: str) -> int:
        return 1 if area >= visible[name] else -1 if area >= INVISIBLE_PX else 0

    names = [answer(area, name) for name, area in by_name.items()]
    colors = [-1 if unread else answer(area, name) for (_, name), area in by_color.items()]
    return names, colors
