"""Checks of a vocabulary that need no picture."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..errors import VocabularyError
from .distractors import DISTRACTORS, distractors_for
from .templates import TEMPLATES
from .vocabulary import Vocabulary, WordClass, parse_vocabulary

if TYPE_CHECKING:
    from torch import Tensor

    from ..model.text import TextEncoder
    from ..segmenter import Segmenter

# Pairs of prompts that are compared at a time. A pair takes about 50 bytes.
BLOCK = 1 << 20
# `not_english`: with fewer prompts, or a smaller share that the tokenizer splits, it says nothing.
# It splits 6 to 12 % of the words of config/vocabularies and 74 to 84 % of 50 common German,
# Spanish or French nouns, but also most English names of tools.
FEWEST, MOSTLY = 5, 0.6
MICRO = '\N{MICRO SIGN}'
_WORD = re.compile(r'[^\W\d_]+')


class Pair(NamedTuple):
    """Two prompts of different classes, with the names of their classes ('' for background).

    Attributes:
        cosine: cosine of their embeddings, -1..1.
        deviation: number of standard deviations that the cosine is above the mean of all such
            pairs.
    """

    cosine: float
    deviation: float
    prompts: tuple[str, str]
    names: tuple[str, str]


def problems(entries: Sequence[str], background: Sequence[str] = ()) -> list[str]:
    """Return one sentence for each faulty word, in order. Only its first fault is reported.

    This needs no model. `too_long` finds the words that need one to be checked.
    """
    if not entries:
        return _sift([], [], lambda words: parse_vocabulary(words, background))
    good: list[str] = []
    found = _sift(good, list(entries), parse_vocabulary)
    if good and background:
        found += _sift([], list(background), lambda words: parse_vocabulary(good, words))
    return found


def _sift(good: list[str], words: list[str], check: Callable[[list[str]], object]) -> list[str]:
    """Add to `good` each word that `check` accepts together with the words before it.

    Return the error message of each other word.
    """
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
    """Return one sentence for each word that is too long for the text encoder and the templates."""
    text = segmenter.word_encoder.text
    return [
        f'{word[:60]!r}: {sentence_tokens(segmenter, word)} tokens in the longest template; '
        f'the limit of the text encoder is {text.context - 1}; use fewer words'
        for word in words
        if text.too_long(_longest_sentence(segmenter, word))
    ]


def sentence_tokens(segmenter: Segmenter, word: str) -> int:
    """Return the number of tokens of the longest sentence that is made from a word."""
    return len(segmenter.word_encoder.text.tokens(_longest_sentence(segmenter, word)))


def _longest_sentence(segmenter: Segmenter, word: str) -> str:
    templates = TEMPLATES[segmenter.settings.prompt_templates]
    return segmenter.word_encoder.text.longest(templates).format(word)


def not_english(prompts: Iterable[str], text: TextEncoder | None = None) -> str:
    """Return a sentence if prompts seem to be of another language than English; '' if none do.

    A letter of another script is enough. Accents are not (`café`), nor is a word that the
    tokenizer splits (`screwdriver`). Both together are taken as a sign if most of several prompts
    are split. So an English vocabulary is hardly ever reported, and a foreign one without accents
    never.

    Args:
        text: the text encoder; None: look at scripts only.
    """
    prompts = list(dict.fromkeys(prompts))
    if text is not None and not text.reads_english:
        return ''
    others = [p for p in prompts if not all(map(_latin, p))]
    if others:
        return (
            'CLIP reads English, and these words have letters of other scripts: '
            f'{_few(others)}; translate them'
        )
    accented = [p for p in prompts if not p.isascii()]
    if text is None or not accented or len(prompts) < FEWEST:
        return ''
    split = sum(any(len(text.pieces(word)) > 1 for word in _WORD.findall(p)) for p in prompts)
    if split < MOSTLY * len(prompts):
        return ''
    return (
        f'CLIP reads English; its tokenizer does not know {split} of {len(prompts)} words, and '
        f'some have accents ({_few(accented)}); if they are of another language, translate them'
    )


def _latin(letter: str) -> bool:
    """Return False for letters that are not Latin. Signs such as the micro sign are no letters."""
    return (
        not letter.isalpha()
        or letter == MICRO
        or any('LATIN' in unicodedata.name(c, '') for c in unicodedata.normalize('NFKC', letter))
    )


def _few(words: Sequence[str]) -> str:
    return ', '.join(words[:5]) + (f' and {len(words) - 5} more' if len(words) > 5 else '')


def left_out(
    classes: Sequence[WordClass], background: Sequence[str], distractors: str
) -> tuple[str, ...]:
    """Return the words of a list of distractors that are also in the vocabulary.

    They are not used as distractors: the meaning in the vocabulary has priority.
    """
    given = [word for c in classes for word in (c.name, *c.prompts)]
    kept = distractors_for([*given, *background], distractors)
    return tuple(word for word in DISTRACTORS[distractors] if word not in kept)


def alike(words: Vocabulary, count: int) -> list[Pair]:
    """Return the `count` pairs of prompts of different classes with the most similar embeddings.

    The most similar pair comes first. All background words count as one class.
    """
    import torch

    prompts = [(p, c.name) for c in words.classes for p in c.prompts]
    prompts += [(word, '') for word in words.background]
    best = torch.empty(0, dtype=torch.double), torch.empty(2, 0, dtype=torch.long)
    spread = _Spread()
    for cosines, places in _pairs_in_blocks(words):
        spread.add(cosines)
        best = torch.cat([best[0], cosines]), torch.cat([best[1], places], 1)
        if len(best[0]) > count:
            # This leaves far fewer pairs to sort. The stable sort keeps the first of equal pairs.
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
    """Yield the pairs of prompts of different classes in blocks: cosines [M], row numbers [2, M].

    The pairs are in the order of their row numbers. For ten thousand prompts, all pairs at once
    would need gigabytes.
    """
    embeddings, owner = words.embeddings.double().cpu(), words.owner.cpu()
    rows = max(1, BLOCK // len(embeddings))
    for first in range(0, len(embeddings), rows):
        apart = (owner[first : first + rows, None] != owner[first:]).triu(1)
        places = apart.nonzero().T + first
        cosines = embeddings[first : first + rows] @ embeddings[first:].T
        if places.numel():
            yield cosines[apart].clamp(-1, 1), places


class _Spread:
    """Mean and standard deviation of values that are added in parts."""

    def __init__(self) -> None:
        self._count, self._mean, self._squares = 0, 0.0, 0.0

    def add(self, values: Tensor) -> None:
        """Add values [M], M > 0, by the method of Chan, Golub and LeVeque, 1979."""
        count, mean = len(values), float(values.mean())
        apart, total = mean - self._mean, self._count + count
        self._squares += float((values - mean).square().sum())
        self._squares += apart**2 * self._count * count / total
        self._mean += apart * count / total
        self._count = total

    def of(self, value: float) -> float:
        """Return the number of standard deviations that a value is above the mean."""
        return (value - self._mean) / max(math.sqrt(self._squares / self._count), 1e-9)
