"""The whole pipeline: image -> dense features and regions -> labels, in the papers' own steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from .encoder import EncodedImage, encoder_for
from .errors import SettingError, ShapeError, VocabularyError
from .labels import refine, voting
from .labels.resample import Enlarge, bands
from .methods import presence, resclip
from .model import preprocessing, windows
from .model.backbone import Backbone
from .runtime import memory
from .runtime.host import fetch
from .settings import Settings
from .words.distractors import beside
from .words.embeddings import cache_in, default_cache_folder, embed_words
from .words.templates import TEMPLATES
from .words.vocabulary import UNLABELED, Ids, Vocabulary, WordClass, parse_vocabulary

# Settings that the backbone was made with.
LOADED_ONCE = ('model', 'weights', 'weights_sha256', 'device')
# Settings that words are made with.
OF_WORDS = ('prompt_templates', 'distractors')


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

    Images, windows and sentences that share a pass are taken in smaller batches where memory does
    not suffice for all. Where it does not even for one, or for labelling, every method raises
    OutOfMemory, and the segmenter can be used as before.

    Args:
        backbone: the model; may be shared.
        settings: the defaults if None. `model`, `weights` and `device` are the backbone's own
            business here (see `load`).
    """

    def __init__(self, backbone: Backbone, settings: Settings | None = None):
        self.backbone = backbone
        self.settings = settings = settings or Settings()
        self._encoder = encoder_for(backbone, settings)
        self._scale = settings.logit_scale or backbone.logit_scale
        self._templates = TEMPLATES[settings.prompt_templates]
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
        classes, words = parse_vocabulary(entries, background, ids)
        given = [word for c in classes for word in (c.name, *c.prompts)]
        words += beside([*given, *words], self.settings.distractors)
        longest = text.longest(self._templates)
        for word in [p for c in classes for p in c.prompts] + list(words):
            if text.too_long(longest.format(word)):
                raise VocabularyError(
                    f'{word[:60]!r}: too long for the text encoder; use fewer words'
                )
        return classes, words

    @memory.explained()
    def encode_words(
        self,
        classes: tuple[WordClass, ...],
        background: tuple[str, ...],
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Vocabulary:
        """Second half of `vocabulary`, which can take most of a second a new word on a CPU.

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
        crop = self._encoder.crop(image)
        size = self._encoder.label_size(crop.shape[:2])
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
            inner, top, left = preprocessing.crop_geometry(*size, self.settings.input_size)
            target = (self.settings.input_size, self.settings.input_size)
        else:
            target = inner = self.settings.label_size or size
            top = left = 0
        sy, sx = (new / old for new, old in zip(inner, size, strict=True))
        moved = [[sx, 0, (sx - 1) / 2 - left], [0, sy, (sy - 1) / 2 - top]]
        return target, np.array(moved)

    def encode(self, image: np.ndarray) -> EncodedImage:
        """EncodedImage features and regions of an image; no word needed.

        Args:
            image: [H, W, 3] uint8 RGB.

        Raises:
            ShapeError: another shape or dtype, or one side more than 8 times the other.
        """
        return self.encode_batch([image])[0]

    @memory.explained()
    def encode_batch(self, images: Sequence[np.ndarray]) -> list[EncodedImage]:
        """`encode` of several images; those that the tower sees at one size share a pass.

        Raises:
            ShapeError: as `encode`; nothing is encoded then.
        """
        return self._encoder(images)

    def warm_up(self, size: tuple[int, int] = (480, 640)) -> None:
        """Do what the first images of a size (H, W) would have to wait for; errors as `encode`."""
        # On CUDA the second one is captured, the third one replayed.
        for _ in range(3 if self.backbone.device.type == 'cuda' else 1):
            self.encode(np.zeros((*size, 3), np.uint8))

    @memory.explained()
    def scores(self, dense: EncodedImage, words: Vocabulary) -> Tensor:
        """Scores [Q, h, w] float32 of each query of a vocabulary: scaled cosines, on the patch
        grid or, with sliding windows, on the working image. Queries are in the order of
        `words.embeddings`: the prompts of each class, then the background words.

        Raises:
            ShapeError: the word embeddings are not of the backbone's joint space.
            SettingError: the image was encoded without what a setting needs.
        """
        embeddings = _embeddings(dense, words)
        if self._encoder.feeds_back:
            dense = self._fed_back(dense, words, embeddings)
        return self._logits(dense, embeddings)

    @memory.explained()
    @torch.no_grad()
    def presence(
        self, dense: EncodedImage, words: Vocabulary, scores: Tensor | None = None
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
        owner = _asked(words, dense.features.device).queries.owner
        classes = len(words.classes)
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

    @memory.explained()
    def label(
        self,
        dense: EncodedImage,
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
            ShapeError: the word embeddings are not of the backbone's joint space, or `present` is
                no such tensor.
            SettingError: the image was encoded without what a setting needs.
        """
        if scores is None:
            scores = self.scores(dense, words)
        if present is not None:
            _check_present(present, words)
        elif self.settings.present_only != 'off':
            present = self.presence(dense, words, scores) >= self.present_threshold
        if present is not None:
            present = present.to(scores.device)
        asked = _asked(words, scores.device)
        labels, confidence = fetch(*self._label(dense, asked, scores, present))
        return Segmentation(labels.astype(words.label_dtype, copy=False), confidence)

    def __call__(self, image: np.ndarray, words: Vocabulary, **changes: Any) -> Segmentation:
        """`label(encode(image), words)`: image [H, W, 3] uint8 RGB -> labels [H, W].

        Args:
            changes: settings for this call alone, such as method='gclip'; see `replace`.

        Raises:
            ShapeError: as `encode` and `scores`.
            SettingError: as `replace`, or a setting of what the words were made with.
        """
        of_words = [name for name in changes if name in OF_WORDS]
        if of_words:
            raise SettingError(
                f'{of_words[0]}: belongs to the words; make them with '
                f'replace({of_words[0]}=...).vocabulary(...)'
            )
        run = self.replace(**changes) if changes else self
        return run.label(run.encode(image), words)

    @torch.no_grad()
    def _fed_back(self, dense: EncodedImage, words: Vocabulary, embeddings: Tensor) -> EncodedImage:
        """The last block run once more with the labels of a first pass (ResCLIP's SFR)."""
        if dense.feedback is None:
            raise SettingError(
                'resclip_feedback: the image was encoded without it; encode it with this segmenter'
            )
        trace, images = dense.feedback
        features = dense.features.view(len(images), *trace.grid, -1)
        # Background comes first there, and the classes 1 .. K after it.
        owner = (_asked(words, images.device).queries.owner + 1) % (len(words.classes) + 1)
        labels = resclip.first_labels(
            voting.cosines(features, embeddings).movedim(-1, 1),
            images,
            owner,
            self._encoder.tower.patch,
            self.settings.resclip_feedback_threshold,
        )
        features, cls = self._encoder.again(dense.feedback, resclip.semantic_map(labels))
        return replace(
            dense, features=features.view(dense.features.shape), cls=cls.view(dense.cls.shape)
        )

    @torch.no_grad()
    def _label(
        self,
        dense: EncodedImage,
        asked: _Asked,
        logits: Tensor,
        present: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Ids [H, W] and confidence [H, W], all of it on the device; present [K] bool, or None for
        all."""
        queries, ids = asked.queries, asked.ids
        # Nothing but differences counts, and large numbers would cost digits.
        logits = logits - logits.amax(0)
        if present is not None:
            logits = presence.only(present, logits, queries.owner)
            ids = torch.where(F.pad(present, (0, 1), value=True), ids, UNLABELED)
        settings, regions = self.settings, dense.regions
        # Where there are regions, their edges are the labels' edges, and are refined already.
        enlarge = self._enlarging(dense) if regions is None else bands
        labels, confidence = self._ruled(dense, logits, queries, enlarge)
        if settings.area_threshold:
            large = voting.covering(labels, queries.classes, settings.area_threshold)
            ids = torch.where(F.pad(large, (0, 1), value=True), ids, UNLABELED)
            rest = presence.only(large, logits, queries.owner)
            labels, _ = self._ruled(dense, rest, queries, enlarge)
            confidence = voting.confidence(enlarge(logits, dense.size), queries.owner, labels)
            logits = rest
        found = ids.index_select(0, labels.flatten()).view(dense.size)
        if settings.confidence_threshold:
            found = found.masked_fill(confidence < settings.confidence_threshold, UNLABELED)
        if settings.margin_threshold:
            if regions is None:
                margins = voting.margins(enlarge(logits, dense.size), queries.owner, labels)
            else:
                margins = voting.region_margins(logits, regions, queries.owner, labels)
            least = settings.margin_threshold * self._scale
            found = found.masked_fill(margins < least, UNLABELED)
        return found, confidence.masked_fill(found == UNLABELED, 0)

    def _ruled(
        self, dense: EncodedImage, logits: Tensor, queries: voting.Queries, enlarge: Enlarge
    ) -> tuple[Tensor, Tensor]:
        """Class [H, W] of each pixel and its confidence [H, W], by the setting `regions`."""
        if dense.regions is None:
            return voting.label_pixels(logits, dense.size, queries, enlarge)
        rule = voting.label_regions if self.settings.regions == 'mean' else voting.label_votes
        return rule(logits, dense.regions, queries)

    def _enlarging(self, dense: EncodedImage) -> Enlarge:
        patch = self._encoder.tower.patch
        return refine.enlarging(self.settings, patch, dense.size, dense.working_size, dense.image)

    def _logits(self, dense: EncodedImage, embeddings: Tensor) -> Tensor:
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
    if not isinstance(settings, Settings):
        raise SettingError(f'load: expected Settings(model=..., weights=...), got {settings!r}')
    return Segmenter(Backbone.load(settings), settings)


def _check_present(present: Tensor, words: Vocabulary) -> None:
    count = len(words.classes)
    if not isinstance(present, Tensor) or present.dtype != torch.bool or present.shape != (count,):
        got = getattr(present, 'dtype', type(present).__name__), list(getattr(present, 'shape', ()))
        raise ShapeError(f'present: expected a bool tensor [{count}], got {got[0]} {got[1]}')


class _Asked(NamedTuple):
    """A vocabulary on a device.

    Attributes:
        embeddings: [Q, E] float32, unit rows.
        queries: which class each of them is for.
        ids: [K + 1] uint8, or int32 above 254 (torch 2.2 has no uint16): of each class and of
            background.
    """

    embeddings: Tensor
    queries: voting.Queries
    ids: Tensor


@lru_cache(maxsize=8)
def _asked(words: Vocabulary, device: torch.device) -> _Asked:
    """Made once, as every frame needs it."""
    small = words.label_dtype == np.uint8
    return _Asked(
        words.embeddings.to(device),
        voting.Queries.of(words.owner.tolist(), len(words.classes), device),
        words.label_ids.to(device, torch.uint8 if small else torch.int32),
    )


def _embeddings(dense: EncodedImage, words: Vocabulary) -> Tensor:
    """The word embeddings [Q, E] on the device of an image's features."""
    embeddings = _asked(words, dense.features.device).embeddings
    if embeddings.shape[1] != dense.features.shape[-1]:
        raise ShapeError(
            f'word embeddings have {embeddings.shape[1]} channels, the image features '
            f'{dense.features.shape[-1]}; they must come from the same model'
        )
    return embeddings
