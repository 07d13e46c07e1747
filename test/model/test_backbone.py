import hashlib
import logging
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from towers import make_visual

import cliptrase_ros as ct
from cliptrase_ros.model import backbone as backbone_module
from cliptrase_ros.model import hub, weights
from cliptrase_ros.model.backbone import Backbone

ROOT = Path(__file__).parents[2]
TINY = {'model': 'cliptrase-tiny', 'device': 'cpu', 'precision': 'fp32'}


@pytest.fixture(scope='module')
def tiny_model():
    return weights.load_model('cliptrase-tiny', 'random')[0]


@pytest.fixture(scope='module')
def tiny_state(tiny_model):
    # 'random' always uses the same seed; these weights must differ from it.
    return {k: v.clone() * 1.5 for k, v in tiny_model.state_dict().items()}


@pytest.fixture
def tiny_file(tiny_state, tmp_path):
    path = tmp_path / 'tiny.safetensors'
    save_file(tiny_state, path)
    return path


def loads(path, tiny_state, **changes):
    loaded = Backbone.load(ct.Settings(**TINY, weights=str(path), **changes))
    state = loaded.visual.state_dict()
    return all(torch.equal(v, tiny_state[f'visual.{k}']) for k, v in state.items())


def test_a_safetensors_file_loads(tiny_file, tiny_state):
    assert loads(tiny_file, tiny_state)


@pytest.mark.parametrize(
    'wrap',
    [
        lambda state: state,
        lambda state: {'epoch': 3, 'state_dict': {f'module.{k}': v for k, v in state.items()}},
        lambda state: {**state, 'logit_scale': state['logit_scale'].reshape(1)},
        lambda state: {**state, 'text.position_ids': torch.arange(3)},
    ],
)
def test_checkpoints_load_in_the_forms_people_have(wrap, tiny_state, tmp_path):
    path = tmp_path / 'tiny.pt'
    torch.save(wrap(tiny_state), path)
    assert loads(path, tiny_state)


def test_the_sha256_is_checked(tiny_file, tiny_state):
    digest = hashlib.sha256(tiny_file.read_bytes()).hexdigest()
    assert loads(tiny_file, tiny_state, weights_sha256=digest.upper())
    with pytest.raises(ct.WeightsError, match=f'has SHA-256 {digest}, expected 00'):
        loads(tiny_file, tiny_state, weights_sha256='00' * 32)
    with pytest.raises(ct.SettingError, match='only a local file'):
        Backbone.load(ct.Settings(**TINY, weights='random', weights_sha256=digest))


def truncated(path, state):
    save_file(state, path)
    path.write_bytes(path.read_bytes()[:1000])


def with_code(path, state):
    torch.save({'state_dict': state, 'more': Fraction(1, 2)}, path)


@pytest.mark.parametrize(
    'name, write, reason',
    [
        ('a.safetensors', truncated, 'damaged'),
        ('a.safetensors', lambda path, state: path.write_bytes(b''), 'damaged'),
        ('a.pt', with_code, 'more than tensors'),
        ('a.pt', lambda path, state: path.write_bytes(b'no checkpoint'), 'a.pt'),
        ('a.pt', lambda path, state: torch.save([1, 2], path), 'no state dict'),
        ('a.pt', lambda path, state: torch.save({'a': 1}, path), 'no state dict'),
        ('a.pt', lambda path, state: torch.save({1: torch.ones(1)}, path), 'no state dict'),
    ],
)
def test_damaged_files_are_refused(name, write, reason, tiny_state, tmp_path):
    write(tmp_path / name, tiny_state)
    with pytest.raises(ct.WeightsError, match=reason):
        Backbone.load(ct.Settings(**TINY, weights=str(tmp_path / name)))


@pytest.mark.parametrize(
    'change, reason',
    [
        (lambda s: s.pop('visual.proj'), r'lacks visual\.proj'),
        (lambda s: s.update(extra=torch.zeros(1)), 'has unknown extra'),
        (lambda s: s.update({'visual.proj': torch.zeros(2, 2)}), r'other shapes of visual\.proj'),
        (lambda s: [s.pop(k) for k in list(s) if k.startswith('visual')], 'and .* more'),
    ],
)
def test_weights_of_another_model_are_refused(change, reason, tiny_state, tmp_path):
    state = dict(tiny_state)
    change(state)
    torch.save(state, tmp_path / 'other.pt')
    with pytest.raises(ct.WeightsError, match=reason):
        Backbone.load(ct.Settings(**TINY, weights=str(tmp_path / 'other.pt')))


