"""Scores and present words of one camera, steadied over its images."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

from .roster import Roster
from .smoothing import Smoother

if TYPE_CHECKING:
    from torch import Tensor

    from ..encoder import EncodedImage
    from ..segmenter import Segmenter
    from ..words.vocabulary import Vocabulary


class Steady:
    """The memory of one camera: smoothed scores, and the words that are in the picture. Not
    thread-safe."""

    def __init__(self) -> None:
        self.smooth, self.roster = Smoother(), Roster()

    def __call__(
        self,
        segmenter: Segmenter,
        encoded: EncodedImage,
        words: Vocabulary,
        smoothing: float,
        subject: Hashable,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the scores and the present classes of an image, as `Segmenter.label` takes them.

        Args:
            smoothing: weight of the earlier images, 0..1.
            subject: see `Smoother` and `Roster`.
        """
        scores = self.smooth(segmenter.scores(encoded, words), smoothing, subject)
        evidence = segmenter.presence(encoded, words, scores)
        threshold, patience = segmenter.present_threshold, segmenter.settings.present.patience
        return scores, self.roster(evidence, threshold, patience, subject)

    def forget(self) -> None:
        """Reset: start again with the next image."""
        self.smooth.forget()
        self.roster.forget()
