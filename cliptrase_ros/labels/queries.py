"""Whose words the queries are: which class each speaks for, and a vocabulary on a device.

Shapes: Q queries (one per prompt and background word), K classes, P prompts of a class at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import ShapeError
from ..words.vocabulary import Vocabulary


class Queries(NamedTuple):
    """Which class each query speaks for.

    Attributes:
        owner: [Q] int64, 0 .. K - 1; K for a background word.
        prompts: [K, P] int64, the queries of each class; the first again where there are fewer.
    """

    owner: Tensor
    prompts: Tensor

    @classmethod
    def of(cls, owner: Sequence[int], classes: int, device: torch.device | None = None) -> Queries:
        """The queries of `owner`, in which each of the classes has one at least."""
        prompts = [[q for q, k in enumerate(owner) if k == number] for number in range(classes)]
        most = max(map(len, prompts))
        padded = [row + row[:1] * (most - len(row)) for row in prompts]
        return cls(torch.tensor(owner, device=device), torch.tensor(padded, device=device))

    @property
    def classes(self) -> int:
        """K."""
        return len(self.prompts)


class DeviceWords(NamedTuple):
    """A vocabulary on a device.

    Attributes:
        embeddings: [Q, E] float32, unit rows.
        queries: which class each of them is for.
        ids: [K + 1] uint8, or int32 above 254 (torch 2.2 has no uint16): of each class and of
            background.
    """

    embeddings: Tensor
    queries: Queries
    ids: Tensor


@lru_cache(maxsize=8)
def on_device(words: Vocabulary, device: torch.device) -> DeviceWords:
    """The words on a device; made once, as every frame needs them."""
    small = words.label_dtype == np.uint8
    return DeviceWords(
        words.embeddings.to(device),
        Queries.of(words.owner.tolist(), len(words.classes), device),
        words.label_ids.to(device, torch.uint8 if small else torch.int32),
    )


def embeddings_beside(words: Vocabulary, features: Tensor) -> Tensor:
    """The word embeddings [Q, E] on the device of image features [..., E].

    Raises:
        ShapeError: they are not of one joint space.
    """
    embeddings = on_device(words, features.device).embeddings
    if embeddings.shape[1] != features.shape[-1]:
        raise ShapeError(
            f'word embeddings have {embeddings.shape[1]} channels, the image features '
            f'{features.shape[-1]}; they must come from the same model'
        )
    return embeddings


def check_present(present: Tensor, words: Vocabulary) -> None:
    """Raise ShapeError unless `present` is [K] bool, which of the classes may be labelled."""
    count = len(words.classes)
    if not isinstance(present, Tensor) or present.dtype != torch.bool or present.shape != (count,):
        got = getattr(present, 'dtype', type(present).__name__), list(getattr(present, 'shape', ()))
        raise ShapeError(f'present: expected a bool tensor [{count}], got {got[0]} {got[1]}')
