"""The whole pipeline: image -> dense features and regions -> labels, in the papers' own steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from . import clusters, methods, presence, recipes, refine, resclip, voting, windows
from .backbone import Backbone
from .distractors import beside
from .embeddings import cache_in, default_cache_folder, embed_words
from .errors import SettingError, ShapeError, VocabularyError
from .resample import Enlarge, bands
from .settings import Settings
from .templates import TEMPLATES
from .vocabulary import UNLABELED, Ids, Vocabulary, WordClass, parse

# Settings that the backbone was made with.
LOADED_ONCE = ('model', 'weights', 'weights_sha256', 'device')

# Beyond this the long side would make more patches than any machine can attend to.
MAX_ASPECT = 8


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
        cls: [E] the [CLS] token of the same pass; with windows [T, E].
        affinity: [N, N] float32, the denoised semantic correlation of the N = rows * cols patches
            of the whole image, or None where regions are off.
        clusters: [rows, cols] int64, the DBSCAN label of each patch, -1 noise; or None.
        regions: [H, W] int64, the region of each pixel; None where regions are off, or all
            patches are noise.
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


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Labels of one image.

    Attributes:
        labels: [H, W] uint8 (uint16 where an id is above 254): class ids, 0 unlabelled.
        confidence: [H, W] float32 in 0..1, the probability of the label; 0 where unlabelled.
    """

    labels: np.ndarray
    confidence: np.ndarray

    @property
    def confidence_bytes(self) -> np.ndarray:
        """The confidence as [H, W] uint8, round(255 p)."""
        return np.rint(self.confidence * 255).astype(np.uint8)


