"""The text encoder compared with the model's own encode_text, on open_clip's own classes."""

import threading

import pytest
import torch
import torch.nn.functional as F
from open_clip.model import CLIP, CLIPTextCfg, CustomTextCLIP
from text_towers import CONTEXT, TOKENIZER, make_model
from torch import nn

import cliptrase_ros as ct
from cliptrase_ros.model import text
from cliptrase_ros.model.text import TextEncoder

FULL_STOP = int(TOKENIZER(['.'])[0, 1])
SENTENCES = [
    'a photo of a mug.',
    '',
    'mug',
    'a photo of a large red mug on a table. behind it there is a window',
    'a photo of a mug.',
    'mug ' * 100,
    *(f'a photo of {n} mugs' for n in range(90)),
]


def passes(model):
    """Return a growing list of the shapes [n, length] of the tokens that enter the tower."""
    seen = []
    parts = getattr(model, 'text', model)
    parts.token_embedding.register_forward_pre_hook(
        lambda module, args: seen.append(tuple(args[0].shape))
    )
    return seen


@torch.no_grad()
def expected(model, sentences):
    return F.normalize(model.encode_text(TOKENIZER(sentences)), dim=-1)


needs_eos = pytest.mark.skipif(
    'eos_id' not in CLIPTextCfg.__dataclass_fields__, reason='this open_clip has no such pooling'
)


@pytest.mark.parametrize('kind', [CLIP, CustomTextCLIP])
@pytest.mark.parametrize(
    'pooling',
    [{}, pytest.param({'pool_type': 'eos', 'eos_id': FULL_STOP}, marks=needs_eos)],
    ids=['argmax', 'eos'],
)
def test_what_follows_the_end_is_left_out_and_nothing_changes(kind, pooling):
    model = make_model(kind, **pooling)
    encoder, seen = TextEncoder(model, TOKENIZER), passes(model)
    assert encoder.cuts_context
    seen.clear()
    rows = encoder.encode(SENTENCES)
    longest = CONTEXT if pooling == {} else 12
    assert max(length for _, length in seen) == longest
    assert min(length for _, length in seen) < 10
    assert (rows - expected(model, SENTENCES)).abs().max() <= 1e-6
    # The model itself did not change.
    assert model.encode_text(TOKENIZER(['mug'])).shape == (1, 16)
    assert seen[-1] == (1, CONTEXT)


@pytest.mark.parametrize('kind', [CLIP, CustomTextCLIP])
def test_a_shorter_context_shares_the_weights_and_leaves_the_model_alone(kind):
    model = make_model(kind)
    short = text.with_context(model, 7)
    whole, cut = dict(model.named_parameters()), dict(short.named_parameters())
    assert list(whole) == list(cut) and type(short) is kind
    [changed] = [name for name in whole if whole[name] is not cut[name]]
    assert changed.endswith('positional_embedding') and cut[changed].shape[0] == 7
    assert cut[changed].data_ptr() == whole[changed].data_ptr()
    assert whole[changed].shape[0] == CONTEXT
    assert text._tower(model).attn_mask.shape == (CONTEXT, CONTEXT)
    assert text._tower(short).attn_mask.shape == (7, 7)


def test_equal_sentences_are_encoded_once_and_passes_are_bounded():
    model = make_model()
    encoder, seen = TextEncoder(model, TOKENIZER), passes(model)
    encoder.cuts_context, _ = True, seen.clear()
    rows = encoder.encode(['a mug', 'A  mug', 'a mug'] + [f'{n} doors' for n in range(130)])
    assert sum(n for n, _ in seen) == 131 and max(n for n, _ in seen) <= text.BATCH
    assert torch.equal(rows[0], rows[1]) and torch.equal(rows[0], rows[2])
    assert torch.allclose(rows.norm(dim=1), torch.ones(133))


class Foreign(nn.Module):
    """A text tower of another library, without attributes that describe it."""

    def __init__(self):
        super().__init__()
        self.token_embedding = nn.Embedding(49408, 16)

    def forward(self, tokens):
        return self.token_embedding(tokens).mean(1)


def with_foreign_tower():
    model = make_model(CustomTextCLIP)
    model.text = Foreign()
    return model.requires_grad_(False)


def with_prefix_attention():
    model = make_model()
    model.attn_mask = model.attn_mask.clone()
    model.attn_mask[:5, :5] = 0
    return model


class Peeking(CLIP):
    """A model whose attributes say that it is causal, but that reads all tokens."""

    def encode_text(self, text, normalize=False):
        all_of_it = self.token_embedding(text).mean(1) @ self.text_projection
        return super().encode_text(text) + 0.01 * all_of_it


@pytest.mark.parametrize(
    'make',
    [
        lambda: make_model(pool_type='last'),
        lambda: make_model(CustomTextCLIP, pool_type='last'),
        lambda: make_model(CustomTextCLIP, pool_type='first', no_causal_mask=True),
        lambda: make_model(no_causal_mask=True),
        lambda: make_model(CustomTextCLIP, embed_cls=True, context_length=CONTEXT, pad_id=0),
        with_foreign_tower,
        with_prefix_attention,
        lambda: make_model(Peeking),
    ],
    ids=['last', 'custom last', 'first', 'both sides', 'class token', 'foreign', 'prefix', 'peeks'],
)
def test_towers_that_may_see_what_follows_keep_the_whole_context(make):
    model = make()
    encoder, seen = TextEncoder(model, TOKENIZER), passes(model)
    assert not encoder.cuts_context
    seen.clear()
    rows = encoder.encode(SENTENCES[:5])
    assert {length for _, length in seen} == {CONTEXT}
    assert (rows - expected(model, SENTENCES[:5])).abs().max() <= 1e-6


def encodes(segmenter, *words):
    """Return how many sentences a segmenter encodes for its words, with an empty memory cache."""
    segmenter.word_encoder.cache._recent.clear()
    assert segmenter.backbone.text.cuts_context
    seen = passes(segmenter.backbone.text._model)
    segmenter.vocabulary(words)
    return sum(n for n, _ in seen)


def test_a_restart_encodes_no_word_again_but_other_weights_and_templates_do(tmp_path):
    settings = {'model': 'cliptrase-tiny', 'device': 'cpu', 'prompt_templates': 'imagenet7'}
    settings = ct.Settings(**settings, weights='random', cache_dir=str(tmp_path))
    first = ct.load(settings)
    assert encodes(first, 'floor', 'mug|cup') == 3 * 7
    again = ct.load(settings)
    assert encodes(again, 'floor', 'mug|cup') == 0
    assert encodes(again, 'cup', 'lamp') == 7
    assert encodes(again.replace(prompt_templates='photo'), 'floor', 'mug') == 2
    first.backbone.text._model.ln_final.bias += 0.1
    torch.save(first.backbone.text._model.state_dict(), tmp_path / 'other.pt')
    other = ct.load(settings.replace(weights=str(tmp_path / 'other.pt')))
    assert encodes(other, 'floor', 'mug|cup') == 3 * 7


def test_what_a_model_holds_besides_is_neither_copied_nor_lost():
    model = make_model()
    model.lock, model.notes = threading.Lock(), torch.zeros(3)
    short = text.with_context(model, 8)
    assert short.lock is model.lock and short.notes is model.notes
    assert len(short.positional_embedding) == 8 and len(model.positional_embedding) == CONTEXT
    assert torch.equal(
        TextEncoder(model, TOKENIZER).encode(SENTENCES[:3]),
        TextEncoder(make_model(), TOKENIZER).encode(SENTENCES[:3]),
    )
