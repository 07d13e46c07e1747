"""Names of classes as parts of topics."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from ..words.vocabulary import WordClass


def topic_name(name: str) -> str:
    """A class's name as part of a topic, [a-z][a-z0-9_]*; '' if nothing of it can stay."""
    plain = unicodedata.normalize('NFKD', name).encode('ascii', 'ignore').decode().lower()
    plain = re.sub('[^a-z0-9]+', '_', plain).strip('_')[:60].rstrip('_')
    return f'class_{plain}' if plain[:1].isdigit() else plain


def topic_names(classes: Iterable[WordClass], known: dict[str, str]) -> dict[str, str]:
    """Name -> topic, as `known` with those of new classes; no two alike, and none ever moves."""
    topics = dict(known)
    for c in classes:
        if c.name not in topics:
            topic = topic_name(c.name) or f'class_{c.id}'
            while topic in topics.values():
                topic += f'_{c.id}'
            topics[c.name] = topic
    return topics
