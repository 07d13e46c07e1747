"""The whole pipeline: image -> dense features and regions -> labels, in the papers' own steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .encoder import EncodedImage, encoder_for
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
from .settings import Settings
from .words.embeddings import WordEncoder
from .words.vocabulary import Ids, Vocabulary, WordClass

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
        self.encoder = encoder_for(backbone, settings)
        self._scale = settings.logit_scale or backbone.logit_scale
        self.word_encoder = WordEncoder(backbone.text, settings)

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

        Args and grammar: see `parse_vocabulary`.

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
        return self.word_encoder.check(entries, background, ids)

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
        return self.word_encoder.encode(classes, background, cancelled)

    def view(self, image: np.ndarray) -> np.ndarray:
        """The picture that the labels of an image are for, at their size: the image, or its
        resized crop in the cliptrase protocol. [H, W, 3] uint8; errors as `encode`."""
        return self.encoder.preprocessor.view(image)

    def view_geometry(self, size: tuple[int, int]) -> tuple[tuple[int, int], np.ndarray]:
        """Where the pixels of an image of `size` (H, W) are on its labels.

        Returns:
            The size (H, W) of the labels, and a matrix [2, 3]: pixel centres (x, y, 1) of the
            image -> (x, y) of the labels, integers being the centres of pixels.
        """
        return self.encoder.preprocessor.view_geometry(size)

    def encode(self, image: np.ndarray) -> EncodedImage:
        """Dense features and regions of an image; no word needed.

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
        return self.encoder(images)

    def warm_up(self, size: tuple[int, int] = (480, 640)) -> None:
        """Do what the first images of a size (H, W) would have to wait for; errors as `encode`."""
        # On CUDA the second one is captured, the third one replayed.
        for _ in range(3 if self.backbone.device.type == 'cuda' else 1):
            self.encode(np.zeros((*size, 3), np.uint8))

    @memory.explained()
    def scores(self, encoded: EncodedImage, words: Vocabulary) -> Tensor:
        """Scores [Q, h, w] float32 of each query of a vocabulary: scaled cosines, on the patch
        grid or, with sliding windows, on the working image. Queries are in the order of
        `words.embeddings`: the prompts of each class, then the background words.

        Raises:
            ShapeError: the word embeddings are not of the backbone's joint space.
            SettingError: the image was encoded without what a setting needs.
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
        owner = on_device(words, encoded.features.device).queries.owner
        classes = len(words.classes)
        if self.settings.present_only == 'denoise':
            scores = self.scores(encoded, words) if scores is None else scores
            return presence.denoise(scores, owner, classes)
        if encoded.evidence is None:
            raise SettingError(
                "present_only: the image was encoded without 'tagclip'; encode it with this setting"
            )
        embeddings = embeddings_beside(words, encoded.features)
        cosines = voting.cosines(encoded.evidence.values, embeddings)
        logits = cosines.movedim(-1, 0) * self.backbone.logit_scale
        probability = presence.probabilities(logits, owner, classes)
        return presence.tagclip(probability, encoded.evidence.attention)

    @property
    def present_threshold(self) -> float:
        """The score of `presence` from which a class is in the picture."""
        published = presence.THRESHOLDS.get(self.settings.present_only, 0.0)
        return self.settings.present_threshold or published

    @memory.explained()
    def label(
        self,
        encoded: EncodedImage,
        words: Vocabulary,
        scores: Tensor | None = None,
        present: Tensor | None = None,
    ) -> Segmentation:
        """Labels of an encoded image for a vocabulary.

        Args:
            scores: instead of `scores(encoded, words)`, such as their mean over several frames.
            present: [K] bool, the classes that may be labelled, instead of those that `presence`
                finds in this image, such as those of several frames.

        Raises:
            ShapeError: the word embeddings are not of the backbone's joint space, or `present` is
                no such tensor.
            SettingError: the image was encoded without what a setting needs.
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

    def _labelling(self, encoded: EncodedImage, words: DeviceWords) -> Labelling:
        """The rules for an image. Where there are regions, their edges are the labels' edges, and
        are refined already."""
        enlarge: Enlarge = bands
        if encoded.regions is None:
            patch, picture, size = self.encoder.tower.patch, encoded.image, encoded.size
            enlarge = refine.enlarging(self.settings, patch, size, encoded.working_size, picture)
        surface = Surface(encoded.size, encoded.regions, enlarge)
        return Labelling(self.settings, self._scale, surface, words)

    def _logits(self, encoded: EncodedImage, embeddings: Tensor) -> Tensor:
        """Scaled cosines [Q, h, w] of patches with words, windows merged."""
        scores = voting.cosines(encoded.features, embeddings)
        if self.settings.cls_weighting:
            cls = voting.cosines(encoded.cls, embeddings)
            scores = scores * cls[..., None, None, :]
        scores = scores.movedim(-1, -3) * self._scale
        if encoded.offsets is None:
            return scores
        return windows.merge(scores, encoded.offsets, self.settings.window_px, encoded.working_size)


def load(settings: Settings | None = None) -> Segmenter:
    """A segmenter with the model that the settings name. Errors: see `Backbone.load`."""
    settings = settings or Settings()
    if not isinstance(settings, Settings):
        raise SettingError(f'load: expected Settings(model=..., weights=...), got {settings!r}')
    return Segmenter(Backbone.load(settings), settings)
