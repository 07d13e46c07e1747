"""Embeddings of words: check the words, fill the prompt ensemble, encode, cache on disk."""

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
import torch.nn.functional as F
from torch import Tensor

from ..errors import Cancelled, VocabularyError
from ..model.text import BATCH, TextEncoder
from ..settings import Settings
from .distractors import distractors_for
from .templates import TEMPLATES
from .vocabulary import Ids, Vocabulary, WordClass, parse_vocabulary

log = logging.getLogger(__name__)


# Limit of the embeddings in memory, 2 to 4 kB each. At the limit the memory cache is emptied.
IN_MEMORY = 4096


class EmbeddingCache:
    """Cache of word embeddings in memory and on disk, one small file per word.

    The key is a hash of the encoder's weights, the templates and the word. A missing or damaged
    file is a cache miss. If the folder cannot be written, the cache logs one warning and then
    keeps embeddings in memory only.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._writable = True
        self._recent: dict[Path, Tensor] = {}

    def path(self, fingerprint: str, templates: Sequence[str], word: str) -> Path:
        """Return the path of the file for the embedding of a word."""
        key = hashlib.sha256('\0'.join([fingerprint, *templates, word]).encode()).hexdigest()
        return self._folder / f'{key}.npy'

    def get(self, path: Path) -> Tensor | None:
        """Return the unit embedding [E] of the word with this path, or None."""
        if path in self._recent:
            return self._recent[path]
        row = self._read(path)
        if row is not None:
            self._keep(path, row)
        return row

    def _keep(self, path: Path, row: Tensor) -> None:
        if len(self._recent) >= IN_MEMORY:
            self._recent = {}
        self._recent[path] = row

    def _read(self, path: Path) -> Tensor | None:
        try:
            row = torch.from_numpy(np.load(path, allow_pickle=False))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, EOFError, TypeError) as error:
            log.warning('embedding cache: cannot read %s (%s); encoding again', path, error)
            return None
        if row.dim() != 1 or row.dtype != torch.float32 or not abs(row.norm() - 1) < 1e-3:
            log.warning('embedding cache: %s is damaged; encoding again', path)
            return None
        return row

    def put(self, path: Path, row: Tensor) -> None:
        """Keep the embedding [E] in memory and write it to disk.

        Other readers see either the complete file or no file.
        """
        self._keep(path, row)
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
            log.warning(
                'embedding cache: cannot write to %s (%s); using memory only', path.parent, error
            )


@functools.lru_cache
def cache_in(folder: Path) -> EmbeddingCache:
    """Return the cache of a folder. All segmenters share one object."""
    return EmbeddingCache(folder)


def default_cache_folder() -> Path:
    """Return this package's folder in the user's cache folder."""
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
    """Return unit embeddings [n, E] float32 of words, each the normalised mean over the templates.

    This follows CLIP's ImageNet ensemble: normalise the embedding of every sentence, take the
    mean, normalise the mean.

    Args:
        encode: sentences -> unit embeddings [n, E].
        fingerprint: identifies the encoder's weights.
        cancelled: called before each word and before each pass of the encoder; True cancels.

    Raises:
        Cancelled: `cancelled` returned True. The words encoded so far are in the cache.
    """

    def go_on() -> None:
        if cancelled():
            raise Cancelled('encoding of words was cancelled')

    rows: dict[str, Tensor] = {}
    new: dict[str, Path] = {}
    for word in dict.fromkeys(words):
        go_on()
        path = cache.path(fingerprint, templates, word)
        row = cache.get(path)
        if row is None:
            new[word] = path
        else:
            rows[word] = row
    at_once = max(1, BATCH // len(templates))
    for first in range(0, len(new), at_once):
        go_on()
        group = list(new)[first : first + at_once]
        sentences = [template.format(word) for word in group for template in templates]
        means = encode(sentences).unflatten(0, (len(group), -1)).mean(1)
        for word, row in zip(group, F.normalize(means, dim=1).float().cpu(), strict=True):
            cache.put(new[word], row)
            rows[word] = row
    return torch.stack([rows[word] for word in words])


class WordEncoder:
    """Makes vocabularies for a model, with the settings for words; immutable.

    Args:
        text: the text encoder of the model, or None.
    """

    def __init__(self, text: TextEncoder | None, settings: Settings):
        self._text = text
        self._templates = TEMPLATES[settings.prompt_templates]
        self._distractors = settings.distractors
        chosen = settings.cache_dir
        folder = None if chosen == 'auto' else Path(chosen).expanduser()
        self.cache = cache_in(folder or default_cache_folder())

    def check(
        self, entries: Sequence[str], background: Sequence[str] = (), ids: Ids | None = None
    ) -> tuple[tuple[WordClass, ...], tuple[str, ...]]:
        """Check the entries and return the classes and the background words; encode nothing.

        The background words include the distractors.

        Raises:
            VocabularyError: an entry is invalid or too long, or there is no text encoder.
        """
        text = self.text
        classes, words = parse_vocabulary(entries, background, ids)
        given = [word for c in classes for word in (c.name, *c.prompts)]
        words += distractors_for([*given, *words], self._distractors)
        longest = text.longest(self._templates)
        for word in [p for c in classes for p in c.prompts] + list(words):
            if text.too_long(longest.format(word)):
                raise VocabularyError(
                    f'{word[:60]!r}: too long for the text encoder; use fewer words'
                )
        return classes, words

    def encode(
        self,
        classes: tuple[WordClass, ...],
        background: tuple[str, ...],
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Vocabulary:
        """Encode the words that `check` returned, or read their embeddings from the cache.

        Args:
            cancelled: see `embed_words`.

        Raises:
            Cancelled: `cancelled` returned True.
        """
        text = self.text

        def embed(words: Sequence[str]) -> Tensor:
            return embed_words(
                words, self._templates, text.encode, text.fingerprint, self.cache, cancelled
            )

        return Vocabulary.build(classes, background, embed)

    def unknown(
        self, classes: tuple[WordClass, ...], background: tuple[str, ...]
    ) -> tuple[str, ...]:
        """Return the words that `encode` would have to encode, because the cache has them not."""
        words = dict.fromkeys([*(p for c in classes for p in c.prompts), *background])
        paths = {w: self.cache.path(self.text.fingerprint, self._templates, w) for w in words}
        return tuple(word for word, path in paths.items() if self.cache.get(path) is None)

    @property
    def text(self) -> TextEncoder:
        """The text encoder of the model.

        Raises:
            VocabularyError: the model has none.
        """
        if self._text is None:
            raise VocabularyError(
                'this backbone has no text encoder; use Vocabulary.from_embeddings'
            )
        return self._text
