"""What can be said of a vocabulary before any picture is seen."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..errors import VocabularyError
from .distractors import DISTRACTORS, distractors_for
from .templates import TEMPLATES
from .vocabulary import Vocabulary, WordClass, parse_vocabulary

if TYPE_CHECKING:
    from torch import Tensor

    from ..segmenter import Segmenter

# Pairs of prompts that are compared at a time, of some 50 bytes each.
BLOCK = 1 << 20


class Pair(NamedTuple):
    """Two prompts of different classes, each with the name of its class, '' for background.

    Attributes:
        cosine: of their embeddings, -1..1.
        deviation: how many standard deviations it is above the mean of all such pairs.
    """

    cosine: float
    deviation: float
    prompts: tuple[str, str]
    names: tuple[str, str]


def problems(entries: Sequence[str], background: Sequence[str] = ()) -> list[str]:
    """Why these words would be refused: a sentence for each word that is at fault, in order; of a
    word with several faults the first. Without a model; see `too_long` for the rest."""
    if not entries:
        return _sift([], [], lambda words: parse_vocabulary(words, background))
    good: list[str] = []
    found = _sift(good, list(entries), parse_vocabulary)
    if good and background:
        found += _sift([], list(background), lambda words: parse_vocabulary(good, words))
    return found


def _sift(good: list[str], words: list[str], check: Callable[[list[str]], object]) -> list[str]:
    """Add to `good` the words that `check` takes beside those before them; what it says of each
    of the others."""
    try:
        check([*good, *words])
    except VocabularyError as error:
        if len(words) < 2:
            return [str(error)]
        half = len(words) // 2
        return _sift(good, words[:half], check) + _sift(good, words[half:], check)
    good += words
    return []


def too_long(segmenter: Segmenter, words: Iterable[str]) -> list[str]:
    """A sentence for each word that does not fit into the text encoder with the templates."""
    text = segmenter.word_encoder.text
    return [
        f'{word[:60]!r}: {sentence_tokens(segmenter, word)} tokens in the longest template, and '
        f'the text encoder reads {text.context - 1}; use fewer words'
        for word in words
        if text.too_long(_longest_sentence(segmenter, word))
    ]


def sentence_tokens(segmenter: Segmenter, word: str) -> int:
    """Tokens of the longest sentence that a word is put into."""
    return len(segmenter.word_encoder.text.tokens(_longest_sentence(segmenter, word)))


def _longest_sentence(segmenter: Segmenter, word: str) -> str:
    templates = TEMPLATES[segmenter.settings.prompt_templates]
    return segmenter.word_encoder.text.longest(templates).format(word)


def left_out(
    classes: Sequence[WordClass], background: Sequence[str], distractors: str
) -> tuple[str, ...]:
    """Words of a list of distractors that are words of the vocabulary, too: there the
    vocabulary's own meaning holds."""
    given = [word for c in classes for word in (c.name, *c.prompts)]
    kept = distractors_for([*given, *background], distractors)
    return tuple(word for word in DISTRACTORS[distractors] if word not in kept)


def alike(words: Vocabulary, count: int) -> list[Pair]:
    """The `count` pairs of prompts of different classes whose embeddings are most alike, most
    alike first. All background words are of one class."""
    import torch

    prompts = [(p, c.name) for c in words.classes for p in c.prompts]
    prompts += [(word, '') for word in words.background]
    best = torch.empty(0, dtype=torch.double), torch.empty(2, 0, dtype=torch.long)
    spread = _Spread()
    for cosines, places in _pairs_in_blocks(words):
        spread.add(cosines)
        best = torch.cat([best[0], cosines]), torch.cat([best[1], places], 1)
        if len(best[0]) > count:
            # Of those that are equal the first are kept, and far fewer are to be sorted.
            least = best[0].topk(count).values[-1] if count else torch.inf
            best = best[0][best[0] >= least], best[1][:, best[0] >= least]
        order = best[0].argsort(descending=True, stable=True)[:count]
        best = best[0][order], best[1][:, order]
    pairs = []
    for cosine, row, column in zip(best[0].tolist(), *best[1].tolist(), strict=True):
        one, other = prompts[row], prompts[column]
        pairs.append(Pair(cosine, spread.of(cosine), (one[0], other[0]), (one[1], other[1])))
    return pairs


def _pairs_in_blocks(words: Vocabulary) -> Iterator[tuple[Tensor, Tensor]]:
    """Cosines [M] of pairs of prompts of different classes, and the two places of each [2, M], in
    order of the places. All at once would be gigabytes of some ten thousand prompts."""
    embeddings, owner = words.embeddings.double().cpu(), words.owner.cpu()
    rows = max(1, BLOCK // len(embeddings))
    for first in range(0, len(embeddings), rows):
        apart = (owner[first : first + rows, None] != owner[first:]).triu(1)
        places = apart.nonzero().T + first
        cosines = embeddings[first : first + rows] @ embeddings[first:].T
        if places.numel():
            yield cosines[apart].clamp(-1, 1), places


class _Spread:
    """Mean and deviation of values that come in parts."""

    def __init__(self) -> None:
        self._count, self._mean, self._squares = 0, 0.0, 0.0

    def add(self, values: Tensor) -> None:
        """Values [M], M > 0; see Chan, Golub and LeVeque, 1979."""
        count, mean = len(values), float(values.mean())
        apart, total = mean - self._mean, self._count + count
        self._squares += float((values - mean).square().sum())
        self._squares += apart**2 * self._count * count / total
        self._mean += apart * count / total
        self._count = total

    def of(self, value: float) -> float:
        """How many standard deviations it is above the mean."""
        return (value - self._mean) / max(math.sqrt(self._squares / self._count), 1e-9)
