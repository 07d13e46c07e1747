"""Finding one CLIP in the nested dicts that training programs save."""

import itertools

import pytest
import torch
from checkpoint_files import tiny_clip, to_transformers

from cliptrase_ros.errors import WeightsError
from cliptrase_ros.model import clip_names


@pytest.fixture(scope='module')
def state():
    return tiny_clip().state_dict()


def same(found, state):
    return found.keys() == state.keys() and all(torch.equal(found[n], state[n]) for n in state)


def prefixed(state, prefix):
    return {f'{prefix}{name}': tensor for name, tensor in state.items()}


PREFIXES = ['module.', '_orig_mod.', 'model.']
ORDERS = [''.join(p) for n in (1, 2, 3) for p in itertools.permutations(PREFIXES, n)]
OTHERS = ['clip.', 'net.clip_model.', 'model._fsdp_wrapped_module.', 'module.module.', '']


@pytest.mark.parametrize('prefix', [*ORDERS, *OTHERS])
@pytest.mark.parametrize('layout', ['open_clip', 'transformers'])
def test_prefixes_in_any_order(prefix, layout, state):
    saved = to_transformers(state) if layout == 'transformers' else state
    assert same(clip_names.find({'state_dict': prefixed(saved, prefix)})[0], state)
    assert same(clip_names.find(prefixed(saved, prefix))[0], state)


@pytest.mark.parametrize(
    'wrap',
    [
        lambda s: {'state_dict': s},
        lambda s: {'model': s, 'optimizer': {'state': {0: {'exp_avg': torch.ones(1)}}}},
        lambda s: {'model_state_dict': s, 'epoch': 3, 'loss': torch.tensor(0.5)},
        lambda s: {'module': s},
        lambda s: {'weights': {'clip': {'state_dict': s}}},
        lambda s: {'model': {'module': prefixed(s, '_orig_mod.')}, 'scaler': {'scale': 1.0}},
        lambda s: {'model_ema': s},
        lambda s: {'state_dict': prefixed(s, 'model.'), 'ema_state_dict': s},
        lambda s: {'net': s, 'ema': {'shadow': s}, 'swa': prefixed(s, 'module.')},
        lambda s: {**prefixed(s, 'module.'), 'n_averaged': torch.tensor(3)},
        lambda s: {**s, **prefixed(s, 'ema.')},
        lambda s: {**prefixed(s, 'clip.'), 'head.weight': torch.ones(2)},
        lambda s: {'model': s, 'optimizer_named': prefixed(s, 'momentum.')},
        lambda s: {n.replace('visual.', 'visual._orig_mod.'): t for n, t in s.items()},
        lambda s: {n.replace('.0.', '.0._checkpoint_wrapped_module.'): t for n, t in s.items()},
        lambda s: {n: torch.nn.Parameter(t) for n, t in s.items()},
    ],
)
def test_state_dicts_in_the_files_of_training_programs(wrap, state):
    assert same(clip_names.find(wrap(state))[0], state)


@pytest.mark.parametrize(
    ('tree', 'reason'),
    [
        ([1, 2], 'no state dict'),
        ({}, 'no state dict'),
        ({'a': 1, 2: torch.ones(1)}, 'no state dict'),
        ({'optimizer': {'a': torch.ones(1)}}, 'no state dict'),
        ({'b': torch.ones(1)}, r'no CLIP model \(its tensors: b'),
    ],
)
def test_what_holds_no_model(tree, reason):
    with pytest.raises(WeightsError, match=f'^holds {reason}'):
        clip_names.find(tree)


def test_dicts_that_hold_themselves(state):
    tree = {'state_dict': state}
    tree['again'] = {'tree': tree}
    with pytest.raises(WeightsError, match='holds several models'):
        clip_names.find(tree)


def test_several_models_are_named(state):
    with pytest.raises(WeightsError, match=r"several models \('student', 'teacher'\): save"):
        clip_names.find({'student': state, 'teacher': state})
    with pytest.raises(WeightsError, match='holds logit_scale twice'):
        clip_names.find({**state, 'module.logit_scale': state['logit_scale']})


@pytest.mark.parametrize(
    ('names', 'reason'),
    [
        (['base_model.model.text_model.encoder.layers.0.self_attn.q_proj.lora_A.weight'], 'a LoRA'),
        (['lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight'], 'a LoRA'),
        (['visual.conv1.weight', 'visual.transformer.resblocks.0.adapter.down.weight'], 'a LoRA'),
        (['visual.conv1.weight', 'transformer.resblocks.0.attn.in_proj.lora_B'], 'a LoRA'),
        (['prompt_learner.ctx'], 'a LoRA or another adapter'),
        (['visual.trunk.patch_embed.proj.weight', 'logit_scale'], 'an image tower of timm'),
        (['visual.blocks.0.attn.q_proj.weight', 'logit_scale'], 'an EVA image tower'),
        (['visual.conv1.weight', 'visual.layer1.0.conv1.weight'], 'a ResNet'),
        (['conv1.weight', 'layer1.0.conv1.weight', 'fc.weight'], 'a ResNet'),
        (
            ['vision_model.embeddings.patch_embedding.weight', 'vision_model.head.probe'],
            'a SigLIP model',
        ),
        (['logit_scale', 'text_model.encoder.layer.0.output.dense.weight'], 'a text tower that is'),
        (['conv1.weight', 'class_embedding', 'proj', 'ln_pre.weight'], 'an image tower alone'),
        (['patch_embed.proj.weight', 'blocks.0.attn.qkv.weight'], 'an image tower alone'),
        (['embeddings.patch_embeddings.projection.weight'], 'no CLIP model'),
        (['model.diffusion_model.out.0.weight'], 'no CLIP model'),
    ],
)
def test_other_architectures_are_named(names, reason):
    with pytest.raises(WeightsError, match=f'^holds {reason}'):
        clip_names.find({name: torch.ones(1) for name in names})


def test_position_ids_of_older_versions_of_transformers(state):
    saved = to_transformers(state)
    for tower in ('vision', 'text'):
        saved[f'{tower}_model.embeddings.position_ids'] = torch.arange(5)
    assert same(clip_names.find(saved)[0], state)


@pytest.mark.parametrize('gone', ['q', 'k', 'v'])
def test_a_lost_projection_does_not_pass(gone, state):
    saved = to_transformers(state)
    del saved[f'text_model.encoder.layers.0.self_attn.{gone}_proj.weight']
    found = clip_names.find(saved)[0].get('transformer.resblocks.0.attn.in_proj_weight')
    assert (
        found is None or found.shape != state['transformer.resblocks.0.attn.in_proj_weight'].shape
    )
