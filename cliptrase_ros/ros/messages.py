"""Results of the engine as messages."""

from __future__ import annotations

import numpy as np
from sensor_msgs.msg import Image
from std_msgs.msg import ColorRGBA, Header

from ..msg import Vocabulary as VocabularyMessage
from ..msg import VocabularyClass
from ..segmenter import Segmentation
from ..vocabulary import UNLABELED, Vocabulary
from . import images


def label_mask(result: Segmentation, header: Header) -> Image:
    """mono8: the class id of each pixel, 0 unlabelled."""
    return images.fill(Image(), result.labels.astype(np.uint8, copy=False), 'mono8', header)


def confidence(result: Segmentation, header: Header) -> Image:
    """mono8: round(255 p) of the label, 0 where unlabelled."""
    return images.fill(Image(), result.confidence_bytes, 'mono8', header)


def picture(pixels: np.ndarray, header: Header) -> Image:
    """rgb8 from [H, W, 3] uint8 RGB."""
    return images.fill(Image(), pixels, 'rgb8', header)


def vocabulary(words: Vocabulary, version: int, header: Header) -> VocabularyMessage:
    """The words, for whoever reads label images."""
    classes = [
        VocabularyClass(
            id=c.id,
            name=c.name,
            prompts=list(c.prompts),
            color=ColorRGBA(**dict(zip('rgb', (x / 255 for x in c.color), strict=True)), a=1.0),
        )
        for c in words.classes
    ]
    return VocabularyMessage(
        header=header,
        version=version,
        unlabeled_id=UNLABELED,
        classes=classes,
        background=list(words.background),
    )
