"""Training of the demo world's small CLIP: python -m cliptrase_ros.demo.train --out FOLDER

The loss (losses.py) compares windows of rendered pictures with words that are true of the whole
window. It uses no pixel labels. But the simulator's segmentation decides where a crop is cut and
what is visible in a window. The forward pass is that of the engine (Tower), so the model is trained
with the same arithmetic that it later runs with.

A training that was stopped continues with --resume: with the same number of jobs it sees the same
crops, and on one machine the result has the same bytes.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import math
import os
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

from ..errors import SettingError
from ..model import attention, weights
from ..model.backbone import Backbone
from ..model.linear import fast_bfloat16
from ..model.visual import Tower
from . import renders
from .losses import Seen, loss_of
from .sampler import SIZE, Batch, Sampler
from .texts import Texts

MODEL = 'cliptrase-demo'
CHECKPOINT = 'checkpoint.pt'
FIRST_SEED = 1000
# (height, width) of crops and of whole views, with their shares of the first step and of the second
# half. Small crops show few things and so teach where things are. Views are what the demo sees.
CROPS = {
    (48, 48): (0.25, 0.0),
    (64, 64): (0.4, 0.1),
    (96, 96): (0.25, 0.1),
    (128, 160): (0.1, 0.1),
    (168, 224): (0.0, 0.4),
    (192, 256): (0.0, 0.15),
    (240, 320): (0.0, 0.15),
}
# Share of the passes whose last block has no residual and no feed-forward, as ClearCLIP's. It grows
# from 0 between these shares of the steps.
BARE, BARE_FROM, BARE_TO = 0.2, 0.2, 0.4
# Share of the other passes whose last block has its own attention; the rest have CLIPtrase's.
OWN = 0.25
MAX_SCALE = 60.0
WARM_STEPS = 200
SHOW_STEPS, SAVE_S = 50, 240.0


@dataclass(frozen=True)
class TrainingPlan:
    """Settings of the training. On a CPU, the same machine and versions give the same weights.

    `start` is a weights file to continue from, or 'random'. The rate is constant at first, and
    falls to 0 over the last `falling` (0..1] of the steps. `precision` is that of the products in
    the image tower: fp32, bf16, or auto for bf16 where it is faster. Weights and sums are float32.
    """

    start: str = weights.RANDOM
    pictures: int = 5000
    steps: int = 7000
    rate: float = 1.2e-3
    falling: float = 0.4
    seed: int = 0
    jobs: int = 2
    device: str = 'cuda' if torch.cuda.is_available() else 'cpu'
    precision: str = 'auto'

    def __post_init__(self):
        if self.precision not in ('auto', 'fp32', 'bf16'):
            raise SettingError(f'precision: {self.precision!r}; expected auto, fp32 or bf16')

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of products in the image tower."""
        fast = self.precision == 'auto' and fast_bfloat16(torch.device(self.device))
        return torch.bfloat16 if fast or self.precision == 'bf16' else torch.float32

    def rate_at(self, step: int) -> float:
        """Return the learning rate of a step, 1 to `steps`."""
        left = (1 - (step - 1) / self.steps) / self.falling
        return self.rate * min(1.0, step / WARM_STEPS, left)

    def bare_at(self, step: int) -> float:
        """Return the share of passes with a bare last block in a step, 1 to `steps`."""
        done = (step / self.steps - BARE_FROM) / (BARE_TO - BARE_FROM)
        return BARE * min(max(done, 0.0), 1.0)

    def crops_at(self, step: int) -> dict[tuple[int, int], float]:
        """Return the shares of the sizes of crops in a step, 1 to `steps`."""
        done = min(1.0, 2 * step / self.steps)
        return {size: first + done * (last - first) for size, (first, last) in CROPS.items()}


