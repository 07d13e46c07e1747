import numpy as np
import pytest

import cliptrase_ros as ct
from cliptrase_ros.space.groups import Group, parse_groups
from cliptrase_ros.words.vocabulary import WordClass

WORDS = [
    WordClass(number, name, (name,))
    for number, name in ((3, 'floor'), (1, 'wall'), (254, 'office chair'), (7, 'door'))
]


@pytest.mark.parametrize(
    'entries, expected',
    [
        ([], ()),
        (['seats=chair;sofa'], (Group('seats', ('chair', 'sofa')),)),
        ([' seats = office chair ; sofa '], (Group('seats', ('office chair', 'sofa')),)),
        (['obstacles=!floor'], (Group('obstacles', ('floor',), True),)),
        (['obstacles = ! floor;rug'], (Group('obstacles', ('floor', 'rug'), True),)),
        (['b=x', 'a=!x'], (Group('b', ('x',)), Group('a', ('x',), True))),
        (['formula=a=b'], (Group('formula', ('a=b',)),)),
    ],
)
def test_groups_are_read(entries, expected):
    assert parse_groups(entries) == expected


@pytest.mark.parametrize(
    'entry',
    [
        '',
        'seats',
        '=chair',
        ' = chair',
        'seats=',
        'seats=;',
        'seats=chair;',
        'seats=!',
        'seats=!a;!b',
        'seats=a;!b',
    ],
)
def test_what_is_no_group_is_refused(entry):
    with pytest.raises(ct.SettingError) as caught:
        parse_groups(['good=floor', entry])
    assert str(caught.value) == (
        f"points.groups: {entry!r}: write group=class;class, such as 'seats=chair;sofa', or "
        "group=!class for everything except a class, such as 'obstacles=!floor'"
    )


def test_a_name_that_stands_twice_is_refused():
    expected = "^points.groups: 'a' appears twice; write all of its classes in one entry$"
    with pytest.raises(ct.SettingError, match=expected):
        parse_groups(['a=floor', 'b=floor', ' a = wall'])


@pytest.mark.parametrize('largest', [254, 255, 65535])
@pytest.mark.parametrize('others', [False, True])
@pytest.mark.parametrize(
    'classes', [('floor',), ('door', 'office chair'), ('floor', 'rug'), ('rug',), ('chair',)]
)
def test_which_labels_belong_to_a_group(classes, others, largest):
    """Without a class of this name: no label, or all labels.

    Unlabelled pixels and ids without a word belong to the others.
    """
    table = Group('g', classes, others).table(iter(WORDS), largest)
    names = {c.id: c.name for c in WORDS}
    assert table.dtype == bool and table.shape == (largest + 1,)
    assert table.tolist() == [(names.get(n) in classes) != others for n in range(largest + 1)]


def test_a_group_of_no_classes():
    """The target group is like this if the user names no targets."""
    assert not Group('g', ()).table(WORDS, 255).any()
    assert Group('g', (), True).table(WORDS, 255).all()


def test_a_table_looks_up_a_label_image():
    labels = np.array([[0, 3, 1], [7, 3, 254]], np.uint8)
    got = Group('obstacles', ('floor',), True).table(WORDS, 255)[labels]
    assert got.tolist() == [[True, False, True], [True, False, True]]
