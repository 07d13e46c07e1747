"""From images to dense features and regions; no word is known here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from . import clusters, methods, pictures, presence, recipes, refine, windows
from .backbone import Backbone
from .errors import SettingError
from .settings import Settings


class Feedback(NamedTuple):
    """What the last block works on, and the images [B, 3, h, w] in 0..255 that the tower saw; B is
    1, or the number of windows."""

    trace: recipes.Trace
    images: Tensor


@dataclass(frozen=True, eq=False)
class Dense:
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
    """What is known of a whole image beside its features: those fields of `Dense`."""

    affinity: Tensor | None
    clusters: Tensor | None
    regions: Tensor | None
    evidence: presence.Evidence | None


class Encoder:
    """The half of the pipeline before any word; immutable.

    Raises:
        UnsupportedBackbone: the method cannot run on this tower.
        SettingError: sizes are no multiples of the patch, or a setting does not fit the tower.
    """

    def __init__(self, backbone: Backbone, settings: Settings):
        self.backbone = backbone
        self.settings = settings
        self.tower = backbone.tower(settings.precision, settings.position_offset)
        self._recipe = methods.build(self.tower, settings)
        self.feeds_back = settings.method == 'resclip' and settings.resclip_feedback
        self._wants_regions = settings.regions != 'none'
        self._wants_tags = settings.present_only == 'tagclip'
        if settings.window_px % self.tower.patch or (
            settings.protocol == 'cliptrase' and settings.input_size % self.tower.patch
        ):
            raise SettingError(
                f'window_px and, in the cliptrase protocol, input_size must be multiples of the '
                f'patch, {self.tower.patch} px'
            )

    @torch.no_grad()
    def __call__(self, images: Sequence[np.ndarray]) -> list[Dense]:
        """Images [H, W, 3] uint8 RGB; those that the tower sees at one size share a pass.

        Raises:
            ShapeError: another shape or dtype, or one side more than 8 times the other; nothing
                is encoded then.
        """
        images = [self.crop(image) for image in images]
        if self.settings.window_px:
            return [self._windows(image) for image in images]
        shared: dict[tuple[int, int], list[int]] = {}
        for number, image in enumerate(images):
            shared.setdefault(self._whole_size(image), []).append(number)
        result: list[Dense | None] = [None] * len(images)
        for size, numbers in shared.items():
            dense = self._whole([images[n] for n in numbers], size)
            for number, one in zip(numbers, dense, strict=True):
                result[number] = one
        return result

    def crop(self, image: np.ndarray) -> np.ndarray:
        """What of an image is labelled: all, or the crop of the cliptrase protocol."""
        pictures.check_image(image)
        if self.settings.protocol == 'cliptrase':
            return pictures.centre_crop(image, self.settings.input_size)
        return image

    def label_size(self, crop: np.ndarray) -> tuple[int, int]:
        """(H, W) of the labels of a crop."""
        return self.settings.label_size or crop.shape[:2]

    @torch.no_grad()
    def again(self, feedback: Feedback, semantics: Tensor) -> tuple[Tensor, Tensor]:
        """Features [B, rows, cols, E] and cls [B, E] of the last block run once more.

        Args:
            semantics: [B, 1 + N, 1 + N], see `resclip.semantic_map`.
        """
        return self._project(self._recipe.last(feedback.trace, semantics), feedback.trace.grid)

    def _whole_size(self, image: np.ndarray) -> tuple[int, int]:
        # The crop of the cliptrase protocol has its working size already.
        return windows.working_size(*image.shape[:2], self.settings.input_size, self.tower.patch)

    def _windows(self, image: np.ndarray) -> Dense:
        """An image in sliding windows."""
        settings = self.settings
        context = self._context_beside_windows(image)
        working = windows.working_size(*image.shape[:2], settings.input_size)
        offsets = windows.window_offsets(working, settings.window_px, settings.window_stride_px)
        seen = self._resized(image, working)
        tiles = windows.crop(seen, offsets, settings.window_px)
        encoded, _ = self._run(self._recipe, tiles)
        features, cls = self._project(encoded.tokens, encoded.trace.grid)
        feedback = Feedback(encoded.trace, tiles) if self.feeds_back else None
        return Dense(
            features=features,
            cls=cls,
            size=self.label_size(image),
            offsets=offsets,
            working_size=working,
            image=self._picture(image, seen),
            feedback=feedback,
            **context._asdict(),
        )

    def _context_beside_windows(self, image: np.ndarray) -> _Context:
        """From one more pass over the whole image: no region ends at a window's edge, and words
        are judged by all of it."""
        if not (self._wants_regions or self._wants_tags):
            return _Context(None, None, None, None)
        working = self._whole_size(image)
        pixels = self._resized(image, working)
        # Nobody reads what this pass makes of the last block.
        recipe = recipes.LastBlock(self._recipe.blocks, rule=None, feed_forward=False)
        encoded, evidence = self._run(recipe, pixels[None], self._wants_regions, self._wants_tags)
        picture = self._picture(image, pixels)
        return self._context(encoded, evidence, 0, self.label_size(image), picture)

    def _whole(self, images: Sequence[np.ndarray], working: tuple[int, int]) -> list[Dense]:
        """Images that the tower sees at the working size, in one pass."""
        pixels = torch.stack([self._resized(image, working) for image in images])
        encoded, evidence = self._run(self._recipe, pixels, self._wants_regions, self._wants_tags)
        features, cls = self._project(encoded.tokens, encoded.trace.grid)
        result = []
        for n, image in enumerate(images):
            size, picture = self.label_size(image), self._picture(image, pixels[n])
            feedback = None
            if self.feeds_back:
                feedback = Feedback(encoded.trace.of(n), pixels[n : n + 1])
            result.append(
                Dense(
                    features=features[n],
                    cls=cls[n],
                    size=size,
                    offsets=None,
                    working_size=working,
                    image=picture,
                    feedback=feedback,
                    **self._context(encoded, evidence, n, size, picture)._asdict(),
                )
            )
        return result

    def _context(
        self,
        encoded: recipes.Encoded,
        evidence: Sequence[presence.Evidence | None],
        n: int,
        size: tuple[int, int],
        picture: Tensor | None,
    ) -> _Context:
        """The context of image n of a pass; `size` and `picture` as in `Dense`."""
        if encoded.correlation is None:
            return _Context(None, None, None, evidence[n])
        affinity = clusters.denoised_affinity(encoded.correlation[n], self.settings.denoise_weight)
        labels = self._clusters(affinity, encoded.trace.grid)
        regions = self._regions(affinity, labels, size, picture)
        return _Context(affinity, labels, regions, evidence[n])

    def _resized(self, image: np.ndarray, size: tuple[int, int]) -> Tensor:
        return pictures.resize(pictures.to_device(image, self.backbone.device), size)

    def _picture(self, image: np.ndarray, seen: Tensor) -> Tensor | None:
        """The `Dense.image` of an image that the tower sees as `seen`."""
        if self.settings.refine == 'guided':
            return self._resized(image, self.label_size(image)).byte()
        return seen if self.settings.refine == 'pamr' else None

    def _run(
        self,
        recipe: recipes.Recipe,
        pixels: Tensor,
        correlation: bool = False,
        tagging: bool = False,
    ) -> tuple[recipes.Encoded, Sequence[presence.Evidence | None]]:
        """One run of the tower over [B, 3, h, w] in 0..255, and TagCLIP's evidence of each image
        if it is asked for."""
        images = (pixels / 255 - self.backbone.mean) / self.backbone.std
        votes = presence.Votes(len(recipe.blocks)) if tagging else None
        encoded = recipes.run(self.tower, images, recipe, correlation, votes and votes.add)
        if not tagging:
            return encoded, [None] * len(images)
        return encoded, presence.evidence(self.tower, recipe.blocks, encoded.trace, votes)

    def _project(self, tokens: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Tokens [B, N, D] of the last block -> features [B, rows, cols, E], cls [B, E]."""
        tokens = self.tower.project(tokens).float()
        return tokens[:, 1:].unflatten(1, grid), tokens[:, 0]

    def _clusters(self, affinity: Tensor, grid: tuple[int, int]) -> Tensor:
        """The cluster [rows, cols] of each patch."""
        settings = self.settings
        eps, min_samples = clusters.dbscan_parameters(len(affinity))
        labels = clusters.dbscan(
            affinity, settings.cluster_eps or eps, settings.cluster_min_samples or min_samples
        )
        return labels.view(grid)

    def _regions(
        self, affinity: Tensor, labels: Tensor, size: tuple[int, int], picture: Tensor | None
    ) -> Tensor:
        """The region [H, W] of each pixel."""
        settings, patch = self.settings, self.tower.patch
        maps = clusters.region_maps(
            affinity,
            labels.flatten(),
            tuple(labels.shape),
            settings.region_upsampling,
            settings.region_median,
        )
        working = tuple(side * patch for side in labels.shape)
        enlarge = refine.enlarging(settings, patch, size, working, picture)
        return clusters.regions(maps, size, enlarge)
