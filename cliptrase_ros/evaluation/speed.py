"""`cliptrase bench`: time and memory of the pipeline stages, compared with the bare model."""

from __future__ import annotations

import argparse
import copy
import json
import math
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..labels.resample import size_of
from ..model import recipes
from ..model.preprocessing import to_device
from ..segmenter import Segmenter, load
from ..settings import Settings
from ..words.vocabulary import Vocabulary
from .timing import hardware, peak_mb, print_header, print_rows, ratio, timed

BARE = 'bare encode_image'
WHOLE = 'segment()'

Work = dict[str, Callable[[], Any]]


def run(options: argparse.Namespace) -> None:
    """Run `cliptrase bench`: print the machine and one table."""
    segmenter, machine = _load(options, regions=options.regions)
    if not options.json:
        print(machine)
        if options.weights == 'random':
            print(
                'Random weights need the time and memory of real ones, except for region maps: '
                'their cost depends on the number of clusters, which differs.'
            )
        columns = 'input', 'method', 'precision', 'words', 'what', 'p50 ms', 'p95 ms', 'of bare'
        print_header(*columns, 'peak MB')
    for side in options.sizes:
        for method in options.methods:
            for precision in options.precision:
                changed = segmenter.replace(input_size=side, method=method, precision=precision)
                image = scene(*options.image[::-1])
                for row in rows(changed, image, options.words, options.repeats):
                    if options.json:
                        print(json.dumps({'machine': machine, **row.values()}), flush=True)
                    else:
                        row.print()


class TimingRow(NamedTuple):
    """Cost of one call: ms of each turn, ms of the bare model, and peak memory."""

    size: tuple[int, int]
    method: str
    precision: str
    words: int | None
    what: str
    times: list[float]
    base: list[float]
    peak_mb: float

    def print(self) -> None:
        """Print a line of a Markdown table."""
        height, width = self.size
        words = '-' if self.words is None else self.words
        lead = f'{height} x {width} | {self.method} | {self.precision} | {words}'
        print_rows(lead, {self.what: self.times}, self.base, (_rounded(self.peak_mb),))

    def values(self) -> dict[str, Any]:
        """Return the values for JSON. peak_mb is None if the system does not report it."""
        p50, p95 = np.percentile(self.times, (50, 95))
        return {
            'height': self.size[0],
            'width': self.size[1],
            'method': self.method,
            'precision': self.precision,
            'words': self.words,
            'what': self.what,
            'p50_ms': round(p50, 3),
            'p95_ms': round(p95, 3),
            'of_bare': round(ratio(self.times, self.base), 4),
            'peak_mb': None if math.isnan(self.peak_mb) else round(self.peak_mb, 1),
        }


@torch.no_grad()
def rows(
    segmenter: Segmenter, image: np.ndarray, word_counts: Sequence[int], repeats: int
) -> Iterator[TimingRow]:
    """Yield the rows of one segmenter: the bare model, all stages, and the whole pipeline."""
    tower = segmenter.encoder.tower
    height, width = segmenter.encode(image).working_size
    pixels = torch.randn(1, 3, height, width, generator=_generator())
    pixels = pixels.to(tower.device, tower.dtype)
    forward = bare(segmenter, (height, width))
    groups: dict[int | None, Work] = {
        None: {BARE: lambda: forward(pixels), **image_stages(segmenter, image)}
    }
    for count in word_counts:
        groups[count] = word_stages(segmenter, image, count)
    work = {(group, name): call for group, calls in groups.items() for name, call in calls.items()}
    times = timed(work, repeats, tower.device)
    peaks = {key: peak_mb(call, tower.device) for key, call in work.items()}
    run = (height, width), segmenter.settings.method, precision_of(segmenter)
    base = times[None, BARE]
    for key, values in times.items():
        yield TimingRow(*run, *key, values, base, peaks[key])


# Only the functions below know what the pipeline calls.


