"""Accuracy on a labelled set. It is measured and stored picture by picture, with everything that is
needed to repeat it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
from PIL import Image

from .. import files
from ..errors import PictureError, SettingError
from ..media.pictures import read_picture
from ..model import preprocessing, weights
from ..overlap import prefetched
from ..segmenter import Segmenter
from ..settings import Settings
from ..version import version
from ..words.vocabulary import Vocabulary
from . import protocols, sheets
from .datasets import Example, LabelError, LabelledSet
from .journal import Journal
from .metrics import IGNORED, Confusion, Scores

# Settings that say where the work runs, not what is computed.
_PLACES = ('device', 'cache_dir')


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A labelled set, and what is measured on it.

    Attributes:
        labelled: the set.
        segmenter: has the settings to measure.
        words: the classes of the set, and the background words.
    """

    labelled: LabelledSet
    segmenter: Segmenter
    words: Vocabulary

    @classmethod
    def of(cls, labelled: LabelledSet, segmenter: Segmenter) -> Evaluation:
        """Make an evaluation with the words of the set.

        Raises:
            SettingError: the labels would not have the size of the truth.
            VocabularyError: the classes cannot be used.
        """
        if segmenter.settings.output_size != 'input':
            raise SettingError("output_size: expected 'input', so that the labels fit the truth")
        words = segmenter.vocabulary(labelled.entries, labelled.background or ())
        return cls(labelled, segmenter, words)

    @property
    def settings(self) -> Settings:
        return self.segmenter.settings

    @property
    def own_rule(self) -> bool:
        """True if the truth and the scores follow CLIPtrase's protocol."""
        return self.settings.protocol == 'cliptrase'

    @property
    def arithmetic(self) -> str:
        """Data type of the products in the image tower, such as 'bfloat16'.

        With `precision: auto` it depends on the machine.
        """
        settings = self.settings
        tower = self.segmenter.backbone.tower(settings.precision, settings.position_offset)
        return str(tower.dtype).removeprefix('torch.')

    def confusion(self) -> Confusion:
        """Return an empty confusion matrix for this set."""
        count = len(self.labelled.entries)
        return Confusion(count, self.labelled.background is not None, IGNORED)

    def scores(self, confusion: Confusion) -> Scores:
        """Return the scores by the rule of the protocol."""
        return confusion.cliptrase_scores() if self.own_rule else confusion.scores()

    def truth(self, values: np.ndarray) -> np.ndarray:
        """Return the truth of the pixels that get labels, from the values of a label file."""
        if self.own_rule:
            values = nearest_crop(values, self.settings.input_size)
        return self.labelled.truth(values)

    def description(self) -> dict[str, Any]:
        """Return everything that decides the labels, as JSON values."""
        settings = self.settings.flat()
        file = weights.file_of(self.settings.weights, self.settings.model)
        device = self.segmenter.backbone.device
        return {
            'dataset': self.labelled.name,
            'split': self.labelled.split,
            'pictures': {'count': len(self.labelled.examples), 'sha256': self.labelled.sha256},
            'labels': self.labelled.coding.path,
            'settings': {name: settings[name] for name in settings if name not in _PLACES},
            'weights_sha256': weights.sha256_of(file) if file else None,
            'words': {c.name: list(c.prompts) for c in self.words.classes},
            'background': list(self.words.background),
            'background_is_a_class': self.labelled.background is not None,
            'device': torch.cuda.get_device_name(device) if device.type == 'cuda' else device.type,
            'arithmetic': self.arithmetic,
            'versions': _versions(),
        }


def _versions() -> dict[str, str]:
    """Return the versions that the modules report themselves.

    The metadata of installed packages is not used: it may be missing.
    """
    return {
        'cliptrase_ros': version(),
        'torch': torch.__version__,
        'open_clip_torch': weights.open_clip_version(),
        'numpy': np.__version__,
        'pillow': PIL.__version__,
    }


def nearest_crop(values: np.ndarray, side: int) -> np.ndarray:
    """Resize and crop values [H, W] uint8 to [side, side].

    The geometry is that of the picture in the cliptrase protocol. Each pixel gets the value of the
    nearest original pixel.
    """
    (height, width), top, left = preprocessing.crop_geometry(values.shape, side)
    resized = Image.fromarray(values).resize((width, height), Image.Resampling.NEAREST)
    return np.asarray(resized)[top : top + side, left : left + side]


@dataclass(eq=False)
class Measured:
    """Result of a measurement.

    Attributes:
        confusion: the counts of all pictures.
        miou: mean IoU by picture name; None if no pixel of the picture counts.
        unreadable: names of skipped pictures, with the reasons.
    """

    confusion: Confusion
    miou: dict[str, float | None]
    unreadable: dict[str, str]


