"""Crops and whole views for the training of the demo model, with captions and with answers.

They are drawn so that every thing comes often. Each step has its own random numbers, so a training
that was stopped continues with the crops that it would have seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from ..errors import SettingError
from . import captions, renders
from .things import CLASSES, THINGS, Thing, areas_of

# (height, width) of the rendered pictures in pixels: the size that the demo runs at.
SIZE = (240, 320)
TOKENS_PER_STEP = 6144
BACKGROUND = ('floor', 'wall', 'sky', 'table')
BACKGROUND_SHARE = 0.3
# These two nearly always come together. Crops with only one of them tell them apart.
TOGETHER = ('floor', 'wall')
# Walls and tables are white too. So a white thing comes this many times as often as another colour.
WHITE = 6.0
# The windows of a view have a third or a fifth of its rows, which is drawn, and start at a random
# place. The smaller ones are about as large as the smallest crops: a thing has its own windows.
WINDOWS_DOWN = (3, 5)
# A thing is visible in a window if it covers this share of the area that is usual for its name, and
# this number of patches. Presence is asked of as many patches (losses.shown). The usual area is
# taken to be at most half of the window.
USUAL_SHARE, FEWEST_PATCHES = 0.3, 3
# Below this number of pixels it is not visible. Between the two the answer is not used.
INVISIBLE_PX = 16
LONGEST_CAPTION = 4
# Crops lie within so many patches of their true place in the table of positions.
JITTER = 2


@dataclass(frozen=True)
class Windows:
    """Square parts of a crop, side by side, in patches.

    Attributes:
        top, left: first patch of the first window.
        down, across: number of windows.
        rows, cols: size of each.
    """

    top: int
    left: int
    down: int
    across: int
    rows: int
    cols: int

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield (row, column) of the first patch of each window, row by row."""
        for y in range(self.down):
            for x in range(self.across):
                yield self.top + y * self.rows, self.left + x * self.cols

    def cut(self, maps: Tensor) -> Tensor:
        """Return [B * down * across, rows * cols, Q] of maps [B, Rows, Cols, Q]."""
        parts = [maps[:, y : y + self.rows, x : x + self.cols] for y, x in self]
        return torch.stack(parts, 1).flatten(2, 3).flatten(0, 1)


@dataclass(frozen=True, eq=False)
class Batch:
    """B crops with one caption each, and answers for each of the W windows of each crop.

    A small crop has one window, the whole crop.

    Attributes:
        pixels: [B, 3, H, W] float32 in 0..1.
        corners: [B, 2] int64, row and column of each crop's first patch in the whole picture; None
            if the crops are whole views.
        captions: the B captions.
        windows: where the windows are.
        names: [B * W, K] int8, whether the window shows each of CLASSES: 1 yes, 0 no, -1 so little
            that the answer is not used.
        colors: [B * W, C] int8, the same for captions.COLORED. -1 everywhere if the window shows a
            colour that no caption may name.
        patches: [K] int64, number of patches that a visible thing of each name covers at least.
        shows: [B, K] bool, whether the whole crop may show each of CLASSES.
        same: [B, B] bool, whether two captions are equal.
        true: [B, B] bool, whether the crop (row) shows all names of the caption (column). Colours
            are not compared here; the prompts teach them.
    """

    pixels: Tensor
    corners: Tensor | None
    captions: list[str]
    windows: Windows
    names: Tensor
    colors: Tensor
    patches: Tensor
    shows: Tensor
    same: Tensor
    true: Tensor


@dataclass(frozen=True, eq=False)
class Cut:
    """A part of a picture at the size of the crop.

    Attributes:
        image: [H, W, 3] uint8.
        instances: [H, W] uint8, index into `things`.
        things: of the picture.
        corner: [2] row and column of its first patch in the whole picture.
    """

    image: np.ndarray
    instances: np.ndarray
    things: tuple[Thing, ...]
    corner: np.ndarray


