"""Loading a model: open_clip names and tags, local files, and machines without a network.

Only this module imports open_clip.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import pickle
import textwrap
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .. import files
from ..errors import SettingError, UnsupportedBackbone, WeightsError, did_you_mean
from ..runtime import deferred, torch_compat

# open_clip imports torchvision and timm, and these import torch's compiler. No native tower uses
# them.
with deferred.imports_of('timm', torch_compat.COMPILER):
    import open_clip

log = logging.getLogger(__name__)

RANDOM = 'random'
# The model of the demo world and its bundled weights. They only know that world.
DEMO_MODEL, DEMO = 'cliptrase-demo', 'demo'
DEMO_SHA256 = '901a3c52de6112ad25c78f7a0688ac45c1c6dc46201569af2739a9e742f0d38d'
# Metadata key of files of `download`. Weights alone do not show which activation they need.
MADE_FOR = 'open_clip model'
# With this seed the untrained tiny model finds several words in the demo's pictures.
RANDOM_SEED = 7
MODELS = Path(__file__).parent / 'configs'


def open_clip_version() -> str:
    """Return the version of open_clip, such as '3.3.0'."""
    return open_clip.__version__


def load_model(name: str, weights: str, sha256: str | None = None) -> tuple[nn.Module, Callable]:
    """Load (model, tokenizer) of open_clip.

    Args:
        name, weights: see Settings.model and weights.
        sha256: expected of the local file, in hexadecimal; None: not checked.

    Raises:
        SettingError: the model or the tag does not exist, or they do not fit each other.
        WeightsError: the weights are not available, are damaged, or belong to another model.
        UnsupportedBackbone: the methods cannot run on this kind of model.
    """
    config = _model_config(name)
    if weights == DEMO:
        weights, sha256 = _demo_file(name, sha256)
    file = file_of(weights)
    if sha256 and not file:
        raise SettingError(
            'weights_sha256: only a local file can be checked; set weights to its path'
        )
    if file:
        state = _read_state(file, sha256)
        _refuse_file_of_another_model(file, name)
        model = _untrained(name)
        _put_state(model, state, file, name)
    elif weights == RANDOM:
        model = _untrained(name)
        log.warning('%s has random weights: its labels mean nothing', name)
    else:
        model = _pretrained(name, weights, config)
    return model, _from_open_clip(name, lambda: open_clip.get_tokenizer(name))


def file_of(weights: str) -> Path | None:
    """Return the file that Settings.weights names; None for a tag and for random weights."""
    if weights == DEMO:
        return MODELS / f'{DEMO_MODEL}.safetensors'
    file = Path(weights)
    with contextlib.suppress(RuntimeError):  # there is no such user: keep the ~
        file = file.expanduser()
    return file if '/' in weights or file.suffix else None


def _demo_file(name: str, sha256: str | None) -> tuple[str, str]:
    if name != DEMO_MODEL:
        raise SettingError(
            f'weights: {DEMO!r} do not belong to {name}; set model to {DEMO_MODEL!r}'
        )
    return str(MODELS / f'{DEMO_MODEL}.safetensors'), sha256 or DEMO_SHA256


def _from_open_clip(name: str, make: Callable[[], Any]) -> Any:
    """Let open_clip build something for a model. Some models need files from the hub for this."""
    try:
        return make()
    except Exception as error:  # open_clip, transformers and the hub's client raise anything
        raise WeightsError(
            f'open_clip cannot make {name} here: {_first_line(error)}. Its text tower or tokenizer '
            "may need files from the hub; 'ViT-B-16-quickgelu' does not need any"
        ) from error


def _untrained(name: str) -> nn.Module:
    """Return the model with random weights, the same each time."""
    # Not `open_clip.create_model`: it would warn about random weights on the root logger, even if
    # real weights are loaded next.
    config = open_clip.get_model_config(name)
    text, kind = config['text_cfg'], open_clip.CLIP
    if 'hf_model_name' in text:
        text['hf_model_pretrained'] = False
    if config.pop('custom_text', False) or 'hf_model_name' in text:
        kind = open_clip.CoCa if 'multimodal_cfg' in config else open_clip.CustomTextCLIP
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(RANDOM_SEED)
        return _from_open_clip(name, lambda: kind(**config))


def _pretrained(name: str, weights: str, config: dict) -> nn.Module:
    tags = open_clip.list_pretrained_tags_by_model(name)
    if weights not in tags:
        raise SettingError(
            f'weights: {name} has no tag {weights!r} (tags: {", ".join(tags) or "none"}), and '
            'it is not the path of a file'
        )
    _refuse_activation_mismatch(name, weights, config)
    source = open_clip.get_pretrained_cfg(name, weights)
    try:
        if file := _cached_file(source.get('hf_hub', '')):
            return _with_statistics(open_clip.create_model(name, pretrained=str(file)), source)
        if source.get('hf_hub') and not hub_reachable():
            raise ConnectionError('the hub cannot be reached')  # the client would retry for long
        return open_clip.create_model(name, pretrained=weights)
    except Exception as error:  # open_clip and the hub's client raise anything
        raise WeightsError(
            f'cannot get the weights {weights!r} of {name}: {_first_line(error)}. If this machine '
            'is offline, run on one with a network: '
            f'cliptrase download --model {name} --weights {weights} --out FOLDER ; copy the file '
            'here and set weights to its path. To try the package without this file: model '
            'cliptrase-demo, weights demo (it only knows its demo world).'
        ) from error


def _model_config(name: str) -> dict:
    own = MODELS / f'{name}.json'
    if own.is_file() and own.parent == MODELS:
        open_clip.add_model_config(own)
    config = open_clip.get_model_config(name)
    if config is None:
        raise SettingError(
            f'model: open_clip has no model {name!r}.{did_you_mean(name, open_clip.list_models())}'
        )
    vision = config['vision_cfg']
    if 'timm_model_name' in vision or isinstance(vision.get('layers'), list):
        raise UnsupportedBackbone(
            f'{name}: its image tower is a timm model or a ResNet; choose one with a native '
            "VisionTransformer, such as 'ViT-B-16-quickgelu'"
        )
    return config


def _cached_file(address: str) -> Path | None:
    """Return the weights of 'OWNER/NAME/FILE' from the hub's local cache, or None if absent."""
    repository, _, named = address.rpartition('/')
    named = named or 'open_clip_pytorch_model.bin'
    # The search order of open_clip: safetensors first.
    alternatives = [f'{Path(named).stem}.safetensors', named]
    if named == 'open_clip_pytorch_model.bin':
        alternatives[0] = 'open_clip_model.safetensors'
    for name in alternatives if repository else ():
        found = huggingface_hub.try_to_load_from_cache(repository, name)
        if isinstance(found, str):
            return Path(found)
    return None


