import pytest

import cliptrase_ros as ct
from cliptrase_ros.words.distractors import DISTRACTORS, distractors_for


@pytest.fixture(scope='module')
def tiny():
    return ct.load(
        ct.Settings(
            model='cliptrase-tiny', weights='random', device='cpu', prompt_templates='photo'
        )
    )


def test_the_lists():
    assert DISTRACTORS['none'] == ()
    stuff, common = DISTRACTORS['stuff'], DISTRACTORS['common']
    assert len(stuff) == 26 and stuff[0] == 'sky' and stuff[-1] == 'fence'
    assert 60 <= len(common) <= 100
    for words in (stuff, common):
        assert len(set(words)) == len(words)
        assert all(word == word.strip().casefold() for word in words)


def test_words_that_are_there_already_are_left_out():
    left = distractors_for(['Sky', ' SEA ', 'tree house', 'Straße'], 'stuff')
    assert set(DISTRACTORS['stuff']) - set(left) == {'sky', 'sea'}
    assert left == tuple(word for word in DISTRACTORS['stuff'] if word in left)
    assert distractors_for([], 'none') == ()


def test_a_vocabulary_has_the_distractors_behind_its_own_background(tiny):
    run = tiny.replace(distractors='stuff')
    entries, background = ['Floor', 'street=Road;lane', 'mug|wood'], ['brick', 'Sky']
    classes, words = run.check_vocabulary(entries, background)
    assert [c.name for c in classes] == ['Floor', 'street', 'mug']
    assert words[:2] == ('brick', 'Sky')
    gone = {'floor', 'road', 'wood', 'sky'}
    assert words[2:] == tuple(w for w in DISTRACTORS['stuff'] if w not in gone)
    # The name of a class counts too, even if its prompts are other words.
    assert 'wall' not in run.check_vocabulary(['wall=brick wall'])[1]

    made = run.vocabulary(entries, background)
    assert made.background == words and len(made.embeddings) == 5 + len(words)
    assert (made.owner[5:] == 3).all()
    assert tiny.vocabulary(entries, background).background == ('brick', 'Sky')


def test_words_that_must_be_encoded_are_named(tiny, tmp_path):
    run = tiny.replace(cache_dir=str(tmp_path))
    run.vocabulary(['floor', 'mug=mug;cup'], ['sky'])
    asked = run.check_vocabulary(['cup', 'lamp', 'tall=tall lamp;floor'], ['sky', 'sea'])
    assert run.word_encoder.unknown(*asked) == ('lamp', 'tall lamp', 'sea')
    run.encode_words(*asked)
    assert run.word_encoder.unknown(*asked) == ()
    other = run.replace(prompt_templates='none')
    assert other.word_encoder.unknown(*asked) == (
        *('cup', 'lamp', 'tall lamp', 'floor', 'sky', 'sea'),
    )


@pytest.mark.parametrize('name', DISTRACTORS)
def test_every_list_fits_the_text_encoder(tiny, name):
    run = tiny.replace(distractors=name, prompt_templates='imagenet80')
    assert len(run.check_vocabulary(['gizmo'])[1]) == len(DISTRACTORS[name])
