import torch

from cliptrase_ros.video.roster import Roster


def shown(roster, frames, threshold=0.5, patience=2, subject='a'):
    """Return the answers of the roster for the scores of one class, frame by frame."""
    rows = [roster(torch.tensor([score, 0.0]), threshold, patience, subject) for score in frames]
    assert not any(row[1] for row in rows)
    return [bool(row[0]) for row in rows]


def test_a_word_enters_at_the_threshold_and_leaves_below_half_of_it():
    assert shown(Roster(), [0.49, 0.5, 0.3, 0.26, 0.25]) == [False, True, True, True, True]
    # The word leaves at the second low frame in a row, not at the first. A score of 0.3 does not
    # bring it back.
    frames = [0.6, 0.1, 0.3, 0.1, 0.1, 0.3, 0.5]
    assert shown(Roster(), frames) == [True, True, True, True, False, False, True]
    assert shown(Roster(), [0.6, 0.1], patience=1) == [True, False]


def test_without_patience_each_frame_is_on_its_own():
    assert shown(Roster(), [0.6, 0.4, 0.6, 0.1], patience=0) == [True, False, True, False]


def test_other_words_and_a_new_start_forget():
    roster = Roster()
    assert shown(roster, [0.6, 0.3]) == [True, True]
    assert shown(roster, [0.3], subject='b') == [False]
    assert shown(roster, [0.6], subject='b') == [True]
    roster.forget()
    assert shown(roster, [0.3], subject='b') == [False]
