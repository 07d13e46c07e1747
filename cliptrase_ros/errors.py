"""The errors that users meet: each says what was expected, what came, and what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CliptraseError(Exception):
    """Base of every error that this package raises on purpose."""


class SettingError(CliptraseError, ValueError):
    """A setting is unknown, of the wrong type, out of range, or does not fit the others."""


class ShapeError(CliptraseError, ValueError):
    """An image or a tensor has the wrong shape or dtype."""


class PictureError(CliptraseError):
    """A picture, video or recording cannot be read or used, or holds what it should not."""


class VocabularyError(CliptraseError, ValueError):
    """A vocabulary entry cannot be used; the whole vocabulary is refused."""


class UnsupportedBackbone(CliptraseError):
    """The image tower is not one that the methods can run on."""


class WeightsError(CliptraseError):
    """Weights are missing, damaged, or do not belong to the model."""


class OutOfMemory(CliptraseError, MemoryError):
    """Memory ran out, even for one image or sentence at a time; what was taken is free again."""

    def __init__(self):
        super().__init__(
            'out of memory: lower input_size or window_px, set precision to fp16 or bf16 or refine '
            'to none, or use fewer words'
        )


class WorkerError(CliptraseError):
    """Processes that share the work cannot do it, or died."""


class Cancelled(CliptraseError):
    """Long work was given up because the caller asked for it."""


def did_you_mean(name: str, known: Iterable[str], limit: int = 3) -> str:
    """' Did you mean ...?' with the nearest known names, or an empty string."""
    near = difflib.get_close_matches(name, list(known), n=limit, cutoff=0.5)
    return f' Did you mean {" or ".join(repr(n) for n in near)}?' if near else ''
