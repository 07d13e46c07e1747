"""Which words are in the picture, steadied over the frames of a camera."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

# A present word stays present down to this share of the threshold.
STAYS_AT = 0.5


class Roster:
    """Decides which classes [K] are in the picture of one camera, over frames; not thread-safe."""

    def __init__(self) -> None:
        # Which classes are present, and for how many frames the score of each has been low.
        self._state: tuple[Tensor, Tensor] | None = None
        self._subject: Hashable = None

    def __call__(
        self, scores: Tensor | None, threshold: float, patience: int, subject: Hashable
    ) -> Tensor | None:
        """Return [K] bool: true for the classes that are in the picture.

        A class enters at the threshold. It leaves if its score has been below half of the threshold
        for `patience` frames in a row. With `patience` 0, each frame is judged alone.

        Args:
            scores: [K] in 0..1. None, if presence is not judged, gives None.
            subject: identifies what the scores are for, such as a version of the words. If it
                differs from the last call, the memory is reset.
        """
        if scores is None:
            return None
        import torch

        if self._state is None or subject != self._subject:
            present = torch.zeros_like(scores, dtype=torch.bool)
            missed = torch.zeros_like(scores, dtype=torch.long)
            self._subject = subject
        else:
            present, missed = self._state
        low = scores < STAYS_AT * threshold
        missed = torch.where(low, missed + 1, 0)
        present = (scores >= threshold) | (present & (missed < patience))
        self._state = present, missed
        return present

    def forget(self) -> None:
        """Reset: start again with the next scores."""
        self._state = None
