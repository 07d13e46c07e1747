"""What can be said of a vocabulary before any picture is seen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch

from .distractors import DISTRACTORS
from .errors import VocabularyError
from .segmenter import Segmenter
from .templates import TEMPLATES
from .vocabulary import Vocabulary, WordClass, parse


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
        return _sift([], [], lambda words: parse(words, background))
    good: list[str] = []
    found = _sift(good, list(entries), parse)
    if good and background:
        found += _sift([], list(background), lambda words: parse(good, words))
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
    text = segmenter.backbone.text
    return [
        f'{word[:60]!r}: {sentence_tokens(segmenter, word)} tokens in the longest template, and '
        f'the text encoder reads {text.context - 1}; use fewer words'
        for word in words
        if text.too_long(_longest_sentence(segmenter, word))
    ]


def sentence_tokens(segmenter: Segmenter, word: str) -> int:
    """Tokens of the longest sentence that a word is put into."""
    return len(segmenter.backbone.text.tokens(_longest_sentence(segmenter, word)))


def _longest_sentence(segmenter: Segmenter, word: str) -> str:
    templates = TEMPLATES[segmenter.settings.prompt_templates]
    return segmenter.backbone.text.longest(templates).format(word)


def left_out(
    classes: Sequence[WordClass], background: Sequence[str], distractors: str
) -> tuple[str, ...]:
    """Words of a list of distractors that are words of the vocabulary, too: there the
    vocabulary's own meaning holds."""
    given = [word for c in classes for word in (c.name, *c.prompts)]
    taken = {word.casefold() for word in (*given, *background)}
    return tuple(word for word in DISTRACTORS[distractors] if word in taken)


def alike(words: Vocabulary, count: int) -> list[Pair]:
    """The `count` pairs of prompts of different classes whose embeddings are most alike, most
    alike first. All background words are of one class."""
    prompts = [(p, c.name) for c in words.classes for p in c.prompts]
    prompts += [(word, '') for word in words.background]
    rows, columns = torch.triu_indices(len(prompts), len(prompts), 1)
    apart = words.owner[rows] != words.owner[columns]
    rows, columns = rows[apart], columns[apart]
    embeddings = words.embeddings.double().cpu()
    cosines = (embeddings @ embeddings.T)[rows, columns].clamp(-1, 1)
    if not len(cosines):
        return []
    spread = cosines.std(correction=0).clamp(min=1e-9)
    deviations = (cosines - cosines.mean()) / spread
    pairs = []
    for n in cosines.argsort(descending=True, stable=True)[:count].tolist():
        one, other = prompts[rows[n]], prompts[columns[n]]
        pairs.append(
            Pair(float(cosines[n]), float(deviations[n]), (one[0], other[0]), (one[1], other[1]))
        )
    return pairs
