"""Labelling of the items of an archive in this process."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from .. import segmenter
from ..errors import CliptraseError, PictureError
from ..media import pictures
from ..overlap import WriteBehind, prefetched
from ..segmenter import Segmentation
from .archive import ArchiveItem, ItemOutcome, Job


class Labeller:
    """Labeller of items that loads the model once.

    Raises:
        CliptraseError: the model cannot be loaded, or cannot use the words.
    """

    def __init__(self, job: Job):
        self._job = job
        self._segmenter = segmenter.load(job.settings)
        self._words = self._segmenter.vocabulary(job.entries, job.background)

    def __call__(self, items: Iterable[ArchiveItem]) -> Iterator[ItemOutcome]:
        """Label the items; yield the outcome of each when its files are written. Pictures are
        read and written in background threads.

        Raises:
            OSError: a file cannot be written.
        """
        if self._job.bags:
            yield from map(self._bag, items)
            return
        written: deque[ItemOutcome] = deque()
        with WriteBehind() as behind:
            items = list(items)
            read = prefetched(pictures.read_each(Path(item.source) for item in items))
            for item, image in zip(items, read, strict=True):
                try:
                    if isinstance(image, PictureError):
                        raise image
                    result = self._segmenter(image, self._words)
                    view = self._segmenter.view(image) if self._job.overlay else None
                except CliptraseError as error:
                    yield ItemOutcome(item, _named(item, error), images=0)
                else:
                    behind(self._write, item, view, result, written)
                while written:
                    yield written.popleft()
        yield from written

    def _write(
        self,
        item: ArchiveItem,
        view: np.ndarray | None,
        result: Segmentation,
        written: deque[ItemOutcome],
    ) -> None:
        pictures.save_labels(self._job.files(item), view, result, self._words)
        written.append(ItemOutcome(item))

    def _bag(self, item: ArchiveItem) -> ItemOutcome:
        # Imported here because only recordings need it.
        from .bags import label_bag

        try:
            report = label_bag(
                Path(item.source),
                Path(item.target),
                self._segmenter,
                self._words,
                topics=self._job.topics,
                every=self._job.every,
            )
        except CliptraseError as error:
            return ItemOutcome(item, _named(item, error), images=0)
        return ItemOutcome(item, notes=tuple(report.skipped), images=report.images)


def _named(item: ArchiveItem, error: CliptraseError) -> str:
    text = str(error)
    return text if item.source in text else f'{item.source}: {text}'