class Segmenter:
    """Labels images with words; immutable, so any thread may call it.

    Args:
        backbone: the model; may be shared.
        settings: the defaults if None. `model`, `weights` and `device` are the backbone's own
            business here (see `load`).
    """

    def __init__(self, backbone: Backbone, settings: Settings | None = None):
        self.backbone = backbone
        self.settings = settings = settings or Settings()
        self._tower = backbone.tower(settings.precision, settings.position_offset)
        self._recipe = methods.build(self._tower, settings)
        self._feeds_back = settings.method == 'resclip' and settings.resclip_feedback
        self._scale = settings.logit_scale or backbone.logit_scale
        self._templates = TEMPLATES[settings.prompt_templates]
        if settings.window_px % self._tower.patch or (
            settings.protocol == 'cliptrase' and settings.input_size % self._tower.patch
        ):
            raise SettingError(
                f'window_px and, in the cliptrase protocol, input_size must be multiples of the '
                f'patch, {self._tower.patch} px'
            )
        folder = Path(settings.cache_dir).expanduser() if settings.cache_dir else None
        self._cache = cache_in(folder or default_cache_folder())

    def replace(self, **changes: Any) -> Segmenter:
        """A segmenter on the same backbone with some settings changed; cheap, but that another
        precision copies the tower once.

        Raises:
            SettingError: an unknown setting, a bad value, or a change of what is loaded.
        """
        loaded = [name for name in LOADED_ONCE if name in changes]
        if loaded:
            raise SettingError(f'{loaded[0]}: belongs to the backbone; load another one')
        return Segmenter(self.backbone, self.settings.replace(**changes))

    def vocabulary(
        self,
        entries: Sequence[str],
        background: Sequence[str] = (),
        ids: Ids | None = None,
    ) -> Vocabulary:
        """Words made ready: parsed, checked and encoded (or read from the cache on disk), and the
        distractors of the settings beside them.

        Args and grammar: see `vocabulary.parse`.

        Raises:
            VocabularyError: an entry is bad or too long, or the backbone has no text encoder.
        """
        return self.encode_words(*self.check_vocabulary(entries, background, ids))

    def check_vocabulary(
        self,
        entries: Sequence[str],
        background: Sequence[str] = (),
        ids: Ids | None = None,
    ) -> tuple[tuple[WordClass, ...], tuple[str, ...]]:
        """First half of `vocabulary`: (classes, background words), nothing encoded yet.

        Raises:
            VocabularyError: as `vocabulary`.
        """
        text = self.backbone.text
        if text is None:
            raise VocabularyError(
                'this backbone has no text encoder; use Vocabulary.from_embeddings'
            )
        classes, words = parse(entries, background, ids)
        given = [word for c in classes for word in (c.name, *c.prompts)]
        words += beside([*given, *words], self.settings.distractors)
        longest = text.longest(self._templates)
        for word in [p for c in classes for p in c.prompts] + list(words):
            if text.too_long(longest.format(word)):
                raise VocabularyError(
                    f'{word[:60]!r}: too long for the text encoder; use fewer words'
                )
        return classes, words

    def encode_words(
        self,
        classes: tuple[WordClass, ...],
        background: tuple[str, ...],
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Vocabulary:
        """Second half of `vocabulary`, which can take seconds a word on a CPU.

        Args:
            cancelled: asked before each word.

        Raises:
            Cancelled: `cancelled` said so.
        """
        text = self.backbone.text

        def embed(words: Sequence[str]) -> Tensor:
            return embed_words(
                words, self._templates, text.encode, text.fingerprint, self._cache, cancelled
            )

        return Vocabulary.build(classes, background, embed)

    def view(self, image: np.ndarray) -> np.ndarray:
        """The picture that the labels of an image are for, at their size: the image, or its
        resized crop in the cliptrase protocol. [H, W, 3] uint8; errors as `encode`."""
        crop = self._crop(image)
        size = self._label_size(crop)
        if size == crop.shape[:2]:
            return crop
        return np.asarray(Image.fromarray(crop).resize(size[::-1], Image.Resampling.BILINEAR))

    def view_geometry(self, size: tuple[int, int]) -> tuple[tuple[int, int], np.ndarray]:
        """Where the pixels of an image of `size` (H, W) are on its labels.

        Returns:
            The size (H, W) of the labels, and a matrix [2, 3]: pixel centres (x, y, 1) of the
            image -> (x, y) of the labels, integers being the centres of pixels.
        """
        if self.settings.protocol == 'cliptrase':
            inner, top, left = crop_geometry(*size, self.settings.input_size)
            target = (self.settings.input_size, self.settings.input_size)
        else:
            target = inner = self.settings.label_size or size
            top = left = 0
        sy, sx = (new / old for new, old in zip(inner, size, strict=True))
        moved = [[sx, 0, (sx - 1) / 2 - left], [0, sy, (sy - 1) / 2 - top]]
        return target, np.array(moved)

    def encode(self, image: np.ndarray) -> Dense:
        """Dense features and regions of an image; no word needed.

        Args:
            image: [H, W, 3] uint8 RGB.

        Raises:
            ShapeError: another shape or dtype, or one side more than 8 times the other.
        """
        return self.encode_batch([image])[0]

    @torch.no_grad()
    def encode_batch(self, images: Sequence[np.ndarray]) -> list[Dense]:
        """`encode` of several images; those that the tower sees at one size share a pass.

        Raises:
            ShapeError: as `encode`; nothing is encoded then.
        """
        images = [self._crop(image) for image in images]
        if self.settings.window_px:
            return [self._encode_windows(image) for image in images]
        shared: dict[tuple[int, int], list[int]] = {}
        for number, image in enumerate(images):
            shared.setdefault(self._whole_size(image), []).append(number)
        result: list[Dense | None] = [None] * len(images)
        for size, numbers in shared.items():
            dense = self._encode_whole([images[n] for n in numbers], size)
            for number, one in zip(numbers, dense, strict=True):
                result[number] = one
        return result

    def scores(self, dense: Dense, words: Vocabulary) -> Tensor:
        """Scores [Q, h, w] float32 of each query of a vocabulary: scaled cosines, on the patch
        grid or, with sliding windows, on the working image.

        Raises:
            ShapeError: the word embeddings are not of the backbone's joint space.
        """
        embeddings = _embeddings(dense, words)
        if dense.feedback is not None:
            dense = self._fed_back(dense, words, embeddings)
        return self._logits(dense, embeddings)

    @torch.no_grad()
    def presence(
        self, dense: Dense, words: Vocabulary, scores: Tensor | None = None
    ) -> Tensor | None:
        """How much speaks for each class [K] being in the picture, 0..1, by `present_only`; None
        where that is off. A class is there from `self.present_threshold` on.

        Args:
            scores: as in `label`.

        Raises:
            ShapeError: the word embeddings are not of the backbone's joint space.
            SettingError: the image was encoded without what this setting needs.
        """
        if self.settings.present_only == 'off':
            return None
        owner, classes = words.owner.to(dense.features.device), len(words.classes)
        if self.settings.present_only == 'denoise':
            scores = self.scores(dense, words) if scores is None else scores
            return presence.denoise(scores, owner, classes)
        if dense.evidence is None:
            raise SettingError(
                "present_only: the image was encoded without 'tagclip'; encode it with this setting"
            )
        cosines = voting.cosines(dense.evidence.values, _embeddings(dense, words))
        logits = cosines.movedim(-1, 0) * self.backbone.logit_scale
        probability = presence.probabilities(logits, owner, classes)
        return presence.tagclip(probability, dense.evidence.attention)

    @property
    def present_threshold(self) -> float:
        """The score of `presence` from which a class is in the picture."""
        published = presence.THRESHOLDS.get(self.settings.present_only, 0.0)
        return self.settings.present_threshold or published

    def label(
        self,
        dense: Dense,
        words: Vocabulary,
        scores: Tensor | None = None,
        present: Tensor | None = None,
    ) -> Segmentation:
        """Labels of an encoded image for a vocabulary.

        Args:
            scores: instead of `scores(dense, words)`, such as their mean over several frames.
            present: [K] bool, the classes that may be labelled, instead of those that `presence`
                finds in this image, such as those of several frames.

        Raises:
            ShapeError: the word embeddings are not of the backbone's joint space.
        """
        if scores is None:
            scores = self.scores(dense, words)
        if present is None and self.settings.present_only != 'off':
            present = self.presence(dense, words, scores) >= self.present_threshold
        labels, confidence = self._label(dense, words, scores, present)
        dtype = words.label_dtype
        return Segmentation(labels.cpu().numpy().astype(dtype), confidence.cpu().numpy())

    def __call__(self, image: np.ndarray, words: Vocabulary, **changes: Any) -> Segmentation:
        """`label(encode(image), words)`: image [H, W, 3] uint8 RGB -> labels [H, W].

        Args:
            changes: settings for this call alone, such as method='gclip'; see `replace`.
        """
        run = self.replace(**changes) if changes else self
        return run.label(run.encode(image), words)

    def _to_device(self, image: np.ndarray) -> Tensor:
        """[3, H, W] float32 in 0..255 on the device."""
        pixels = torch.from_numpy(np.array(image, order='C')).to(self.backbone.device)
        return pixels.permute(2, 0, 1).float()

    def _crop(self, image: np.ndarray) -> np.ndarray:
        check_image(image)
        if self.settings.protocol == 'cliptrase':
            return centre_crop(image, self.settings.input_size)
        return image

    def _label_size(self, crop: np.ndarray) -> tuple[int, int]:
        return self.settings.label_size or crop.shape[:2]

    def _whole_size(self, image: np.ndarray) -> tuple[int, int]:
        # The crop of the cliptrase protocol has its working size already.
        height, width = image.shape[:2]
        return windows.working_size(height, width, self.settings.input_size, self._tower.patch)

    def _encode_windows(self, image: np.ndarray) -> Dense:
        settings = self.settings
        working = windows.working_size(*image.shape[:2], settings.input_size)
        offsets = windows.window_offsets(working, settings.window_px, settings.window_stride_px)
        seen = _resize(self._to_device(image), working)
        tiles = windows.crop(seen, offsets, settings.window_px)
        features, cls, encoded, _ = self._features(tiles, correlation=False)
        feedback = Feedback(encoded.trace, tiles) if self._feeds_back else None
        affinity = labels = regions = evidence = None
        if settings.regions != 'none' or settings.present_only == 'tagclip':
            # Regions come from one more pass over the whole image: none ends at a window's edge.
            # So does what the words of the picture are judged by.
            [whole] = self._encode_whole([image], self._whole_size(image))
            affinity, labels, regions = whole.affinity, whole.clusters, whole.regions
            evidence = whole.evidence
        size = self._label_size(image)
        picture = self._picture(image, seen)
        found = features, cls, affinity, labels, regions
        return Dense(*found, size, offsets, working, picture, feedback, evidence)

    def _encode_whole(self, images: Sequence[np.ndarray], working: tuple[int, int]) -> list[Dense]:
        """Images that the tower sees at the working size, in one pass."""
        settings = self.settings
        pixels = torch.stack([_resize(self._to_device(image), working) for image in images])
        wants_regions = settings.regions != 'none'
        tagging = settings.present_only == 'tagclip'
        features, cls, encoded, evidence = self._features(pixels, wants_regions, tagging)
        result = []
        for n, image in enumerate(images):
            size = self._label_size(image)
            picture = self._picture(image, pixels[n])
            affinity = labels = regions = None
            if wants_regions:
                affinity = clusters.denoised_affinity(
                    encoded.correlation[n], settings.denoise_weight
                )
                labels = self._clusters(affinity, features.shape[1:3])
                regions = self._regions(affinity, labels, size, working, picture)
            feedback = None
            if self._feeds_back:
                feedback = Feedback(encoded.trace.of(n), pixels[n : n + 1])
            result.append(
                Dense(
                    *(features[n], cls[n], affinity, labels, regions, size, None, working),
                    image=picture,
                    feedback=feedback,
                    evidence=evidence[n] if tagging else None,
                )
            )
        return result

    def _picture(self, image: np.ndarray, seen: Tensor) -> Tensor | None:
        """The `Dense.image` of an image that the tower sees as `seen`."""
        if self.settings.refine == 'guided':
            return _resize(self._to_device(image), self._label_size(image)).byte()
        return seen if self.settings.refine == 'pamr' else None

    def _enlarge(
        self, size: tuple[int, int], working: tuple[int, int], picture: Tensor | None
    ) -> Enlarge:
        """How maps that decide where labels end are enlarged to `size`."""
        name = self.settings.refine
        if name == 'none':
            return bands
        if picture is None or tuple(picture.shape[1:]) != (working if name == 'pamr' else size):
            raise SettingError(
                f'refine: the image was not encoded for {name!r}; encode it with this segmenter'
            )
        if name == 'pamr':
            rule = partial(refine.pamr_rows, image=picture)
        else:
            grid = tuple(side * refine.CELLS // self._tower.patch for side in working)
            rule = partial(refine.guided_rows, image=picture, grid=grid)
        return partial(refine.along, rule=rule, most=self.settings.refine_words)

    def _clusters(self, affinity: Tensor, grid: tuple[int, int]) -> Tensor:
        """The cluster [rows, cols] of each patch."""
        settings = self.settings
        eps, min_samples = clusters.dbscan_parameters(len(affinity))
        labels = clusters.dbscan(
            affinity, settings.cluster_eps or eps, settings.cluster_min_samples or min_samples
        )
        return labels.view(grid)

    def _regions(
        self,
        affinity: Tensor,
        labels: Tensor,
        size: tuple[int, int],
        working: tuple[int, int],
        picture: Tensor | None,
    ) -> Tensor | None:
        """The region [H, W] of each pixel, or None where all patches are noise."""
        settings = self.settings
        maps = clusters.region_maps(
            affinity,
            labels.flatten(),
            tuple(labels.shape),
            settings.region_upsampling,
            settings.region_median,
        )
        if not len(maps):
            return None
        return clusters.regions(maps, size, self._enlarge(size, working, picture))

    def _features(self, pixels: Tensor, correlation: bool, tagging: bool = False):
        """[B, 3, h, w] in 0..255 -> features [B, rows, cols, E], cls [B, E], what was encoded, and
        the evidence of each image."""
        images = (pixels / 255 - self.backbone.mean) / self.backbone.std
        blocks = self._recipe.blocks
        votes = presence.Votes(len(blocks)) if tagging else None
        encoded = recipes.run(self._tower, images, self._recipe, correlation, votes and votes.add)
        evidence = None
        if tagging:
            evidence = presence.evidence(self._tower, blocks, encoded.trace, votes)
        return *self._project(encoded.tokens, encoded.trace.grid), encoded, evidence

    def _project(self, tokens: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Tokens [B, N, D] of the last block -> features [B, rows, cols, E], cls [B, E]."""
        tokens = self._tower.project(tokens).float()
        return tokens[:, 1:].unflatten(1, grid), tokens[:, 0]

    @torch.no_grad()
    def _fed_back(self, dense: Dense, words: Vocabulary, embeddings: Tensor) -> Dense:
        """The last block run once more with the labels of a first pass (ResCLIP's SFR)."""
        trace, images = dense.feedback
        features = dense.features.view(len(images), *trace.grid, -1)
        # Background comes first there, and the classes 1 .. K after it.
        owner = (words.owner.to(images.device) + 1) % (len(words.classes) + 1)
        labels = resclip.first_labels(
            voting.cosines(features, embeddings).movedim(-1, 1),
            images,
            owner,
            self._tower.patch,
            self.settings.resclip_feedback_threshold,
        )
        tokens = self._recipe.last(trace, resclip.semantic_map(labels))
        features, cls = self._project(tokens, trace.grid)
        return replace(
            dense, features=features.view(dense.features.shape), cls=cls.view(dense.cls.shape)
        )

    @torch.no_grad()
    def _label(
        self, dense: Dense, words: Vocabulary, logits: Tensor, present: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Ids [H, W] int64 and confidence [H, W] on the device."""
        owner = words.owner.to(logits.device)
        if present is not None:
            logits, owner = presence.only(present, logits, owner)
            if not len(owner):  # no word is there, and no background word competes
                nothing = logits.new_zeros(dense.size)
                return nothing.long(), nothing
        # Where there are regions, their edges are the labels' edges, and are refined already.
        whole = dense.regions is not None
        enlarge = bands if whole else self._enlarge(dense.size, dense.working_size, dense.image)
        scores = enlarge(logits, dense.size)
        mean = whole and self.settings.regions == 'mean'
        rule = voting.label_regions if mean else voting.label_pixels
        labels, confidence = rule(scores, owner, dense.regions)
        ids = words.label_ids.to(labels.device)[labels]
        ids[confidence < self.settings.confidence_threshold] = UNLABELED
        if self.settings.margin_threshold:
            margins = voting.margins(scores, owner, labels, dense.regions)
            ids[margins < self.settings.margin_threshold * self._scale] = UNLABELED
        confidence[ids == UNLABELED] = 0
        return ids, confidence

    def _logits(self, dense: Dense, embeddings: Tensor) -> Tensor:
        """Scaled cosines [Q, h, w] of patches with words, windows merged."""
        scores = voting.cosines(dense.features, embeddings)
        if self.settings.cls_weighting:
            cls = voting.cosines(dense.cls, embeddings)
            scores = scores * cls[..., None, None, :]
        scores = scores.movedim(-1, -3) * self._scale
        if dense.offsets is None:
            return scores
        return windows.merge(scores, dense.offsets, self.settings.window_px, dense.working_size)


def load(settings: Settings | None = None) -> Segmenter:
    """A segmenter with the model that the settings name. Errors: see `Backbone.load`."""
    settings = settings or Settings()
    return Segmenter(Backbone.load(settings), settings)


def _embeddings(dense: Dense, words: Vocabulary) -> Tensor:
    """The word embeddings [Q, E] on the device of an image's features."""
    embeddings = words.embeddings.to(dense.features.device)
    if embeddings.shape[1] != dense.features.shape[-1]:
        raise ShapeError(
            f'word embeddings have {embeddings.shape[1]} channels, the image features '
            f'{dense.features.shape[-1]}; they must come from the same model'
        )
    return embeddings


def check_image(image: np.ndarray) -> None:
    """Raise ShapeError unless the image is [H, W, 3] uint8, not empty and no mere strip."""
    if not isinstance(image, np.ndarray):
        raise ShapeError(f'image: expected a numpy array, got {type(image).__name__}')
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ShapeError(
            f'image: expected [H, W, 3] uint8 RGB, got {list(image.shape)} {image.dtype}'
        )
    height, width = image.shape[:2]
    if max(height, width) > MAX_ASPECT * min(height, width):
        raise ShapeError(
            f'image of {width} x {height} px: one side is more than {MAX_ASPECT} times the other; '
            'cut it into pieces'
        )


def crop_geometry(height: int, width: int, side: int) -> tuple[tuple[int, int], int, int]:
    """(height, width) of an image resized so that its short side is `side`, and (top, left) of
    the square in its centre, as torchvision's Resize and CenterCrop have them."""
    if height <= width:
        height, width = side, int(side * width / height)
    else:
        height, width = int(side * height / width), side
    return (height, width), round((height - side) / 2), round((width - side) / 2)


def centre_crop(image: np.ndarray, side: int) -> np.ndarray:
    """[side, side, 3]: short side resized with PIL bicubic, then the centre, as in the published
    evaluation."""
    (height, width), top, left = crop_geometry(*image.shape[:2], side)
    resized = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))
    return resized[top : top + side, left : left + side]


def _resize(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """[3, H, W] in 0..255 -> [3, h, w], bicubic with antialiasing."""
    if tuple(pixels.shape[-2:]) == tuple(size):
        return pixels
    resized = F.interpolate(
        pixels[None], size=size, mode='bicubic', antialias=True, align_corners=False
    )
    return resized[0].clamp(0, 255)
