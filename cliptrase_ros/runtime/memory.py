"""What to do if memory runs out, on any device."""

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
# Work that can be split: the rows of a tensor, or the items of a list.
Batch = TypeVar('Batch', Tensor, list[Any])

# Messages of torch. It has no error type of its own for the memory of the CPU.
_ON_CPU = "can't allocate memory", 'not enough memory', 'std::bad_alloc'


# Constants of glibc's malloc.h. 32 MB is the largest threshold that mallopt accepts.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_MMAP_BYTES = 32 << 20


def keep_freed(megabytes: int = 256) -> None:
    """Let the process keep about this much freed memory for its next use.

    By default glibc returns large blocks to the system at once. Each frame then has to get its
    pages from the system again, which takes longer than much of the work on them. Only a program
    that works on frames should call this, not a library. Without glibc, nothing happens.
    """
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    if mallopt:
        mallopt(_MMAP_THRESHOLD, _MMAP_BYTES)
        mallopt(_TRIM_THRESHOLD, megabytes << 20)


def is_shortage(error: BaseException) -> bool:
    """Return True if the error says that memory ran out."""
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _ON_CPU)


def release(error: BaseException) -> None:
    """Free the tensors that the stack frames of the error's traceback still hold."""
    traceback.clear_frames(error.__traceback__)
    torch.cuda.empty_cache()


def in_halves(work: Callable[[Batch], list[T]], items: Batch) -> list[T]:
    """Return work(items). If memory runs out, do both halves in turn and join their lists.

    Raises:
        Any error of `work`, also its memory error if memory does not suffice for a single item.
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
    """Raise OutOfMemory if memory runs out in the block, and free what the block held."""
    try:
        yield
    except Exception as error:
        if isinstance(error, OutOfMemory) or not is_shortage(error):
            raise
        release(error)
        raise OutOfMemory() from error
