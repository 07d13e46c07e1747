"""Weights of a file on a model: activation, sizes, statistics; and models of the hub offline."""

import json
import logging
import socket
import threading

import open_clip
import pytest
import torch
from checkpoint_files import half_model, openai_numbers, tiny_clip, to_transformers
from safetensors.torch import save_file

import cliptrase_ros as ct
from cliptrase_ros.model import fitting, hub, weights

TINY = 'cliptrase-tiny'
CONFIG = {
    'embed_dim': 16,
    'vision_cfg': {'image_size': 32, 'layers': 2, 'width': 64, 'patch_size': 16},
    'text_cfg': {'context_length': 8, 'vocab_size': 50, 'width': 64, 'heads': 1, 'layers': 1},
}


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Let open_clip know tiny models: small, small-quickgelu, deeper. Return the first's state."""
    from open_clip import factory

    monkeypatch.setattr(factory, '_MODEL_CONFIG_PATHS', list(factory._MODEL_CONFIG_PATHS))
    monkeypatch.setattr(factory, '_MODEL_CONFIGS', dict(factory._MODEL_CONFIGS))
    configs = {
        'small': CONFIG,
        'small-quickgelu': {**CONFIG, 'quick_gelu': True},
        'deeper': {**CONFIG, 'vision_cfg': {**CONFIG['vision_cfg'], 'layers': 3}},
    }
    for name, config in configs.items():
        path = tmp_path / 'configs' / f'{name}.json'
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / 'configs')
    return tiny_clip().state_dict()


def records(caplog):
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


# ------------------------------------------------------------------------------ activation


@pytest.mark.parametrize(
    ('model', 'taken', 'other'),
    [('small', 'GELU', 'small-quickgelu'), ('small-quickgelu', 'QuickGELU', 'small')],
)
def test_a_file_that_does_not_say_its_activation_gets_one_warning(
    model, taken, other, small, tmp_path, caplog
):
    save_file(small, tmp_path / 'a.safetensors')
    loaded, _ = ct.load_model(model, str(tmp_path / 'a.safetensors'))
    [text] = records(caplog)
    assert 'a.safetensors does not say whether it was trained with QuickGELU or GELU' in text
    assert f': {taken} is taken' in text and text.endswith(f"set model to '{other}'")
    assert type(loaded.visual.transformer.resblocks[0].mlp.gelu).__name__ == taken


def test_transformers_weights_without_their_config_get_one_warning(small, tmp_path, caplog):
    torch.save(to_transformers(small), tmp_path / 'pytorch_model.bin')
    ct.load_model('small', str(tmp_path))
    assert len(records(caplog)) == 1


@pytest.mark.parametrize('says', ['archive', 'open_clip', 'transformers'])
def test_a_file_that_says_its_activation_is_believed(says, small, tmp_path, caplog):
    tensors = {**small, **openai_numbers()} if says == 'archive' else small
    torch.save(tensors, tmp_path / 'open_clip_pytorch_model.bin')
    if says == 'open_clip':
        content = {'model_cfg': {**CONFIG, 'quick_gelu': True}}
        (tmp_path / 'open_clip_config.json').write_text(json.dumps(content))
    if says == 'transformers':
        (tmp_path / 'config.json').write_text('{"model_type": "clip"}')
    ct.load_model('small-quickgelu', str(tmp_path))
    assert not records(caplog)
    with pytest.raises(ct.SettingError, match=r"with QuickGELU.*set model to 'small-quickgelu'"):
        ct.load_model('small', str(tmp_path))


def test_files_of_download_say_their_model(small, tmp_path, caplog):
    torch.save(small, tmp_path / 'epoch 3.pt')
    path, digest = weights.download('small', str(tmp_path / 'epoch 3.pt'), tmp_path / 'new')
    assert path == tmp_path / 'new' / 'small-epoch 3.safetensors'
    caplog.clear()
    loaded, _ = weights.load_model('small', str(path), digest)
    assert torch.equal(loaded.visual.proj, small['visual.proj']) and not records(caplog)


def test_statistics_of_a_folder_are_used(small, tmp_path):
    save_file(small, tmp_path / 'open_clip_model.safetensors')
    content = {'model_cfg': CONFIG, 'preprocess_cfg': {'mean': [0.5, 0.4, 0.3], 'std': [1, 1, 2]}}
    (tmp_path / 'open_clip_config.json').write_text(json.dumps(content))
    loaded, _ = ct.load_model('small', str(tmp_path))
    assert loaded.visual.image_mean == (0.5, 0.4, 0.3) and loaded.visual.image_std == (1, 1, 2)


# ------------------------------------------------------------------------------ sizes


def refused(state, tmp_path, model='small'):
    torch.save(state, tmp_path / 'a.pt')
    with pytest.raises(ct.WeightsError) as error:
        ct.load_model(model, str(tmp_path / 'a.pt'))
    return str(error.value)


