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

    def __init__(self):
        self._present: Tensor | None = None
        self._missed: Tensor | None = None
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

        if self._present is None or subject != self._subject:
            self._present = torch.zeros_like(scores, dtype=torch.bool)
            self._missed = torch.zeros_like(scores, dtype=torch.long)
            self._subject = subject
        low = scores < STAYS_AT * threshold
        self._missed = torch.where(low, self._missed + 1, 0)
        self._present = (scores >= threshold) | (self._present & (self._missed < patience))
        return self._present

    def forget(self) -> None:
        """Begin anew with the next scores."""
        self._present = None
