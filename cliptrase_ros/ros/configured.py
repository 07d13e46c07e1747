"""What a node has from configure to cleanup, and not before."""

from __future__ import annotations

from typing import TypeVar

from ..errors import CliptraseError

T = TypeVar('T')


def configured(value: T | None) -> T:
    """The value, which is None while the node is not configured.

    Raises:
        CliptraseError: it is None.
    """
    if value is None:
        raise CliptraseError('the node is not configured')
    return value
