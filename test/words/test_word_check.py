"""Checks of a vocabulary: faults, tokens, similar pairs; and the command `cliptrase words`."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from text_towers import TOKENIZER, make_model

import cliptrase_ros as ct
from cliptrase_ros import cli
from cliptrase_ros.cli import words as command
from cliptrase_ros.model.text import TextEncoder
from cliptrase_ros.words import check, lists

TINY = ['--model', 'cliptrase-tiny', '--weights', 'random', '--device', 'cpu']
TINY += ['--prompt-templates', 'none']

# The tokenizer reads these as one word.
TWINS = ['salt & pepper', 'salt &amp; pepper']


@pytest.fixture(scope='module')
def segmenter():
    return ct.load(ct.Settings(model='cliptrase-tiny', weights='random', device='cpu'))


# Faults


def test_words_without_a_fault():
    assert check.problems(*lists.read_words('indoor')) == []
    assert check.problems(['floor']) == []


def test_every_word_at_fault_is_named_in_order():
    entries = ['floor', 'Floor', '3:mug', '3:bowl', '0:x', 'a=;', 'door', 'lid=mug', '3:pan']
    found = check.problems(entries, ['sky', 'SKY', '', 'door', 'wall'])
    said = [
        "name 'Floor' appears twice",
        "id 3 belongs to 'mug' and is never reused; give 'bowl'",
        "'0:x': the id must be",
        "'a=;': it has an empty prompt",
        "prompt 'mug' appears twice",
        "id 3 belongs to 'mug' and is never reused; give 'pan'",
        "prompt 'SKY' appears twice",
        "background word ''",
        "prompt 'door' appears twice",
    ]
    assert len(found) == len(said)
    assert all(part in problem for part, problem in zip(said, found, strict=True))


def test_nothing_but_faults_and_nothing_at_all():
    assert len(check.problems(['=a', '=b'], [''])) == 2
    (problem,) = check.problems([])
    assert 'empty' in problem


def test_words_that_are_too_long(segmenter):
    context = segmenter.backbone.text.context
    templates = segmenter.replace(prompt_templates='none')
    # As many words as fit between the start and end tokens, and one word more.
    fits, over = ' '.join(['mug'] * (context - 3)), ' '.join(['mug'] * (context - 2))
    assert check.sentence_tokens(templates, fits) == context - 1
    assert check.too_long(templates, ['floor', fits]) == []
    (problem,) = check.too_long(templates, [fits, over, 'door'])
    assert f'{context} tokens' in problem and f'encoder is {context - 1}' in problem
    assert templates.vocabulary([fits])
    with pytest.raises(ct.VocabularyError, match='too long'):
        templates.vocabulary([over])
    assert len(check.too_long(segmenter, [fits, over])) == 2


def test_a_model_without_a_text_encoder_is_told(segmenter):
    mute = ct.Segmenter(ct.Backbone(segmenter.backbone.visual), segmenter.settings)
    with pytest.raises(ct.VocabularyError, match='no text encoder'):
        check.too_long(mute, ['floor'])


# What the model reads


def test_tokens_are_those_of_the_tokenizer():
    text = TextEncoder(make_model(), TOKENIZER)
    assert text.context == 77
    row = TOKENIZER(['a photo of a mug.'])[0]
    assert text.tokens('a photo of a mug.') == row[row != 0].tolist()
    assert len(text.tokens('mug ' * 500)) == 502


def test_pieces_of_words():
    text = TextEncoder(make_model(), TOKENIZER)
    assert text.pieces('fire extinguisher') == ['fire', 'extingui', 'sher']
    assert text.pieces('') == []
    broken = text.pieces('zxqvkitchenette')
    assert len(broken) > 1 and ''.join(broken) == 'zxqvkitchenette'


class OfTheHub:
    """A tokenizer like open_clip's wrapper of a hub tokenizer: its decoder is one level deeper."""

    def __init__(self):
        self.tokenizer = TOKENIZER

    def __call__(self, texts, context_length=None):
        return TOKENIZER(texts, context_length)


def test_pieces_of_a_tokenizer_of_the_hub():
    assert TextEncoder(make_model(), OfTheHub()).pieces('red mug') == ['red', 'mug']


# Similar words


