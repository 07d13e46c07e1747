"""Training of the demo world's small CLIP: python -m cliptrase_ros.demo.train --out FOLDER

The loss compares whole crops of rendered pictures with whole sentences: captions that name what is
visible in the crop, and prompts for each name. The loss uses no pixel labels. But the simulator's
segmentation decides where a crop is cut and what is visible in it. The forward pass is that of the
engine (Tower), so the model is trained with the same arithmetic that it later runs with.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..model import weights
from ..model.attention import added
from ..model.backbone import Backbone
from ..model.visual import Tower
from . import captions, renders
from .sampler import SIZE, Batch, Sampler
from .things import CLASSES

MODEL = weights.DEMO_MODEL
FIRST_SEED = 1000
# (height, width) of the crops, with their shares of the steps. At first all crops are small: they
# teach where things are. Later there are also large crops, for passes over whole pictures.
CROPS = {(48, 48): 0.2, (64, 64): 0.4, (80, 80): 0.2, (96, 96): 0.2}
LATE_CROPS = {(64, 64): 0.25, (96, 96): 0.25, (96, 128): 0.25, (192, 256): 0.25}
UNKNOWN_WORDS = 4
MAX_SCALE = 60.0


@dataclass(frozen=True)
class TrainingPlan:
    """Settings of the training. On a CPU, the same machine and versions give the same weights.

    `start` is a weights file to continue from, or 'random'. After the share `late` of the steps
    there are also large crops; 1.0: never.
    """

    start: str = weights.RANDOM
    pictures: int = 8000
    steps: int = 4600
    rate: float = 1.2e-3
    late: float = 0.5
    seed: int = 0
    jobs: int = 2
    device: str = 'cuda' if torch.cuda.is_available() else 'cpu'


class Texts:
    """Makes embeddings of sentences; equal sentences are encoded once.

    `known` is 1 for tokens that the training reads and 0 for all others. The embeddings of the
    others stay zero.
    """

    def __init__(self, model: Any, tokenizer: Any):
        self._model, self._tokenizer = model, tokenizer
        self._tokens: dict[str, Tensor] = {}
        table = model.token_embedding.weight
        self.known = table.new_zeros(len(table), 1)
        phrases = ['a table, a mug and the floor', 'a mug on a table']
        phrases += [*captions.NAME_PHRASES, *captions.COLORED_PHRASES]
        for sentence in captions.SENTENCES:
            for phrase in phrases:
                self.known[self._tokenize(captions.without_article(sentence).format(phrase))] = 1
        self._unknown = torch.nonzero(self.known[:, 0].cpu() == 0)[:, 0]

    def _tokenize(self, text: str) -> Tensor:
        if text not in self._tokens:
            self._tokens[text] = self._tokenizer([text])[0]
        return self._tokens[text]

    def embed(self, texts: list[str], rng: np.random.Generator) -> Tensor:
        """Return unit embeddings [T, E]. Each '?' stands for one to three words never read."""
        rows: dict[str, int] = {}
        tokens: list[Tensor] = []
        index = []
        for text in texts:
            if '?' in text or text not in rows:
                rows[text] = len(tokens)
                tokens.append(
                    self._with_unknown(text, rng) if '?' in text else self._tokenize(text)
                )
            index.append(rows[text])
        device = self._model.token_embedding.weight.device
        embeddings = self._model.encode_text(torch.stack(tokens).to(device))
        return F.normalize(embeddings, dim=-1)[index]

    def _with_unknown(self, text: str, rng: np.random.Generator) -> Tensor:
        before, after = (self._tokenize(part) for part in text.split('?'))
        end = int(before.argmax())
        count = int(rng.integers(1, 4))
        strange = self._unknown[rng.integers(len(self._unknown), size=count)]
        tokens = torch.cat([before[:end], strange, after[1:]])[: len(before)]
        if before[end] not in tokens:
            tokens[-1] = before[end]
        return tokens


def loss_of(batch: Batch, features: Tensor, texts: Texts, scale: Tensor, bias: Tensor, rng):
    """Return the loss and its parts, from unit image embeddings [B, E]."""
    count, device = len(features), features.device
    template = captions.sentence(rng)
    words, painted = captions.NAME_PHRASES, captions.COLORED_PHRASES
    prompts = [template.format(p) for p in (*words, *painted, *['a ?'] * UNKNOWN_WORDS)]
    embeddings = texts.embed(batch.captions + prompts, rng)
    told, asked = embeddings[:count], embeddings[count:]

    # Contrast crops with captions and captions with crops. A caption that is also true of another
    # crop is not a negative example for it.
    same, true = batch.same.to(device), batch.true.to(device)
    logits = scale * features @ told.T
    others = logits.masked_fill(true & ~same, -1e4)
    own = logits.masked_fill(~same, -1e4)
    contrast = added((others.logsumexp(d) - own.logsumexp(d)).mean() for d in (0, 1)) / 2

    # Which prompts are true, each judged separately.
    cosines = features @ asked.T
    names, colors = batch.names.to(device), batch.colors.to(device)
    unknown = names.new_zeros(count, UNKNOWN_WORDS)
    answers = torch.cat([names, colors, unknown], 1)
    single = F.binary_cross_entropy_with_logits(
        bias[0].exp() * cosines + bias[1], (answers > 0).float(), reduction='none'
    )
    single = (single * (answers >= 0)).sum() / count

    # Which of the names, and which of the painted names, is true.
    k = len(CLASSES)
    choice = _choice(scale * cosines[:, :k], names)
    color = _choice(scale * cosines[:, k : k + len(painted)], colors)
    loss = 0.5 * contrast + 0.2 * single + 0.5 * choice + 0.3 * color
    right = names.gather(1, cosines[:, :k].argmax(1, keepdim=True)) > 0
    parts = {'loss': loss, 'contrast': contrast, 'single': single, 'choice': choice, 'color': color}
    return loss, {n: v.item() for n, v in parts.items()} | {'right': right.float().mean().item()}


def _choice(logits: Tensor, answers: Tensor) -> Tensor:
    """Return the cross-entropy of the true prompts against the false ones.

    It is the mean over the crops that have a true prompt.
    """
    logp = logits.masked_fill(answers < 0, -1e4).log_softmax(1)
    holds = (answers > 0).float()
    per_crop = -(logp * holds).sum(1) / holds.sum(1).clamp(min=1)
    some = holds.sum(1) > 0
    return (per_crop * some).sum() / some.sum().clamp(min=1)


def train(pictures: renders.Renders, plan: TrainingPlan, out: Path) -> dict[str, float]:
    """Train the model and save the running average of its weights in `out`, also during training.

    Returns:
        The parts of the loss at the end, averaged over about fifty steps.
    """
    loaded, tokenizer = weights.load_model(MODEL, plan.start)
    model: Any = loaded  # torch has no types for its parts
    device = torch.device(plan.device)
    model.to(device).train().requires_grad_(True)
    if plan.start == weights.RANDOM:
        model.logit_scale.data.fill_(math.log(14.0))
    bias = nn.Parameter(torch.tensor([math.log(10.0), -6.0], device=device))
    parameters = [*model.parameters(), bias]
    average = copy.deepcopy(model).requires_grad_(False)
    optimizer = _optimizer(model, bias, plan.rate)
    texts = Texts(model, tokenizer)
    backbone, patch = Backbone(model.visual), Tower(model.visual).patch
    sampler = Sampler(pictures, plan.seed)
    print(sampler.counts(), flush=True)

    def work(batch: Batch, rng: np.random.Generator) -> tuple[dict, tuple[Tensor, ...]]:
        """Return the parts of the loss and the gradients for one batch."""
        torch.set_num_threads(1)  # each job has its own core
        tower = Tower(model.visual)
        tokens = tower.embed((batch.pixels.to(device) - backbone.mean) / backbone.std)
        for block in tower.blocks:
            tokens = block.forward(tokens)
        features = F.normalize(tower.pool(tokens), dim=-1)
        scale = model.logit_scale.exp().clamp(max=MAX_SCALE)
        loss, parts = loss_of(batch, features, texts, scale, bias, rng)
        return parts, torch.autograd.grad(loss, parameters)

    rngs = [np.random.default_rng([plan.seed, job]) for job in range(plan.jobs)]
    shown: dict[str, float] = {}
    started = time.monotonic()
    workers = ThreadPoolExecutor(plan.jobs)
    for step, batches in enumerate(_ahead(sampler, plan, patch), 1):
        decay = min(1.0, 2 * (1 - step / plan.steps) + 0.01)
        for group in optimizer.param_groups:
            group['lr'] = plan.rate * min(1.0, step / 200) * decay
        parts, gradients = zip(*workers.map(work, batches, rngs), strict=True)
        for parameter, *own in zip(parameters, *gradients, strict=True):
            parameter.grad = sum(own) / plan.jobs
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        _after_step(model, average, texts.known, step)
        shown = {n: 0.98 * shown.get(n, v) + 0.02 * v for n, v in parts[0].items()}
        last = step == plan.steps
        if step % 50 == 0 or last:
            numbers = ' '.join(f'{name} {value:.3f}' for name, value in shown.items())
            seconds = time.monotonic() - started
            print(f'step {step}/{plan.steps} {seconds:.0f} s {numbers}', flush=True)
        if step % 500 == 0 or last:
            save(average, out / f'{MODEL}.safetensors')
    workers.shutdown()
    return shown


@torch.no_grad()
def _after_step(model: Any, average: Any, known: Tensor, step: int) -> None:
    """Update the running average of the weights; keep embeddings of words never read at zero."""
    keep = min(0.998, 1 - 1 / (1 + 0.2 * step))
    for mine, new in zip(average.parameters(), model.parameters(), strict=True):
        mine.lerp_(new, 1 - keep)
    for one in (model, average):
        one.token_embedding.weight.mul_(known)
    average.logit_scale.clamp_(max=math.log(MAX_SCALE))


def _optimizer(model: nn.Module, bias: nn.Parameter, rate: float) -> torch.optim.Optimizer:
    plain = [bias]
    decayed: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        (plain if parameter.ndim < 2 or 'embedding' in name else decayed).append(parameter)
    groups = [{'params': plain, 'weight_decay': 0.0}, {'params': decayed, 'weight_decay': 0.05}]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98))


def _ahead(sampler: Sampler, plan: TrainingPlan, patch: int) -> Iterator[list[Batch]]:
    """Yield the batches of all steps. A thread makes them one step ahead."""

    def make(step: int) -> list[Batch]:
        crops = CROPS if step < plan.late * plan.steps else LATE_CROPS
        return sampler.batches(crops, patch, plan.jobs)

    with ThreadPoolExecutor(1) as maker:
        following = maker.submit(make, 0)
        for step in range(plan.steps):
            batches = following.result()
            if step + 1 < plan.steps:
                following = maker.submit(make, step + 1)
            yield batches


def save(model: nn.Module, path: Path) -> None:
    """Write the weights as float16."""
    state = {name: value.half() for name, value in model.state_dict().items()}
    print(f'saved {path}, SHA-256 {weights.save_weights(state, path, MODEL)}', flush=True)


def main(args: list[str] | None = None) -> None:
    """Render the pictures and train the model."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--out', type=Path, required=True, help='folder for weights and pictures')
    for field in dataclasses.fields(TrainingPlan):
        parser.add_argument(f'--{field.name}', type=type(field.default), default=field.default)
    options = vars(parser.parse_args(args))
    out = options.pop('out')
    plan = TrainingPlan(**options)
    cv2.setNumThreads(1)
    pictures = renders.cached(out / 'renders', FIRST_SEED, plan.pictures, SIZE, jobs=plan.jobs)
    shown = train(pictures, plan, out)
    about = {**dataclasses.asdict(plan), **shown}
    (out / 'training.json').write_text(json.dumps(about, indent=2) + '\n')


if __name__ == '__main__':
    main()
