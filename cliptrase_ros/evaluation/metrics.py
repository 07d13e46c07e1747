"""Quality of labels: a confusion matrix that grows picture by picture, and its scores."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from ..errors import ShapeError

# The value that most sets store for unlabelled pixels.
IGNORED = 255


class Confusion:
    """Counts of pixels by true class and by label.

    Class ids are 1 .. `count`. A label of 0 on a pixel of such a class is wrong.

    Args:
        count: number of classes.
        background: True if 0 is a class too. Otherwise pixels whose truth is 0 do not count.
        ignored: a further truth value whose pixels do not count; None: there is none.

    Attributes:
        matrix: [count + 1, count + 1] int64, rows truth, columns labels.
    """

    def __init__(self, count: int, background: bool = False, ignored: int | None = None):
        if ignored is not None and 0 <= ignored <= count:
            raise ShapeError(f'{ignored} cannot be ignored: it is the id of one of {count} classes')
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
            raise ShapeError(f'truth has size {list(truth.shape)}, but labels {list(labels.shape)}')
        side = len(self.matrix)
        truth, labels = truth.astype(np.int64), labels.astype(np.int64)
        if self.ignored is not None:
            counted = truth != self.ignored
            truth, labels = truth[counted], labels[counted]
        for ids in (truth, labels):
            if ids.size and not (ids.min() >= 0 and ids.max() < side):
                raise ShapeError(f'ids are {ids.min()} .. {ids.max()}, expected 0 .. {side - 1}')
        pairs = truth.ravel() * side + labels.ravel()
        self.matrix += np.bincount(pairs, minlength=side * side).reshape(side, side)

    @property
    def pairs(self) -> list[list[int]]:
        """[truth, label, pixels] for each entry of the matrix that is not 0."""
        rows, columns = self.matrix.nonzero()
        return np.stack([rows, columns, self.matrix[rows, columns]], 1).tolist()

    def add_pairs(self, pairs: Iterable[Iterable[int]]) -> None:
        """Add the `pairs` of another matrix.

        Raises:
            ShapeError: an id is out of range, or a number of pixels is negative.
        """
        entries = np.array(list(pairs), np.int64).reshape(-1, 3)
        side = len(self.matrix)
        if len(entries) and not (entries.min() >= 0 and entries[:, :2].max() < side):
            raise ShapeError(
                f'pairs are out of range: expected ids 0 .. {side - 1} and 0 or more pixels'
            )
        np.add.at(self.matrix, (entries[:, 0], entries[:, 1]), entries[:, 2])

    @property
    def _first(self) -> int:
        return 0 if self.background else 1

    @property
    def _right(self) -> np.ndarray:
        return np.diag(self.matrix)[self._first :].astype(float)

    @property
    def true(self) -> np.ndarray:
        """[count] number of pixels of each true class (background first if it is a class)."""
        return self.matrix[self._first :].sum(1)

    @property
    def union(self) -> np.ndarray:
        """As `true`: number of pixels that have the class as truth, as label, or as both."""
        given = self.matrix[self._first :].sum(0)[self._first :]
        return self.true + given - self._right.astype(np.int64)

    @property
    def iou(self) -> np.ndarray:
        """[count] float64 intersection over union of each class, over all counted pixels.

        Background comes first if it is a class. NaN if a class occurs neither in the truth nor in
        the labels.
        """
        return _shares(self._right, self.union)

    @property
    def miou(self) -> float:
        """Mean of `iou` over the classes that occur; NaN if none occurs."""
        return _mean(self.iou)

    @property
    def accuracy(self) -> float:
        """Share of the counted pixels with the right label; NaN if no pixel is counted."""
        total = self.true.sum()
        return float(self._right.sum() / total) if total else float('nan')

    @property
    def class_accuracy(self) -> np.ndarray:
        """As `iou`: share of the pixels of each class with the right label.

        NaN if the class does not occur in the truth.
        """
        return _shares(self._right, self.true)

    def scores(self) -> Scores:
        """Return what mmsegmentation reports: means over the classes that occur."""
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
        """Return what CLIPtrase's official code reports.

        It adds 0.01 pixels to every denominator except that of the accuracy. The mean IoU is over
        the classes in the truth. The mean class accuracy is over all classes; a class that is not
        in the truth counts as 0.
        """
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
    """Scores in 0..1; NaN if a score is undefined.

    Attributes:
        miou: mean intersection over union.
        accuracy: share of pixels with the right label.
        class_accuracy: mean of the accuracies of the classes.
        fwiou: mean IoU, weighted by the number of pixels of each class.
        iou_of, accuracy_of: [K] for each class, background first if it is a class.
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
