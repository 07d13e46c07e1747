"""The tensors of one CLIP model in a checkpoint, under the names of OpenAI's and open_clip's CLIP.

Training programs put a state dict into other dicts and put prefixes before its names. The model is
found by the names of a few of its tensors, whatever stands before them.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ..errors import WeightsError

log = logging.getLogger(__name__)

# Parts that wrappers (DistributedDataParallel, torch.compile, FSDP, checkpointing) insert anywhere.
_WRAPPERS = {'module', '_orig_mod', '_fsdp_wrapped_module', '_checkpoint_wrapped_module'}
# The first of these that occurs shows where the names of a model begin.
_LANDMARKS = (
    'visual.conv1.weight',
    'vision_model.embeddings.patch_embedding.weight',
    'text_model.embeddings.token_embedding.weight',
    'text.token_embedding.weight',
    'token_embedding.weight',
    'visual.proj',
    'logit_scale',
)
_AVERAGES = re.compile(r'(^|[._])(ema|swa|avg|averaged?)([._]|$)')
# Buffers of OpenAI's archives. No other program saves them.
_OPENAI = ('input_resolution', 'context_length', 'vocab_size')
# A count that torch.optim.swa_utils saves beside the names with the prefix `module.`.
_COUNT = 'n_averaged'
_DEPTH = 16  # of nested dicts; a model has about six
_VIT = 'choose weights whose image tower is a plain ViT, such as those of ViT-B-16-quickgelu'
# Names of tensors -> what the file holds, and what to do.
_OTHERS = (
    (
        r'(^|[._])(lora|loha|lokr|hada|ia3|dora|adapters?|prompt_learner)([._]|$)',
        'a LoRA or another adapter, which is only a change of a model: merge it into its model '
        '(in peft: merge_and_unload), save that, and use the new file',
    ),
    (r'^visual\.trunk\.', f'an image tower of timm: {_VIT}'),
    (r'^visual\.blocks\.', f'an EVA image tower: {_VIT}'),
    (r'^visual\.layer1\.|^layer1\.0\.', f'a ResNet: {_VIT}'),
    (r'^(vision|text)_model\.head\.', f'a SigLIP model, which has no [CLS] token: {_VIT}'),
    (r'^text_model\.(encoder\.layer|pooler)\.', f"a text tower that is not CLIP's: {_VIT}"),
    (
        r'^(conv1\.weight$|ln_pre\.|embeddings\.patch_embedding\.|patch_embed\.)',
        'an image tower alone: the text tower is missing. Use a file with the whole model',
    ),
)


def find(tree: Any) -> tuple[dict[str, Tensor], bool]:
    """Find the model in what a checkpoint holds: return (its state dict, OpenAI's own).

    Raises:
        WeightsError: with a sentence without the name of the file, which begins with a verb.
    """
    tensors: dict[str, Tensor] = {}
    for name, tensor in _tensors(tree):
        plain = '.'.join(part for part in name.split('.') if part not in _WRAPPERS)
        if plain in tensors:
            raise WeightsError(f'holds {plain} twice: save the state dict of one model alone')
        tensors[plain] = tensor
    if not tensors:
        raise WeightsError('holds no state dict (names and tensors)')
    state = _one_model(tensors)
    _refuse_others(state)
    openai = _OPENAI[0] in state
    state = {name: tensor for name, tensor in state.items() if name not in _OPENAI}
    if any(name.startswith(('vision_model.', 'text_model.')) for name in state):
        state = _from_transformers(state)
    return state, openai


def _tensors(tree: Any, prefix: str = '', depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    """Yield (dotted name, tensor) of nested dicts, except those of an optimizer."""
    if not isinstance(tree, dict) or depth > _DEPTH:
        return
    for key, value in tree.items():
        if not isinstance(key, str) or (not depth and key.startswith('optim')):
            continue
        if isinstance(value, Tensor) and key != _COUNT:
            yield prefix + key, value
        else:
            yield from _tensors(value, f'{prefix}{key}.', depth + 1)


def _one_model(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of the only model, without what stands before their names."""
    for landmark in _LANDMARKS:
        starts = [n.removesuffix(landmark) for n in tensors if f'.{n}'.endswith(f'.{landmark}')]
        if starts:
            break
    else:
        return tensors
    chosen = [s for s in starts if not _AVERAGES.search(s)] or starts
    if len(chosen) > 1:
        names = ', '.join(repr(start.rstrip('.')) for start in chosen)
        raise WeightsError(f'holds several models ({names}): save the state dict of one alone')
    start = chosen[0]
    if len(starts) > 1:
        log.info('weights: a running average is there too; the plain weights are taken')
    others = tuple(s for s in starts if s != start and s.startswith(start))
    return {
        name.removeprefix(start): tensor
        for name, tensor in tensors.items()
        if name.startswith(start) and not name.startswith(others)
    }


def _refuse_others(state: dict[str, Tensor]) -> None:
    for pattern, what in _OTHERS:
        if any(re.search(pattern, name) for name in state):
            raise WeightsError(f'holds {what}')
    if not any(f'.{name}'.endswith(f'.{mark}') for name in state for mark in _LANDMARKS):
        some = ', '.join(list(state)[:3])
        raise WeightsError(f'holds no CLIP model (its tensors: {some}, ...): {_VIT}')


# ------------------------------------------------------------------------------ transformers

_TOWERS = {
    'vision_model.embeddings.class_embedding': 'visual.class_embedding',
    'vision_model.embeddings.patch_embedding.weight': 'visual.conv1.weight',
    'vision_model.embeddings.position_embedding.weight': 'visual.positional_embedding',
    'text_model.embeddings.token_embedding.weight': 'token_embedding.weight',
    'text_model.embeddings.position_embedding.weight': 'positional_embedding',
}
# transformers spells it "layrnorm".
_NORMS = {
    'vision_model.pre_layrnorm.': 'visual.ln_pre.',
    'vision_model.post_layernorm.': 'visual.ln_post.',
    'text_model.final_layer_norm.': 'ln_final.',
}
_BLOCKS = {
    'self_attn.out_proj.': 'attn.out_proj.',
    'layer_norm1.': 'ln_1.',
    'layer_norm2.': 'ln_2.',
    'mlp.fc1.': 'mlp.c_fc.',
    'mlp.fc2.': 'mlp.c_proj.',
}
_LAYER = re.compile(r'(vision|text)_model\.encoder\.layers\.(\d+)\.(.+)')


def _from_transformers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of transformers' CLIPModel; unknown names stay."""
    state = {n: t for n, t in state.items() if not n.endswith('.position_ids')}
    found = {}
    for name, tensor in state.items():
        if name in ('visual_projection.weight', 'text_projection.weight'):
            own = 'visual.proj' if name.startswith('visual') else 'text_projection'
            found[own] = tensor.T
        elif match := _LAYER.fullmatch(name):
            tower = 'visual.' if match[1] == 'vision' else ''
            block = f'{tower}transformer.resblocks.{match[2]}.'
            found.update(_of_block(block, name, match[3], state))
        else:
            found[_renamed(name, _NORMS, _TOWERS.get(name, name))] = tensor
    return found


def _of_block(block: str, name: str, inner: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensor of a block under its new name; that of q holds k and v too."""
    attention, _, kind = name.rpartition('_proj.')
    if inner.startswith(('self_attn.k_proj', 'self_attn.v_proj')):
        return {}
    if inner.startswith('self_attn.q_proj'):
        three = [state.get(f'{attention[:-1]}{one}_proj.{kind}') for one in 'qkv']
        there = [tensor for tensor in three if tensor is not None]
        return {f'{block}attn.in_proj_{kind}': torch.cat(there)}
    return {block + _renamed(inner, _BLOCKS, inner): state[name]}


def _renamed(name: str, starts: dict[str, str], default: str) -> str:
    for start, own in starts.items():
        if name.startswith(start):
            return own + name.removeprefix(start)
    return default