def test_weights_that_are_not_finite_fail_the_self_check(tiny_state, tmp_path):
    state = {**tiny_state, 'visual.proj': tiny_state['visual.proj'] * float('nan')}
    save_file(state, tmp_path / 'nan.safetensors')
    with pytest.raises(ct.UnsupportedBackbone, match='self check'):
        Backbone.load(ct.Settings(**TINY, weights=str(tmp_path / 'nan.safetensors')))


@pytest.mark.parametrize(
    'settings, error, reason',
    [
        ({'model': 'ViT-B-16-quickgel'}, ct.SettingError, "Did you mean 'ViT-B-16-quickgelu'"),
        ({'weights': 'openia'}, ct.SettingError, 'has no tag .*openai'),
        ({'weights': '/nowhere/clip.safetensors'}, ct.WeightsError, 'no file /nowhere'),
        ({'model': 'RN50'}, ct.UnsupportedBackbone, 'ResNet'),
        ({'model': 'ViT-B-16-SigLIP'}, ct.UnsupportedBackbone, 'timm'),
        ({'model': 'ViT-B-16'}, ct.SettingError, "QuickGELU.*'ViT-B-16-quickgelu'"),
        (
            {'weights': 'laion2b_s32b_b82k', 'model': 'ViT-L-14-quickgelu'},
            ct.SettingError,
            'has no tag',
        ),
        ({'device': 'gpu'}, ct.SettingError, "device: 'gpu'"),
        ({'device': 'cuda:99'}, ct.SettingError, "device: 'cuda:99'"),
    ],
)
def test_what_cannot_be_loaded_is_explained(settings, error, reason):
    with pytest.raises(error, match=reason):
        ct.load(ct.Settings(**settings))


def test_gelu_weights_on_a_quickgelu_model_are_refused(monkeypatch):
    monkeypatch.setattr(
        weights.open_clip, 'get_pretrained_cfg', lambda name, tag: {'quick_gelu': False}
    )
    with pytest.raises(ct.SettingError, match="set model to 'ViT-B-16'"):
        Backbone.load(ct.Settings())


def test_offline_the_error_says_how_to_get_the_weights(monkeypatch, tmp_path):
    monkeypatch.setattr(hub.huggingface_hub.constants, 'ENDPOINT', 'http://127.0.0.1:9')
    monkeypatch.setattr(hub.huggingface_hub.constants, 'HF_HUB_CACHE', str(tmp_path))
    assert not weights.hub_reachable()
    with pytest.raises(ct.WeightsError, match='cliptrase download --model ViT-B-16-quickgelu'):
        ct.load()


def test_offline_by_choice_nobody_is_asked(monkeypatch):
    monkeypatch.setattr(hub.huggingface_hub.constants, 'HF_HUB_OFFLINE', True)
    monkeypatch.setattr(hub.urllib.request, 'urlopen', None)
    assert not weights.hub_reachable()


@pytest.mark.parametrize(
    ('address', 'file'),
    [
        ('maker/clip/', 'open_clip_model.safetensors'),
        ('maker/clip/', 'open_clip_pytorch_model.bin'),
        ('maker/clip/epoch_32.pt', 'epoch_32.safetensors'),
        ('maker/clip/epoch_32.pt', 'epoch_32.pt'),
    ],
)
def test_weights_in_the_cache_are_loaded_without_the_hub(
    address, file, monkeypatch, tiny_state, tmp_path
):
    constants = hub.huggingface_hub.constants
    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path))
    monkeypatch.setattr(weights, 'hub_reachable', None)
    source = {'hf_hub': address, 'quick_gelu': True, 'mean': [0.5, 0.4, 0.3]}
    monkeypatch.setattr(weights.open_clip, 'list_pretrained_tags_by_model', lambda name: ['tag'])
    monkeypatch.setattr(weights.open_clip, 'get_pretrained_cfg', lambda name, tag: source)
    repository = tmp_path / 'models--maker--clip'
    (repository / 'refs').mkdir(parents=True)
    (repository / 'refs' / 'main').write_text('1234')
    path = repository / 'snapshots' / '1234' / file
    path.parent.mkdir(parents=True)
    save = save_file if path.suffix == '.safetensors' else torch.save
    save(tiny_state, path)
    loaded = Backbone.load(ct.Settings(**TINY, weights='tag'))
    state = loaded.visual.state_dict()
    assert all(torch.equal(state[k], tiny_state[f'visual.{k}']) for k in state)
    assert loaded.mean.flatten().tolist() == pytest.approx([0.5, 0.4, 0.3])


