"""The same weights, whatever the form of their file, give the same labels, bit for bit."""

import json
import logging

import numpy as np
import pytest
import torch
from checkpoint_files import (
    MODEL,
    half_model,
    openai_numbers,
    save_torchscript,
    to_transformers,
    transformers_config,
)
from safetensors.torch import save_file
from towers import picture
from transformers import CLIPModel

import cliptrase_ros as ct

WORDS = ['floor', 'wall', 'mug', 'chair', 'plant']


@pytest.fixture(scope='module')
def forms(tmp_path_factory):
    """Return the paths of the same weights in each form, and the weights."""
    folder = tmp_path_factory.mktemp('forms')
    model = half_model()
    half = model.state_dict()
    state = {name: tensor.float() for name, tensor in half.items()}
    save_file(state, folder / 'open_clip.safetensors')
    torch.save({**half, **openai_numbers()}, folder / 'openai_state.pth')
    other = CLIPModel(transformers_config())
    other.load_state_dict(to_transformers(state))
    other.save_pretrained(folder / 'transformers')
    other.half().save_pretrained(folder / 'in_parts', max_shard_size='2MB')
    torch.save(other.float().state_dict(), folder / 'pytorch_model.bin')
    save_torchscript(model, folder / 'openai.pt', openai_numbers())
    return folder


def labels(weights):
    settings = ct.Settings(
        model=MODEL,
        weights=str(weights),
        device='cpu',
        precision='fp32',
        **{'input_size': 96, 'regions': 'none'},
    )
    segmenter = ct.load(settings)
    found = segmenter(picture(96, 128), segmenter.vocabulary(WORDS))
    return found.labels, found.confidence, segmenter.backbone.text.encode(WORDS)


@pytest.fixture(scope='module')
def expected(forms):
    return labels(forms / 'open_clip.safetensors')


@pytest.mark.parametrize(
    'form', ['openai.pt', 'openai_state.pth', 'transformers', 'in_parts', 'pytorch_model.bin']
)
def test_labels_do_not_depend_on_the_form_of_the_weights(form, forms, expected):
    found = labels(forms / form)
    assert len(np.unique(expected[0])) > 1
    assert np.array_equal(found[0], expected[0])
    assert np.array_equal(found[1], expected[1])
    assert torch.equal(found[2], expected[2])


@pytest.mark.parametrize('form', ['openai.pt', 'openai_state.pth', 'transformers', 'in_parts'])
def test_forms_that_say_their_activation_get_no_warning(form, forms, caplog):
    with caplog.at_level(logging.WARNING):
        ct.load_model(MODEL, str(forms / form))
    assert not caplog.records


def test_other_weights_give_other_labels(expected):
    assert not np.array_equal(labels('random')[1], expected[1])


def test_the_towers_compute_what_transformers_computes(tmp_path):
    """The names are mapped right: transformers' own forward pass has the same embeddings."""
    torch.manual_seed(1)
    other = CLIPModel(transformers_config()).eval()
    for parameter in other.parameters():  # new biases are 0 and new norms are 1
        parameter.data += 0.02 * torch.randn_like(parameter)
    other.save_pretrained(tmp_path)
    model, tokenizer = ct.load_model(MODEL, str(tmp_path))
    images, tokens = torch.randn(2, 3, 224, 224), tokenizer(['a mug', 'the red floor'])
    with torch.no_grad():
        visual, text = model.eval().encode_image(images), model.encode_text(tokens)
        theirs = other(input_ids=tokens, pixel_values=images)
    for own, their in ((visual, theirs.image_embeds), (text, theirs.text_embeds)):
        assert torch.allclose(torch.nn.functional.normalize(own, dim=-1), their, atol=1e-5)
    assert torch.equal(model.logit_scale, other.logit_scale)


def test_transformers_says_which_activation_it_has(tmp_path):
    CLIPModel(transformers_config(hidden_act='gelu')).save_pretrained(tmp_path)
    assert json.loads((tmp_path / 'config.json').read_text())['model_type'] == 'clip'
    with pytest.raises(ct.SettingError, match='trained with GELU, which cliptrase-tiny does not'):
        ct.load_model(MODEL, str(tmp_path / 'model.safetensors'))
