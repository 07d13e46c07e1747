"""Errors for users. Each says what was expected, what was given, and what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CliptraseError(Exception):
    """Base of every error that this package raises on purpose."""


class SettingError(CliptraseError, ValueError):
    """A setting is unknown, of the wrong type, out of range, or does not fit the others."""


class ShapeError(CliptraseError, ValueError):
    """An image or a tensor has the wrong shape or dtype."""


class ImageError(CliptraseError, ValueError):
    """A ROS message does not hold the image that it claims to hold."""


class PictureError(CliptraseError):
    """A picture, video or recording cannot be read or used, or has unsuitable content."""


class VocabularyError(CliptraseError, ValueError):
    """A vocabulary entry cannot be used; the whole vocabulary is refused."""


class UnsupportedBackbone(CliptraseError):
    """The image tower is not one that the methods can run on."""


class WeightsError(CliptraseError):
    """Weights are missing or damaged, or do not belong to the model."""


class OutOfMemory(CliptraseError, MemoryError):
    """Memory ran out, even for one image or sentence at a time. What was allocated is freed."""

    def __init__(self):
        super().__init__(
            'out of memory: lower input_size or sliding.window_px, set precision to fp16 or bf16, '
            'set refine to none, or use fewer words'
        )


class WorkerError(CliptraseError):
    """Worker processes cannot do their work, or died."""


class Cancelled(CliptraseError):
    """The caller cancelled long work."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ' Did you mean ...?' with the nearest known names, or ''."""
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f' Did you mean {" or ".join(repr(n) for n in near)}?' if near else ''


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """Return the known dotted names that a misspelt or flat one may stand for, at most three.

    'naclip_sigma' and 'sigma' stand for 'naclip.sigma' alone.
    """
    words = {one: one.replace('.', '_').split('_') for one in known}
    asked = name.replace('.', '_').replace('-', '_').split('_')
    same = [
        one
        for one, parts in words.items()
        if parts[-len(asked) :] == asked or sorted(parts) == sorted(asked)
    ]
    if same:
        return same[:3]
    plain = {'_'.join(parts): one for one, parts in words.items()}
    return [plain[n] for n in difflib.get_close_matches('_'.join(asked), plain, n=3, cutoff=0.6)]
