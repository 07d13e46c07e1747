"""The class of each query, and a vocabulary on a device.

Shapes: Q queries (one per prompt and background word), K classes, at most P prompts of a class.
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
    """The class of each query.

    Attributes:
        owner: [Q] int64, 0 .. K - 1; K for a background word.
        prompts: [K, P] int64, the queries of each class; padded with the first one.
    """

    owner: Tensor
    prompts: Tensor

    @classmethod
    def of(cls, owner: Sequence[int], classes: int, device: torch.device | None = None) -> Queries:
        """Make the queries from `owner`, in which each class has at least one query."""
        prompts = [[q for q, k in enumerate(owner) if k == number] for number in range(classes)]
        most = max(map(len, prompts))
        padded = [row + row[:1] * (most - len(row)) for row in prompts]
        return cls(torch.tensor(owner, device=device), torch.tensor(padded, device=device))

    @property
    def classes(self) -> int:
        """The number of classes K."""
        return len(self.prompts)


class DeviceWords(NamedTuple):
    """A vocabulary on a device.

    Attributes:
        embeddings: [Q, E] float32, unit rows.
        queries: the class of each of them.
        ids: [K + 1], the id of each class and of background; uint8, or int32 if an id is above 254
            (torch 2.2 has no uint16).
    """

    embeddings: Tensor
    queries: Queries
    ids: Tensor


@lru_cache(maxsize=8)
def on_device(words: Vocabulary, device: torch.device) -> DeviceWords:
    """Return the words on a device. They are cached, because every frame needs them."""
    small = words.label_dtype == np.uint8
    return DeviceWords(
        words.embeddings.to(device),
        Queries.of(words.owner.tolist(), len(words.classes), device),
        words.label_ids.to(device, torch.uint8 if small else torch.int32),
    )


def embeddings_beside(words: Vocabulary, features: Tensor) -> Tensor:
    """Return the word embeddings [Q, E] on the device of image features [..., E].

    Raises:
        ShapeError: words and features are not in the same joint space.
    """
    embeddings = on_device(words, features.device).embeddings
    if embeddings.shape[1] != features.shape[-1]:
        raise ShapeError(
            f'word embeddings have {embeddings.shape[1]} channels, the image features '
            f'{features.shape[-1]}; they must come from the same model'
        )
    return embeddings


def check_present(present: Tensor, words: Vocabulary) -> None:
    """Raise ShapeError unless `present` is [K] bool: true for the classes that may be labelled."""
    count = len(words.classes)
    if not isinstance(present, Tensor) or present.dtype != torch.bool or present.shape != (count,):
        got = getattr(present, 'dtype', type(present).__name__), list(getattr(present, 'shape', ()))
        raise ShapeError(f'present: expected a bool tensor [{count}], got {got[0]} {got[1]}')