def test_weights_of_another_size_name_the_model_that_they_fit(small, tmp_path):
    other = weights._untrained('deeper')
    text = refused(small, tmp_path, 'deeper')
    assert 'does not belong to deeper: it lacks ' in text
    assert text.endswith('It has the sizes of small or small-quickgelu: set model to that')
    assert 'It has the sizes of deeper: set' in refused(other.state_dict(), tmp_path)
    said = refused({**small, **openai_numbers()}, tmp_path, 'deeper')
    assert said.endswith('It has the sizes of small-quickgelu: set model to that')


def test_the_sizes_of_all_models_of_open_clip_are_known():
    sizes = {name: fitting._sizes(config) for name, config in weights._sized(None)}
    assert sizes['ViT-B-16'] == (512, 768, 12, 16, 224, 512, 12, 77, 49408, False)
    assert sizes['ViT-L-14-336'] == (768, 1024, 24, 14, 336, 768, 12, 77, 49408, False)
    assert 'RN50' not in sizes and 'ViT-B-16-SigLIP' not in sizes
    quick = {name for name, _ in weights._sized(True)}
    assert 'ViT-B-16-quickgelu' in quick and 'ViT-B-16' not in quick


@pytest.mark.parametrize(
    ('change', 'reason'),
    [
        ({'embed_dim': 8}, r'has other shapes of text_projection, visual\.proj$'),
        ({'vision_cfg': {**CONFIG['vision_cfg'], 'layers': 3}}, r'has unknown visual\.transf'),
        ({'vision_cfg': {**CONFIG['vision_cfg'], 'image_size': 48}}, 'has other shapes of visual'),
        ({'text_cfg': {**CONFIG['text_cfg'], 'vocab_size': 60}}, 'has other shapes of token_emb'),
    ],
)
def test_every_difference_of_size_is_refused(change, reason, small, tmp_path):
    state = tiny_clip(**change).state_dict()
    with pytest.raises(ct.WeightsError, match=reason):
        fitting.put(tiny_clip(), dict(state), tmp_path, 'small', lambda: iter(()))
    known = [('this', {**CONFIG, **change}), ('small', CONFIG)]
    with pytest.raises(ct.WeightsError, match='It has the sizes of this: set model'):
        fitting.put(tiny_clip(), dict(state), tmp_path, 'small', lambda: iter(known))


def test_captions_make_another_model(small, tmp_path):
    state = {**small, 'text_decoder.ln_final.weight': torch.ones(64)}
    assert 'sizes of small' not in refused(state, tmp_path, 'deeper')


@pytest.mark.parametrize(
    ('keep', 'reason'),
    [
        (lambda n: n.startswith('vision'), r'is without a text tower: it lacks ln_final\.bias, '),
        (lambda n: n.startswith('text'), r'is without an image tower: it lacks '),
    ],
)
def test_a_tower_of_transformers_alone_is_named(keep, reason, small, tmp_path):
    state = {n: t for n, t in to_transformers(small).items() if keep(n.removeprefix('model.'))}
    with pytest.raises(ct.WeightsError, match=reason):
        torch.save(state, tmp_path / 'a.pt')
        ct.load_model('small', str(tmp_path / 'a.pt'))


@pytest.mark.parametrize(
    'number',
    [
        lambda t: (100 * t).to(torch.int8),
        lambda t: t.to('meta'),
        lambda t: t.to_sparse(),
    ],
)
def test_numbers_that_are_no_weights_are_named(number, small, tmp_path):
    state = {**small, 'visual.proj': number(small['visual.proj'])}
    with pytest.raises(ct.WeightsError, match=r'quantised or sparse numbers in visual\.proj'):
        fitting.put(tiny_clip(), state, tmp_path, 'small', lambda: iter(()))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_load(dtype, small, tmp_path):
    save_file({n: t.to(dtype) for n, t in small.items()}, tmp_path / 'a')
    loaded, _ = ct.load_model('small', str(tmp_path / 'a'))
    assert loaded.visual.proj.dtype == torch.float32
    assert torch.equal(loaded.visual.proj, small['visual.proj'].to(dtype).float())


def test_the_text_tower_may_be_an_attribute(small, tmp_path):
    """open_clip's CustomTextCLIP has the same tensors under text."""
    custom = open_clip.CustomTextCLIP(**CONFIG)
    fitting.put(custom, dict(small), tmp_path, 'custom', lambda: iter(()))
    assert torch.equal(custom.text.token_embedding.weight, small['token_embedding.weight'])
    plain = tiny_clip()
    fitting.put(plain, dict(custom.state_dict()), tmp_path, 'small', lambda: iter(()))
    assert all(torch.equal(t, small[n]) for n, t in plain.state_dict().items())
    state = {**small, 'logit_bias': torch.tensor(-10.0)}  # of SigLIP's loss
    fitting.put(plain, state, tmp_path, 'small', lambda: iter(()))


