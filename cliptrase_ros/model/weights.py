"""Loading a model: open_clip names and tags, local files, and machines without a network.

Only this module imports open_clip.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import SettingError, UnsupportedBackbone, WeightsError, did_you_mean
from ..runtime import deferred, torch_compat
from . import beside, checkpoints, fitting, hub
from .checkpoints import first_line, save_weights
from .checkpoints import sha256_of as sha256_of
from .hub import hub_reachable

# open_clip imports torchvision, timm and transformers, and these import torch's compiler. No native
# tower uses them.
with deferred.imports_of('timm', 'transformers', torch_compat.COMPILER):
    import open_clip

log = logging.getLogger(__name__)

RANDOM = 'random'
# The model of the demo world and its bundled weights. They only know that world.
DEMO_MODEL, DEMO = 'cliptrase-demo', 'demo'
DEMO_SHA256 = '48afa0ba5a8cc565798408c23841ee93cf089f28157e806e1553f570bea2fcb3'
# Of the first demo model, which ran in small windows.
OLD_DEMO_SHA256 = '901a3c52de6112ad25c78f7a0688ac45c1c6dc46201569af2739a9e742f0d38d'
HUB, LOCAL = 'hf-hub:', 'local-dir:'  # of model names: open_clip models in the hub, in a folder
_ACTIVATION = {True: 'QuickGELU', False: 'GELU'}
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
    if name.startswith(LOCAL):
        name = f'{LOCAL}{_path(name.removeprefix(LOCAL))}'
    with hub.no_retries_offline(_needs_hub(name)):
        return _load(name, weights, sha256)


def _load(name: str, weights: str, sha256: str | None) -> tuple[nn.Module, Callable]:
    config = _model_config(name)
    if weights == DEMO:
        weights, sha256 = _demo_file(name, sha256)
    file = file_of(weights, name)
    if sha256 and not file:
        raise SettingError(
            'weights_sha256: only a local file can be checked; set weights to its path'
        )
    if file:
        if name == DEMO_MODEL:
            _refuse_old_demo(file, sha256)
        model = _with_file(checkpoints.read(file, sha256), name, config)
    elif weights == RANDOM:
        model = _untrained(name)
        log.warning('%s has random weights: its labels mean nothing', name)
    else:
        model = _pretrained(name, weights, config)
    return model, _from_open_clip(name, lambda: open_clip.get_tokenizer(name))


def file_of(weights: str, model: str = '') -> Path | None:
    """Return the file or folder of the weights; None for a tag and for random weights.

    Args:
        weights, model: as in Settings. A model 'local-dir:FOLDER' has its weights in its folder.
    """
    if weights == DEMO:
        return MODELS / f'{DEMO_MODEL}.safetensors'
    own = weights.startswith((HUB, LOCAL))
    if not own and ('/' in weights or Path(weights).suffix):
        return _path(weights)
    if model.startswith(LOCAL) and weights != RANDOM and (not own or weights == model):
        return _path(model.removeprefix(LOCAL))
    return None


def _path(name: str) -> Path:
    with contextlib.suppress(RuntimeError):  # there is no such user: keep the ~
        return Path(name).expanduser()
    return Path(name)


def _demo_file(name: str, sha256: str | None) -> tuple[str, str]:
    if name != DEMO_MODEL:
        raise SettingError(
            f'weights: {DEMO!r} do not belong to {name}; set model to {DEMO_MODEL!r}'
        )
    return str(MODELS / f'{DEMO_MODEL}.safetensors'), sha256 or DEMO_SHA256


def _refuse_old_demo(file: Path, expected: str | None) -> None:
    """Raise WeightsError if the file is, or should be, the demo model of earlier versions."""
    digests = {'weights_sha256 is': expected and expected.strip().lower()}
    if file.is_file():
        digests[f'{file} has SHA-256'] = sha256_of(file)
    for where, digest in digests.items():
        if digest == OLD_DEMO_SHA256:
            raise WeightsError(
                f'weights: {where} {digest}. That is the demo model of an earlier version; '
                f'`{DEMO}` now means another model. Set weights to {DEMO!r} and weights_sha256 to '
                f"'none' or {DEMO_SHA256}"
            )


def _from_open_clip(name: str, make: Callable[[], Any]) -> Any:
    """Let open_clip build something for a model. Some models need files from the hub for this."""
    try:
        return make()
    except Exception as error:  # open_clip, transformers and the hub's client raise anything
        raise WeightsError(
            f'open_clip cannot make {name} here: {first_line(error)}. Its text tower or tokenizer '
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
    if name.startswith(HUB):
        log.info('%s has its own weights; weights: %s is not used', name, weights)
        return _from_open_clip(name, lambda: open_clip.create_model(name))
    tags = open_clip.list_pretrained_tags_by_model(name)
    if weights not in tags:
        raise SettingError(
            f'weights: {name} has no tag {weights!r} (tags: {", ".join(tags) or "none"}), and '
            f'it is not the path of a file{_file_hint(weights)}'
        )
    source = open_clip.get_pretrained_cfg(name, weights)
    needs = bool(source.get('quick_gelu', False))
    _refuse_activation_mismatch(name, weights, needs, config)
    try:
        if file := hub.cached_file(source.get('hf_hub', '')):
            return _with_statistics(open_clip.create_model(name, pretrained=str(file)), source)
        if source.get('hf_hub') and not hub_reachable():
            raise ConnectionError('the hub cannot be reached')  # the client would retry for long
        return open_clip.create_model(name, pretrained=weights)
    except Exception as error:  # open_clip and the hub's client raise anything
        raise WeightsError(
            f'cannot get the weights {weights!r} of {name}: {first_line(error)}. If this machine '
            'is offline, run on one with a network: '
            f'cliptrase download --model {name} --weights {weights} --out FOLDER ; copy the file '
            'here and set weights to its path. To try the package without this file: model '
            'cliptrase-demo, weights demo (it only knows its demo world).'
        ) from error


def _file_hint(weights: str) -> str:
    """Return a hint if a file of this name exists, or if the value belongs to another setting."""
    if weights.startswith((HUB, LOCAL)):
        return f'; set model to {weights!r} instead'
    return f'; for the file or folder here write ./{weights}' if Path(weights).exists() else ''


def _model_config(name: str) -> dict:
    own = MODELS / f'{name}.json'
    if own.is_file() and own.parent == MODELS:
        open_clip.add_model_config(own)
    config = (
        beside.model_config(Path(name.removeprefix(LOCAL)))
        if name.startswith(LOCAL)
        else _config_by_name(name)
    )
    if config is None:
        folder = f' For a folder: {LOCAL}{name}' if Path(name).is_dir() else ''
        raise SettingError(
            f'model: open_clip has no model {name!r}.'
            f'{folder or did_you_mean(name, open_clip.list_models())}'
        )
    if _unsupported(config):
        raise UnsupportedBackbone(
            f'{name}: its image tower is a timm model or a ResNet; choose one with a native '
            "VisionTransformer, such as 'ViT-B-16-quickgelu'"
        )
    return config


def _config_by_name(name: str) -> dict | None:
    try:
        return open_clip.get_model_config(name)
    except Exception as error:  # the hub's client raises anything
        repository = name.removeprefix(HUB)
        raise WeightsError(
            f'model: cannot get {name}: {first_line(error)}. If this machine is offline, run on '
            f'one with a network: hf download {repository} --local-dir FOLDER ; copy the folder '
            f'here and set model to {LOCAL}FOLDER'
        ) from error


def _unsupported(config: dict) -> bool:
    vision = config['vision_cfg']
    return 'timm_model_name' in vision or isinstance(vision.get('layers'), list)


def _with_statistics(model: nn.Module, source: dict) -> nn.Module:
    """Give the model the mean and deviation of the images that its weights were trained on."""
    for name in ('mean', 'std'):
        if source.get(name):
            setattr(model.visual, f'image_{name}', tuple(source[name]))
    return model


def _needs_hub(name: str) -> bool:
    """Return True if the configuration, the text tower or the tokenizer comes from the hub."""
    if name.startswith((HUB, LOCAL)):
        return name.startswith(HUB)
    text = (open_clip.get_model_config(name) or {}).get('text_cfg', {})
    return any(text.get(f'hf_{part}_name') for part in ('model', 'tokenizer'))


def download(model: str, weights: str, folder: Path) -> tuple[Path, str]:
    """Fetch the weights of a tag and save them as `folder`/MODEL-TAG.safetensors.

    A machine without a network can load that file. `weights` may be a file too: then it is saved
    in this form. Returns (path, SHA-256). Errors: as load_model.
    """
    if model.startswith((HUB, LOCAL)):
        raise SettingError(
            f'model: {model} has its configuration in its folder, so one file is not enough. Run '
            f'hf download {model.split(":", 1)[1]} --local-dir FOLDER and set model to '
            f'{LOCAL}FOLDER'
        )
    file = file_of(weights)
    path = folder / f'{model}-{file.stem if file else weights}.safetensors'
    return path, save_weights(load_model(model, weights)[0].state_dict(), path, model)


def _refuse_activation_mismatch(name: str, weights: str, needs: bool, config: dict) -> None:
    """Raise SettingError unless the model uses the activation that its weights were trained with.

    With the other activation a tower gives wrong features without any error.
    """
    if needs == bool(config.get('quick_gelu', False)):
        return
    raise SettingError(
        f'model: the weights {weights!r} were trained with {_ACTIVATION[needs]}, which {name} does '
        f'not use; {_with_activation(name, needs)}'
    )


def _with_activation(name: str, quick_gelu: bool) -> str:
    """Return advice how to get this model with an activation."""
    other = f'{name}-quickgelu' if quick_gelu else name.removesuffix('-quickgelu')
    if other in open_clip.list_models() and other != name:
        return f'set model to {other!r}'
    return f'open_clip has no {name} with {_ACTIVATION[quick_gelu]}'


def _with_file(found: checkpoints.Checkpoint, name: str, config: dict) -> nn.Module:
    """Return the model with the weights of a file; warn if its activation is a guess."""
    if found.made_for not in (None, name):
        raise WeightsError(
            f'weights: {found.file} was downloaded for {found.made_for}; set model to that'
        )
    model = _untrained(name)
    fitting.put(model, found.state, found.file, name, lambda: _sized(found.about.quick_gelu))
    takes, says = bool(config.get('quick_gelu', False)), found.about.quick_gelu
    if says is not None:
        _refuse_activation_mismatch(name, str(found.file), says, config)
    elif not found.made_for:
        log.warning(
            'weights: %s does not say whether it was trained with QuickGELU or GELU: %s is taken, '
            'as %s has it. If that is wrong, the labels are wrong: %s',
            *(found.file, _ACTIVATION[takes], name, _with_activation(name, not takes)),
        )
    return _with_statistics(model, vars(found.about))


def _sized(quick_gelu: bool | None) -> Iterator[tuple[str, dict]]:
    """Yield (name, configuration) of the models that run here, with this activation if given."""
    for name in open_clip.list_models():
        config = open_clip.get_model_config(name)
        if _unsupported(config) or 'hf_model_name' in config['text_cfg']:
            continue
        if quick_gelu in (None, bool(config.get('quick_gelu', False))):
            yield name, config
