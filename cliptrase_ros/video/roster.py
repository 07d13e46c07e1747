"""Which words are in the picture, steadied over a camera's frames."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

# A word that is in stays down to this share of the threshold.
STAYS_AT = 0.5


class Roster:
    """Which classes [K] of one camera are in the picture, steadied over frames; not for several
    threads."""

    def __init__(self) -> None:
        # Which classes are in, and for how many frames each has been low.
        self._state: tuple[Tensor, Tensor] | None = None
        self._subject: Hashable = None

    def __call__(
        self, scores: Tensor, threshold: float, patience: int, subject: Hashable
    ) -> Tensor:
        """[K] bool: a class enters at the threshold, and leaves when its score has been below half
        of it for `patience` frames in a row; 0: each frame on its own.

        Args:
            scores: [K] in 0..1.
            subject: what the scores are of, such as a version of the words; where it is another
                one than before, the memory begins anew.
        """
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
        """Begin anew with the next scores."""
        self._state = None
