"""What the files beside the weights say in the hub's folders: the activation, image statistics."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import SettingError


@dataclass(frozen=True)
class About:
    """What a folder says about a model; None: it does not say.

    Attributes:
        quick_gelu: True for QuickGELU, False for GELU.
        mean, std: of the training images, RGB 0..1.
    """

    quick_gelu: bool | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


def read(folder: Path) -> About:
    """Read open_clip_config.json, or config.json and preprocessor_config.json of transformers."""
    own = _json(folder / 'open_clip_config.json')
    if isinstance(model := own.get('model_cfg'), dict):
        images = own.get('preprocess_cfg')
        images = images if isinstance(images, dict) else {}
        gelu = bool(model.get('quick_gelu', False))
        return About(gelu, _three(images.get('mean')), _three(images.get('std')))
    config = _json(folder / 'config.json')
    if config.get('model_type') != 'clip':
        return About()
    vision = config.get('vision_config')
    # transformers: QuickGELU unless told otherwise.
    act = (vision if isinstance(vision, dict) else {}).get('hidden_act', 'quick_gelu')
    images = _json(folder / 'preprocessor_config.json')
    return About(
        {'quick_gelu': True, 'gelu': False}.get(act),
        _three(images.get('image_mean')),
        _three(images.get('image_std')),
    )


def model_config(folder: Path) -> dict[str, Any]:
    """Return the configuration of the model in open_clip_config.json.

    Raises:
        SettingError: there is none.
    """
    file = folder / 'open_clip_config.json'
    config = _json(file).get('model_cfg')
    config = config if isinstance(config, dict) else {}
    if not all(isinstance(config.get(part), dict) for part in ('vision_cfg', 'text_cfg')):
        raise SettingError(
            f'model: {file} is not there or has no model_cfg; set model to a name of open_clip, '
            'such as ViT-B-16-quickgelu, and weights to the folder'
        )
    return config


def _json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; {} if there is none or it cannot be read."""
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _three(values: Any) -> tuple[float, ...] | None:
    three = isinstance(values, list) and len(values) == 3
    return tuple(map(float, values)) if three and all(_number(v) for v in values) else None


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
