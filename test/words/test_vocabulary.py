import cv2
import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist

import cliptrase_ros as ct
from cliptrase_ros.demo.world import CLASSES
from cliptrase_ros.words.colors import color_of, parse_colors
from cliptrase_ros.words.vocabulary import Ids, parse_entry, parse_vocabulary


@pytest.mark.parametrize(
    'entry, expected',
    [
        ('floor', (None, 'floor', ('floor',))),
        (' fire  extinguisher ', (None, 'fire  extinguisher', ('fire extinguisher',))),
        ('7:mug=mug;cup;coffee cup', (7, 'mug', ('mug', 'cup', 'coffee cup'))),
        (' 12 : door ', (12, 'door', ('door',))),
        ('mug|cup', (None, 'mug', ('mug', 'cup'))),
        ('obstacle=chair;table', (None, 'obstacle', ('chair', 'table'))),
        ('a:b', (None, 'a:b', ('a:b',))),
        ('Straße 😀', (None, 'Straße 😀', ('Straße 😀',))),
        ('e=m=c', (None, 'e', ('m=c',))),
    ],
)
def test_entries(entry, expected):
    assert parse_entry(entry) == expected


@pytest.mark.parametrize(
    'entries, reason',
    [
        ([], 'empty'),
        ('floor', 'not one string'),
        ([''], 'no name'),
        (['   '], 'no name'),
        (['=cup'], 'no name'),
        (['mug='], 'empty prompt'),
        (['mug=cup;;'], 'empty prompt'),
        (['a|'], 'empty prompt'),
        (['0:mug'], 'the id must be 1'),
        (['65535:mug'], 'the id must be 1'),
        (['9' * 5000 + ':mug'], 'the id must be 1'),
        (['a\nb'], 'control character'),
        ([3], 'expected text'),
        (['mug', 'mug'], "name 'mug' appears twice"),
        (['mug=a', 'Mug=b'], "name 'Mug' appears twice"),
        (['mug=cup', 'cup'], "prompt 'cup' appears twice"),
        (['3:a', '3:b'], "id 3 belongs to 'a'"),
    ],
)
def test_bad_entries_are_refused_with_the_reason(entries, reason):
    with pytest.raises(ct.VocabularyError, match=reason):
        parse_vocabulary(entries)


@pytest.mark.parametrize(
    'background, reason',
    [
        (['sky', ''], 'printable text'),
        (['sk\ty'], 'printable text'),
        (['floor'], "'floor' appears twice"),
        ('sky', 'not one string'),
    ],
)
def test_bad_background_is_refused(background, reason):
    with pytest.raises(ct.VocabularyError, match=reason):
        parse_vocabulary(['floor'], background)


def ids(entries, known=None, **options):
    return {c.name: c.id for c in parse_vocabulary(entries, ids=Ids(known or {}, **options))[0]}


def test_ids_are_dealt_out_around_the_given_ones():
    assert ids(['a', '1:b', 'c', '3:d']) == {'a': 2, 'b': 1, 'c': 4, 'd': 3}


def test_ids_never_move_and_are_never_reused():
    known = ids(['a', 'b', 'c'])
    known.update(ids(['c', 'd'], known))
    assert known == {'a': 1, 'b': 2, 'c': 3, 'd': 4}
    assert ids(['a'], known) == {'a': 1}
    with pytest.raises(ct.VocabularyError, match="'a' already has id 1"):
        ids(['9:a'], known)
    with pytest.raises(ct.VocabularyError, match="id 2 belongs to 'b'"):
        ids(['2:e'], known)


def test_ids_above_the_images_range_are_refused():
    assert len(ids([f'w{n}' for n in range(254)], largest=254)) == 254
    with pytest.raises(ct.VocabularyError, match=r'id 255, but the largest id of .* is 254'):
        ids([f'w{n}' for n in range(255)], largest=254)


def test_the_id_of_unlabelled_pixels_is_given_to_no_word():
    assert ids(['a', 'b', 'c'], unlabeled=2) == {'a': 1, 'b': 3, 'c': 4}
    with pytest.raises(ct.VocabularyError, match="'a' cannot have id 255: this is the id of un"):
        ids(['255:a'], unlabeled=255)


def test_colors_can_be_chosen():
    words = ct.Vocabulary.from_embeddings(['a', 'b=c'], np.eye(2))
    chosen = words.recolored(parse_colors(['b=c = #0102ff', 'not there=#000000']))
    assert [c.color for c in chosen.classes] == [color_of('a'), (1, 2, 255)]
    assert chosen.palette.tolist() == [[0, 0, 0], list(color_of('a')), [1, 2, 255]]
    assert chosen.recolored({}).classes == words.classes
    assert chosen.embeddings is words.embeddings


