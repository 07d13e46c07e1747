"""Text for the training of the demo model: captions that name what a crop shows, and prompts."""

from __future__ import annotations

import numpy as np

from ..words.templates import TEMPLATES
from .things import ASSETS, CLASSES, Thing

# Never written in a caption or prompt, so that a test can use words that the model never read.
HELD_OUT = {('yellow', 'duck'), ('blue', 'block')}

# The allowed combinations of a name and a colour.
COLORED = tuple(
    (color, name)
    for name in CLASSES
    if name in ASSETS
    for color in ASSETS[name].colors
    if (color, name) not in HELD_OUT
)
SENTENCES = (
    *TEMPLATES['imagenet80'],
    'a photo of {}.',
    'a picture of {}.',
    'an image of {}.',
    'a robot camera image of {}.',
    'there is {} in the scene.',
    '{}.',
)
_PLAIN = 'a photo of {}.'
_PLAIN_SHARE = 0.4


def with_article(phrase: str) -> str:
    """Return the phrase with its article: 'mug' -> 'a mug', 'sky' -> 'the sky'."""
    return f'the {phrase}' if phrase in ('floor', 'wall', 'sky') else f'a {phrase}'


# The names, and the names with a colour, as written in sentences.
NAME_PHRASES = tuple(with_article(name) for name in CLASSES)
COLORED_PHRASES = tuple(with_article(' '.join(pair)) for pair in COLORED)


def without_article(template: str) -> str:
    """Return the template without its article: 'a photo of a {}.' -> 'a photo of {}.'"""
    for article in ('a {}', 'the {}'):
        template = template.replace(article, '{}')
    return template


def sentence(rng: np.random.Generator) -> str:
    """Return one of SENTENCES, the plain one more often; {} stands for a phrase with article."""
    template = _PLAIN if rng.random() < _PLAIN_SHARE else SENTENCES[rng.integers(len(SENTENCES))]
    return without_article(template)


def caption(things: list[Thing], rng: np.random.Generator) -> str:
    """Return a sentence that names the things in random order.

    Half of the painted things are named with their colour.
    """
    phrases = []
    for number in rng.permutation(len(things)):
        thing = things[number]
        colored = (thing.color, thing.name) in COLORED and rng.random() < 0.5
        phrases.append(with_article(f'{thing.color} {thing.name}' if colored else thing.name))
    phrases = list(dict.fromkeys(phrases))
    if len(phrases) == 2 and rng.random() < 0.5:
        ground = [p for p in phrases if p in ('a table', 'the floor')]
        above = [p for p in phrases if p not in ground]
        if ground and above:
            return sentence(rng).format(f'{above[0]} on {ground[0]}')
    listed = phrases[0] if len(phrases) == 1 else f'{", ".join(phrases[:-1])} and {phrases[-1]}'
    return sentence(rng).format(listed)
