"""What the page needs, checked before it is imported."""

from __future__ import annotations

import importlib.util

from ..errors import CliptraseError


class PageError(CliptraseError):
    """The live page cannot be served."""


def require_viser() -> None:
    """Raise PageError unless viser and aiohttp are installed."""
    if not all(map(importlib.util.find_spec, ('viser', 'aiohttp'))):
        raise PageError(
            "the page needs viser and aiohttp: pip install viser aiohttp, or pip install '.[view]' "
            'in a clone'
        )
