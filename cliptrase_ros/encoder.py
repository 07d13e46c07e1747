"""From images to dense features and regions; no word is known here."""

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
from .settings import Settings

# Of one backbone: as many ways to encode an image stay ready.
ENCODERS = 8


class Feedback(NamedTuple):
    """What the last block works on, and the images [B, 3, h, w] in 0..255 that the tower saw; B is
    1, or the number of windows."""

    trace: recipes.Trace
    images: Tensor


@dataclass(frozen=True, eq=False)
class EncodedImage:
    """What an image is before any word is asked.

    Attributes:
        features: [rows, cols, E] float32 in the joint space, after ln_post and proj, not
            normalised; with sliding windows [T, rows, cols, E], one grid a window.
        cls: [E] the [CLS] token of the same pass; with windows [T, E]. SC-CLIP has it as it
            enters the last block.
        affinity: [N, N] float32, the denoised semantic correlation of the N = rows * cols patches
            of the whole image, or None where regions are off.
        clusters: [rows, cols] int64, the DBSCAN label of each patch, -1 noise; or None.
        regions: [H, W] int64, the region of each pixel, or -1 everywhere where all patches are
            noise; None where regions are off.
        size: (H, W) of the labels to come, in pixels.
        offsets: (top, left) of each window on the working image, or None.
        working_size: (height, width) of the working image in pixels.
        image: [3, H', W'] in 0..255, the picture whose edges are followed: with refine 'pamr' as
            the tower saw it, with 'guided' of the size of the labels, uint8; else None.
        feedback: where the words have a say in the attention, what it takes to run the last
            block once more; else None.
        evidence: what TagCLIP needs of the whole image, or None where `present_only` is another.
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
    evidence: presence.Evidence | None = None


class _Context(NamedTuple):
    """What is known of a whole image beside its features: those fields of `EncodedImage`."""

    affinity: Tensor | None
    clusters: Tensor | None
    regions: Tensor | None
    evidence: presence.Evidence | None


class _Seen(NamedTuple):
    """What the tower makes of whole images: the semantic correlation [B, 1 + N, 1 + N] and
    TagCLIP's evidence, where they are wanted."""

    correlation: Tensor | None
    evidence: Sequence[presence.Evidence | None]


class _Encoded(NamedTuple):
    """What the tower makes of pictures: features [B, rows, cols, E], cls [B, E]; what the last
    block worked on, where it may have to run again; and what is seen of them as whole images."""

    features: Tensor
    cls: Tensor
    trace: recipes.Trace | None
    seen: _Seen


def encoder_for(backbone: Backbone, settings: Settings) -> Encoder:
    """The encoder of a backbone for these settings: the same object for settings that differ in
    live ones only, so that nothing is compiled or captured again when words or thresholds change.

    Raises: as Encoder.
    """
    defaults = {name: getattr(Settings, name) for name in settings.live()}
    key = settings.replace(**defaults)
    known = backbone.encoders
    with backbone.lock:
        if key not in known:
            known[key] = Encoder(backbone, key)
            while len(known) > ENCODERS:
                known.popitem(last=False)
        known.move_to_end(key)
        return known[key]