def vocabulary():
    rows = np.array([[1, 0], [0.8, 0.6], [0, 1], [-1, 0]])
    words = ct.Vocabulary.from_embeddings(['a', 'b', 'c'], rows[:3], rows[3:])
    return words


def test_pairs_by_cosine():
    pairs = check.alike(vocabulary(), 3)
    assert [pair.names for pair in pairs] == [('a', 'b'), ('b', 'c'), ('a', 'c')]
    assert [round(pair.cosine, 4) for pair in pairs] == [0.8, 0.6, 0.0]
    cosines = np.array([0.8, 0, -1, 0.6, -0.8, 0])
    expected = (0.8 - cosines.mean()) / cosines.std()
    assert pairs[0].deviation == pytest.approx(expected)
    assert len(check.alike(vocabulary(), 99)) == 6


@pytest.mark.parametrize('block', [1, 40, 200, 1 << 20])
@pytest.mark.parametrize('count', [0, 1, 20, 999])
def test_pairs_in_blocks_are_those_of_all_at_once(monkeypatch, block, count):
    monkeypatch.setattr(check, 'BLOCK', block)
    # Few directions, so that many pairs are equal.
    rows = np.random.default_rng(3).integers(-1, 2, (30, 3)) + np.array([0.5, 0, 0])
    words = ct.Vocabulary.from_embeddings([f'w{n}' for n in range(26)], rows[:26], rows[26:])
    made = words.embeddings.double()
    names = [(f'w{n}', n) for n in range(26)] + [('', 26)] * 4
    pairs = [
        (float((made[i] @ made[j]).clamp(-1, 1)), names[i][0], names[j][0])
        for i in range(30)
        for j in range(i + 1, 30)
        if names[i][1] != names[j][1]
    ]
    cosines = np.array([pair[0] for pair in pairs])
    found = check.alike(words, count)
    assert len(found) == min(count, len(pairs))
    best = np.sort(cosines)[::-1][:count]
    np.testing.assert_allclose([pair.cosine for pair in found], best, atol=1e-12)
    expected = (best - cosines.mean()) / cosines.std()
    np.testing.assert_allclose([pair.deviation for pair in found], expected, atol=1e-9)
    for pair in found:
        same = [entry for entry in pairs if entry[1:] == pair.names]
        entry = min(same, key=lambda entry: abs(entry[0] - pair.cosine))
        assert entry[0] == pytest.approx(pair.cosine, abs=1e-12)
        pairs.remove(entry)


MANY = """
import resource
import numpy as np
import cliptrase_ros as ct
from cliptrase_ros.words import check
rows = np.random.default_rng(0).normal(size=(6000, 8))
words = ct.Vocabulary.from_embeddings([f'w{n}' for n in range(6000)], rows)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert len(check.alike(words, 10)) == 10
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1000)
"""


def test_many_words_do_not_fill_the_memory():
    done = subprocess.run([sys.executable, '-c', MANY], capture_output=True, text=True, check=True)
    # In MB. All 18 million pairs at once take more than 900.
    assert float(done.stdout) < 300


def test_prompts_of_one_class_are_no_pair(segmenter):
    words = segmenter.vocabulary(['mug=mug;cup', 'floor'], ['sky', 'sea'])
    pairs = check.alike(words, 99)
    found = {frozenset(pair.prompts) for pair in pairs}
    assert len(pairs) == len(found) == 5 * 4 / 2 - 2
    assert not found & {frozenset(['mug', 'cup']), frozenset(['sky', 'sea'])}
    assert ('', '') not in [pair.names for pair in pairs]
    embedding = dict(zip(['mug', 'cup', 'floor', 'sky', 'sea'], words.embeddings, strict=True))
    for pair in pairs:
        one, other = (embedding[prompt] for prompt in pair.prompts)
        assert pair.cosine == pytest.approx(float(torch.dot(one, other)), abs=1e-6)


def test_one_class_makes_no_pair(segmenter):
    assert check.alike(segmenter.vocabulary(['mug|cup']), 5) == []


def test_one_pair_deviates_from_nothing(segmenter):
    (pair,) = check.alike(segmenter.vocabulary(['mug', 'cup']), 5)
    assert pair.deviation == 0


def test_distractors_left_out(segmenter):
    classes, background = segmenter.check_vocabulary(['x=Floor', 'sky'], ['wood'])
    assert check.left_out(classes, background, 'stuff') == ('sky', 'wood', 'floor')
    assert check.left_out(classes, background, 'none') == ()


