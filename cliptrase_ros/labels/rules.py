"""From scores to ids: one pass over a list of rules.

Some rules remove words, so that pixels take their next best word. Others remove the labels of
pixels. Each rule gets the draft of the rule before it.

Shapes: Q queries, K classes; logits [Q, h, w] on the patch grid or on the working image; labels
[H, W].
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..settings import Settings
from ..words.vocabulary import UNLABELED
from . import voting
from .queries import DeviceWords, Queries
from .resample import NOWHERE, Enlarge


class Surface(NamedTuple):
    """The surface that gets labels.

    Attributes:
        size: (H, W) of the labels.
        regions: [H, W] int64, the region of each pixel, or None.
        enlarge: function that enlarges scores to that size.
    """

    size: tuple[int, int]
    regions: Tensor | None
    enlarge: Enlarge


class Draft(NamedTuple):
    """Preliminary labels, which the rules change.

    Attributes:
        logits: [Q, h, w]; `NOWHERE` for removed words.
        ids: [K + 1], the id of each class and of background. Background is unlabelled. Removed
            classes are unlabelled too, because they still win if no other word is left.
        labels: [H, W] int32, the number of a class, or K for background and unlabelled.
        confidence: [H, W] float32.
    """

    logits: Tensor
    ids: Tensor
    labels: Tensor
    confidence: Tensor


Rule = Callable[[Draft], Draft]


class Labelling:
    """Labels one image.

    Args:
        scale: factor of the logits, which are cosines times this.
    """

    def __init__(self, settings: Settings, scale: float, surface: Surface, words: DeviceWords):
        self._settings, self._scale = settings, scale
        self._surface, self._words = surface, words

    @torch.no_grad()
    def __call__(self, logits: Tensor, present: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return ids [H, W] and confidence [H, W] float32 of logits [Q, h, w].

        Args:
            present: [K] bool, the classes that may be labelled; None: all.
        """
        # Only differences of logits matter, and large numbers would lose digits.
        nothing = logits.new_empty(0)
        draft = Draft(logits - logits.amax(0), self._words.ids, nothing, nothing)
        for rule in self._rules(present):
            draft = rule(draft)
        ids = draft.ids.index_select(0, draft.labels.flatten()).view(self._surface.size)
        return ids, draft.confidence.masked_fill(ids == UNLABELED, 0)

    def _rules(self, present: Tensor | None) -> list[Rule]:
        settings = self._settings
        rules: list[Rule] = [] if present is None else [partial(self._only, present)]
        rules.append(self._best_word)
        if settings.area_threshold > 0:
            rules.append(self._only_large_words)
        if settings.margin_threshold > 0:
            rules.append(self._only_leading_pixels)
        if settings.confidence_threshold > 0:
            rules.append(self._only_sure_pixels)
        return rules

    @property
    def _queries(self) -> Queries:
        return self._words.queries

    def _only(self, classes: Tensor, draft: Draft) -> Draft:
        """Remove all classes except these, [K] bool."""
        return draft._replace(
            logits=only(classes, draft.logits, self._queries.owner),
            ids=torch.where(F.pad(classes, (0, 1), value=True), draft.ids, UNLABELED),
        )

    def _best_word(self, draft: Draft) -> Draft:
        """Give each pixel or each region its best word, as the setting `regions` says."""
        size, regions, enlarge = self._surface
        if regions is None:
            found = voting.label_pixels(draft.logits, size, self._queries, enlarge)
        elif self._settings.regions == 'mean':
            found = voting.label_regions(draft.logits, regions, self._queries)
        else:
            found = voting.label_votes(draft.logits, regions, self._queries)
        return draft._replace(labels=found[0], confidence=found[1])

    def _only_large_words(self, draft: Draft) -> Draft:
        """Remove words that cover little. Confidence is still computed among all words."""
        threshold, queries = self._settings.area_threshold, self._queries
        large = voting.covering(draft.labels, queries.classes, threshold)
        left = self._best_word(self._only(large, draft))
        scores = self._surface.enlarge(draft.logits, self._surface.size)
        confidence = voting.confidence(scores, queries.owner, left.labels)
        return left._replace(confidence=confidence)

    def _only_leading_pixels(self, draft: Draft) -> Draft:
        """Remove labels whose lead over the next class is small."""
        size, regions, enlarge = self._surface
        if regions is None:
            scores = enlarge(draft.logits, size)
            margins = voting.margins(scores, self._queries.owner, draft.labels)
        else:
            margins = voting.region_margins(
                draft.logits, regions, self._queries.owner, draft.labels
            )
        return self._without(draft, margins < self._settings.margin_threshold * self._scale)

    def _only_sure_pixels(self, draft: Draft) -> Draft:
        """Remove labels with a low probability."""
        return self._without(draft, draft.confidence < self._settings.confidence_threshold)

    def _without(self, draft: Draft, pixels: Tensor) -> Draft:
        return draft._replace(labels=draft.labels.masked_fill(pixels, self._queries.classes))


def only(present: Tensor, logits: Tensor, owner: Tensor) -> Tensor:
    """Return logits [Q, ...] with `NOWHERE` for the classes that are not `present` [K] bool.

    These classes never win. Background words stay. `owner` [Q]: see `Queries`.
    """
    kept = F.pad(present, (0, 1), value=True)[owner]
    return torch.where(kept.view(-1, *[1] * (logits.dim() - 1)), logits, NOWHERE)