# ------------------------------------------------------------------------------ names


def test_a_folder_of_open_clip_as_model(tmp_path, caplog):
    state = {n: t.float() for n, t in half_model().state_dict().items()}
    save_file(state, tmp_path / 'open_clip_model.safetensors')
    config = open_clip.get_model_config(TINY)
    (tmp_path / 'open_clip_config.json').write_text(json.dumps({'model_cfg': config}))
    caplog.clear()
    name = f'local-dir:{tmp_path}'
    for given in ('openai', name):
        loaded, _ = weights.load_model(name, given)
        assert torch.equal(loaded.visual.proj, state['visual.proj'])
        assert weights.file_of(given, name) == tmp_path
    assert not records(caplog)
    random, _ = weights.load_model(name, 'random')
    assert not torch.equal(random.visual.proj, state['visual.proj'])


def test_names_that_belong_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'mine').mkdir()
    for model, given, reason in (
        (TINY, 'mine', r'has no tag .* write \./mine$'),
        (TINY, 'hf-hub:a/b', "set model to 'hf-hub:a/b' instead"),
        (str(tmp_path), 'openai', 'For a folder: local-dir:'),
        (f'local-dir:{tmp_path}', 'openai', r'open_clip_config\.json is not there or has no model'),
    ):
        with pytest.raises(ct.SettingError, match=reason):
            ct.load_model(model, given)


@pytest.mark.parametrize('name', ['hf-hub:a/b', 'local-dir:/a/b'])
def test_a_model_of_a_folder_is_not_downloaded_into_one_file(name, tmp_path):
    with pytest.raises(ct.SettingError, match=r'hf download \S*a/b --local-dir FOLDER'):
        weights.download(name, 'openai', tmp_path)


# ------------------------------------------------------------------------------ the hub


@pytest.fixture
def no_hub(monkeypatch, tmp_path):
    """Give the hub an address that counts connections and never answers; return their list."""
    server = socket.create_server(('127.0.0.1', 0))
    asked = []

    def count():
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            asked.append(connection.recv(4096))
            connection.close()

    thread = threading.Thread(target=count)
    thread.start()
    constants = hub.huggingface_hub.constants
    monkeypatch.setattr(constants, 'ENDPOINT', f'http://127.0.0.1:{server.getsockname()[1]}')
    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path / 'hub'))
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', False)
    yield asked
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()


def test_offline_a_model_of_the_hub_is_given_up_after_one_question(no_hub):
    with pytest.raises(ct.WeightsError, match='hf download a/b --local-dir FOLDER'):
        ct.load_model('hf-hub:a/b', 'openai')
    assert len(no_hub) == 1
    assert not hub.huggingface_hub.constants.HF_HUB_OFFLINE


def test_offline_a_model_of_the_hub_is_loaded_from_the_cache(no_hub, small, tmp_path, monkeypatch):
    repository = tmp_path / 'hub' / 'models--a--b'
    snapshot = repository / 'snapshots' / ('12ab' * 10)
    snapshot.mkdir(parents=True)
    (repository / 'refs').mkdir()
    (repository / 'refs' / 'main').write_text('12ab' * 10)
    save_file(small, snapshot / 'open_clip_model.safetensors')
    content = {'model_cfg': CONFIG, 'preprocess_cfg': {}}
    (snapshot / 'open_clip_config.json').write_text(json.dumps(content))
    loaded, tokenizer = ct.load_model('hf-hub:a/b', 'openai')
    assert torch.equal(loaded.visual.proj, small['visual.proj'])
    assert tokenizer(['a']).shape == (1, 8)
    assert len(no_hub) == 1


def test_offline_a_tokenizer_of_the_hub_is_given_up_after_one_question(no_hub, small, tmp_path):
    text = {**CONFIG['text_cfg'], 'hf_tokenizer_name': 'a/words'}
    path = tmp_path / 'configs' / 'foreign.json'
    path.write_text(json.dumps({**CONFIG, 'text_cfg': text}))
    open_clip.add_model_config(path)
    with pytest.raises(ct.WeightsError, match='open_clip cannot make foreign here'):
        ct.load_model('foreign', 'random')
    assert len(no_hub) == 1


def test_models_that_need_nothing_of_the_hub_do_not_ask(no_hub, small):
    ct.load_model('small', 'random')
    assert not no_hub


def test_offline_by_choice_no_model_asks(no_hub, monkeypatch):
    monkeypatch.setattr(hub.huggingface_hub.constants, 'HF_HUB_OFFLINE', True)
    with pytest.raises(ct.WeightsError, match='hf download'):
        ct.load_model('hf-hub:a/b', 'openai')
    assert not no_hub and hub.huggingface_hub.constants.HF_HUB_OFFLINE