# The command


def words(*arguments):
    return cli.main(['words', *arguments])


def test_a_table_for_people(capsys):
    entries = ['--words', 'floor', '9:mug=mug;[b]up', '--background', 'sky', '--pairs', '3']
    assert words(*entries, *TINY, '--alike', '-1', '--distractors', 'stuff') == 0
    lines = capsys.readouterr().out.splitlines()
    (floor,) = (line for line in lines if ' floor ' in line and '#' in line)
    assert floor.split()[:2] == ['1', 'floor'] and '#f20ca1' in floor
    out = '\n'.join(lines)
    assert '(background)' in out and '24 distractors' in out and 'your words: sky, floor' in out
    assert sum('cosine of -1 or more' in line for line in lines) == 3
    assert '[·b·]·up' in out


def test_no_pairs_no_table(capsys):
    assert words('--words', 'floor', 'mug', *TINY, '--pairs', '0') == 0
    assert 'cosine' not in capsys.readouterr().out


def test_colours_in_a_terminal(capsys, monkeypatch):
    monkeypatch.setenv('FORCE_COLOR', '1')
    monkeypatch.setenv('COLORTERM', 'truecolor')
    monkeypatch.setenv('TERM', 'xterm')
    assert words('--words', 'floor', *TINY) == 0
    assert '\x1b[38;2;242;12;161m██' in capsys.readouterr().out


def test_json(capsys):
    entries = ['--words', 'red  mug', *TWINS, *'abcdefgh', '--background', 'sea']
    assert words(*entries, *TINY, '--json', '--pairs', '2') == 0
    (line,) = capsys.readouterr().out.splitlines()
    said = json.loads(line)
    assert said['classes'][0]['prompts'] == ['red mug'] and said['classes'][0]['id'] == 1
    assert said['classes'][0]['pieces'] == [['red', 'mug']]
    assert said['background']['words'] == ['sea'] and said['problems'] == []
    assert len(said['pairs']) == 2 and said['pairs'][0]['cosine'] >= said['pairs'][1]['cosine']
    twins, other = said['pairs']
    assert twins['prompts'] == twins['classes'] == TWINS and twins['cosine'] == 1
    assert twins['alike'] and not twins['stands_out'] and twins['deviation'] < 3
    assert other['deviation'] < twins['deviation']


def test_what_stands_out(capsys, monkeypatch):
    # With few words and random weights no pair is 3 deviations above the mean. This pair is 1.7
    # above it, and no other pair reaches 1.6.
    monkeypatch.setattr(command, 'STANDS_OUT', 1.6)
    assert words('--words', *TWINS, *'abcdefgh', *TINY, '--alike', '2') == 0
    marked = [line for line in capsys.readouterr().out.splitlines() if 'stands out' in line]
    assert len(marked) == 1 and all(word in marked[0] for word in TWINS)


def test_a_refused_vocabulary(capsys):
    assert words('--words', 'a', 'a', '=', '--check-only', '--json') == 1
    done = capsys.readouterr()
    assert len(json.loads(done.out)['problems']) == 2
    assert 'appears twice' in done.err and '2 problems' in done.err
    assert words('--words', 'mug ' * 99, *TINY) == 1
    done = capsys.readouterr()
    assert 'one problem' in done.err and not done.out


def test_check_only_loads_no_model(capsys):
    nowhere = ['--weights', '/nowhere.pt']
    assert words('--vocabulary', 'kitchen', *nowhere, '--check-only') == 0
    assert 'classes and' in capsys.readouterr().out
    assert words('--words', 'a', *nowhere) == 1
    assert words('--words', 'a', '--check-only', '--json') == 0
    assert json.loads(capsys.readouterr().out)['classes'][0]['name'] == 'a'


def test_ids_that_need_16_bits(capsys):
    assert words('--words', '254:a', '--check-only') == 0
    assert '16 bits' not in capsys.readouterr().err
    assert words('--words', '255:a', '--check-only') == 0
    assert '16 bits' in capsys.readouterr().err


def test_a_number_of_pairs(capsys):
    with pytest.raises(SystemExit) as stopped:
        words('--words', 'a', '--pairs', '-1')
    assert stopped.value.code == 2 and 'expected 0 or more' in capsys.readouterr().err
