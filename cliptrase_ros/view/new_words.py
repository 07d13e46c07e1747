"""New words are encoded on a thread of their own, while the old ones go on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from ..errors import Cancelled, CliptraseError
from ..segmenter import Segmenter
from ..words.vocabulary import Vocabulary, WordClass


class NewWords:
    """Encodes the newest words; older ones that are not ready are given up.

    Args:
        ready: called on the thread with the words, once they are encoded.
        failed: called on the thread with the reason, if they cannot be.
    """

    def __init__(self, ready: Callable[[Vocabulary], None], failed: Callable[[str], None]):
        self._ready, self._failed = ready, failed
        self._pool = ThreadPoolExecutor(1, 'words')
        self._lock = threading.Lock()
        self._newest = 0
        self.note = ''

    def encode(
        self,
        segmenter: Segmenter,
        classes: tuple[WordClass, ...],
        background: tuple[str, ...],
        new: tuple[str, ...],
    ) -> None:
        """Begin to encode words, of which `new` are not in the cache."""
        with self._lock:
            self._newest += 1
            number = self._newest
            more = f' and {len(new) - 1} more' if len(new) > 1 else ''
            self.note = f'encoding {new[0][:60]!r}{more} ...'
        self._pool.submit(self._run, number, segmenter, classes, background)

    def give_up(self) -> None:
        """Encode nothing more."""
        with self._lock:
            self._newest += 1
            self.note = ''

    def close(self) -> None:
        """End the thread; a word that is being encoded is finished first."""
        self.give_up()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _run(
        self,
        number: int,
        segmenter: Segmenter,
        classes: tuple[WordClass, ...],
        background: tuple[str, ...],
    ) -> None:
        try:
            words = segmenter.encode_words(classes, background, lambda: number != self._newest)
        except Cancelled:
            return
        except Exception as error:  # of any kind: the page must hear of it
            if self._finished(number):
                known = isinstance(error, CliptraseError)
                self._failed(str(error) if known else f'{type(error).__name__}: {error}')
            return
        if self._finished(number):
            self._ready(words)

    def _finished(self, number: int) -> bool:
        """Return False if there are newer words."""
        with self._lock:
            if number != self._newest:
                return False
            self.note = ''
            return True
