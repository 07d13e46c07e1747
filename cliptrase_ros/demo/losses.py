"""The loss of the demo model's training: words that are true of a whole window, and nothing else.

No pixel label enters it. Multiple-instance learning finds out which patch shows what: a name that
a window shows must be what some of its patches say, and none may say a name that it does not show.

Shapes: B crops of N = rows * cols patches with W windows of n patches each, E width of the joint
space, Q words.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..model.attention import Grid, added
from . import captions
from .sampler import Batch
from .texts import Texts
from .things import ASSETS, CLASSES

# Share of the patches that count twice where they say an absent word.
WORST = 0.1
UNKNOWN_WORDS = 4
UNKNOWN_MARGIN = 2.0
# Patches whose mean colours differ by much more than this (RGB 0..1) need not be alike.
ALIKE_COLOR = 0.08
WEIGHTS = {
    'shown': 1.0,
    'absent': 1.0,
    'shown_color': 0.4,
    'absent_color': 0.4,
    'unknown': 0.2,
    'contrast': 0.3,
    'cls': 0.15,
    'alike': 0.3,
    'regions': 0.8,
}
# Their weights grow from 0 over the first steps, because they spread what the patches say.
SPREADING, SPREADING_STEPS = ('alike', 'regions'), 1000

# The words of a vocabulary that names every painted thing by its colour.
_PLAIN = [k for k, name in enumerate(CLASSES) if name not in ASSETS or not ASSETS[name].colors]
_OF_COLORED = [*_PLAIN, *(CLASSES.index(name) for _, name in captions.COLORED)]


class Seen(NamedTuple):
    """What the image tower says about crops.

    Attributes:
        patches: [B, N, E] unit features.
        means: [B, E] unit embeddings of the crops, as the model itself computes them.
        cls: [B, E] unit features of the [CLS] token.
        affinity: [B, N, N] of patches, as regions are made of it (clusters.denoised_affinity).
        grid: (rows, cols) of patches.
    """

    patches: Tensor
    means: Tensor
    cls: Tensor
    affinity: Tensor
    grid: Grid


def words_apart(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return the log-probabilities of the names and of the words with colours.

    Args:
        logits: [..., K + C].
    """
    names, painted = logits.split([len(CLASSES), len(captions.COLORED)], dim=-1)
    colored = torch.cat([names[..., _PLAIN], painted], -1)
    return names.log_softmax(-1), colored.log_softmax(-1)


