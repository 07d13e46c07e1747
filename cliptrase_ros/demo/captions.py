"""What the demo model reads: captions that name what a crop of a picture shows, and prompts."""

from __future__ import annotations

import numpy as np

from ..words.templates import TEMPLATES
from .things import ASSETS, CLASSES, Thing

# Never written in a caption or prompt, so that a test can ask for what was never read.
HELD_OUT = {('yellow', 'duck'), ('blue', 'block')}

# Names with a colour that may be written.
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
    """'mug' -> 'a mug', 'sky' -> 'the sky'."""
    return f'the {phrase}' if phrase in ('floor', 'wall', 'sky') else f'a {phrase}'


# The names, and those with a colour, as they stand in sentences.
NAME_PHRASES = tuple(with_article(name) for name in CLASSES)
COLORED_PHRASES = tuple(with_article(' '.join(pair)) for pair in COLORED)


def without_article(template: str) -> str:
    """'a photo of a {}.' -> 'a photo of {}.'"""
    for article in ('a {}', 'the {}'):
        template = template.replace(article, '{}')
    return template


def sentence(rng: np.random.Generator) -> str:
    """One of SENTENCES, the plain one more often, with {} where a phrase with article goes."""
    template = _PLAIN if rng.random() < _PLAIN_SHARE else SENTENCES[rng.integers(len(SENTENCES))]
    return without_article(template)


def caption(things: list[Thing], rng: np.random.Generator) -> str:
    """A sentence that names the things, in any order, half of the painted ones by colour."""
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