def _with_statistics(model: nn.Module, source: dict) -> nn.Module:
    """Give the model the mean and deviation of the images that its weights were trained on."""
    for name in ('mean', 'std'):
        if name in source:
            setattr(model.visual, f'image_{name}', tuple(source[name]))
    return model


def hub_reachable(timeout_s: float = 3.0) -> bool:
    """Return True if the hub that serves open_clip's weights answers within the time."""
    if huggingface_hub.constants.HF_HUB_OFFLINE:
        return False
    request = urllib.request.Request(huggingface_hub.constants.ENDPOINT, method='HEAD')
    try:
        with urllib.request.urlopen(request, timeout=timeout_s):
            return True
    except (OSError, ValueError):  # an error status, such as 403 from a proxy, is an OSError too
        return False


def download(model: str, weights: str, folder: Path) -> tuple[Path, str]:
    """Fetch the weights of a tag and save them as `folder`/MODEL-TAG.safetensors.

    A machine without a network can load that file. Returns (path, SHA-256). Errors: as load_model.
    """
    path = folder / f'{model}-{weights}.safetensors'
    return path, save_weights(load_model(model, weights)[0].state_dict(), path, model)


def save_weights(state: dict[str, Tensor], path: Path, model: str) -> str:
    """Write a state dict as .safetensors, with the model's name in it. Return its SHA-256."""
    tensors = {key: value.clone().contiguous() for key, value in state.items()}
    with files.whole(path) as part:
        try:
            save_file(tensors, part, metadata={MADE_FOR: model})
        except SafetensorError as error:
            raise OSError(f'{path} cannot be written ({_first_line(error)})') from error
    return sha256_of(path)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _refuse_activation_mismatch(name: str, tag: str, config: dict) -> None:
    """Raise SettingError unless the model uses the activation that its weights were trained with.

    With the other activation a tower gives wrong features without any error.
    """
    needs = bool(open_clip.get_pretrained_cfg(name, tag).get('quick_gelu', False))
    if needs == bool(config.get('quick_gelu', False)):
        return
    other = f'{name}-quickgelu' if needs else name.removesuffix('-quickgelu')
    raise SettingError(
        f'model: the weights {tag!r} were trained with {"QuickGELU" if needs else "GELU"}, which '
        f'{name} does not use; set model to {other!r}'
    )