def loss_of(
    batch: Batch,
    seen: Seen,
    texts: Texts,
    scale: Tensor,
    rng: np.random.Generator,
    step: int,
) -> tuple[Tensor, dict[str, float]]:
    """Return the loss and its parts, before their WEIGHTS."""
    template = captions.sentence(rng)
    words = (*captions.NAME_PHRASES, *captions.COLORED_PHRASES, *['a ?'] * UNKNOWN_WORDS)
    embeddings = texts.embed(batch.captions + [template.format(word) for word in words], rng)
    told, asked = embeddings.split([len(batch.captions), len(words)])
    device, known = asked.device, len(CLASSES)
    logits = scale * seen.patches @ asked.T
    logits, unknown = logits.split([known + len(captions.COLORED), UNKNOWN_WORDS], dim=-1)
    logp, colored = words_apart(logits)
    strange = unknown.logsumexp(-1) - logits[..., :known].logsumexp(-1)
    windows, grid = batch.windows, seen.grid
    answers, least = batch.names.to(device), batch.patches.to(device)
    inside = windows.cut(logp.unflatten(1, grid))
    # A window with a colour that may not be named has no answers about colours.
    told_color = (batch.colors >= 0).any(1).to(device)
    colored = windows.cut(colored.unflatten(1, grid))[told_color]
    answers_color = torch.cat([batch.names[:, _PLAIN], batch.colors], 1).to(device)[told_color]
    same, true, shows = (part.to(device) for part in (batch.same, batch.true, batch.shows))
    colors = F.avg_pool2d(batch.pixels, batch.pixels.shape[-1] // grid[1]).to(device)
    parts = {
        'shown': shown(inside, answers, least),
        'absent': absent(inside, answers),
        'shown_color': shown(colored, answers_color, least[_OF_COLORED]),
        'absent_color': absent(colored, answers_color),
        'unknown': F.softplus(strange + UNKNOWN_MARGIN).mean(),
        'contrast': contrast(scale * seen.means @ told.T, same, true),
        'cls': contrast(scale * seen.cls @ told.T, same, true),
        'alike': alike(logp, colors),
        'regions': regions(seen.affinity, logp.detach(), shows),
    }
    spread = min(1.0, step / SPREADING_STEPS)
    loss = added(
        value * WEIGHTS[name] * (spread if name in SPREADING else 1.0)
        for name, value in parts.items()
    )
    return loss, {name: value.item() for name, value in {'loss': loss, **parts}.items()}


def shown(logp: Tensor, answers: Tensor, least: Tensor) -> Tensor:
    """Return how unsure the best patches are about the words that are true of their crop.

    For each true word it is -log of the mean probability of its best patches; then the mean over
    crops, and over words. So rare words count as much as common ones.

    Args:
        logp: [B, N, Q] log-probabilities of the words.
        answers: [B, Q], 1 for true words.
        least: [Q], number of best patches.
    """
    true = answers > 0
    best = logp.exp().topk(min(int(least.max()), logp.shape[1]), dim=1).values
    means = best.cumsum(1) / torch.arange(1, best.shape[1] + 1, device=best.device)[:, None]
    number = (least.clamp(max=best.shape[1]) - 1).expand(len(best), 1, -1)
    unsure = -means.gather(1, number)[:, 0].clamp(min=1e-5).log()
    crops = true.sum(0)
    return ((unsure * true).sum(0) / crops.clamp(min=1)).sum() / (crops > 0).sum().clamp(min=1)


def absent(logp: Tensor, answers: Tensor) -> Tensor:
    """Return -log of the probability of words that may be true.

    It is the mean over all patches and over the WORST of them, half each: most patches are soon
    right, and what is wrong are small things.

    Args:
        logp: [B, N, Q] log-probabilities of the words.
        answers: [B, Q], 0 for words that are not true of any patch of the crop.
    """
    if not len(logp):
        return logp.sum()
    wrong = -possible(logp, answers).logsumexp(-1).flatten()
    return (wrong.mean() + wrong.topk(math.ceil(WORST * len(wrong))).values.mean()) / 2


def possible(logp: Tensor, answers: Tensor) -> Tensor:
    """Return logp [B, N, Q] with a very low value for absent words (answers [B, Q] of 0)."""
    return logp.masked_fill((answers == 0)[:, None], -1e4)


def contrast(logits: Tensor, same: Tensor, true: Tensor) -> Tensor:
    """Return CLIP's contrastive loss over the logits [B, B] of crops (rows) and captions.

    A caption that is also true of another crop is not a negative example for it.

    Args:
        same, true: see Batch.
    """
    others = logits.masked_fill(true & ~same, -1e4)
    own = logits.masked_fill(~same, -1e4)
    return added((others.logsumexp(d) - own.logsumexp(d)).mean() for d in (0, 1)) / 2


def alike(logp: Tensor, colors: Tensor) -> Tensor:
    """Return how often neighbours of equal colour say different words, 0..1.

    Args:
        logp: [B, N, Q] log-probabilities of the words.
        colors: [B, 3, rows, cols] mean colours of the patches, 0..1.
    """
    says = logp.exp().transpose(1, 2).unflatten(2, colors.shape[2:])
    losses = []
    for axis, length in ((2, colors.shape[2]), (3, colors.shape[3])):
        (one, other), (color, beside) = (
            (of.narrow(axis, 0, length - 1), of.narrow(axis, 1, length - 1))
            for of in (says, colors)
        )
        near = (-((color - beside) ** 2).sum(1) / (2 * ALIKE_COLOR**2)).exp()
        losses.append((near * (1 - (one * other).sum(1))).mean())
    return added(losses) / 2


def regions(affinity: Tensor, logp: Tensor, answers: Tensor) -> Tensor:
    """Return how much the affinity of patches differs from the agreement of what they say.

    The agreement of two patches is the probability that both say the same word. Large and small
    regions count alike.

    Args:
        affinity: [B, N, N].
        logp: [B, N, Q] log-probabilities of the words, detached.
        answers: [B, Q], 0 for absent words.
    """
    says = possible(logp, answers).softmax(-1)
    agree = says @ says.transpose(1, 2)
    weight = 1 / agree.sum(2)
    weight = weight / weight.sum(1, keepdim=True)
    return (weight[:, :, None] * weight[:, None] * (affinity - agree) ** 2).sum((1, 2)).mean()
