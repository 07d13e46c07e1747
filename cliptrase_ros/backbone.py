"""A CLIP model as the segmenter needs it: an image tower, a text encoder, and how to load them.

This is the only module that imports open_clip.
"""

from __future__ import annotations

import hashlib
import logging
import pickle
from collections.abc import Sequence
from pathlib import Path

import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import methods
from .errors import SettingError, UnsupportedBackbone, WeightsError, did_you_mean
from .settings import Settings
from .visual import Tower

log = logging.getLogger(__name__)

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
RANDOM = 'random'
TINY = Path(__file__).parent / 'models' / 'cliptrase-tiny.json'

_DTYPES = {'fp32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}
_SELF_CHECK_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}
_TEXT_BATCH = 256


class TextEncoder:
    """Sentences to unit embeddings with the text tower of an open_clip model."""

    def __init__(self, model: nn.Module, tokenizer):
        self._model = model
        self._tokenizer = tokenizer
        self._fingerprint = ''
        self._padding = int(tokenizer(['a'])[0, -1])

    def too_long(self, sentence: str) -> bool:
        """Whether the sentence fills the context, so that its end may have been cut off."""
        return int(self._tokenizer([sentence])[0, -1]) != self._padding

    @torch.no_grad()
    def encode(self, sentences: Sequence[str]) -> Tensor:
        """Unit embeddings [n, E] float32 of n sentences, on the model's device."""
        device = next(self._model.parameters()).device
        tokens = self._tokenizer(list(sentences)).to(device)
        parts = [self._model.encode_text(t).float() for t in tokens.split(_TEXT_BATCH)]
        return F.normalize(torch.cat(parts), dim=-1)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the text tower's weights and an example of the tokenizer's output."""
        if not self._fingerprint:
            digest = hashlib.sha256(self._tokenizer(['a photo of a {}.']).numpy().tobytes())
            for name, weight in sorted(self._model.state_dict().items()):
                if not name.startswith('visual.'):
                    digest.update(name.encode())
                    digest.update(weight.cpu().contiguous().view(-1).view(torch.uint8).numpy())
            self._fingerprint = digest.hexdigest()
        return self._fingerprint


class Backbone:
    """An image tower with what belongs to it; shared by any number of segmenters.

    Args:
        visual: any open_clip VisionTransformer, on the device where it is to run. It is read,
            never changed.
        logit_scale: the model's own inverse temperature (CLIP: 100).
        mean, std: of the images that it was trained on, RGB 0..1; default: the visual's own, else
            CLIP's.
        text: encoder of the same model, or None where words come with embeddings.

    Raises:
        UnsupportedBackbone: the methods cannot run on this tower, or the forward pass written
            out here does not reproduce the tower's own on one image.
    """

    def __init__(
        self,
        visual: nn.Module,
        logit_scale: float = 100.0,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        text: TextEncoder | None = None,
    ):
        self._visual = visual
        self._towers: dict[tuple[torch.dtype, float], Tower] = {}
        self.logit_scale = float(logit_scale)
        self.text = text
        tower = self.tower()
        self.device = tower.device
        self.mean = torch.tensor(mean or getattr(visual, 'image_mean', None) or CLIP_MEAN)
        self.std = torch.tensor(std or getattr(visual, 'image_std', None) or CLIP_STD)
        self.mean = self.mean.view(3, 1, 1).to(self.device)
        self.std = self.std.view(3, 1, 1).to(self.device)
        self._self_check(tower)

    @classmethod
    def load(cls, settings: Settings) -> Backbone:
        """Load the model that the settings name, onto their device.

        Raises:
            SettingError: no such model, weights tag or device, or one that does not fit.
            WeightsError: the weights cannot be had, are damaged, or are another model's.
            UnsupportedBackbone: the methods cannot run on this model.
        """
        device = _device(settings.device)
        name = settings.model
        if name == TINY.stem:
            open_clip.add_model_config(TINY)
        config = open_clip.get_model_config(name)
        if config is None:
            raise SettingError(
                f'model: open_clip has no {name!r}.{did_you_mean(name, open_clip.list_models())}'
            )
        if 'timm_model_name' in config['vision_cfg'] or isinstance(
            config['vision_cfg'].get('layers', 12), list
        ):
            raise UnsupportedBackbone(
                f'{name}: its image tower is a timm model or a ResNet; choose one with a native '
                "VisionTransformer, such as 'ViT-B-16-quickgelu'"
            )
        model = _load_model(settings, config).eval().requires_grad_(False).to(device)
        text = TextEncoder(model, open_clip.get_tokenizer(name))
        return cls(model.visual, logit_scale=float(model.logit_scale.exp()), text=text)

    def tower(self, precision: str | None = None, position_offset: float = 0.1) -> Tower:
        """The image tower in a precision; None: as the weights are."""
        own = next(self._visual.parameters()).dtype
        dtype = own if precision is None else self._dtype(precision)
        key = (dtype, position_offset)
        if key not in self._towers:
            self._towers[key] = Tower(self._visual, dtype, position_offset)
        return self._towers[key]

    def _dtype(self, precision: str) -> torch.dtype:
        if precision != 'auto':
            return _DTYPES[precision]
        if self.device.type == 'cuda':
            return torch.float16
        return torch.bfloat16 if cpu_has_bf16() else torch.float32

    @torch.no_grad()
    def _self_check(self, tower: Tower) -> None:
        """Compare the written-out tower with the model's own forward on one image of noise."""
        noise = torch.rand(1, 3, *tower.image_size, generator=torch.Generator().manual_seed(0))
        image = ((noise.to(self.device) - self.mean) / self.std).to(tower.dtype)
        training = self._visual.training
        self._visual.eval()
        try:
            expected = self._visual(image)
        finally:
            self._visual.train(training)
        expected = expected[0] if isinstance(expected, tuple) else expected
        got = tower.pool(methods.run(tower, image, methods.METHODS['clip']).tokens)
        error = float((got - expected).float().norm() / expected.float().norm())
        if not error <= _SELF_CHECK_TOLERANCE.get(tower.dtype, 1e-2):
            raise UnsupportedBackbone(
                f'{type(self._visual).__name__}: self check failed, the relative error to its own '
                f'forward is {error:.1e}. open_clip {open_clip.__version__} may have changed this '
                'tower, or the weights are not finite.'
            )


def cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 matrices in hardware."""
    try:
        flags = set(Path('/proc/cpuinfo').read_text().split())
    except OSError:
        return False
    return bool(flags & {'amx_bf16', 'avx512_bf16', 'bf16'})


def _device(name: str) -> torch.device:
    if name == 'auto':
        return torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise SettingError(f'device: {name!r} cannot be used here ({reason})') from None
    return device


def _load_model(settings: Settings, config: dict) -> nn.Module:
    name, weights = settings.model, settings.weights
    file = Path(weights).expanduser()
    is_file = bool(file.suffix) or file.is_absolute()
    if settings.weights_sha256 and not is_file:
        raise SettingError('weights_sha256: only a local file has one; set weights to its path')
    if is_file or weights == RANDOM:
        state = _read_state(file, settings.weights_sha256) if is_file else None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = open_clip.create_model(name, pretrained=None, pretrained_hf=False)
        if state is None:
            log.warning('%s has random weights: its labels mean nothing', name)
        else:
            _put_state(model, state, file, name)
        return model

    tags = open_clip.list_pretrained_tags_by_model(name)
    if weights not in tags:
        raise SettingError(
            f'weights: {name} has no tag {weights!r} (it has {", ".join(tags) or "none"}), and '
            'it is not the path of a file'
        )
    _refuse_activation_mismatch(name, weights, config)
    try:
        return open_clip.create_model(name, pretrained=weights)
    except Exception as error:
        raise WeightsError(
            f'cannot get the weights {weights!r} of {name}: {_first_line(error)}. If this machine '
            'is offline, run on one with a network: '
            f'cliptrase download --model {name} --weights {weights} --out FOLDER ; copy the file '
            'here and set weights to its path.'
        ) from error


def download(model: str, weights: str, folder: Path) -> Path:
    """Fetch the weights of a tag and save them as `folder`/MODEL-TAG.safetensors, to be loaded by
    path on a machine without a network. Errors as Backbone.load."""
    from safetensors.torch import save_file

    backbone = Backbone.load(Settings(model=model, weights=weights, device='cpu'))
    state = backbone.text._model.state_dict()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f'{model}-{weights}.safetensors'
    save_file({key: value.clone().contiguous() for key, value in state.items()}, path)
    return path


def _refuse_activation_mismatch(name: str, tag: str, config: dict) -> None:
    """A tower trained with QuickGELU gives wrong features with GELU and no error, and vice
    versa; old open_clip does not know which a tag needs (and then builds OpenAI's right)."""
    needs = open_clip.get_pretrained_cfg(name, tag).get('quick_gelu')
    has = bool(config.get('quick_gelu', False))
    if needs is None or needs == has:
        return
    other = f'{name}-quickgelu' if needs else name.removesuffix('-quickgelu')
    raise SettingError(
        f'model: the weights {tag!r} were trained with {"QuickGELU" if needs else "GELU"}, which '
        f'{name} does not use; set model to {other!r}'
    )


def _read_state(path: Path, sha256: str) -> dict[str, Tensor]:
    """The state dict in a .safetensors file or a checkpoint, read without running code from it."""
    if not path.is_file():
        raise WeightsError(f'weights: no file {path}')
    if sha256:
        with path.open('rb') as file:
            digest = hashlib.file_digest(file, 'sha256') if hasattr(
                hashlib, 'file_digest'
            ) else hashlib.sha256(file.read())
        if digest.hexdigest() != sha256.strip().lower():
            raise WeightsError(
                f'weights: {path} has SHA-256 {digest.hexdigest()}, expected {sha256}; the file '
                'is damaged or another one'
            )
    try:
        if path.suffix == '.safetensors':
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, map_location='cpu', weights_only=True)
    except (pickle.UnpicklingError, RuntimeError) as error:
        raise WeightsError(
            f'weights: {path} holds more than tensors, or is not a checkpoint '
            f'({_first_line(error)}); convert it to .safetensors'
        ) from error
    except Exception as error:
        raise WeightsError(f'weights: {path} is damaged ({_first_line(error)})') from error
    if isinstance(state, dict) and isinstance(state.get('state_dict'), dict):
        state = state['state_dict']
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise WeightsError(f'weights: {path} holds no state dict')
    return {key.removeprefix('module.'): value for key, value in state.items()}


def _put_state(model: nn.Module, state: dict[str, Tensor], path: Path, name: str) -> None:
    own = model.state_dict()
    # Scalars are saved as [] or [1], and position_ids and attn_mask are buffers that come and go.
    if 'logit_scale' in state:
        state['logit_scale'] = state['logit_scale'].reshape(own['logit_scale'].shape)
    state = {k: v for k, v in state.items() if k in own or not k.endswith(('_ids', 'attn_mask'))}
    missing = sorted(own.keys() - state.keys())
    foreign = sorted(state.keys() - own.keys())
    bent = sorted(k for k in own.keys() & state.keys() if own[k].shape != state[k].shape)
    for what, keys in (('lacks', missing), ('has unknown', foreign), ('has other shapes of', bent)):
        if keys:
            raise WeightsError(
                f'weights: {path} is not of {name}: it {what} {", ".join(keys[:3])}'
                f'{f" and {len(keys) - 3} more" if len(keys) > 3 else ""}'
            )
    model.load_state_dict(state)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
