"""Whether tensors fit a model, and otherwise what differs and which other model they fit."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import WeightsError

# Tensors of the text tower. Some open_clip models keep it in an attribute `text`.
_TEXT = ('text_projection', 'positional_embedding', 'token_embedding.', 'transformer.', 'ln_final.')
# Not weights: buffers that only some versions have, and the bias of SigLIP's loss, which is the
# same for all words.
_BUFFERS = ('_ids', 'attn_mask', 'logit_bias')
Configs = Callable[[], Iterator[tuple[str, dict]]]


def put(model: nn.Module, state: dict[str, Tensor], file: Path, name: str, known: Configs) -> None:
    """Load a state dict into a model.

    Args:
        state: tensors under the names of OpenAI's CLIP.
        file, name: of the weights and of the model, for the message.
        known: gives the names and configurations of other models.

    Raises:
        WeightsError: the tensors do not fit.
    """
    own = model.state_dict()
    state = _as_in(own, state)
    problem = _difference(own, state)
    if problem:
        sizes = _sizes_of(state)
        others = [other for other, config in known() if _sizes(config) == sizes]
        if sizes == _sizes_of(own):
            others = []
        fits = f'. It has the sizes of {" or ".join(others)}: set model to that' if others else ''
        raise WeightsError(f'weights: {file} does not belong to {name}: it {problem}{fits}')
    model.load_state_dict(state)


def _as_in(own: dict[str, Tensor], state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Bring names and the scalar into the form of `own`."""
    if any(name.startswith('text.') for name in own):
        state = {f'text.{n}' if n.startswith(_TEXT) else n: t for n, t in state.items()}
    else:
        state = {name.removeprefix('text.'): tensor for name, tensor in state.items()}
    scale = 'logit_scale'  # saved as [] or [1]
    if scale in state and scale in own and state[scale].numel() == 1:
        state[scale] = state[scale].reshape(own[scale].shape)
    return {n: t for n, t in state.items() if n in own or not n.endswith(_BUFFERS)}


def _difference(own: dict[str, Tensor], state: dict[str, Tensor]) -> str:
    """Return what differs, as the end of a sentence; '' if nothing does."""
    both = sorted(own.keys() & state.keys())
    missing = sorted(own.keys() - state.keys())
    cases = (
        ('lacks', missing),
        ('has unknown', sorted(state.keys() - own.keys())),
        ('has other shapes of', [k for k in both if own[k].shape != state[k].shape]),
        ('has quantised or sparse numbers in', [k for k in both if not _plain(state[k])]),
    )
    for what, names in cases:
        if names:
            more = f' and {len(names) - 3} more' if len(names) > 3 else ''
            return f'{_tower_gone(own, missing)}{what} {", ".join(names[:3])}{more}'
    return ''


def _tower_gone(own: dict[str, Tensor], missing: list[str]) -> str:
    image = {name for name in own if name.startswith('visual.')}
    text = own.keys() - image - {'logit_scale'}
    for tower, names in (('an image tower', image), ('a text tower', text)):
        if names <= set(missing):
            return f'is without {tower}: it '
    return ''


def _plain(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and tensor.layout == torch.strided and not tensor.is_meta


def _sizes(config: dict) -> tuple:
    """Return the sizes of a model from its configuration. Its defaults are open_clip's."""
    image, text = config['vision_cfg'], config['text_cfg']
    return (
        config['embed_dim'],
        *(image.get('width', 768), image.get('layers', 12), image.get('patch_size', 16)),
        image.get('image_size', 224),
        *(text.get('width', 512), text.get('layers', 12)),
        *(text.get('context_length', 77), text.get('vocab_size', 49408)),
        'multimodal_cfg' in config,  # CoCa's decoder of captions
    )


def _sizes_of(state: dict[str, Tensor]) -> tuple:
    """Return the sizes of a model from its tensors; () if some are missing."""
    state = {name.removeprefix('text.'): tensor for name, tensor in state.items()}
    names = ['visual.proj', 'visual.conv1.weight', 'visual.positional_embedding']
    names += ['positional_embedding', 'token_embedding.weight']
    dims = [state[n].shape for n in names if n in state]
    if [len(d) for d in dims] != [2, 4, 2, 2, 2]:
        return ()
    projection, patches, positions, words, vocabulary = dims
    grid = math.isqrt(positions[0] - 1)
    image_layers, text_layers = (
        len({m[1] for n in state if (m := re.match(rf'{tower}\.resblocks\.(\d+)\.', n))})
        for tower in (r'visual\.transformer', 'transformer')
    )
    return (
        projection[1],
        *(patches[0], image_layers, patches[3]),
        grid * patches[3],
        *(words[1], text_layers),
        *(words[0], vocabulary[0]),
        any(name.startswith('text_decoder.') for name in state),
    )
