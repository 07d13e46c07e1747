"""Access to values that a node has only from configure to cleanup."""

from __future__ import annotations

from typing import TypeVar

from ..errors import CliptraseError

T = TypeVar('T')


def configured(value: T | None) -> T:
    """Return the value, which is None while the node is not configured.

    Raises:
        CliptraseError: the value is None.
    """
    if value is None:
        raise CliptraseError('the node is not configured')
    return value
