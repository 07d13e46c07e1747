import logging

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F

from cliptrase_ros.errors import Cancelled
from cliptrase_ros.words import embeddings
from cliptrase_ros.words.embeddings import (
    EmbeddingCache,
    cache_in,
    default_cache_folder,
    embed_words,
)
from cliptrase_ros.words.templates import TEMPLATES


class Encoder:
    """A stand-in encoder: unit vectors that depend on the sentence. Records what it encodes."""

    def __init__(self):
        self.sentences, self.passes = [], []

    def __call__(self, sentences):
        self.sentences += sentences
        self.passes.append(len(sentences))
        seeds = [sum(map(ord, s)) for s in sentences]
        rows = [torch.randn(8, generator=torch.Generator().manual_seed(s)) for s in seeds]
        return F.normalize(torch.stack(rows), dim=1)


def embed(words, encoder, folder, templates=('a {}.', 'the {}'), fingerprint='f', **options):
    return embed_words(words, templates, encoder, fingerprint, EmbeddingCache(folder), **options)


def test_a_word_is_the_mean_over_its_templates(tmp_path):
    encoder = Encoder()
    rows = embed(['mug', '{odd}'], encoder, tmp_path)
    assert encoder.sentences == ['a mug.', 'the mug', 'a {odd}.', 'the {odd}']
    mean = encoder(['a mug.', 'the mug']).mean(0)
    assert torch.allclose(rows[0], mean / mean.norm())
    assert torch.allclose(rows.norm(dim=1), torch.ones(2))


def test_a_known_word_is_not_encoded_again(tmp_path):
    first = embed(['mug', 'door'], Encoder(), tmp_path)
    encoder = Encoder()
    again = embed(['door', 'mug', 'lamp'], encoder, tmp_path)
    assert torch.equal(again[:2], first.flip(0))
    assert encoder.sentences == ['a lamp.', 'the lamp']


def test_words_share_passes_of_a_bounded_size(tmp_path):
    words, encoder = [f'{n} mugs' for n in range(70)], Encoder()
    rows = embed([*words, '3 mugs'], encoder, tmp_path / 'a')
    assert encoder.passes == [64, 64, 12] and torch.equal(rows[3], rows[-1])
    for n in (0, 31, 32, 69):
        [alone] = embed([words[n]], Encoder(), tmp_path / 'b')
        assert torch.allclose(rows[n], alone, atol=1e-7)
    embed(words[:2], encoder, tmp_path / 'c', templates=tuple(f'{n} {{}}' for n in range(80)))
    assert encoder.passes[3:] == [80, 80]


@pytest.mark.parametrize('passes', [0, 1, 2])
def test_words_encoded_before_the_end_stay_in_the_cache(passes, tmp_path):
    words, encoder, asked = [f'{n} mugs' for n in range(70)], Encoder(), []

    def cancelled():
        asked.append(len(encoder.passes))
        return asked[-1] == passes and len(asked) > 5

    with pytest.raises(Cancelled):
        embed(words, encoder, tmp_path, cancelled=cancelled)
    assert len(encoder.passes) == passes and len(list(tmp_path.iterdir())) == 32 * passes
    assert len(asked) == (6 if passes == 0 else 71 + passes)
    again = Encoder()
    embed(words, again, tmp_path)
    assert len(again.sentences) == 2 * (70 - 32 * passes)


@pytest.mark.parametrize('change', [{'fingerprint': 'g'}, {'templates': ('a {}.',)}])
def test_other_weights_or_templates_are_another_entry(change, tmp_path):
    embed(['mug'], Encoder(), tmp_path)
    encoder = Encoder()
    embed(['mug'], encoder, tmp_path, **change)
    assert encoder.sentences


@pytest.mark.parametrize(
    'damage',
    [
        lambda path: path.write_bytes(b''),
        lambda path: path.write_bytes(path.read_bytes()[:-8]),
        lambda path: path.write_bytes(b'junk'),
        lambda path: np.save(path, np.zeros(8, np.float32)),
        lambda path: np.save(path, np.ones((2, 8), np.float32)),
        lambda path: np.save(path, np.full(8, np.nan, np.float32)),
        lambda path: np.save(path, np.array([{'a': 1}], object), allow_pickle=True),
    ],
)
def test_a_damaged_file_is_made_anew(damage, tmp_path, caplog):
    first = embed(['mug'], Encoder(), tmp_path)
    [path] = tmp_path.iterdir()
    damage(path)
    assert torch.equal(embed(['mug'], Encoder(), tmp_path), first)
    assert 'encoding again' in caplog.text
    encoder = Encoder()
    embed(['mug'], encoder, tmp_path)
    assert encoder.sentences == []


def test_a_folder_that_cannot_be_written_turns_the_disk_off_once(tmp_path, caplog):
    (tmp_path / 'file').write_text('')
    cache, encoder = EmbeddingCache(tmp_path / 'file'), Encoder()
    with caplog.at_level(logging.WARNING):
        rows = embed_words(['mug', 'door', 'lamp'], ('{}',), encoder, 'f', cache)
    assert rows.shape == (3, 8)
    assert caplog.text.count('using memory only') == 1
    again = embed_words(['lamp', 'mug'], ('{}',), encoder, 'f', cache)
    assert torch.equal(again, rows[[2, 0]]) and len(encoder.sentences) == 3
    assert cache_in(tmp_path) is cache_in(tmp_path)


def test_known_words_are_read_once_and_memory_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(embeddings, 'IN_MEMORY', 2)
    words, encoder = ['mug', 'door', 'lamp'], Encoder()
    known = dict(zip(words, embed(words, encoder, tmp_path), strict=True))
    cache, paths = EmbeddingCache(tmp_path), []
    read = cache._read
    monkeypatch.setattr(cache, '_read', lambda path: (paths.append(path), read(path))[1])

    def reads(words):
        paths.clear()
        got = embed_words(words, ('a {}.', 'the {}'), encoder, 'f', cache)
        assert torch.equal(got, torch.stack([known[word] for word in words]))
        return len(paths)

    assert [reads(words[:2]), reads(words[:2]), reads(words[2:])] == [2, 0, 1]
    assert len(cache._recent) == 1 and len(encoder.passes) == 1


def test_the_users_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    assert default_cache_folder() == tmp_path / 'cliptrase_ros' / 'embeddings'
    monkeypatch.delenv('XDG_CACHE_HOME')
    monkeypatch.setenv('HOME', '/home/x')
    assert str(default_cache_folder()) == '/home/x/.cache/cliptrase_ros/embeddings'


@pytest.mark.parametrize(
    'name, published',
    [
        ('imagenet80', open_clip.OPENAI_IMAGENET_TEMPLATES),
        ('imagenet7', open_clip.SIMPLE_IMAGENET_TEMPLATES),
    ],
)
def test_the_ensembles_are_the_published_ones(name, published):
    assert set(TEMPLATES[name]) == {template('{}') for template in published}
    assert len(TEMPLATES[name]) == len(published)


def test_every_template_takes_one_word():
    for name, count in (('imagenet80', 80), ('vild14', 14), ('imagenet7', 7), ('photo', 1)):
        assert len(set(TEMPLATES[name])) == count
        assert all(template.count('{}') == 1 for template in TEMPLATES[name])
    assert TEMPLATES['none'] == ('{}',)