class Encoder:
    """The half of the pipeline before any word; immutable. It reads no live setting.

    Raises:
        UnsupportedBackbone: the method cannot run on this tower.
        SettingError: sizes are no multiples of the patch, or a setting does not fit the tower.
    """

    def __init__(self, backbone: Backbone, settings: Settings):
        self._device, self._mean, self._std = backbone.device, backbone.mean, backbone.std
        self.settings = settings
        self.tower = backbone.tower(settings.precision, settings.position_offset)
        self.recipe = table.build(self.tower, settings)
        self.feeds_back = settings.method == 'resclip' and settings.resclip_feedback
        self._wants_regions = settings.regions != 'none'
        self.preprocessor = preprocessing.Preprocessor(settings, self.tower.patch)
        self.region_finder = RegionFinder(settings, self.tower.patch)
        self._wants_tags = settings.present_only == 'tagclip'
        if settings.window_px % self.tower.patch or (
            settings.protocol == 'cliptrase' and settings.input_size % self.tower.patch
        ):
            raise SettingError(
                f'window_px and, in the cliptrase protocol, input_size must be multiples of the '
                f'patch, {self.tower.patch} px'
            )
        self._compiled = Compiled(self._run, 'image tower') if settings.compile else None
        self._together = Replayed(self._encode, 'encoding')

    @torch.no_grad()
    def __call__(self, images: Sequence[np.ndarray]) -> list[EncodedImage]:
        """Images [H, W, 3] uint8 RGB; those that the tower sees at one size share a pass, and so do
        the windows of one, as far as memory goes.

        Raises:
            ShapeError: another shape or dtype, or one side more than 8 times the other; nothing
                is encoded then.
        """
        images = [self.preprocessor.crop(image) for image in images]
        shared: dict[tuple[int, int] | int, list[int]] = {}
        for number, image in enumerate(images):
            # The windows of an image are a batch already.
            size = self.preprocessor.whole_size(image.shape[:2])
            key = number if self.settings.window_px else size
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
        """The image with the last block run once more for the words (ResCLIP's SFR).

        Raises:
            SettingError: it was encoded without what that takes.
        """
        recipe = self.recipe
        if encoded.feedback is None or not isinstance(recipe, resclip.ResClip):
            raise SettingError(
                'resclip_feedback: the image was encoded without it; encode it with this segmenter'
            )
        trace, images = encoded.feedback
        features = encoded.features.view(len(images), *trace.grid, -1)
        threshold = self.settings.resclip_feedback_threshold
        semantics = resclip.feedback(features, words, images, self.tower.patch, threshold)
        features, cls = self._project(recipe.last(trace, semantics), trace.grid)
        return replace(
            encoded, features=features.view(encoded.features.shape), cls=cls.view(encoded.cls.shape)
        )

    def _encode(self, *images: Tensor) -> list[dict]:
        """The fields of each `EncodedImage`. Images [H, W, 3] uint8 that the tower sees at one
        size; one alone if it is cut into windows."""
        return [self._windows(*images)] if self.settings.window_px else self._whole(images)

    def _windows(self, image: Tensor) -> dict:
        """An image in sliding windows."""
        settings, size = self.settings, preprocessing.image_size_of(image)
        working = self.preprocessor.working_size(size)
        if min(working) < settings.window_px:
            raise ShapeError(
                f'image of {size[1]} x {size[0]} px: the protocol makes it {working[1]} x '
                f'{working[0]} px, less than a window of {settings.window_px} px; lower window_px'
            )
        offsets = windows.window_offsets(working, settings.window_px, settings.window_stride_px)
        context = self._context_beside_windows(image)
        pixels = self.preprocessor.resized(image, working)
        tiles = windows.crop(pixels, offsets, settings.window_px)
        parts = memory.in_halves(lambda part: [self._through_tower(part)], tiles)
        traces = [part.trace for part in parts if part.trace is not None]
        return {
            'features': torch.cat([part.features for part in parts]),
            'cls': torch.cat([part.cls for part in parts]),
            'size': self.preprocessor.label_size(size),
            'offsets': offsets,
            'working_size': working,
            'image': self.preprocessor.edges(image, pixels),
            'feedback': Feedback(recipes.Trace.joined(traces), tiles) if traces else None,
            **context._asdict(),
        }

    def _context_beside_windows(self, image: Tensor) -> _Context:
        """From one more pass over the whole image: no region ends at a window's edge, and words
        are judged by all of it."""
        if not (self._wants_regions or self._wants_tags):
            return _Context(None, None, None, None)
        pixels = self.preprocessor.whole(image)
        seen, _ = self._follow(pixels[None], recipes.Recipe(self.recipe.blocks))
        size = self.preprocessor.label_size(preprocessing.image_size_of(image))
        edges = self.preprocessor.edges(image, pixels)
        return self._context(seen, 0, self.tower.grid(pixels), size, edges)

    def _whole(self, images: Sequence[Tensor]) -> list[dict]:
        """Images in one pass of the tower."""
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
        """The context of image n of a pass; `size` and `edges` are its fields size and image."""
        if seen.correlation is None:
            return _Context(None, None, None, seen.evidence[n])
        found = self.region_finder(seen.correlation[n], grid, size, edges)
        return _Context(*found, seen.evidence[n])

    def _through_tower(self, pixels: Tensor) -> _Encoded:
        # Chosen here: a method of its own in an attribute would keep the encoder, and the model.
        return self._compiled(pixels) if self._compiled else self._run(pixels)

    def _run(self, pixels: Tensor) -> _Encoded:
        """The tower on pictures [B, 3, h, w] in 0..255, whole ones or windows."""
        seen, trace = self._follow(pixels, self.recipe, whole=not self.settings.window_px)
        features, cls = self._project(self.recipe.last(trace), trace.grid)
        return _Encoded(features, cls, trace if self.feeds_back else None, seen)

    def _follow(
        self, pixels: Tensor, recipe: recipes.Recipe, whole: bool = True
    ) -> tuple[_Seen, recipes.Trace]:
        """A run as far as the last block, and what it shows of whole images."""
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
        """Tokens [B, N, D] of the last block -> features [B, rows, cols, E], cls [B, E]."""
        tokens = self.tower.project(tokens).float()
        return tokens[:, 1:].unflatten(1, grid), tokens[:, 0]
