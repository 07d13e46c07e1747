import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, jaccard_score

from cliptrase_ros.errors import ShapeError
from cliptrase_ros.metrics import Confusion


def test_a_case_counted_by_hand():
    confusion = Confusion(3)
    confusion.add(np.array([[1, 1, 1], [2, 2, 0]]), np.array([[1, 1, 2], [2, 0, 1]], np.uint8))
    assert confusion.matrix.tolist() == [[0, 1, 0, 0], [0, 2, 1, 0], [1, 0, 1, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(confusion.iou, [2 / 3, 1 / 3, np.nan])
    assert confusion.miou == pytest.approx(0.5) and confusion.accuracy == pytest.approx(3 / 5)


def test_it_is_scikit_learns_over_several_pictures():
    rng = np.random.default_rng(0)
    truths, labels = rng.integers(1, 6, (3, 20, 30)), rng.integers(0, 6, (3, 20, 30))
    confusion = Confusion(5)
    for truth, given in zip(truths, labels, strict=True):
        confusion.add(truth.astype(np.uint8), given.astype(np.uint8))
    flat = truths.ravel(), labels.ravel()
    assert (confusion.matrix == confusion_matrix(*flat, labels=range(6))).all()
    assert confusion.accuracy == pytest.approx(accuracy_score(*flat))
    expected = jaccard_score(*flat, labels=range(1, 6), average=None)
    np.testing.assert_allclose(confusion.iou, expected)


def test_nothing_counted():
    confusion = Confusion(2)
    confusion.add(np.zeros((2, 2), int), np.ones((2, 2), int))
    assert np.isnan(confusion.miou) and np.isnan(confusion.accuracy)


@pytest.mark.parametrize(
    'truth, labels, reason',
    [
        (np.ones((2, 3), int), np.ones((3, 2), int), r'truth is \[2, 3\] px, labels \[3, 2\]'),
        (np.full((2, 2), 3), np.ones((2, 2), int), r'ids \d \.\. 3 of 2 classes'),
        (np.ones((2, 2), int), np.full((2, 2), -1), 'ids -1'),
        (np.ones((2, 2), int), np.full((2, 2), 3), r'ids \d \.\. 3 of 2 classes'),
    ],
)
def test_what_does_not_fit_is_refused(truth, labels, reason):
    with pytest.raises(ShapeError, match=reason):
        Confusion(2).add(truth, labels)
