"""Words to embeddings: the prompt ensemble, and a cache on disk for the next start."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .errors import Cancelled

log = logging.getLogger(__name__)


class EmbeddingCache:
    """Word embeddings on disk, one small file a word.

    The key is the hash of the encoder's weights, the templates and the word. A file that is
    missing or damaged is a miss; a folder that cannot be written is reported once and then the
    cache is off.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._writable = True

    def path(self, fingerprint: str, templates: Sequence[str], word: str) -> Path:
        """Where the embedding of a word is kept."""
        key = hashlib.sha256('\0'.join([fingerprint, *templates, word]).encode()).hexdigest()
        return self._folder / f'{key}.npy'

    def get(self, path: Path) -> Tensor | None:
        """The unit embedding [E] in the file, or None."""
        try:
            row = torch.from_numpy(np.load(path, allow_pickle=False))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, EOFError, TypeError) as error:
            log.warning('embedding cache: %s is unreadable and made anew (%s)', path, error)
            return None
        if row.dim() != 1 or row.dtype != torch.float32 or not abs(row.norm() - 1) < 1e-3:
            log.warning('embedding cache: %s is damaged and made anew', path)
            return None
        return row

    def put(self, path: Path, row: Tensor) -> None:
        """Write the embedding [E]; readers see the whole file or none."""
        if not self._writable:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=path.parent) as folder:
                whole = Path(folder) / path.name
                np.save(whole, row.numpy(), allow_pickle=False)
                os.replace(whole, path)
        except OSError as error:
            self._writable = False
            log.warning('embedding cache: cannot write to %s (%s); cache off', path.parent, error)


@functools.lru_cache
def cache_in(folder: Path) -> EmbeddingCache:
    """The cache of a folder, one object for all segmenters."""
    return EmbeddingCache(folder)


def default_cache_folder() -> Path:
    """The user's cache folder of this package."""
    base = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    return Path(base) / 'cliptrase_ros' / 'embeddings'


def embed_words(
    words: Sequence[str],
    templates: Sequence[str],
    encode: Callable[[list[str]], Tensor],
    fingerprint: str,
    cache: EmbeddingCache,
    cancelled: Callable[[], bool] = lambda: False,
) -> Tensor:
    """Unit embeddings [n, E] float32 of words, each the normalised mean over the templates.

    As in CLIP's ImageNet ensemble: every sentence's embedding is normalised, then the mean, then
    the mean is normalised.

    Args:
        encode: sentences -> unit embeddings [n, E].
        fingerprint: identifies the encoder's weights.
        cancelled: asked before each word.

    Raises:
        Cancelled: `cancelled` said so.
    """
    rows = []
    for word in words:
        if cancelled():
            raise Cancelled('encoding of words was cancelled')
        path = cache.path(fingerprint, templates, word)
        row = cache.get(path)
        if row is None:
            mean = encode([template.format(word) for template in templates]).mean(0)
            row = (mean / mean.norm()).float().cpu()
            cache.put(path, row)
        rows.append(row)
    return torch.stack(rows)
