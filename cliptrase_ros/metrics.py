"""How good labels are: a confusion matrix that grows picture by picture, and what it says."""

from __future__ import annotations

import numpy as np

from .errors import ShapeError


class Confusion:
    """Counts pixels by their true and their given class.

    Classes are 1 .. `count`. Pixels whose truth is 0 do not count; a label of 0 is a wrong one.

    Attributes:
        matrix: [count + 1, count + 1] int64, rows truth, columns labels.
    """

    def __init__(self, count: int):
        self.matrix = np.zeros((count + 1, count + 1), np.int64)

    def add(self, truth: np.ndarray, labels: np.ndarray) -> None:
        """Count one picture.

        Args:
            truth, labels: [H, W] integers in 0 .. count.

        Raises:
            ShapeError: the sizes differ, or an id is out of range.
        """
        if truth.shape != labels.shape:
            raise ShapeError(f'truth is {list(truth.shape)} px, labels {list(labels.shape)}')
        side = len(self.matrix)
        truth, labels = truth.astype(np.int64), labels.astype(np.int64)
        for ids in (truth, labels):
            if ids.size and not (ids.min() >= 0 and ids.max() < side):
                raise ShapeError(f'ids {ids.min()} .. {ids.max()} of {side - 1} classes')
        pairs = truth.ravel() * side + labels.ravel()
        self.matrix += np.bincount(pairs, minlength=side * side).reshape(side, side)

    @property
    def iou(self) -> np.ndarray:
        """[count] float64: intersection over union of each class over all pixels counted; NaN
        where the class is neither true nor given anywhere."""
        known = self.matrix[1:]
        right = np.diag(self.matrix)[1:].astype(float)
        union = known.sum(1) + known.sum(0)[1:] - right
        return np.divide(right, union, out=np.full(len(right), np.nan), where=union > 0)

    @property
    def miou(self) -> float:
        """Mean of `iou` over the classes that occur; NaN where none does."""
        iou = self.iou
        return float(np.nanmean(iou)) if np.isfinite(iou).any() else float('nan')

    @property
    def accuracy(self) -> float:
        """Share of the counted pixels with the right label; NaN where none is counted."""
        known = self.matrix[1:]
        return float(np.trace(known[:, 1:]) / known.sum()) if known.sum() else float('nan')