def measure(
    evaluation: Evaluation,
    examples: Iterable[Example],
    journal: Journal | None = None,
    warn: Callable[[str], None] = lambda text: None,
    progress: Callable[[Iterator, int, int], Iterable] = lambda items, count, done: items,
) -> Measured:
    """Label the pictures and count their pixels. Skip pictures that are already in the journal.

    Args:
        warn: is called with a message for each picture that cannot be read.
        progress: is called with (pictures, number to do, number already done); returns the
            pictures.

    Raises:
        LabelError: a label does not fit its picture or its set.
        PictureError: no picture could be read.
    """
    examples = list(examples)
    outcome = Measured(evaluation.confusion(), {}, {})
    wanted = {example.name for example in examples}
    for line in journal.lines() if journal else ():
        if line['picture'] in wanted and line['picture'] not in outcome.miou:
            outcome.confusion.add_pairs(line['pairs'])
            outcome.miou[line['picture']] = line['miou']
    left = [example for example in examples if example.name not in outcome.miou]
    reading = prefetched(_read(evaluation.labelled, left))
    for example, found in progress(reading, len(left), len(outcome.miou)):
        if isinstance(found, PictureError):
            outcome.unreadable[example.name] = str(found)
            warn(f'{found}; skipped')
            continue
        image, values = found
        one = evaluation.confusion()
        one.add(evaluation.truth(values), evaluation.segmenter(image, evaluation.words).labels)
        miou = number(evaluation.scores(one).miou)
        if journal:
            journal.add({'picture': example.name, 'miou': miou, 'pairs': one.pairs})
        outcome.confusion.add_pairs(one.pairs)
        outcome.miou[example.name] = miou
    if not outcome.miou:
        raise PictureError('no picture could be read')
    return outcome


def _read(
    labelled: LabelledSet, examples: Iterable[Example]
) -> Iterator[tuple[Example, tuple[np.ndarray, np.ndarray] | PictureError]]:
    """Yield each example with (picture, values of its label), or with the reason for a failure.

    Pictures are not turned upright, because labels ignore the EXIF orientation.
    """
    for example in examples:
        try:
            image = read_picture(example.picture, upright=False)
            values = labelled.values(example)
        except LabelError:
            raise
        except PictureError as error:
            yield example, error
            continue
        if image.shape[:2] != values.shape:
            raise LabelError(
                f'{example.picture} is {image.shape[1]} x {image.shape[0]} px, its label '
                f'{example.label} is {values.shape[1]} x {values.shape[0]} px; sizes must be equal'
            )
        yield example, (image, values)


def number(value: float) -> float | None:
    """Return a float, or None for NaN, because JSON has no NaN."""
    return None if np.isnan(value) else float(value)


def numbers(evaluation: Evaluation, confusion: Confusion) -> dict[str, Any]:
    """Return the scores in 0..1 (None if undefined), overall and by class, and the matrix."""
    scores = evaluation.scores(confusion)
    ids = [c.id for c in evaluation.words.classes]
    names = [c.name for c in evaluation.words.classes]
    if confusion.background:
        ids, names = [0, *ids], ['background', *names]
    rows = zip(ids, names, scores.iou_of, scores.accuracy_of, confusion.true, strict=True)
    return {
        'miou': number(scores.miou),
        'accuracy': number(scores.accuracy),
        'class_accuracy': number(scores.class_accuracy),
        'fwiou': number(scores.fwiou),
        'classes': [
            {'id': k, 'name': n, 'iou': number(i), 'accuracy': number(a), 'pixels': int(p)}
            for k, n, i, a, p in rows
        ],
        'confusion': confusion.matrix.tolist(),
    }


def write_worst(evaluation: Evaluation, outcome: Measured, count: int, folder: Path) -> list[Path]:
    """Write sheets of the `count` pictures with the lowest mIoU. Return their paths, worst first.

    An existing `folder` is replaced.
    """
    by_name = {example.name: example for example in evaluation.labelled.examples}
    rated = [(miou, name) for name, miou in outcome.miou.items() if miou is not None]
    worst = [by_name[name] for _, name in sorted(rated)[:count]]
    zero = 'background' if outcome.confusion.background else 'unlabelled'
    names = []
    with files.whole(folder) as part:
        part.mkdir()
        read = prefetched(_read(evaluation.labelled, worst))
        for place, (example, found) in enumerate(read, 1):
            if isinstance(found, PictureError):
                raise found
            image, values = found
            labels = evaluation.segmenter(image, evaluation.words).labels
            shown = evaluation.segmenter.view(image)
            made = sheets.sheet(shown, evaluation.truth(values), labels, evaluation.words, zero)
            names.append(f'{place:02}_{example.name.replace("/", "_")}.png')
            Image.fromarray(made).save(part / names[-1])
    return [folder / name for name in names]


def differs(evaluation: Evaluation, changed: dict[str, list[Any]]) -> list[str]:
    """Return sentences about what differs from the published protocol, or is not known of it.

    Args:
        changed: see `protocols.overridden`.
    """
    settings = evaluation.settings
    said = protocols.remarks(
        settings.protocol, settings.method, evaluation.labelled.name, settings.refine == 'pamr'
    )
    if evaluation.labelled.coding.remark:
        said.append(evaluation.labelled.coding.remark)
    return [*said, *(f'{name} is {used}, not {was}' for name, (was, used) in changed.items())]