class Training:
    """A model in training, with all that a checkpoint holds.

    Args:
        resume: checkpoint to continue from.

    Raises:
        SettingError: the checkpoint does not exist, or its last step is beyond the plan's.
    """

    def __init__(self, plan: TrainingPlan, resume: Path | None = None):
        # Any, because torch has no types for its parts.
        self.model: Any
        self.model, tokenizer = weights.load_model(MODEL, plan.start)
        self.plan, self.device = plan, torch.device(plan.device)
        self.model.to(self.device).train().requires_grad_(True)
        if plan.start == weights.RANDOM:
            self.model.logit_scale.data.fill_(math.log(14.0))
        self.average: Any = copy.deepcopy(self.model).requires_grad_(False)
        self.parameters = list(self.model.parameters())
        self.optimizer = _optimizer(self.model, plan.rate)
        self.step = 0
        if resume:
            self._resume(resume)
        self.texts = Texts(self.model, tokenizer)
        self._backbone = Backbone(self.model.visual)

    def _resume(self, file: Path) -> None:
        if not file.is_file():
            raise SettingError(f'there is no checkpoint {file}; start without --resume')
        state = torch.load(file, map_location=self.device, weights_only=True)
        self.step = state['step']
        if self.step >= self.plan.steps:
            raise SettingError(
                f'{file} has {self.step} steps already; set --steps to a larger number'
            )
        for name in ('model', 'average', 'optimizer'):
            part: Any = getattr(self, name)
            part.load_state_dict(state[name])

    def save(self, folder: Path) -> None:
        """Write the checkpoint, and the running average of the weights as float16."""
        state = {name: getattr(self, name).state_dict() for name in ('model', 'average')}
        state |= {'optimizer': self.optimizer.state_dict(), 'step': self.step}
        partial = folder / f'{CHECKPOINT}.partial'
        torch.save(state, partial)
        os.replace(partial, folder / CHECKPOINT)
        half = {name: value.half() for name, value in self.average.state_dict().items()}
        path = folder / f'{MODEL}.safetensors'
        print(f'saved {path}, SHA-256 {weights.save_weights(half, path, MODEL)}', flush=True)

    def learn(self, batches: list[Batch], workers: ThreadPoolExecutor) -> dict[str, float]:
        """Take one step; return the parts of the loss of the first batch."""
        self.step += 1
        for group in self.optimizer.param_groups:
            group['lr'] = self.plan.rate_at(self.step)
        jobs = range(len(batches))
        parts, gradients = zip(*workers.map(self._work, batches, jobs), strict=True)
        for parameter, *own in zip(self.parameters, *gradients, strict=True):
            parameter.grad = sum(own) / len(batches)
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self._after_step()
        return parts[0]

    def _work(self, batch: Batch, job: int) -> tuple[dict[str, float], tuple[Tensor, ...]]:
        """Return the parts of the loss and the gradients for one batch."""
        torch.set_num_threads(1)  # each job has its own core
        rng = np.random.default_rng([self.plan.seed, self.step, job])
        scale = self.model.logit_scale.exp().clamp(max=MAX_SCALE)
        share, drawn = self.plan.bare_at(self.step), rng.random()
        bare, own = drawn < share, drawn < share + (1 - share) * OWN
        rule = attention.clip if own else attention.cliptrase
        seen = self._see(batch, attention.query_query if bare else rule, bare)
        loss, parts = loss_of(batch, seen, self.texts, scale, rng, self.step)
        return parts, torch.autograd.grad(loss, self.parameters, materialize_grads=True)

    def _see(self, batch: Batch, rule: attention.Rule, bare: bool) -> Seen:
        """Run the tower, the last block with the attention of a rule.

        Args:
            bare: the last block has no residual and no feed-forward.
        """
        visual = self.model.visual
        tower = Tower(visual, self.plan.dtype)
        pixels = batch.pixels.to(self.device)
        grid, positions = tower.grid(pixels), None
        if batch.corners is not None:
            table, whole = visual.positional_embedding, visual.grid_size
            positions = _positions(table, whole, grid, batch.corners)
        tokens = tower.embed((pixels - self._backbone.mean) / self._backbone.std, positions)
        *earlier, before, last = tower.blocks
        for block in earlier:
            tokens = block.forward(tokens)
        heads = before.heads(tokens)
        similar = attention.semantic_correlation(heads)
        tokens = before.finish(tokens, attention.attend(attention.clip(heads, grid), heads.v))
        heads = last.heads(tokens)
        attended = attention.attend(rule(heads, grid), heads.v)
        tokens = last.mix(attended) if bare else last.finish(tokens, attended)
        joint = F.normalize(tower.project(tokens), dim=-1)
        means = F.normalize(tower.pool(tokens), dim=-1)
        # Not cut off at 0, as in clusters.denoised_affinity: there it could not learn.
        affinity = similar[:, 1:, 1:] - similar[:, :1, 1:]
        return Seen(joint[:, 1:], means, joint[:, 0], affinity, grid)

    @torch.no_grad()
    def _after_step(self) -> None:
        """Update the running average of the weights; keep words never read at zero."""
        keep = min(0.998, 1 - 1 / (1 + 0.2 * self.step))
        for mine, new in zip(self.average.parameters(), self.model.parameters(), strict=True):
            mine.lerp_(new, 1 - keep)
        for one in (self.model, self.average):
            one.token_embedding.weight.mul_(self.texts.known)
        self.average.logit_scale.clamp_(max=math.log(MAX_SCALE))