def test_download_makes_a_file_that_loads(monkeypatch, tiny_model, tiny_state, tmp_path):
    """A fake replaces open_clip's download, because tests cannot use the hub."""
    tags = ['published']
    monkeypatch.setattr(weights.open_clip, 'list_pretrained_tags_by_model', lambda name: tags)
    monkeypatch.setattr(
        weights.open_clip, 'get_pretrained_cfg', lambda name, tag: {'quick_gelu': True}
    )
    real = open_clip.create_model

    def create_model(name, pretrained=None, **options):
        model = real(name, pretrained=None, **options)
        if pretrained == 'published':
            model.load_state_dict(tiny_state)
        return model

    monkeypatch.setattr(weights.open_clip, 'create_model', create_model)
    path, digest = weights.download('cliptrase-tiny', 'published', tmp_path / 'new')
    assert path == tmp_path / 'new' / 'cliptrase-tiny-published.safetensors'
    assert loads(path, tiny_state, weights_sha256=digest)
    # The file names its model, because weights alone do not show which activation they need.
    with pytest.raises(ct.WeightsError, match='was downloaded for cliptrase-tiny'):
        Backbone.load(ct.Settings(model='ViT-B-16', weights=str(path), device='cpu'))


def test_random_weights_are_the_same_each_time_and_reported(caplog):
    state = torch.random.get_rng_state()
    with caplog.at_level(logging.WARNING):
        a, b = (weights.load_model('cliptrase-tiny', 'random')[0].state_dict() for _ in 'ab')
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert torch.equal(state, torch.random.get_rng_state())
    assert {r.getMessage() for r in caplog.records} == {
        'cliptrase-tiny has random weights: its labels mean nothing'
    }


def test_the_self_check_refuses_a_tower_that_computes_something_else():
    visual = make_visual()

    class Scaled(type(visual)):
        def forward(self, x):
            return 1.01 * super().forward(x)

    visual.__class__ = Scaled
    with pytest.raises(ct.UnsupportedBackbone, match='self check failed'):
        Backbone(visual)


def test_modes_of_training_stay_as_they_are():
    visual = make_visual(patch_dropout=0.5).train()
    visual.transformer.resblocks[1].eval()
    before = [module.training for module in visual.modules()]
    Backbone(visual)
    assert [module.training for module in visual.modules()] == before
    assert True in before and False in before


def test_a_precision_too_low_for_the_weights_is_refused():
    visual = make_visual()
    mlp = visual.transformer.resblocks[1].mlp
    mlp.c_fc.weight.data *= 1e6  # the largest float16 is 65,504
    backbone = Backbone(visual)
    with pytest.raises(ct.UnsupportedBackbone, match=r'in torch\.float16 .*\(try fp32\)'):
        ct.Segmenter(backbone, ct.Settings(precision='fp16'))


def test_models_that_need_the_hub_for_their_text_are_explained(monkeypatch):
    def offline(name):
        raise OSError('cannot reach the hub\nat all')

    monkeypatch.setattr(weights.open_clip, 'get_tokenizer', offline)
    with pytest.raises(ct.WeightsError, match='cannot make cliptrase-tiny here: cannot reach'):
        weights.load_model('cliptrase-tiny', 'random')


def test_the_towers_own_statistics_of_images_are_used():
    visual = make_visual()
    visual.image_mean, visual.image_std = (0.5, 0.4, 0.3), (0.1, 0.2, 0.3)
    assert Backbone(visual).mean.flatten().tolist() == pytest.approx([0.5, 0.4, 0.3])
    given = Backbone(visual, mean=(0, 0, 1), std=(1, 1, 2))
    assert given.std.flatten().tolist() == [1, 1, 2]


@pytest.mark.parametrize('fast', [True, False])
def test_precision_auto_is_fp16_on_cuda_and_bf16_where_the_cpu_has_it(visual, fast, monkeypatch):
    on_cuda = visual.conv1.weight.is_cuda
    monkeypatch.setattr(backbone_module, 'fast_bfloat16', lambda device: fast and not on_cuda)
    expected = torch.bfloat16 if fast else torch.float32
    assert Backbone(visual).tower('auto').dtype == (torch.float16 if on_cuda else expected)


