"""Conversion of the engine's results to messages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, RegionOfInterest
from std_msgs.msg import ColorRGBA, Header

from ..media import compressed, encodings
from ..msg import ClassMask, ClassMaskArray, VocabularyClass
from ..msg import Vocabulary as VocabularyMessage
from ..space.geometry import Pinhole, moved_calibration, to_image
from ..words.vocabulary import UNLABELED, WordClass

if TYPE_CHECKING:
    from ..segmenter import Segmentation

try:
    from vision_msgs.msg import LabelInfo, VisionClass
except ImportError:  # pip has no wheel of vision_msgs; then the topic does not exist
    LabelInfo = None

LABEL_TYPES = {'mono8': np.uint8, '16UC1': np.uint16}


def label_mask(
    result: Segmentation, header: Header, encoding: str = 'mono8', unlabeled: int = UNLABELED
) -> Image:
    """Return the class id of each pixel.

    Args:
        encoding: mono8 or 16UC1.
        unlabeled: value of pixels without a label.
    """
    return encodings.fill_image(
        Image(), published_labels(result, encoding, unlabeled), encoding, header
    )


def published_labels(
    result: Segmentation, encoding: str = 'mono8', unlabeled: int = UNLABELED
) -> np.ndarray:
    """Return the class id of each pixel, [H, W] uint8 or uint16. Arguments as in `label_mask`."""
    labels = result.labels.astype(LABEL_TYPES[encoding], copy=False)
    if unlabeled != UNLABELED:
        labels = np.where(labels == UNLABELED, labels.dtype.type(unlabeled), labels)
    return labels


def confidence(result: Segmentation, header: Header) -> Image:
    """Return a mono8 image: round(255 p) of the label, 0 where unlabelled."""
    return encodings.fill_image(Image(), result.confidence_bytes, 'mono8', header)


def picture(pixels: np.ndarray, header: Header) -> Image:
    """Return an rgb8 image from [H, W, 3] uint8 RGB."""
    return encodings.fill_image(Image(), pixels, 'rgb8', header)


def jpeg(pixels: np.ndarray, header: Header, quality: int = 85) -> CompressedImage:
    """Return a JPEG in the format of image_transport, from [H, W, 3] uint8 RGB."""
    message = CompressedImage(header=header, format='rgb8; jpeg compressed bgr8')
    message.data.frombytes(compressed.to_jpeg(pixels, quality))
    return message


def class_mask(result: Segmentation, number: int, header: Header) -> Image:
    """Return a mono8 image: 255 where the class with this id is, 0 elsewhere."""
    return encodings.fill_image(Image(), _mask(result.labels, number), 'mono8', header)


def _mask(labels: np.ndarray, number: int) -> np.ndarray:
    return -(labels == number).view(np.uint8)  # -1 is 255; takes a third of the time of np.where


def class_masks(
    result: Segmentation, words: Sequence[WordClass], version: int, header: Header
) -> ClassMaskArray:
    """Return box, area, mean confidence and mask of each class in the image."""
    height, width = result.labels.shape
    ids = 1 + max(c.id for c in words)
    areas = cv2.calcHist([result.labels], [0], None, [ids], [0, ids]).ravel()
    masks = []
    for c in words:
        if areas[c.id]:
            mask = _mask(result.labels, c.id)
            x, y, w, h = cv2.boundingRect(mask)
            box = slice(y, y + h), slice(x, x + w)
            masks.append(
                ClassMask(
                    id=c.id,
                    name=c.name,
                    confidence=float(result.confidence[box][mask[box] > 0].mean()),
                    area=int(areas[c.id]),
                    box=RegionOfInterest(x_offset=x, y_offset=y, height=h, width=w),
                    mask=encodings.fill_image(Image(), mask[box], 'mono8', header),
                )
            )
    return ClassMaskArray(header=header, version=version, height=height, width=width, masks=masks)


def label_info(words: Sequence[WordClass], threshold: float, header: Header) -> LabelInfo:
    """Return id and name of each class, for Nav2's semantic layer. Needs vision_msgs."""
    classes = [VisionClass(class_id=c.id, class_name=c.name) for c in words]
    return LabelInfo(header=header, class_map=classes, threshold=threshold)


def vocabulary(
    words: Sequence[WordClass],
    background: Sequence[str],
    version: int,
    header: Header,
    unlabeled: int = UNLABELED,
) -> VocabularyMessage:
    """Return the words as a message, for readers of label images."""
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
        unlabeled_id=unlabeled,
        classes=classes,
        background=list(background),
    )


def camera_info(size: tuple[int, int], matrix: np.ndarray, header: Header) -> CameraInfo:
    """Return a pinhole without distortion: size (height, width) in pixels, matrix K [3, 3]."""
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


def pinholes(info: CameraInfo, image_size: tuple[int, int]) -> list[Pinhole]:
    """Return the cameras of images of this size (H, W) according to a calibration.

    The first is from the projection matrix P (rectified images), the second from K. A matrix that
    is not filled in gives no camera.
    """
    if not info.width or not info.height:
        return []
    p, k = info.p, info.k
    given = (p[0], p[5], p[2], p[6]), (k[0], k[4], k[2], k[5])
    move = to_image(info, image_size)[:2]
    return [
        Pinhole(*values).moved(move)
        for values in given
        if all(map(math.isfinite, values)) and values[0] > 0 and values[1] > 0
    ]


def moved_camera_info(
    info: CameraInfo,
    image_size: tuple[int, int],
    size: tuple[int, int],
    matrix: np.ndarray,
    header: Header,
) -> CameraInfo:
    """Return the calibration of a picture made from a camera's image, after crop and binning.

    Args:
        info: calibration of the camera.
        image_size: (H, W) of the camera's images.
        size: (H, W) of the picture.
        matrix: [2, 3], maps pixel centres of the image to those of the picture; see
            Segmenter.view_geometry.
        header: header of the picture.
    """
    k, p = moved_calibration(info, image_size, matrix)
    return CameraInfo(
        header=header,
        height=size[0],
        width=size[1],
        distortion_model=info.distortion_model,
        d=info.d,
        k=k,
        r=info.r,
        p=p,
    )


def nanoseconds(header: Header) -> int:
    """Return the stamp in ns. (rclpy's Time refuses stamps before 1970.)"""
    return header.stamp.sec * 10**9 + header.stamp.nanosec