def bare(segmenter: Segmenter, size: tuple[int, int]) -> nn.Module:
    """Return the model's own forward, as in open_clip: normalised images [B, 3, *size] -> [B, E].

    It is a copy of the image tower. All of it is in the segmenter's precision, and its position
    embeddings are for this size.
    """
    tower = segmenter.encoder.tower
    visual = copy.deepcopy(segmenter.backbone.visual).to(tower.dtype).eval()
    table = tower.position_table((size[0] // tower.patch, size[1] // tower.patch))
    visual.positional_embedding = nn.Parameter(table.clone(), requires_grad=False)
    return visual


def image_stages(segmenter: Segmenter, image: np.ndarray) -> Work:
    """Return the stages of `Segmenter.encode` for an image: {name: function to call}."""
    encoder, backbone = segmenter.encoder, segmenter.backbone
    tower, encoded = encoder.tower, segmenter.encode(image)

    def prepared() -> Tensor:
        pixels = to_device(encoder.preprocessor.crop(image), backbone.device)
        pixels = encoder.preprocessor.resized(pixels, encoded.working_size)
        return ((pixels / 255 - backbone.mean) / backbone.std)[None]

    pixels = prepared()

    def encode() -> Tensor:
        correlation = encoded.affinity is not None
        trace, _ = recipes.follow(tower, pixels, encoder.recipe, correlation)
        return tower.project(encoder.recipe.last(trace))

    work = {'upload, resize': prepared, 'tower': encode}
    affinity, clusters = encoded.affinity, encoded.clusters
    if affinity is None or clusters is None:
        return work
    finder, size, picture = encoder.region_finder, encoded.size, encoded.image
    grid = size_of(clusters)
    work['DBSCAN'] = lambda: finder.clusters(affinity, grid)
    number = int(clusters.max()) + 1
    work[f'region maps, clusters: {number}'] = lambda: finder.regions(
        affinity, clusters, size, picture
    )
    return work


def word_stages(segmenter: Segmenter, image: np.ndarray, count: int) -> Work:
    """Return the stages that label an encoded image with `count` words, and the whole pipeline."""
    encoded = segmenter.encode(image)
    words = random_words(count, encoded.features.shape[-1])
    scores = segmenter.scores(encoded, words)
    return {
        'scores': lambda: segmenter.scores(encoded, words),
        'labels': lambda: segmenter.label(encoded, words, scores),
        WHOLE: lambda: segmenter(image, words),
    }


def precision_of(segmenter: Segmenter) -> str:
    """Return the precision of the tower, such as 'fp32', also if the settings say 'auto'."""
    kind = torch.finfo(segmenter.encoder.tower.dtype)
    return 'bf16' if kind.dtype == 'bfloat16' else f'fp{kind.bits}'


# Shared by the scripts in bench/.


def load_printed(options: argparse.Namespace, **changes: Any) -> Segmenter:
    """Return the segmenter of the options. Print the machine and the model."""
    segmenter, machine = _load(options, **changes)
    print(machine)
    return segmenter


def _load(options: argparse.Namespace, **changes: Any) -> tuple[Segmenter, str]:
    given = {name: getattr(options, name) for name in ('model', 'weights', 'device')}
    segmenter = load(Settings(**given, **changes))
    device = hardware(segmenter.backbone.device)
    return segmenter, f'{device}; {options.model} ({options.weights}); {date.today()}'


def scene(height: int, width: int) -> np.ndarray:
    """Return a picture [H, W, 3] uint8 of flat things in front of a wall and a floor.

    It has light from one side and sensor noise. Even random weights find clusters in it.
    """
    random = np.random.default_rng(0)
    image = np.empty((height, width, 3))
    image[: height // 2], image[height // 2 :] = random.integers(0, 256, (2, 3))
    for _ in range(12):
        top, left = (random.uniform(0, 0.75, 2) * (height, width)).astype(int)
        tall, wide = (random.uniform(0.1, 0.35, 2) * (height, width)).astype(int)
        image[top : top + tall, left : left + wide] = random.integers(0, 256, 3)
    image += np.linspace(-20, 20, width)[:, None] + random.normal(0, 2, image.shape)
    return image.clip(0, 255).astype(np.uint8)


def random_words(count: int, channels: int, seed: int = 0) -> Vocabulary:
    """Return a vocabulary of `count` words with random embeddings."""
    embeddings = torch.randn(count, channels, generator=_generator(seed))
    return Vocabulary.from_embeddings([f'w{n}' for n in range(count)], embeddings)


def _rounded(megabytes: float) -> str:
    return '-' if math.isnan(megabytes) else f'{megabytes:.0f}'


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
