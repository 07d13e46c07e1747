"""Training of the demo world's small CLIP: python -m cliptrase_ros.demo.train --out FOLDER

The loss compares whole crops of rendered pictures with whole sentences: captions that name what is
visible in the crop, and prompts for each name. No pixel label enters it; but the simulator's
segmentation decides where a crop is cut and what is visible in it. The forward pass is the
engine's own (Tower), so the model is trained in the very arithmetic in which it runs.
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

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import SettingError
from ..model import weights
from ..model.backbone import Backbone
from ..model.visual import Tower
from . import captions, renders
from .world import CLASSES, Thing, shares_of

MODEL = weights.DEMO_MODEL
SIZE = (192, 256)
FIRST_SEED = 1000
# (height, width) of the crops with their shares of the steps: at first small ones, which tell
# where things are, later also large ones, for passes over whole pictures.
CROPS = {(48, 48): 0.2, (64, 64): 0.4, (80, 80): 0.2, (96, 96): 0.2}
LATE_CROPS = {(64, 64): 0.25, (96, 96): 0.25, (96, 128): 0.25, (192, 256): 0.25}
TOKENS_PER_STEP = 4096
BACKGROUND = ('floor', 'wall', 'sky', 'table')
BACKGROUND_SHARE = 0.3
# Above the first share a thing is visible, below the second it is not, between it is not asked.
VISIBLE, INVISIBLE = 0.04, 0.004
UNKNOWN_WORDS = 4
MAX_SCALE = 60.0


@dataclass(frozen=True)
class TrainingPlan:
    """How long and how to train. On a CPU, with the same machine and versions, the same weights
    come out.

    `start` is a weights file to go on from, or 'random'; from the share `late` of the steps on
    there are large crops as well, 1.0: never.
    """

    start: str = weights.RANDOM
    pictures: int = 8000
    steps: int = 4600
    rate: float = 1.2e-3
    late: float = 0.5
    seed: int = 0
    jobs: int = 2
    device: str = 'cuda' if torch.cuda.is_available() else 'cpu'


@dataclass(frozen=True, eq=False)
class Batch:
    """B crops with a caption each, and what is known of them as a whole.

    Attributes:
        pixels: [B, 3, h, w] float32 in 0..1.
        captions: the B captions.
        names: [B, K] int8, whether the crop shows each of CLASSES: 1 yes, 0 no, -1 too little of
            it to ask.
        colors: [B, C] int8, the same for captions.COLORED.
        same: [B, B] bool, whether two captions are equal.
        true: [B, B] bool, whether the crop (row) shows all names of the caption (column); colours
            are not compared here, the prompts teach them.
    """

    pixels: Tensor
    captions: list[str]
    names: Tensor
    colors: Tensor
    same: Tensor
    true: Tensor


class Sampler:
    """Draws crops so that every class comes often, and writes their captions."""

    def __init__(self, pictures: renders.Renders, seed: int):
        self._pictures = pictures
        self._rng = np.random.default_rng(seed)
        self._classes = [
            np.array([CLASSES.index(thing.name) for thing in things], np.uint8)
            for things in pictures.things
        ]
        self._holding: list[list[int]] = [[] for _ in CLASSES]
        for number in range(len(pictures)):
            coarse = self._classes[number][pictures.instances[number, ::4, ::4]]
            for k in np.flatnonzero(np.bincount(coarse.ravel(), minlength=len(CLASSES)) >= 14):
                self._holding[k].append(number)
        empty = [name for name, count in self.counts().items() if not count]
        if empty:
            raise SettingError(f'no picture shows {", ".join(empty)}; render more pictures')
        self._order = [self._rng.permutation(numbers) for numbers in self._holding]
        self._next = [0] * len(CLASSES)

    def counts(self) -> dict[str, int]:
        """How many pictures hold each class."""
        return {name: len(held) for name, held in zip(CLASSES, self._holding, strict=True)}

    def batches(self, crops: dict[tuple[int, int], float], patch: int, parts: int) -> list[Batch]:
        """The crops of one step, all of one size drawn by the shares, in `parts` batches."""
        sizes = list(crops)
        size = sizes[self._rng.choice(len(sizes), p=list(crops.values()))]
        count = max(1, TOKENS_PER_STEP * patch * patch // (size[0] * size[1] * parts))
        return [self._batch(count, *size) for _ in range(parts)]

    def _batch(self, count: int, height: int, width: int) -> Batch:
        rng = self._rng
        pixels = np.empty((count, height, width, 3), np.uint8)
        names = np.empty((count, len(CLASSES)), np.int8)
        colors = np.empty((count, len(captions.COLORED)), np.int8)
        told = np.zeros((count, len(CLASSES)), bool)
        texts = []
        for b in range(count):
            pixels[b], shares = self._crop(height, width)
            names[b], colors[b] = answers(shares)
            seen = [thing for thing, share in shares.items() if share > VISIBLE]
            seen = seen or [max(shares, key=shares.get)]
            if len(seen) > 1 and rng.random() < 0.3:
                seen = [seen[k] for k in rng.permutation(len(seen))[: rng.integers(1, len(seen))]]
            texts.append(captions.caption(seen, rng))
            told[b, [CLASSES.index(thing.name) for thing in seen]] = True
        true = ~(told[None] & (names == 0)[:, None]).any(-1)
        same = np.array([[a == b for b in texts] for a in texts])
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
        return Batch(
            self._vary(images),
            texts,
            torch.from_numpy(names),
            torch.from_numpy(colors),
            torch.from_numpy(same),
            torch.from_numpy(true),
        )

    def _crop(self, height: int, width: int):
        """A crop [height, width, 3] that shows a drawn class, with the share of each thing."""
        rng, pictures = self._rng, self._pictures
        for attempt in range(8):
            background = rng.random() < BACKGROUND_SHARE
            wanted = rng.choice(
                [k for k, n in enumerate(CLASSES) if (n in BACKGROUND) == background]
            )
            order = self._order[wanted]
            number = order[self._next[wanted] % len(order)]
            self._next[wanted] += 1
            zoom = rng.uniform(0.75, 1.25) if height < SIZE[0] and rng.random() < 0.5 else 1.0
            h, w = round(height * zoom), round(width * zoom)
            coarse = self._classes[number][pictures.instances[number, ::4, ::4]]
            ys, xs = np.nonzero(coarse == wanted)
            if background or rng.random() < 0.5:
                at = rng.integers(len(ys))
                y, x = ys[at], xs[at]
            else:
                y, x = np.median(ys), np.median(xs)
            top = int(np.clip(4 * y - h / 2 + rng.uniform(-0.25, 0.25) * h, 0, SIZE[0] - h))
            left = int(np.clip(4 * x - w / 2 + rng.uniform(-0.25, 0.25) * w, 0, SIZE[1] - w))
            area = (number, slice(top, top + h), slice(left, left + w))
            shares = shares_of(pictures.instances[area], pictures.things[number])
            share = sum(s for thing, s in shares.items() if thing.name == CLASSES[wanted])
            if share > (0.35 if background and attempt < 4 else 0.06):
                break
        image = pictures.images[area]
        if zoom != 1:
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        if rng.random() < 0.5:
            image = cv2.GaussianBlur(image, (3, 3), rng.uniform(0.35, 0.75))
        return (image[:, ::-1] if rng.random() < 0.5 else image), shares

    def _vary(self, images: Tensor) -> Tensor:
        """Contrast, tint and brightness."""

        def draw(*shape: int) -> Tensor:
            return torch.from_numpy(self._rng.random(shape, dtype=np.float32))

        count = len(images)
        images = images * (0.8 + 0.4 * draw(count, 1, 1, 1)) * (0.94 + 0.12 * draw(count, 3, 1, 1))
        return (images + 0.12 * draw(count, 1, 1, 1) - 0.06).clamp(0, 1)


def answers(shares: dict[Thing, float]) -> tuple[list[int], list[int]]:
    """Whether a crop with these shares shows each of CLASSES and of captions.COLORED: 1, 0, or -1
    for too little to ask."""
    by_name, by_color = dict.fromkeys(CLASSES, 0.0), dict.fromkeys(captions.COLORED, 0.0)
    for thing, share in shares.items():
        by_name[thing.name] += share
        if (thing.color, thing.name) in by_color:
            by_color[thing.color, thing.name] += share

    def answer(share: float) -> int:
        return 1 if share > VISIBLE else -1 if share > INVISIBLE else 0

    return [answer(s) for s in by_name.values()], [answer(s) for s in by_color.values()]


class Texts:
    """Sentences -> embeddings, every distinct one once; words that are never read stay zero."""

    def __init__(self, model: nn.Module, tokenizer):
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
        """Unit embeddings [T, E]; each '?' stands for one to three words that are never read."""
        rows: dict[str, int] = {}
        tokens, index = [], []
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
    """The loss and its parts, from unit image embeddings [B, E]."""
    count, device = len(features), features.device
    template = captions.sentence(rng)
    words, painted = captions.NAME_PHRASES, captions.COLORED_PHRASES
    prompts = [template.format(p) for p in (*words, *painted, *['a ?'] * UNKNOWN_WORDS)]
    embeddings = texts.embed(batch.captions + prompts, rng)
    told, asked = embeddings[:count], embeddings[count:]

    # Crops and captions both ways; a caption that happens to be true of another crop is no
    # negative for it.
    same, true = batch.same.to(device), batch.true.to(device)
    logits = scale * features @ told.T
    others = logits.masked_fill(true & ~same, -1e4)
    own = logits.masked_fill(~same, -1e4)
    contrast = sum((others.logsumexp(d) - own.logsumexp(d)).mean() for d in (0, 1)) / 2

    # Which prompts hold, each on its own.
    cosines = features @ asked.T
    names, colors = batch.names.to(device), batch.colors.to(device)
    unknown = names.new_zeros(count, UNKNOWN_WORDS)
    answers = torch.cat([names, colors, unknown], 1)
    single = F.binary_cross_entropy_with_logits(
        bias[0].exp() * cosines + bias[1], (answers > 0).float(), reduction='none'
    )
    single = (single * (answers >= 0)).sum() / count

    # Which names, and which painted names, against each other.
    k = len(CLASSES)
    choice = _choice(scale * cosines[:, :k], names)
    color = _choice(scale * cosines[:, k : k + len(painted)], colors)
    loss = 0.5 * contrast + 0.2 * single + 0.5 * choice + 0.3 * color
    right = names.gather(1, cosines[:, :k].argmax(1, keepdim=True)) > 0
    parts = {'loss': loss, 'contrast': contrast, 'single': single, 'choice': choice, 'color': color}
    return loss, {n: v.item() for n, v in parts.items()} | {'right': right.float().mean().item()}


def _choice(logits: Tensor, answers: Tensor) -> Tensor:
    """Cross-entropy of the prompts that hold against those that do not, over crops with any."""
    logp = logits.masked_fill(answers < 0, -1e4).log_softmax(1)
    holds = (answers > 0).float()
    per_crop = -(logp * holds).sum(1) / holds.sum(1).clamp(min=1)
    some = holds.sum(1) > 0
    return (per_crop * some).sum() / some.sum().clamp(min=1)


def train(pictures: renders.Renders, recipe: TrainingPlan, out: Path) -> dict[str, float]:
    """Train the model and save the running average of its weights in `out`, on the way as well.

    Returns:
        The parts of the loss at the end, averaged over some fifty steps.
    """
    model, tokenizer = weights.load_model(MODEL, recipe.start)
    device = torch.device(recipe.device)
    model.to(device).train().requires_grad_(True)
    if recipe.start == weights.RANDOM:
        model.logit_scale.data.fill_(math.log(14.0))
    bias = nn.Parameter(torch.tensor([math.log(10.0), -6.0], device=device))
    parameters = [*model.parameters(), bias]
    average = copy.deepcopy(model).requires_grad_(False)
    optimizer = _optimizer(model, bias, recipe.rate)
    texts = Texts(model, tokenizer)
    backbone, patch = Backbone(model.visual), Tower(model.visual).patch
    sampler = Sampler(pictures, recipe.seed)
    print(sampler.counts(), flush=True)

    def work(batch: Batch, rng: np.random.Generator) -> tuple[dict, tuple[Tensor, ...]]:
        """The parts of the loss and the gradients for one batch."""
        torch.set_num_threads(1)  # each job has a core of its own
        tower = Tower(model.visual)
        tokens = tower.embed((batch.pixels.to(device) - backbone.mean) / backbone.std)
        for block in tower.blocks:
            tokens = block.forward(tokens)
        features = F.normalize(tower.pool(tokens), dim=-1)
        scale = model.logit_scale.exp().clamp(max=MAX_SCALE)
        loss, parts = loss_of(batch, features, texts, scale, bias, rng)
        return parts, torch.autograd.grad(loss, parameters)

    rngs = [np.random.default_rng([recipe.seed, job]) for job in range(recipe.jobs)]
    shown: dict[str, float] = {}
    started = time.monotonic()
    workers = ThreadPoolExecutor(recipe.jobs)
    for step, batches in enumerate(_ahead(sampler, recipe, patch), 1):
        decay = min(1.0, 2 * (1 - step / recipe.steps) + 0.01)
        for group in optimizer.param_groups:
            group['lr'] = recipe.rate * min(1.0, step / 200) * decay
        parts, gradients = zip(*workers.map(work, batches, rngs), strict=True)
        for parameter, *own in zip(parameters, *gradients, strict=True):
            parameter.grad = sum(own) / recipe.jobs
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        _after_step(model, average, texts.known, step)
        shown = {n: 0.98 * shown.get(n, v) + 0.02 * v for n, v in parts[0].items()}
        last = step == recipe.steps
        if step % 50 == 0 or last:
            numbers = ' '.join(f'{name} {value:.3f}' for name, value in shown.items())
            seconds = time.monotonic() - started
            print(f'step {step}/{recipe.steps} {seconds:.0f} s {numbers}', flush=True)
        if step % 500 == 0 or last:
            save(average, out / f'{MODEL}.safetensors')
    workers.shutdown()
    return shown


@torch.no_grad()
def _after_step(model: nn.Module, average: nn.Module, known: Tensor, step: int) -> None:
    """Words that are never read stay zero; the average follows the model."""
    keep = min(0.998, 1 - 1 / (1 + 0.2 * step))
    for mine, new in zip(average.parameters(), model.parameters(), strict=True):
        mine.lerp_(new, 1 - keep)
    for one in (model, average):
        one.token_embedding.weight.mul_(known)
    average.logit_scale.clamp_(max=math.log(MAX_SCALE))


def _optimizer(model: nn.Module, bias: nn.Parameter, rate: float) -> torch.optim.Optimizer:
    plain, decayed = [bias], []
    for name, parameter in model.named_parameters():
        (plain if parameter.ndim < 2 or 'embedding' in name else decayed).append(parameter)
    groups = [{'params': plain, 'weight_decay': 0.0}, {'params': decayed, 'weight_decay': 0.05}]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98))


def _ahead(sampler: Sampler, recipe: TrainingPlan, patch: int) -> Iterator[list[Batch]]:
    """The batches of all steps, made by a thread one step ahead."""

    def make(step: int) -> list[Batch]:
        crops = CROPS if step < recipe.late * recipe.steps else LATE_CROPS
        return sampler.batches(crops, patch, recipe.jobs)

    with ThreadPoolExecutor(1) as maker:
        following = maker.submit(make, 0)
        for step in range(recipe.steps):
            batches = following.result()
            if step + 1 < recipe.steps:
                following = maker.submit(make, step + 1)
            yield batches


def save(model: nn.Module, path: Path) -> None:
    """Write the weights as float16."""
    state = {name: value.half() for name, value in model.state_dict().items()}
    print(f'saved {path}, SHA-256 {weights.save(state, path, MODEL)}', flush=True)


def main(args: list[str] | None = None) -> None:
    """Render and train."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--out', type=Path, required=True, help='folder of weights and renders')
    for field in dataclasses.fields(TrainingPlan):
        parser.add_argument(f'--{field.name}', type=type(field.default), default=field.default)
    options = vars(parser.parse_args(args))
    out = options.pop('out')
    recipe = TrainingPlan(**options)
    cv2.setNumThreads(1)
    pictures = renders.cached(out / 'renders', FIRST_SEED, recipe.pictures, SIZE, jobs=recipe.jobs)
    shown = train(pictures, recipe, out)
    about = {**dataclasses.asdict(recipe), **shown}
    (out / 'training.json').write_text(json.dumps(about, indent=2) + '\n')


if __name__ == '__main__':
    main()