def _read_state(path: Path, sha256: str | None) -> dict[str, Tensor]:
    """Read the state dict of a .safetensors file or a checkpoint, without running code from it."""
    if not path.is_file():
        raise WeightsError(f'weights: no file {path}')
    if sha256:
        found = sha256_of(path)
        if found != sha256.strip().lower():
            raise WeightsError(
                f'weights: {path} has SHA-256 {found}, expected {sha256}; the file is damaged or '
                'it is another file'
            )
    try:
        if path.suffix == '.safetensors':
            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location='cpu', weights_only=True)
    except (pickle.UnpicklingError, RuntimeError) as error:
        raise WeightsError(
            f'weights: {path} holds more than tensors, or is not a checkpoint '
            f'({_first_line(error)}); convert it to .safetensors'
        ) from error
    except Exception as error:  # the two readers raise anything for a truncated or foreign file
        raise WeightsError(f'weights: {path} is damaged ({_first_line(error)})') from error
    if isinstance(state, dict) and isinstance(state.get('state_dict'), dict):
        state = state['state_dict']
    if not isinstance(state, dict) or not all(
        isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()
    ):
        raise WeightsError(f'weights: {path} holds no state dict')
    return {key.removeprefix('module.'): value for key, value in state.items()}


def _refuse_file_of_another_model(path: Path, name: str) -> None:
    if path.suffix != '.safetensors':
        return
    with safe_open(path, 'pt') as file:
        made_for = (file.metadata() or {}).get(MADE_FOR, name)
    if made_for != name:
        raise WeightsError(f'weights: {path} was downloaded for {made_for}; set model to that')


def _put_state(model: nn.Module, state: dict[str, Tensor], path: Path, name: str) -> None:
    own = model.state_dict()
    # Scalars are saved as [] or [1]. Only some versions have buffers position_ids and attn_mask.
    if 'logit_scale' in state and 'logit_scale' in own:
        state['logit_scale'] = state['logit_scale'].reshape(own['logit_scale'].shape)
    state = {k: v for k, v in state.items() if k in own or not k.endswith(('_ids', 'attn_mask'))}
    missing = sorted(own.keys() - state.keys())
    foreign = sorted(state.keys() - own.keys())
    bent = sorted(k for k in own.keys() & state.keys() if own[k].shape != state[k].shape)
    for what, keys in (('lacks', missing), ('has unknown', foreign), ('has other shapes of', bent)):
        if keys:
            raise WeightsError(
                f'weights: {path} does not belong to {name}: it {what} {", ".join(keys[:3])}'
                f'{f" and {len(keys) - 3} more" if len(keys) > 3 else ""}'
            )
    model.load_state_dict(state)


def _first_line(error: BaseException) -> str:
    """Return the first sentence of the error. The rest may hold advice that is wrong here."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return textwrap.shorten(line.split('. ')[0].rstrip('.'), 160, placeholder=' ...')
