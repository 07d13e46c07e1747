"""The methods by name, and the number of blocks that each needs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from ..errors import SettingError, UnsupportedBackbone
from ..model import attention
from ..model.attention import Rule
from ..model.recipes import LastBlock, Recipe
from ..model.visual import Tower
from ..settings import Settings
from . import gclip, resclip, sc_clip

Build = Callable[[Tower, Settings], Recipe]


@dataclass(frozen=True)
class Method:
    """A method, and how to build its recipe for a tower.

    Attributes:
        build: builds the recipe from the tower and the settings.
        source: the paper, and whether we follow it or the official code.
        blocks: number of blocks that the tower must have.
    """

    build: Build
    source: str
    blocks: int = 2


def _last_block(rule: Rule | None, residual: bool, feed_forward: bool) -> Build:
    return lambda tower, settings: LastBlock(
        tower.blocks, rule=rule, residual=residual, feed_forward=feed_forward
    )


def _cliptrase(tower: Tower, settings: Settings) -> Recipe:
    paper = settings.method_form == 'paper'
    rule = attention.cliptrase_paper if paper else attention.cliptrase
    return LastBlock(tower.blocks, rule=rule)


def _sigma(settings: Settings) -> float:
    sigma = settings.naclip.sigma
    return math.inf if sigma == 'none' else sigma


def _naclip(tower: Tower, settings: Settings) -> Recipe:
    rule = partial(attention.naclip, sigma=_sigma(settings))
    return LastBlock(tower.blocks, rule=rule, residual=False, feed_forward=False)


def _gclip(tower: Tower, settings: Settings) -> Recipe:
    block = settings.gclip.block
    return gclip.recipe(tower, None if block == 'auto' else block, settings.gclip.suppression)


def _resclip(tower: Tower, settings: Settings) -> Recipe:
    return resclip.ResClip(
        tower.blocks,
        maps=resclip.middle(tower),
        sigma=_sigma(settings),
        share=settings.resclip.lambda_,
        gain=settings.resclip.tau,
        feedback_share=settings.resclip.feedback.lambda_,
        feedback_gain=settings.resclip.feedback.tau,
    )


def _sc_clip(tower: Tower, settings: Settings) -> Recipe:
    return sc_clip.recipe(tower, settings.method_form == 'paper')


METHODS = {
    'cliptrase': Method(
        _cliptrase, 'CLIPtrase (ECCV 2024, arXiv 2407.08268), attention as in the official code'
    ),
    'gclip': Method(
        _gclip, 'GCLIP (arXiv 2502.06818), reconstructed: no official code exists', blocks=3
    ),
    'sc_clip': Method(
        _sc_clip, 'SC-CLIP (IEEE TIP 2025, arXiv 2411.15869), as in the official code', blocks=3
    ),
    'resclip': Method(
        _resclip, 'ResCLIP (CVPR 2025, arXiv 2411.15851), as in the official code', blocks=3
    ),
    'naclip': Method(_naclip, 'NACLIP (WACV 2025, arXiv 2404.08181), as in the official code'),
    'clearclip': Method(
        _last_block(attention.query_query, residual=False, feed_forward=False),
        'ClearCLIP (ECCV 2024, arXiv 2407.12442), as in the official code',
    ),
    'sclip': Method(
        _last_block(attention.sclip, residual=True, feed_forward=True),
        'SCLIP (ECCV 2024, arXiv 2312.01597), as in the official code',
    ),
    'maskclip': Method(
        _last_block(None, residual=True, feed_forward=True),
        'MaskCLIP (ECCV 2022, arXiv 2112.01071), as in the official code for ViT',
    ),
    'clip': Method(
        _last_block(attention.clip, residual=True, feed_forward=True),
        'CLIP (arXiv 2103.00020): the unchanged tower, every patch through ln_post and proj',
    ),
}


def check(tower: Tower, settings: Settings) -> None:
    """Raise unless the method that the settings name can run on the tower.

    Raises:
        UnsupportedBackbone: the tower has too few blocks for the method.
        SettingError: a setting of the method does not fit the tower.
    """
    method, have = METHODS[settings.method], len(tower.blocks)
    if have < method.blocks:
        small = [name for name, other in METHODS.items() if other.blocks <= have]
        raise UnsupportedBackbone(
            f'method {settings.method!r} needs a tower of at least {method.blocks} blocks, this '
            f'one has {have}. Use one of {", ".join(small)}.'
        )
    last, block = have - 2, settings.gclip.block
    if settings.method == 'gclip' and block != 'auto' and block > last:
        raise SettingError(
            f'gclip.block: {block} leaves no block after the two whose attention is fused. This '
            f'tower takes 1 .. {last}'
        )


def build(tower: Tower, settings: Settings) -> Recipe:
    """Return the recipe of the method that the settings name; they pass `check`."""
    return METHODS[settings.method].build(tower, settings)
