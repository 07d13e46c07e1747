"""The CLIP model of a segmenter: an image tower and a text encoder."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import SettingError, UnsupportedBackbone
from ..settings import Settings
from . import recipes, weights
from .linear import fast_bfloat16
from .text import TextEncoder
from .visual import Tower

# Limit of the cache of towers, one for each precision and position offset. They share weights.
TOWERS = 8
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
_DTYPES = {'fp32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}
# Limits of the relative error. On CUDA the model's own patch convolution runs in TF32, ours in
# float32.
_SELF_CHECK_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 1e-1, torch.float16: 2e-2}


class Backbone:
    """An image tower, its image statistics and its text encoder.

    Any number of segmenters can share one backbone.

    Args:
        visual: any open_clip VisionTransformer, already on the device to run on. It is read,
            never changed.
        logit_scale: the model's own inverse temperature (CLIP: 100).
        mean, std: statistics of the training images, RGB 0..1. Default: the values of `visual`;
            if it has none, those of CLIP.
        text: text encoder of the same model; None if the words already have embeddings.

    Raises:
        UnsupportedBackbone: the methods cannot run on this tower, or our forward pass does not
            reproduce the tower's own forward pass on one image.
    """

    def __init__(
        self,
        visual: nn.Module,
        logit_scale: float = 100.0,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        text: TextEncoder | None = None,
    ):
        self.visual = visual
        # One copy of the weights for each precision. Towers with other position offsets share it.
        self._towers: dict[torch.dtype, Tower] = {}
        self._moved: OrderedDict[tuple[torch.dtype, float], Tower] = OrderedDict()
        # Cache of `encoder.encoder_for`. The encoders live as long as the backbone, but hold no
        # reference to it.
        self.encoders: OrderedDict[Settings, Any] = OrderedDict()
        self.lock = threading.Lock()
        self.logit_scale = float(logit_scale)
        self.text = text
        tower = Tower(visual)
        self.device = tower.device
        self.mean = self._statistic(mean, 'image_mean', CLIP_MEAN)
        self.std = self._statistic(std, 'image_std', CLIP_STD)
        noise = torch.rand(1, 3, *tower.image_size, generator=torch.Generator().manual_seed(0))
        self._check_image = (noise.to(self.device) - self.mean) / self.std
        self._check_answer = self._own_forward(self._check_image.to(tower.dtype)).float()
        self._self_check(tower)

    def _statistic(
        self, given: Sequence[float] | None, name: str, default: Sequence[float]
    ) -> Tensor:
        """Return the mean or the deviation, [3, 1, 1] on the device."""
        values = given if given is not None else getattr(self.visual, name, None) or default
        return torch.tensor(values, dtype=torch.float32, device=self.device).view(3, 1, 1)

    @classmethod
    def load(cls, settings: Settings) -> Backbone:
        """Load the model that the settings name, onto the device that they name.

        Raises:
            SettingError: the model, the weights tag or the device does not exist, or model and
                weights do not fit each other.
            WeightsError: the weights are not available, are damaged, or belong to another model.
            UnsupportedBackbone: the methods cannot run on this model.
        """
        device = _device(settings.device)
        sha256 = settings.weights_sha256
        expected = None if sha256 == 'none' else sha256
        loaded, tokenizer = weights.load_model(settings.model, settings.weights, expected)
        model: Any = loaded.eval().requires_grad_(False).to(device)
        text = TextEncoder(model, tokenizer)
        return cls(model.visual, logit_scale=float(model.logit_scale.exp()), text=text)

    def tower(self, precision: str, position_offset: float = 0.1) -> Tower:
        """Return the image tower in a precision (see Settings). Check it when it is built."""
        dtype = self._dtype(precision)
        if dtype not in self._towers:
            tower = Tower(self.visual, dtype)
            self._self_check(tower)
            self._towers[dtype] = tower
        key = dtype, position_offset
        if key not in self._moved:
            self._moved[key] = self._towers[dtype].with_offset(position_offset)
            while len(self._moved) > TOWERS:
                self._moved.popitem(last=False)
        return self._moved[key]

    def _dtype(self, precision: str) -> torch.dtype:
        if precision != 'auto':
            return _DTYPES[precision]
        if self.device.type == 'cuda':
            return torch.float16
        return torch.bfloat16 if fast_bfloat16(self.device) else torch.float32

    @torch.no_grad()
    def _own_forward(self, images: Tensor) -> Tensor:
        """Return the image embeddings [B, E] of the model's own forward in evaluation mode."""
        modes = [(module, module.training) for module in self.visual.modules()]
        self.visual.eval()
        try:
            answer = self.visual(images)
        finally:
            for module, training in modes:
                module.training = training
        return answer[0] if isinstance(answer, tuple) else answer

    @torch.no_grad()
    def _self_check(self, tower: Tower) -> None:
        """Raise UnsupportedBackbone unless the tower reproduces the model's own forward.

        Both run on one image of noise.
        """
        image, expected = self._check_image.to(tower.dtype), self._check_answer
        got = tower.pool(recipes.run(tower, image, recipes.unchanged(tower)))
        error = float((got.float() - expected).norm() / expected.norm())
        if not error <= _SELF_CHECK_TOLERANCE.get(tower.dtype, 1e-2):
            raise UnsupportedBackbone(
                f'{type(self.visual).__name__}: self check failed: in {tower.dtype} our result has '
                f'a relative error of {error:.1e} against the own forward of the model. open_clip '
                f'{metadata.version("open_clip_torch")} may have changed this tower, the weights '
                'may not be finite, or the precision is too low for them (try fp32).'
            )


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
