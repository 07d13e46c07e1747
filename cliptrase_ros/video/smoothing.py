"""Scores of a camera's frames, smoothed over time."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


class Smoother:
    """Exponential mean of the scores [Q, h, w] of one camera's frames; not for several threads."""

    def __init__(self) -> None:
        self._mean: Tensor | None = None
        self._subject: Hashable = None

    def __call__(self, scores: Tensor, weight: float, subject: Hashable) -> Tensor:
        """The mean, in which the scores before count `weight`, 0 .. 1, and these the rest.

        Args:
            subject: what the scores are of, such as a version of the words; where it or the shape
                is another one than before, the mean begins anew.
        """
        mean = self._mean if subject == self._subject else None
        if weight and mean is not None and mean.shape == scores.shape:
            scores = mean.lerp(scores, 1 - weight)
        self._mean, self._subject = (scores if weight else None), subject
        return scores

    def forget(self) -> None:
        """Begin anew with the next scores."""
        self._mean = None
