"""How good labels are: a confusion matrix that grows picture by picture, and what it says."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from ..errors import ShapeError

# The truth of pixels that nobody labelled, as most sets store it.
IGNORED = 255


class Confusion:
    """Counts pixels by their true and their given class.

    Classes are 1 .. `count`. A label of 0 on one of them is a wrong one.

    Args:
        count: how many classes there are.
        background: whether 0 is a class as well; else pixels whose truth is 0 do not count.
        ignored: the truth of pixels that do not count, besides; None if there is none such.

    Attributes:
        matrix: [count + 1, count + 1] int64, rows truth, columns labels.
    """

    def __init__(self, count: int, background: bool = False, ignored: int | None = None):
        if ignored is not None and 0 <= ignored <= count:
            raise ShapeError(f'{ignored} cannot be ignored, it is the id of one of {count} classes')
        self.matrix = np.zeros((count + 1, count + 1), np.int64)
        self.background = background
        self.ignored = ignored

    def add(self, truth: np.ndarray, labels: np.ndarray) -> None:
        """Count one picture.

        Args:
            truth, labels: [H, W] integers in 0 .. count; the truth may be `ignored`.

        Raises:
            ShapeError: the sizes differ, or an id is out of range.
        """
        if truth.shape != labels.shape:
            raise ShapeError(f'truth is {list(truth.shape)} px, labels {list(labels.shape)}')
        side = len(self.matrix)
        truth, labels = truth.astype(np.int64), labels.astype(np.int64)
        if self.ignored is not None:
            counted = truth != self.ignored
            truth, labels = truth[counted], labels[counted]
        for ids in (truth, labels):
            if ids.size and not (ids.min() >= 0 and ids.max() < side):
                raise ShapeError(f'ids {ids.min()} .. {ids.max()} of {side - 1} classes')
        pairs = truth.ravel() * side + labels.ravel()
        self.matrix += np.bincount(pairs, minlength=side * side).reshape(side, side)

    @property
    def pairs(self) -> list[list[int]]:
        """[truth, label, pixels] of each entry that is not 0."""
        rows, columns = self.matrix.nonzero()
        return np.stack([rows, columns, self.matrix[rows, columns]], 1).tolist()

    def add_pairs(self, pairs: Iterable[Iterable[int]]) -> None:
        """Count what `pairs` of another one says.

        Raises:
            ShapeError: an id is out of range, or pixels are fewer than none.
        """
        entries = np.array(list(pairs), np.int64).reshape(-1, 3)
        side = len(self.matrix)
        if len(entries) and not (entries.min() >= 0 and entries[:, :2].max() < side):
            raise ShapeError(f'pairs with ids or numbers out of range, of {side - 1} classes')
        np.add.at(self.matrix, (entries[:, 0], entries[:, 1]), entries[:, 2])

    @property
    def _first(self) -> int:
        return 0 if self.background else 1

    @property
    def _right(self) -> np.ndarray:
        return np.diag(self.matrix)[self._first :].astype(float)

    @property
    def true(self) -> np.ndarray:
        """[count] (background first where it is a class): how many pixels each class has."""
        return self.matrix[self._first :].sum(1)

    @property
    def union(self) -> np.ndarray:
        """As `true`: pixels of each class and those that were given it."""
        given = self.matrix[self._first :].sum(0)[self._first :]
        return self.true + given - self._right.astype(np.int64)

    @property
    def iou(self) -> np.ndarray:
        """[count] float64 (background first where it is a class): intersection over union of each
        class over all pixels counted; NaN where the class is neither true nor given anywhere."""
        return _shares(self._right, self.union)

    @property
    def miou(self) -> float:
        """Mean of `iou` over the classes that occur; NaN where none does."""
        return _mean(self.iou)

    @property
    def accuracy(self) -> float:
        """Share of the counted pixels with the right label; NaN where none is counted."""
        total = self.true.sum()
        return float(self._right.sum() / total) if total else float('nan')

    @property
    def class_accuracy(self) -> np.ndarray:
        """As `iou`: share of the pixels of each class with the right label; NaN where the class
        is true nowhere."""
        return _shares(self._right, self.true)

    def scores(self) -> Scores:
        """What mmsegmentation reports: means over the classes that occur."""
        frequency = self.true / self.true.sum() if self.true.any() else np.nan
        weighted = np.where(self.true > 0, frequency * np.nan_to_num(self.iou), 0)
        return Scores(
            self.miou,
            self.accuracy,
            _mean(self.class_accuracy),
            float(weighted.sum()) if self.true.any() else float('nan'),
            self.iou,
            self.class_accuracy,
        )

    def cliptrase_scores(self) -> Scores:
        """What CLIPtrase's official code reports: 0.01 pixels are added to every denominator but
        that of the accuracy; the mean IoU is over the classes that are true somewhere, the mean
        accuracy over all classes, those that are true nowhere counting as 0."""
        iou = self._right / (self.union + 0.01)
        accuracy = self._right / (self.true + 0.01)
        there = self.true > 0
        total = self.true.sum()
        frequency = self.true[there] / total if total else np.array([np.nan])
        return Scores(
            _mean(iou[there]),
            self.accuracy,
            float(accuracy.mean()) if total else float('nan'),
            float((frequency * iou[there]).sum()) if total else float('nan'),
            np.where(there, iou, np.nan),
            np.where(there, accuracy, np.nan),
        )


class Scores(NamedTuple):
    """Numbers in 0..1; NaN where there is none.

    Attributes:
        miou: mean intersection over union.
        accuracy: share of pixels with the right label.
        class_accuracy: mean of that over classes.
        fwiou: IoU, weighted by how many pixels a class has.
        iou_of, accuracy_of: [K] of each class, background first where it is one.
    """

    miou: float
    accuracy: float
    class_accuracy: float
    fwiou: float
    iou_of: np.ndarray
    accuracy_of: np.ndarray


def _shares(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float('nan')