def test_towers_are_shared_between_segmenters(backbone):
    assert backbone.tower('fp32') is backbone.tower('fp32')
    assert backbone.tower('fp32') is not backbone.tower('bf16')
    assert backbone.tower('fp32') is not backbone.tower('fp32', position_offset=0.0)


def test_text_embeddings_are_unit_and_long_sentences_are_noticed():
    text = Backbone.load(ct.Settings(**TINY, weights='random')).text
    rows = text.encode(['a mug', 'a photo of a red mug on a table'])
    assert rows.shape == (2, 64)
    assert torch.allclose(rows.norm(dim=1), torch.ones(2), atol=1e-6)
    assert not text.too_long('a mug')
    assert text.too_long('mug ' * 100)
    templates = ('a {}', 'one very red {}', '{}')
    assert text.longest(templates) == text.longest(templates) == 'one very red {}'


def test_the_fingerprint_names_the_text_weights(tiny_file):
    one = Backbone.load(ct.Settings(**TINY, weights='random')).text.fingerprint
    same = Backbone.load(ct.Settings(**TINY, weights='random')).text.fingerprint
    other = Backbone.load(ct.Settings(**TINY, weights=str(tiny_file))).text.fingerprint
    assert one == same != other
    model, tokenizer = weights.load_model('cliptrase-tiny', 'random')
    for block in model.transformer.resblocks:
        block.mlp.gelu = torch.nn.GELU()
    assert backbone_module.TextEncoder(model, tokenizer).fingerprint != one


def test_load_wants_settings():
    with pytest.raises(ct.SettingError, match="got 'ViT-B-16'"):
        ct.load('ViT-B-16')


LOADED = """
import sys
import numpy as np
import cliptrase_ros as ct
settings = ct.Settings(model='cliptrase-tiny', weights='random', device='cpu', input_size=32)
segmenter = ct.load(settings)
segmenter(np.zeros((32, 48, 3), np.uint8), segmenter.vocabulary(['floor', 'mug']))
assert not {'timm', 'transformers', 'torch._dynamo'} & set(sys.modules), 'imported for nothing'
import torch
from open_clip.timm_model import TimmModel
tower = TimmModel('vit_tiny_patch16_224', embed_dim=8, proj='mlp', pretrained=False)
assert type(tower.trunk).__module__.startswith('timm.')
assert tower(torch.zeros(1, 3, 224, 224)).shape == (1, 8)
assert torch.compile(lambda x: x + 1, backend='eager')(torch.zeros(1)) == 1
"""


@pytest.mark.slow
def test_a_start_waits_for_nothing_that_it_does_not_use():
    """open_clip still works completely for others: its timm models, and torch's compiler."""
    done = subprocess.run([sys.executable, '-c', LOADED], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_towers_share_weights_and_stay_ready(backbone):
    one, other = backbone.tower('fp32', 0.1), backbone.tower('fp32', 0.0)
    assert one is backbone.tower('fp32', 0.1) and other is backbone.tower('fp32', 0.0)
    assert one.blocks is other.blocks
    assert not torch.equal(one.position_table((3, 5)), other.position_table((3, 5)))
    for number in range(backbone_module.TOWERS):
        backbone.tower('fp32', 0.2 + number / 100)
    again = backbone.tower('fp32', 0.0)
    assert again is not other and again.blocks is one.blocks


@pytest.mark.parametrize(
    ('changes', 'kind'),
    [
        ({}, 'CLIP'),
        ({'custom_text': True}, 'CustomTextCLIP'),
        ({'custom_text': True, 'multimodal_cfg': {}}, 'CoCa'),
        ({'text_cfg': {'hf_model_name': 'roberta-base'}}, 'CustomTextCLIP'),
    ],
)
def test_untrained_models_are_of_the_class_that_open_clip_takes(monkeypatch, changes, kind):
    """Text towers of other libraries do not fetch weights."""
    config = {'embed_dim': 16, 'vision_cfg': {}, 'text_cfg': {}, **changes}
    made = {}
    monkeypatch.setattr(weights.open_clip, 'get_model_config', lambda name: config)
    for name in ('CLIP', 'CustomTextCLIP', 'CoCa'):
        monkeypatch.setattr(
            weights.open_clip, name, lambda name=name, **given: made.update({name: given})
        )
    weights._untrained('any')
    assert made.keys() == {kind} and 'custom_text' not in made[kind]
    text = made[kind]['text_cfg']
    assert text.get('hf_model_pretrained', False) is False
    assert ('hf_model_pretrained' in text) == ('hf_model_name' in text)