@pytest.mark.parametrize(
    'entry', ['', 'floor', 'floor=red', '=#000000', 'floor=#12345', 'a=#1234567']
)
def test_bad_colors_are_refused(entry):
    with pytest.raises(ct.SettingError, match='write name=#rrggbb'):
        parse_colors([entry])


def test_from_embeddings():
    rows = np.array([[3.0, 4.0], [0.0, 2.0]])
    words = ct.Vocabulary.from_embeddings(['a', 'b=c;d'], rows, [[1.0, 1.0]])
    assert words.ids == {'a': 1, 'b=c;d': 2}
    assert torch.allclose(words.embeddings.norm(dim=1), torch.ones(3))
    assert words.owner.tolist() == [0, 1, 2]
    assert words.label_ids.tolist() == [1, 2, 0]
    assert (words.name_of(np.uint8(2)), words.name_of(0)) == ('b=c;d', '')
    with pytest.raises(ct.VocabularyError, match='no class has id 3'):
        words.name_of(3)


@pytest.mark.parametrize(
    'names, rows, background, error',
    [
        (['a'], [[1.0, 0.0], [0.0, 1.0]], None, ct.ShapeError),
        (['a'], [1.0, 0.0], None, ct.ShapeError),
        (['a'], [[1.0, 0.0]], [[1.0, 0.0, 0.0]], ct.ShapeError),
        (['a'], [[0.0, 0.0]], None, ct.ShapeError),
        (['a'], [[float('nan'), 0.0]], None, ct.ShapeError),
        (['a', 'A'], [[1.0, 0.0], [0.0, 1.0]], None, ct.VocabularyError),
        ([], [[1.0, 0.0]], None, ct.VocabularyError),
        ([''], [[1.0, 0.0]], None, ct.VocabularyError),
        ('ab', [[1.0, 0.0], [0.0, 1.0]], None, ct.VocabularyError),
        (['a', 'b'], [[1.0, 0.0], [0.0]], None, ct.ShapeError),
        (['a'], [['x', 'y']], None, ct.ShapeError),
    ],
)
def test_from_embeddings_refuses_what_does_not_fit(names, rows, background, error):
    with pytest.raises(error):
        ct.Vocabulary.from_embeddings(names, rows, background)


def test_from_embeddings_takes_views_and_tensors():
    rows = np.arange(6.0).reshape(2, 3)
    view = ct.Vocabulary.from_embeddings(['a', 'b'], rows[::-1])
    tensor = ct.Vocabulary.from_embeddings(['b', 'a'], torch.from_numpy(rows))
    assert torch.equal(view.embeddings, tensor.embeddings.flip(0))


def test_when_all_ids_are_taken_the_word_is_refused():
    known = {f'w{n}': n for n in range(1, 65535)}
    with pytest.raises(ct.VocabularyError, match='but the largest id of'):
        parse_vocabulary(['one more'], ids=Ids(known))


def test_labels_grow_to_16_bits_with_the_ids():
    rows = np.eye(255)
    small = ct.Vocabulary.from_embeddings([f'w{n}' for n in range(254)], rows[:254])
    large = ct.Vocabulary.from_embeddings([f'w{n}' for n in range(255)], rows)
    assert (small.label_dtype, large.label_dtype) == (np.uint8, np.uint16)


def test_a_name_keeps_its_colour_and_colours_differ():
    assert color_of('mug') == color_of('mug') != color_of('cup')
    colors = {color_of(f'word {n}') for n in range(200)}
    assert len(colors) > 190
    assert all(max(c) >= 140 and min(c) >= 0 and max(c) <= 255 for c in colors)
    for names in (
        CLASSES,
        ('floor', 'wall', 'ceiling', 'person', 'door', 'window', 'chair', 'car'),
    ):
        table = np.float32([[color_of(name) for name in names]]) / 255
        lab = cv2.cvtColor(table, cv2.COLOR_RGB2LAB)[0]
        assert pdist(lab).min() > 20  # CIE76; about 2 can just be seen
    words = ct.Vocabulary.from_embeddings(['a', 'mug'], np.eye(2))
    assert words.palette.shape == (3, 3)
    assert words.palette[0].tolist() == [0, 0, 0]
    assert tuple(words.palette[2].tolist()) == color_of('mug')


def test_no_colour_is_that_of_the_name():
    assert ct.WordClass(1, 'mug', ('mug',), None).color == ct.WordClass(1, 'mug', ('mug',)).color
