"""What to do when memory runs out, on whatever device."""

from __future__ import annotations

import ctypes
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..errors import OutOfMemory

T = TypeVar('T')
# What can be cut: the rows of a tensor, or items.
Batch = TypeVar('Batch', Tensor, list[Any])

# torch has no type of its own for the CPU's memory.
_ON_CPU = "can't allocate memory", 'not enough memory', 'std::bad_alloc'


# Of glibc's malloc.h; the largest threshold that it takes.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_MMAP_BYTES = 32 << 20


def keep_freed(megabytes: int = 256) -> None:
    """Let the whole process keep about as much of the memory that it frees, for its next use; where
    the C library is not glibc, nothing happens.

    glibc gives large blocks back at once, and each frame would have to get its pages from the
    system again, which takes longer than much of what is done with them. For a program that works
    on frames, not for a library to decide.
    """
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    if mallopt:
        mallopt(_MMAP_THRESHOLD, _MMAP_BYTES)
        mallopt(_TRIM_THRESHOLD, megabytes << 20)


def is_shortage(error: BaseException) -> bool:
    """Whether memory ran out."""
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _ON_CPU)


def release(error: BaseException) -> None:
    """Let go of the tensors that the frames of the error's traceback still hold."""
    traceback.clear_frames(error.__traceback__)
    torch.cuda.empty_cache()


def in_halves(work: Callable[[Batch], list[T]], items: Batch) -> list[T]:
    """work(items); where memory does not suffice for that, the lists of both halves in turn.

    Raises:
        whatever `work` does, and its error where memory does not suffice for one item.
    """
    try:
        return work(items)
    except Exception as error:
        if len(items) == 1 or not is_shortage(error):
            raise
        release(error)
    half = len(items) // 2
    return in_halves(work, items[:half]) + in_halves(work, items[half:])


@contextmanager
def explained() -> Iterator[None]:
    """Where memory runs out in the block: OutOfMemory, and what was held is free."""
    try:
        yield
    except Exception as error:
        if isinstance(error, OutOfMemory) or not is_shortage(error):
            raise
        release(error)
        raise OutOfMemory() from error
