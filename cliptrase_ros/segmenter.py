"""The whole pipeline: image -> dense features and regions -> labels, in the steps of the papers."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .encoder import EncodedImage, check_fits, encoder_for
from .errors import SettingError
from .labels import refine, voting
from .labels.queries import DeviceWords, check_present, embeddings_beside, on_device
from .labels.resample import Enlarge, bands
from .labels.rules import Labelling, Surface
from .methods import presence
from .model import windows
from .model.backbone import Backbone
from .runtime import memory
from .runtime.host import fetch
from .settings import MODEL, WORDS, Settings, scope_names
from .words.embeddings import WordEncoder
from .words.vocabulary import Ids, Vocabulary, WordClass


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Labels of one image.

    Attributes:
        labels: [H, W] uint8 (uint16 if an id is above 254): class ids, 0 unlabelled.
        confidence: [H, W] float32 in 0..1, the probability of the label; 0 if unlabelled.
    """

    labels: np.ndarray
    confidence: np.ndarray

    @property
    def confidence_bytes(self) -> np.ndarray:
        """The confidence as [H, W] uint8, round(255 p)."""
        return np.rint(self.confidence * 255).astype(np.uint8)


class Segmenter:
    """Labels images with words; immutable, so any thread may call it.

    If memory does not suffice for all images, windows or sentences of a pass, they are processed in
    smaller batches. If it does not suffice for one, or for labelling, every method raises
    OutOfMemory. The segmenter can still be used after that.

    Args:
        backbone: the model; may be shared.
        settings: the defaults if None. `model`, `weights` and `device` have no effect here,
            because the backbone is already loaded (see `load`).
    """

    def __init__(self, backbone: Backbone, settings: Settings | None = None):
        self.backbone = backbone
        self.settings = settings = settings or Settings()
        self.encoder = encoder_for(backbone, settings)
        scale = settings.logit_scale
        self._scale = backbone.logit_scale if scale == 'auto' else scale
        self.word_encoder = WordEncoder(backbone.text, settings)

    def replace(self, **changes: Any) -> Segmenter:
        """Return a segmenter on the same backbone with some settings changed.

        This is cheap, except that another precision copies the tower once.

        Raises:
            SettingError: unknown setting, bad value, or a setting that the backbone was loaded
                with.
        """
        for name in scope_names(MODEL):
            if name in changes:
                raise SettingError(f'{name}: belongs to the backbone. Load another one')
        return Segmenter(self.backbone, self.settings.replace(**changes))

    def check(self, settings: Settings) -> None:
        """Raise unless these settings fit the backbone; cheap, nothing is made.

        Raises:
            UnsupportedBackbone: the method cannot run on this tower.
            SettingError: a setting does not fit the tower.
        """
        check_fits(self.backbone, settings)

    def vocabulary(
        self,
        entries: Sequence[str],
        background: Sequence[str] = (),
        ids: Ids | None = None,
    ) -> Vocabulary:
        """Parse, check and encode words (or read them from the cache on disk).

        The distractors of the settings are included. Args and grammar: see `parse_vocabulary`.

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
        """Do the first half of `vocabulary`: return (classes, background words), not yet encoded.

        Raises:
            VocabularyError: as `vocabulary`.
        """
        return self.word_encoder.check(entries, background, ids)

    @memory.explained()
    def encode_words(
        self,
        classes: tuple[WordClass, ...],
        background: tuple[str, ...],
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Vocabulary:
        """Do the second half of `vocabulary`. On a CPU a new word can take most of a second.

        Args:
            cancelled: called before each word; true stops the work.

        Raises:
            Cancelled: `cancelled` returned true.
        """
        return self.word_encoder.encode(classes, background, cancelled)

    def view(self, image: np.ndarray) -> np.ndarray:
        """Return the picture that the labels of an image belong to, [H, W, 3] uint8, at their size.

        It is the image, or its resized crop in the cliptrase protocol. Errors: as `encode`.
        """
        return self.encoder.preprocessor.view(image)

    def view_geometry(self, size: tuple[int, int]) -> tuple[tuple[int, int], np.ndarray]:
        """Return where the pixels of an image of `size` (H, W) are on its labels.

        Returns:
            The size (H, W) of the labels, and a matrix [2, 3]: pixel centres (x, y, 1) of the
            image -> (x, y) of the labels. Integers are the centres of pixels.
        """
        return self.encoder.preprocessor.view_geometry(size)

    def patch_size(self, size: tuple[int, int]) -> float:
        """Return the side of a patch of the model in pixels of the labels.

        Args:
            size: (H, W) of the image.
        """
        return self.encoder.preprocessor.patch_size(size)

    def encode(self, image: np.ndarray) -> EncodedImage:
        """Return the dense features and regions of an image. No words are needed.

        Args:
            image: [H, W, 3] uint8 RGB.

        Raises:
            ShapeError: another shape or dtype, or one side is more than 8 times the other.
        """
        return self.encode_batch([image])[0]

    @memory.explained()
    def encode_batch(self, images: Sequence[np.ndarray]) -> list[EncodedImage]:
        """Encode several images. Those that the tower sees at one size share a pass.

        Raises:
            ShapeError: as `encode`; nothing is encoded then.
        """
        return self.encoder(images)

    def warm_up(self, size: tuple[int, int] = (480, 640)) -> None:
        """Do the slow work for a size (H, W) before its first images come. Errors: as `encode`."""
        # On CUDA the second image is captured and the third one replayed.
        for _ in range(3 if self.backbone.device.type == 'cuda' else 1):
            self.encode(np.zeros((*size, 3), np.uint8))

    @property
    def kind_of_scores(self) -> Hashable:
        """Scores of several images can be averaged only if this is equal."""
        return self.encoder.settings, self._scale, self.settings.cls_weighting

    @memory.explained()
    def scores(self, encoded: EncodedImage, words: Vocabulary) -> Tensor:
        """Return the scores [Q, h, w] float32 of each query of a vocabulary: scaled cosines.

        They are on the patch grid or, with sliding windows, on the working image. Queries are in
        the order of `words.embeddings`: the prompts of each class, then the background words.

        Raises:
            ShapeError: the word embeddings are not in the backbone's joint space.
            SettingError: the image was encoded without the data that a setting needs.
        """
        embeddings = embeddings_beside(words, encoded.features)
        if self.encoder.feeds_back:
            encoded = self.encoder.fed_back(encoded, on_device(words, encoded.features.device))
        return self._logits(encoded, embeddings)

    @memory.explained()
    @torch.no_grad()
    def presence(
        self, encoded: EncodedImage, words: Vocabulary, scores: Tensor | None = None
    ) -> Tensor | None:
        """Return the score [K] in 0..1 of each class being in the picture, by `present.method`.

        A class is present from the score `self.present_threshold` on. If `present.method` is none,
        return None.

        Args:
            scores: as in `label`.

        Raises:
            ShapeError: the word embeddings are not in the backbone's joint space.
            SettingError: the image was encoded without the data that this setting needs.
        """
        if self.settings.present.method == 'none':
            return None
        owner = on_device(words, encoded.features.device).queries.owner
        classes = len(words.classes)
        if self.settings.present.method == 'denoise':
            scores = self.scores(encoded, words) if scores is None else scores
            return presence.denoise(scores, owner, classes)
        if encoded.evidence is None:
            raise SettingError(
                'present.method: the image was encoded without tagclip. Encode it with this setting'
            )
        embeddings = embeddings_beside(words, encoded.features)
        cosines = voting.cosines(encoded.evidence.values, embeddings)
        logits = cosines.movedim(-1, 0) * self.backbone.logit_scale
        probability = presence.probabilities(logits, owner, classes)
        return presence.tagclip(probability, encoded.evidence.attention)

    @property
    def present_threshold(self) -> float:
        """The score of `presence` from which on a class counts as present."""
        chosen = self.settings.present
        published = presence.THRESHOLDS.get(chosen.method, 0.0)
        return published if chosen.threshold == 'auto' else chosen.threshold

    @memory.explained()
    def label(
        self,
        encoded: EncodedImage,
        words: Vocabulary,
        scores: Tensor | None = None,
        present: Tensor | None = None,
    ) -> Segmentation:
        """Return the labels of an encoded image for a vocabulary.

        Args:
            scores: replace `scores(encoded, words)`, for example by a mean over several frames.
            present: [K] bool, the classes that may be labelled. They replace those that `presence`
                finds in this image, for example by those of several frames.

        Raises:
            ShapeError: the word embeddings are not in the backbone's joint space, or `present` is
                not [K] bool.
            SettingError: the image was encoded without the data that a setting needs.
        """
        scores = self.scores(encoded, words) if scores is None else scores
        if present is not None:
            check_present(present, words)
        elif (found := self.presence(encoded, words, scores)) is not None:
            present = found >= self.present_threshold
        if present is not None:
            present = present.to(scores.device)
        labelling = self._labelling(encoded, on_device(words, scores.device))
        labels, confidence = fetch(*labelling(scores, present))
        return Segmentation(labels.astype(words.label_dtype, copy=False), confidence)

    def __call__(self, image: np.ndarray, words: Vocabulary, **changes: Any) -> Segmentation:
        """Return `label(encode(image), words)`: image [H, W, 3] uint8 RGB -> labels [H, W].

        Args:
            changes: settings for this call only, such as method='gclip'; see `replace`.

        Raises:
            ShapeError: as `encode` and `scores`.
            SettingError: as `replace`, or a setting that the words were encoded with.
        """
        for name in scope_names(WORDS):
            if name in changes:
                raise SettingError(
                    f'{name}: belongs to the words. Make them with replace({name}=...)'
                    '.vocabulary(...)'
                )
        run = self.replace(**changes) if changes else self
        return run.label(run.encode(image), words)

    def _labelling(self, encoded: EncodedImage, words: DeviceWords) -> Labelling:
        """Return the rules for an image.

        If there are regions, their edges are the edges of the labels, and are already refined.
        """
        enlarge: Enlarge = bands
        if encoded.regions is None:
            patch, picture, size = self.encoder.tower.patch, encoded.image, encoded.size
            enlarge = refine.enlarging(self.settings, patch, size, encoded.working_size, picture)
        surface = Surface(encoded.size, encoded.regions, enlarge)
        return Labelling(self.settings, self._scale, surface, words)

    def _logits(self, encoded: EncodedImage, embeddings: Tensor) -> Tensor:
        """Return the scaled cosines [Q, h, w] of patches with words. Windows are merged."""
        scores = voting.cosines(encoded.features, embeddings)
        if self.settings.cls_weighting:
            cls = voting.cosines(encoded.cls, embeddings)
            scores = scores * cls[..., None, None, :]
        scores = scores.movedim(-1, -3) * self._scale
        if encoded.offsets is None or encoded.window_px is None:
            return scores
        return windows.merge(scores, encoded.offsets, encoded.window_px, encoded.working_size)


def load(settings: Settings | None = None) -> Segmenter:
    """Return a segmenter with the model that the settings name. Errors: see `Backbone.load`."""
    settings = settings or Settings()
    if not isinstance(settings, Settings):
        raise SettingError(f'load: expected Settings(model=..., weights=...), got {settings!r}')
    return Segmenter(Backbone.load(settings), settings)