def _positions(
    table: Tensor, whole: tuple[int, int], grid: tuple[int, int], corners: Tensor
) -> Tensor:
    """Return the position embeddings [B, 1 + rows * cols, D] of crops.

    Args:
        table: [1 + N, D] for the patches of a whole picture.
        whole, grid: (rows, cols) of a whole picture and of the crops.
        corners: [B, 2] row and column of each crop's first patch.
    """
    rows, cols = (
        torch.arange(n) + corner[:, None] for n, corner in zip(grid, corners.T, strict=True)
    )
    at = 1 + rows[:, :, None] * whole[1] + cols[:, None]
    at = F.pad(at.flatten(1), (1, 0)).to(table.device)
    return table.index_select(0, at.flatten()).view(*at.shape, -1)


def train(
    pictures: renders.Renders, plan: TrainingPlan, out: Path, resume: bool = False
) -> dict[str, float]:
    """Train the model and save it in `out`, also during training.

    Args:
        resume: continue from the checkpoint in `out`.

    Returns:
        The parts of the loss at the end, averaged over about fifty steps.
    """
    out.mkdir(parents=True, exist_ok=True)
    training = Training(plan, out / CHECKPOINT if resume else None)
    sampler = Sampler(pictures, plan.seed, Tower(training.model.visual).patch)
    print(sampler.counts(), flush=True)
    shown: dict[str, float] = {}
    first, patches, started = training.step, 0, time.monotonic()
    saved = started
    with ThreadPoolExecutor(plan.jobs) as workers:
        for batches in _ahead(sampler, plan, first):
            parts = training.learn(batches, workers)
            patches += sum(len(b.pixels) * b.pixels[0, 0].numel() for b in batches) // 64
            shown = {n: 0.98 * shown.get(n, v) + 0.02 * v for n, v in parts.items()}
            now, last = time.monotonic(), training.step == plan.steps
            if training.step % SHOW_STEPS == 0 or last:
                numbers = ' '.join(f'{name} {value:.3f}' for name, value in shown.items())
                speed = f'{now - started:.0f} s, {patches / (now - started):.0f} patches/s'
                print(f'step {training.step}/{plan.steps} {speed} {numbers}', flush=True)
            if now - saved > SAVE_S or last:
                training.save(out)
                saved = now
    return shown


def _optimizer(model: nn.Module, rate: float) -> torch.optim.Optimizer:
    plain: list[nn.Parameter] = []
    decayed: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        (plain if parameter.ndim < 2 or 'embedding' in name else decayed).append(parameter)
    groups = [{'params': plain, 'weight_decay': 0.0}, {'params': decayed, 'weight_decay': 0.05}]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98))


def _ahead(sampler: Sampler, plan: TrainingPlan, done: int) -> Iterator[list[Batch]]:
    """Yield the batches of the steps after `done`. A thread makes them one step ahead."""
    with ThreadPoolExecutor(1) as maker:
        following = maker.submit(sampler.batches, done + 1, plan.crops_at(done + 1), plan.jobs)
        for step in range(done + 1, plan.steps + 1):
            batches = following.result()
            if step < plan.steps:
                crops = plan.crops_at(step + 1)
                following = maker.submit(sampler.batches, step + 1, crops, plan.jobs)
            yield batches


def main(args: list[str] | None = None) -> None:
    """Render the pictures and train the model."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--out', type=Path, required=True, help='folder for weights and pictures')
    parser.add_argument('--resume', action='store_true', help='continue from its checkpoint')
    for field in dataclasses.fields(TrainingPlan):
        parser.add_argument(f'--{field.name}', type=type(field.default), default=field.default)
    options = vars(parser.parse_args(args))
    out, resume = options.pop('out'), options.pop('resume')
    plan = TrainingPlan(**options)
    cv2.setNumThreads(1)
    pictures = renders.cached(out / 'renders', FIRST_SEED, plan.pictures, SIZE, jobs=plan.jobs)
    shown = train(pictures, plan, out, resume)
    about = {**dataclasses.asdict(plan), **shown}
    (out / 'training.json').write_text(json.dumps(about, indent=2) + '\n')


if __name__ == '__main__':
    main()
