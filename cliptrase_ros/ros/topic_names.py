"""Topic names from the names of classes."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from ..words.vocabulary import WordClass


def topic_name(name: str) -> str:
    """Return a class's name as part of a topic, [a-z][a-z0-9_]*, or '' if no character is left."""
    plain = unicodedata.normalize('NFKD', name).encode('ascii', 'ignore').decode().lower()
    plain = re.sub('[^a-z0-9]+', '_', plain).strip('_')[:60].rstrip('_')
    return f'class_{plain}' if plain[:1].isdigit() else plain


def topic_names(classes: Iterable[WordClass], known: dict[str, str]) -> dict[str, str]:
    """Return name -> topic: `known` plus the new classes. All topics differ; known ones stay."""
    topics = dict(known)
    for c in classes:
        if c.name not in topics:
            topic = topic_name(c.name) or f'class_{c.id}'
            while topic in topics.values():
                topic += f'_{c.id}'
            topics[c.name] = topic
    return topics
