"""Results of the engine as messages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import ColorRGBA, Header

from ..msg import Vocabulary as VocabularyMessage
from ..msg import VocabularyClass
from ..segmenter import Segmentation
from ..vocabulary import UNLABELED, WordClass
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


def vocabulary(
    words: Sequence[WordClass], background: Sequence[str], version: int, header: Header
) -> VocabularyMessage:
    """The words, for whoever reads label images."""
    classes = [
        VocabularyClass(
            id=c.id,
            name=c.name,
            prompts=list(c.prompts),
            color=ColorRGBA(**dict(zip('rgb', (x / 255 for x in c.color), strict=True)), a=1.0),
        )
        for c in words
    ]
    return VocabularyMessage(
        header=header,
        version=version,
        unlabeled_id=UNLABELED,
        classes=classes,
        background=list(background),
    )


def camera_info(size: tuple[int, int], matrix: np.ndarray, header: Header) -> CameraInfo:
    """A pinhole without distortion: size (height, width) in pixels, matrix K [3, 3]."""
    k = [float(value) for value in matrix.ravel()]
    return CameraInfo(
        header=header,
        height=size[0],
        width=size[1],
        distortion_model='plumb_bob',
        d=[0.0] * 5,
        k=k,
        r=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        p=[*k[:3], 0.0, *k[3:6], 0.0, *k[6:], 0.0],
    )
