"""Scores of the frames of a camera, smoothed over time."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


class Smoother:
    """Exponential mean of the scores [Q, h, w] of the frames of one camera; not thread-safe."""

    def __init__(self) -> None:
        self._mean: Tensor | None = None
        self._subject: Hashable = None

    def __call__(self, scores: Tensor, weight: float, subject: Hashable) -> Tensor:
        """Return the new mean: `weight` (0 .. 1) times the old mean plus the rest times `scores`.

        Args:
            subject: identifies what the scores are for, such as a version of the words. If it or
                the shape differs from the last call, the mean is reset.
        """
        mean = self._mean if subject == self._subject else None
        if weight and mean is not None and mean.shape == scores.shape:
            scores = mean.lerp(scores, 1 - weight)
        self._mean, self._subject = (scores if weight else None), subject
        return scores

    def forget(self) -> None:
        """Reset: start again with the next scores."""
        self._mean = None
