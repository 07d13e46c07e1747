import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    jaccard_score,
)

from cliptrase_ros.errors import ShapeError
from cliptrase_ros.evaluation.metrics import Confusion


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
        (
            np.ones((2, 3), int),
            np.ones((3, 2), int),
            r'truth has size \[2, 3\], but labels \[3, 2\]',
        ),
        (np.full((2, 2), 3), np.ones((2, 2), int), r'ids are \d \.\. 3, expected 0 \.\. 2'),
        (np.ones((2, 2), int), np.full((2, 2), -1), 'ids are -1'),
        (np.ones((2, 2), int), np.full((2, 2), 3), r'ids are \d \.\. 3, expected 0 \.\. 2'),
    ],
)
def test_what_does_not_fit_is_refused(truth, labels, reason):
    with pytest.raises(ShapeError, match=reason):
        Confusion(2).add(truth, labels)


def test_background_and_ignored_pixels_by_hand():
    truth = np.array([[0, 0, 1, 255], [1, 2, 2, 255]], np.uint8)
    labels = np.array([[0, 1, 1, 3], [0, 2, 1, 0]], np.uint8)
    confusion = Confusion(3, background=True, ignored=255)
    confusion.add(truth, labels)
    assert confusion.matrix.tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0] * 4]
    scores = confusion.scores()
    np.testing.assert_allclose(scores.iou_of, [1 / 3, 1 / 4, 1 / 2, np.nan])
    np.testing.assert_allclose(scores.accuracy_of, [1 / 2, 1 / 2, 1 / 2, np.nan])
    assert scores.miou == confusion.miou == pytest.approx((1 / 3 + 1 / 4 + 1 / 2) / 3)
    assert scores.accuracy == scores.class_accuracy == pytest.approx(1 / 2)
    assert scores.fwiou == pytest.approx((1 / 3 + 1 / 4 + 1 / 2) / 3)
    # If background is no class, its pixels do not count and a label of 0 is wrong.
    other = Confusion(3, ignored=255)
    other.add(truth, labels)
    np.testing.assert_allclose(other.iou, [1 / 3, 1 / 2, np.nan])
    assert other.accuracy == pytest.approx(2 / 4)
    # A label that does not occur in the truth: its IoU is 0, its accuracy undefined.
    other.add(np.array([[1]]), np.array([[3]]))
    np.testing.assert_allclose(other.scores().iou_of, [1 / 4, 1 / 2, 0])
    np.testing.assert_allclose(other.scores().accuracy_of, [1 / 3, 1 / 2, np.nan])


@pytest.mark.filterwarnings('ignore:y_pred contains classes not in y_true')
@pytest.mark.parametrize('background', [False, True])
def test_scores_are_scikit_learns(background):
    rng = np.random.default_rng(1)
    truth = rng.choice([0, 1, 2, 3, 5, 255], (40, 50))
    labels = np.where(rng.random((40, 50)) < 0.6, truth, rng.choice([0, 1, 2, 3, 5], (40, 50)))
    labels[labels == 255] = 0
    confusion = Confusion(6, background, ignored=255)
    confusion.add(truth, labels)
    counted = (truth != 255) & (background | (truth > 0))
    flat, ids = (truth[counted], labels[counted]), [0, 1, 2, 3, 5][not background :]
    scores = confusion.scores()
    got = scores.iou_of[[k - (not background) for k in ids]]
    np.testing.assert_allclose(got, jaccard_score(*flat, labels=ids, average=None))
    assert scores.miou == pytest.approx(jaccard_score(*flat, labels=ids, average='macro'))
    assert scores.fwiou == pytest.approx(jaccard_score(*flat, labels=ids, average='weighted'))
    assert scores.accuracy == pytest.approx(accuracy_score(*flat))
    assert scores.class_accuracy == pytest.approx(balanced_accuracy_score(*flat))
    assert np.isnan(scores.iou_of[[3 + background, 5 + background]]).all()


@pytest.mark.parametrize('background', [False, True])
def test_the_official_numbers_of_cliptrase(background):
    """Count pixel by pixel with that code's class numbers: 0 .. C-1, background C, 255 ignored.

    The mean IoU is over the classes in the truth, the mean accuracy over all classes. Denominators
    get + 0.01.
    """
    rng = np.random.default_rng(2)
    classes = 5
    truth = rng.choice([0, 1, 2, 4, 255], (30, 20))  # classes 3 and 5 of 1 .. 5 are missing
    labels = rng.integers(1, 6, (30, 20))
    if background:
        labels[rng.random((30, 20)) < 0.3] = 0
    confusion = Confusion(classes, background, ignored=255)
    confusion.add(truth, labels)
    got = confusion.cliptrase_scores()

    total = classes + background
    right, true, given = [0] * total, [0] * total, [0] * total
    for t, p in zip(truth.ravel().tolist(), labels.ravel().tolist(), strict=True):
        t, p = (255 if t == 255 else classes if t == 0 else t - 1), (classes if p == 0 else p - 1)
        if t < total:
            true[t] += 1
            given[p] += 1
            right[t] += t == p
    iou = [r / (t + g - r + 0.01) for r, t, g in zip(right, true, given, strict=True)]
    present = [k for k in range(total) if true[k]]
    assert len(present) < total
    assert got.miou == pytest.approx(sum(iou[k] for k in present) / len(present), abs=1e-12)
    assert got.accuracy == pytest.approx(sum(right) / sum(true), abs=1e-12)
    accuracy = [r / (t + 0.01) for r, t in zip(right, true, strict=True)]
    assert got.class_accuracy == pytest.approx(sum(accuracy) / total, abs=1e-12)
    shares = [true[k] / sum(true) * iou[k] for k in present]
    assert got.fwiou == pytest.approx(sum(shares), abs=1e-12)
    assert got.miou != pytest.approx(confusion.scores().miou, abs=1e-6)


def test_no_scores_of_nothing():
    for scores in (Confusion(2).scores(), Confusion(2).cliptrase_scores()):
        assert np.isnan(scores[:4]).all() and np.isnan(scores.iou_of).all()


def test_pairs_are_the_matrix():
    rng = np.random.default_rng(3)
    one, other = Confusion(4), Confusion(4)
    one.add(rng.integers(0, 5, (9, 9)), rng.integers(0, 3, (9, 9)))
    assert Confusion(4).pairs == []
    other.add_pairs(one.pairs)
    other.add_pairs([])
    assert (other.matrix == one.matrix).all() and other.pairs == one.pairs
    for bad in ([[5, 0, 1]], [[0, 5, 1]], [[0, 0, -1]]):
        with pytest.raises(ShapeError, match='out of range'):
            other.add_pairs(bad)
    with pytest.raises(ShapeError, match='255 cannot be ignored'):
        Confusion(255, ignored=255)
