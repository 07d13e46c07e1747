"""From images to dense features and regions. This step does not know the words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .errors import SettingError, ShapeError
from .labels.queries import DeviceWords
from .labels.regions import RegionFinder
from .methods import presence, resclip, table
from .model import preprocessing, recipes, windows
from .model.attention import Grid
from .model.backbone import Backbone
from .runtime import memory
from .runtime.accelerate import Compiled, Replayed
from .settings import IMAGE, Settings

# Limit of the cache of encoders of one backbone.
ENCODERS = 8


class Feedback(NamedTuple):
    """Input of the last block, and the images [B, 3, h, w] in 0..255 that the tower saw.

    B is 1, or the number of windows.
    """

    trace: recipes.Trace
    images: Tensor


@dataclass(frozen=True, eq=False)
class EncodedImage:
    """An encoded image: all results that do not depend on the words.

    Attributes:
        features: [rows, cols, E] float32 in the joint space, after ln_post and proj, not
            normalised; with sliding windows [T, rows, cols, E], one grid for each window.
        cls: [E] the [CLS] token of the same pass; with windows [T, E]. In SC-CLIP it is the token
            that enters the last block.
        affinity: [N, N] float32, the denoised semantic correlation of the N = rows * cols patches
            of the whole image; None if regions are off.
        clusters: [rows, cols] int64, the DBSCAN label of each patch, -1 noise; None if regions are
            off.
        regions: [H, W] int64, the region of each pixel; -1 everywhere if all patches are noise;
            None if regions are off.
        size: (H, W) of the labels, in pixels.
        offsets: (top, left) of each window on the working image, or None.
        working_size: (height, width) of the working image in pixels.
        image: [3, H', W'] in 0..255, the picture whose edges the labels follow. With refine 'pamr'
            it is the input of the tower; with 'guided' it has the size of the labels, uint8;
            otherwise None.
        feedback: data to run the last block once more, if the words change the attention;
            otherwise None.
        window_px: side of the windows in pixels, or None.
        evidence: data of the whole image for TagCLIP; None if `present.method` is not 'tagclip'.
    """

    features: Tensor
    cls: Tensor
    affinity: Tensor | None
    clusters: Tensor | None
    regions: Tensor | None
    size: tuple[int, int]
    offsets: list[tuple[int, int]] | None
    working_size: tuple[int, int]
    image: Tensor | None = None
    feedback: Feedback | None = None
    window_px: int | None = None
    evidence: presence.Evidence | None = None


class _Context(NamedTuple):
    """The fields of `EncodedImage` that describe the whole image, except its features."""

    affinity: Tensor | None
    clusters: Tensor | None
    regions: Tensor | None
    evidence: presence.Evidence | None


class _Seen(NamedTuple):
    """Results of the tower for whole images, if they are needed.

    These are the semantic correlation [B, 1 + N, 1 + N] and TagCLIP's evidence.
    """

    correlation: Tensor | None
    evidence: Sequence[presence.Evidence | None]


class _Encoded(NamedTuple):
    """Results of the tower for pictures: features [B, rows, cols, E], cls [B, E].

    Also the input of the last block, if it may have to run again, and the results for whole images.
    """

    features: Tensor
    cls: Tensor
    trace: recipes.Trace | None
    seen: _Seen


def encoder_for(backbone: Backbone, settings: Settings) -> Encoder:
    """Return the encoder of a backbone for these settings.

    Settings that differ only in what the encoder does not read give the same object. So nothing is
    compiled or captured again if words or thresholds change.

    Raises: as Encoder.
    """
    key = Settings.from_mapping(settings.of_scope(IMAGE))
    known = backbone.encoders
    with backbone.lock:
        made = known.get(key)
    if made is None:
        made = Encoder(backbone, key)  # without the lock: gclip runs the tower once
    with backbone.lock:
        made = known.setdefault(key, made)
        known.move_to_end(key)
        while len(known) > ENCODERS:
            known.popitem(last=False)
    return made


def check_fits(backbone: Backbone, settings: Settings) -> None:
    """Raise unless an encoder can be made of a backbone with these settings. Cheap: nothing runs.

    Raises: as Encoder.
    """
    tower = backbone.tower(settings.precision, settings.position_offset)
    table.check(tower, settings)
    sizes = {'sliding.window_px': settings.sliding.window_px}
    if settings.protocol == 'cliptrase':
        sizes['input_size'] = settings.input_size
    for name, size in sizes.items():
        if size != 'none' and size % tower.patch:
            raise SettingError(f'{name}: {size} is no multiple of the patch size, {tower.patch} px')


class Encoder:
    """The part of the pipeline that does not depend on the words; immutable.

    It reads settings of the scope IMAGE only.

    Raises:
        UnsupportedBackbone: the method cannot run on this tower.
        SettingError: a size is not a multiple of the patch, or a setting does not fit the tower.
    """

    def __init__(self, backbone: Backbone, settings: Settings):
        check_fits(backbone, settings)
        self._device, self._mean, self._std = backbone.device, backbone.mean, backbone.std
        self.settings = settings
        self._sliding = settings.sliding.window_and_stride
        self.tower = backbone.tower(settings.precision, settings.position_offset)
        self.recipe = table.build(self.tower, settings)
        self.feeds_back = settings.method == 'resclip' and settings.resclip.feedback.enabled
        self._wants_regions = settings.regions != 'none'
        self.preprocessor = preprocessing.Preprocessor(settings, self.tower.patch)
        self.region_finder = RegionFinder(settings, self.tower.patch)
        self._wants_tags = settings.present.method == 'tagclip'
        self._compiled = Compiled(self._run, 'image tower') if settings.compile else None
        self._together = Replayed(self._encode, 'encoding')

    @torch.no_grad()
    def __call__(self, images: Sequence[np.ndarray]) -> list[EncodedImage]:
        """Encode images [H, W, 3] uint8 RGB.

        Images that the tower sees at one size share a pass, and so do the windows of one image. If
        memory does not suffice, they are split into several passes.

        Raises:
            ShapeError: an image has another shape or dtype, or one side is more than 8 times the
                other. Nothing is encoded then.
        """
        images = [self.preprocessor.crop(image) for image in images]
        shared: dict[tuple[int, int] | int, list[int]] = {}
        for number, image in enumerate(images):
            # The windows of one image are already a batch.
            size = self.preprocessor.whole_size(image.shape[:2])
            key = number if self._sliding else size
            shared.setdefault(key, []).append(number)
        result: dict[int, EncodedImage] = {}
        for numbers in shared.values():
            uploaded = [preprocessing.to_device(images[n], self._device) for n in numbers]
            fields = memory.in_halves(lambda part: self._together(*part), uploaded)
            for number, own in zip(numbers, fields, strict=True):
                result[number] = EncodedImage(**own)
        return [result[number] for number in range(len(images))]

    @torch.no_grad()
    def fed_back(self, encoded: EncodedImage, words: DeviceWords) -> EncodedImage:
        """Run the last block once more for the words (ResCLIP's SFR). Return the new image.

        Raises:
            SettingError: the image was encoded without the data for this.
        """
        recipe = self.recipe
        if encoded.feedback is None or not isinstance(recipe, resclip.ResClip):
            raise SettingError(
                'resclip.feedback.enabled: the image was encoded without it. Encode it with this '
                'segmenter'
            )
        trace, images = encoded.feedback
        features = encoded.features.view(len(images), *trace.grid, -1)
        threshold = self.settings.resclip.feedback.threshold
        semantics = resclip.feedback(features, words, images, self.tower.patch, threshold)
        features, cls = self._project(recipe.last(trace, semantics), trace.grid)
        return replace(
            encoded, features=features.view(encoded.features.shape), cls=cls.view(encoded.cls.shape)
        )

    def _encode(self, *images: Tensor) -> list[dict]:
        """Return the fields of each `EncodedImage`.

        Args:
            images: [H, W, 3] uint8, which the tower sees at one size; only one if it is cut into
                windows.
        """
        if self._sliding is None:
            return self._whole(images)
        [image] = images
        return [self._windows(image, *self._sliding)]

    def _windows(self, image: Tensor, window: int, stride: int) -> dict:
        """Encode an image in sliding windows of this side and stride, in pixels."""
        size = preprocessing.image_size_of(image)
        working = self.preprocessor.working_size(size)
        if min(working) < window:
            raise ShapeError(
                f'image of {size[1]} x {size[0]} px: the protocol resizes it to {working[1]} x '
                f'{working[0]} px, less than a window of {window} px. Lower sliding.window_px'
            )
        offsets = windows.window_offsets(working, window, stride)
        context = self._context_beside_windows(image)
        pixels = self.preprocessor.resized(image, working)
        tiles = windows.crop(pixels, offsets, window)
        parts = memory.in_halves(lambda part: [self._through_tower(part)], tiles)
        traces = [part.trace for part in parts if part.trace is not None]
        return {
            'features': torch.cat([part.features for part in parts]),
            'cls': torch.cat([part.cls for part in parts]),
            'size': self.preprocessor.label_size(size),
            'offsets': offsets,
            'window_px': window,
            'working_size': working,
            'image': self.preprocessor.edges(image, pixels),
            'feedback': Feedback(recipes.Trace.joined(traces), tiles) if traces else None,
            **context._asdict(),
        }

    def _context_beside_windows(self, image: Tensor) -> _Context:
        """Return the context of an image in windows, from one more pass over the whole image.

        So no region ends at the edge of a window, and the whole image decides which words are
        present.
        """
        if not (self._wants_regions or self._wants_tags):
            return _Context(None, None, None, None)
        pixels = self.preprocessor.whole(image)
        seen, _ = self._follow(pixels[None], recipes.Recipe(self.recipe.blocks))
        size = self.preprocessor.label_size(preprocessing.image_size_of(image))
        edges = self.preprocessor.edges(image, pixels)
        return self._context(seen, 0, self.tower.grid(pixels), size, edges)

    def _whole(self, images: Sequence[Tensor]) -> list[dict]:
        """Encode whole images in one pass of the tower."""
        pixels = torch.stack([self.preprocessor.whole(image) for image in images])
        encoded, grid, result = self._through_tower(pixels), self.tower.grid(pixels), []
        for n, image in enumerate(images):
            size = self.preprocessor.label_size(preprocessing.image_size_of(image))
            edges = self.preprocessor.edges(image, pixels[n])
            feedback = None
            if encoded.trace is not None:
                feedback = Feedback(encoded.trace.of(n), pixels[n : n + 1])
            context = self._context(encoded.seen, n, grid, size, edges)
            result.append(
                {
                    'features': encoded.features[n],
                    'cls': encoded.cls[n],
                    'size': size,
                    'offsets': None,
                    'working_size': tuple(pixels.shape[-2:]),
                    'image': edges,
                    'feedback': feedback,
                    **context._asdict(),
                }
            )
        return result

    def _context(
        self, seen: _Seen, n: int, grid: Grid, size: tuple[int, int], edges: Tensor | None
    ) -> _Context:
        """Return the context of image n of a pass; `size`, `edges`: its fields size and image."""
        if seen.correlation is None:
            return _Context(None, None, None, seen.evidence[n])
        found = self.region_finder(seen.correlation[n], grid, size, edges)
        return _Context(*found, seen.evidence[n])

    def _through_tower(self, pixels: Tensor) -> _Encoded:
        # Not chosen in __init__: a bound method in an attribute would keep the encoder and the
        # model alive.
        return self._compiled(pixels) if self._compiled else self._run(pixels)

    def _run(self, pixels: Tensor) -> _Encoded:
        """Run the tower on pictures [B, 3, h, w] in 0..255: whole images or windows."""
        seen, trace = self._follow(pixels, self.recipe, whole=self._sliding is None)
        features, cls = self._project(self.recipe.last(trace), trace.grid)
        return _Encoded(features, cls, trace if self.feeds_back else None, seen)

    def _follow(
        self, pixels: Tensor, recipe: recipes.Recipe, whole: bool = True
    ) -> tuple[_Seen, recipes.Trace]:
        """Run all blocks except the last one. Return also the results for whole images."""
        tags = whole and self._wants_tags
        belonging = presence.PatchAttention(len(recipe.blocks)) if tags else None
        trace, correlation = recipes.follow(
            self.tower,
            (pixels / 255 - self._mean) / self._std,
            recipe,
            correlation=whole and self._wants_regions,
            watch=None if belonging is None else belonging.add,
        )
        evidence: Sequence[presence.Evidence | None] = [None] * len(pixels)
        if belonging is not None:
            evidence = presence.evidence(self.tower, recipe.blocks, trace, belonging)
        return _Seen(correlation, evidence), trace

    def _project(self, tokens: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
        """Project tokens [B, N, D] of the last block: features [B, rows, cols, E], cls [B, E]."""
        tokens = self.tower.project(tokens).float()
        return tokens[:, 1:].unflatten(1, grid), tokens[:, 0]