class Sampler:
    """Draws crops and views so that every thing comes often, and writes their captions.

    Raises:
        SettingError: no picture shows one of CLASSES.
    """

    def __init__(self, pictures: renders.Renders, seed: int, patch: int):
        self._pictures, self._seed, self._patch = pictures, seed, patch
        self._numbers = [
            np.array([THINGS.index(thing) for thing in things], np.uint8)
            for things in pictures.things
        ]
        coarse = [self._coarse(number) for number in range(len(pictures))]
        pixels = 16 * np.array([np.bincount(c.ravel(), minlength=len(THINGS)) for c in coarse])
        self._holding = [np.flatnonzero(column > 200) for column in pixels.T]
        named = np.array([[thing.name == name for name in CLASSES] for thing in THINGS])
        held = [column[column > 200] for column in (pixels @ named).T]
        self._counts = {name: len(areas) for name, areas in zip(CLASSES, held, strict=True)}
        empty = [name for name, count in self._counts.items() if not count]
        if empty:
            raise SettingError(f'no picture shows {", ".join(empty)}; render more pictures')
        self._usual = np.array([np.median(areas) for areas in held]) / patch**2

    def _coarse(self, number: int) -> np.ndarray:
        """Return the index into THINGS of every fourth pixel of every fourth row of a picture."""
        return self._numbers[number][self._pictures.instances[number, ::4, ::4]]

    def counts(self) -> dict[str, int]:
        """Return the number of pictures that hold each class."""
        return self._counts

    def visible_patches(self, height: int, width: int, scale: float = 1.0) -> np.ndarray:
        """Return how many patches [K] a thing must cover to be visible in a window of this size.

        Args:
            scale: of the picture's sides, 1 for its own size.
        """
        most = height * width / self._patch**2 / 2
        share = np.minimum(self._usual * scale**2, most) * USUAL_SHARE
        return np.maximum(np.round(share).astype(np.int64), FEWEST_PATCHES)

    def batches(self, step: int, crops: dict[tuple[int, int], float], parts: int) -> list[Batch]:
        """Return the crops of one step in `parts` batches.

        All have the same size, which is drawn by the shares. A size with the proportions of the
        pictures stands for whole views, reduced to this size.

        Args:
            crops: {(height, width): share}.
        """
        rng = np.random.default_rng([self._seed, step])
        sizes = list(crops)
        size = sizes[rng.choice(len(sizes), p=list(crops.values()))]
        count = max(1, TOKENS_PER_STEP * self._patch**2 // (size[0] * size[1] * parts))
        return [self._batch(rng, count, *size) for _ in range(parts)]

    def _batch(self, rng: np.random.Generator, count: int, height: int, width: int) -> Batch:
        whole = height * SIZE[1] == width * SIZE[0]
        scale = height / SIZE[0] if whole else 1.0
        windows = self._windows(rng, height, width, whole)
        side = windows.rows * self._patch, windows.cols * self._patch
        patches = self.visible_patches(*side, scale)
        asked = dict(zip(CLASSES, patches * self._patch**2, strict=True))
        of_crop = self.visible_patches(height, width, scale)
        told = dict(zip(CLASSES, of_crop * self._patch**2, strict=True))
        draw = self._view if whole else self._crop
        cuts = [draw(rng, height, width) for _ in range(count)]
        areas = [areas_of(cut.instances, cut.things) for cut in cuts]
        names, colors = zip(
            *(
                answers(areas_of(part, cut.things), asked)
                for cut in cuts
                for part in self._parts(cut.instances, windows)
            ),
            strict=True,
        )
        texts, named = zip(*(self._caption(rng, seen, told) for seen in areas), strict=True)
        shows = torch.tensor([answers(seen, told)[0] for seen in areas]) != 0
        true = ~(torch.from_numpy(np.array(named))[None] & ~shows[:, None]).any(-1)
        images = torch.from_numpy(np.stack([cut.image for cut in cuts]))
        return Batch(
            _vary(images.permute(0, 3, 1, 2).float() / 255, rng),
            None if whole else torch.from_numpy(np.stack([cut.corner for cut in cuts])),
            list(texts),
            windows,
            torch.tensor(names, dtype=torch.int8),
            torch.tensor(colors, dtype=torch.int8),
            torch.from_numpy(patches),
            shows,
            torch.tensor([[a == b for b in texts] for a in texts]),
            true,
        )

    def _windows(self, rng: np.random.Generator, height: int, width: int, whole: bool) -> Windows:
        rows, cols = height // self._patch, width // self._patch
        if not whole:
            return Windows(0, 0, 1, 1, rows, cols)
        side = rows // int(rng.choice(WINDOWS_DOWN))
        top, left = (int(start) for start in rng.integers(side, size=2))
        return Windows(top, left, (rows - top) // side, (cols - left) // side, side, side)

    def _parts(self, instances: np.ndarray, windows: Windows) -> Iterator[np.ndarray]:
        """Yield the pixels of each window."""
        patch = self._patch
        for y, x in windows:
            rows = slice(y * patch, (y + windows.rows) * patch)
            yield instances[rows, x * patch : (x + windows.cols) * patch]

    def _caption(
        self, rng: np.random.Generator, areas: dict[Thing, int], told: dict[str, int]
    ) -> tuple[str, list[bool]]:
        """Return a caption, and whether it names each of CLASSES."""
        seen = [thing for thing, area in areas.items() if area >= told[thing.name]]
        seen = seen or [max(areas, key=areas.__getitem__)]
        few = len(seen) > LONGEST_CAPTION or rng.random() < 0.3
        most = min(len(seen), LONGEST_CAPTION)
        seen = [seen[k] for k in rng.permutation(len(seen))]
        seen = seen[: rng.integers(1, most + 1) if few else most]
        names = {thing.name for thing in seen}
        return captions.caption(seen, rng), [name in names for name in CLASSES]

    def _draw(self, rng: np.random.Generator) -> tuple[int, int]:
        """Return the index into THINGS of a drawn thing, and a picture that shows it."""
        background = rng.random() < BACKGROUND_SHARE
        name = rng.choice([n for n in CLASSES if (n in BACKGROUND) == background])
        of_name = [k for k, thing in enumerate(THINGS) if thing.name == name]
        weights = [
            (WHITE if THINGS[k].color == 'white' else 1.0) * bool(len(self._holding[k]))
            for k in of_name
        ]
        wanted = rng.choice(of_name, p=np.array(weights) / sum(weights))
        return wanted, rng.choice(self._holding[wanted])

    def _view(self, rng: np.random.Generator, height: int, width: int) -> Cut:
        """Return a whole picture of a drawn thing."""
        _, number = self._draw(rng)
        return self._varied(rng, number, (slice(None), slice(None)), (height, width), np.zeros(2))

    def _crop(self, rng: np.random.Generator, height: int, width: int) -> Cut:
        """Return a crop of a drawn thing."""
        small = height < SIZE[0]
        wanted, number = self._draw(rng)
        for attempt in range(8):
            if attempt:
                number = rng.choice(self._holding[wanted])
            zoom = rng.uniform(0.75, 1.33) if small and rng.random() < 0.5 else 1.0
            h, w = min(round(height * zoom), SIZE[0]), min(round(width * zoom), SIZE[1])
            top, left = self._corner(rng, number, wanted, h, w)
            cut = slice(top, top + h), slice(left, left + w)
            areas = areas_of(self._pictures.instances[number][cut], self._pictures.things[number])
            if _shows(areas, THINGS[wanted], h * w, rng):
                break
        middle = np.array([top + h / 2, left + w / 2])
        jitter = rng.integers(-JITTER, JITTER + 1, 2)
        corner = np.round((middle - np.array([height, width]) / 2) / self._patch).astype(int)
        corner = np.clip(corner + jitter, 0, (np.array(SIZE) - (height, width)) // self._patch)
        return self._varied(rng, number, cut, (height, width), corner)

    def _varied(self, rng, number: int, cut, size: tuple[int, int], corner: np.ndarray) -> Cut:
        """Return a part of a picture at this size (height, width), perhaps blurred or mirrored."""
        height, width = size
        image, instances = self._pictures.images[number][cut], self._pictures.instances[number][cut]
        if image.shape[:2] != size:
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
            instances = cv2.resize(instances, (width, height), interpolation=cv2.INTER_NEAREST)
        if rng.random() < 0.5:
            image = cv2.GaussianBlur(image, (3, 3), rng.uniform(0.35, 0.75))
        if rng.random() < 0.5:
            image, instances = image[:, ::-1], instances[:, ::-1]
            corner = np.array([corner[0], (SIZE[1] - width) // self._patch - corner[1]])
        return Cut(image, instances, self._pictures.things[number], corner)

    def _corner(self, rng, number: int, wanted: int, h: int, w: int) -> tuple[int, int]:
        """Return top and left of a crop of a picture, around the wanted thing."""
        ys, xs = np.nonzero(self._coarse(number) == wanted)
        if THINGS[wanted].name in BACKGROUND or rng.random() < 0.3:
            at = rng.integers(len(ys))
            y, x = ys[at], xs[at]
        else:
            y, x = np.median(ys), np.median(xs)
        top = np.clip(4 * y - h / 2 + rng.uniform(-0.25, 0.25) * h, 0, SIZE[0] - h)
        left = np.clip(4 * x - w / 2 + rng.uniform(-0.25, 0.25) * w, 0, SIZE[1] - w)
        return int(top), int(left)


def _shows(areas: dict[Thing, int], wanted: Thing, total: int, rng: np.random.Generator) -> bool:
    """Return whether a crop of `total` pixels is a good one of the wanted thing."""
    share = areas.get(wanted, 0) / total
    if wanted.name in TOGETHER and rng.random() < 0.7:
        (other,) = set(TOGETHER) - {wanted.name}
        return share > 0.3 and areas.get(Thing(other), 0) < INVISIBLE_PX
    return share > (0.3 if wanted.name in BACKGROUND else 0.05)


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
