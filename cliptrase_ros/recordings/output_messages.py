"""Results of the segmenter as ROS 2 messages, made without ROS and equal to those of the node."""

from __future__ import annotations

from typing import Any

import numpy as np
from rosbags.typesys import get_types_from_msg

from ..media import compressed
from ..segmenter import Segmentation
from ..space.geometry import moved_calibration
from ..words.vocabulary import UNLABELED, Vocabulary
from .channel import Data
from .convert import ros2_types

# The definitions in msg/, without the comments.
VOCABULARY_CLASS = """\
uint16 id
string name
string[] prompts
std_msgs/ColorRGBA color
"""
VOCABULARY = """\
std_msgs/Header header
uint32 version
uint16 unlabeled_id
VocabularyClass[] classes
string[] background
"""

IMAGE = 'sensor_msgs/msg/Image'
COMPRESSED_IMAGE = 'sensor_msgs/msg/CompressedImage'
CAMERA_INFO = 'sensor_msgs/msg/CameraInfo'
VOCABULARY_TYPE = 'cliptrase_ros/msg/Vocabulary'
JPEG_QUALITY = 85

STORE = ros2_types()
STORE.register(
    get_types_from_msg(VOCABULARY_CLASS, f'{VOCABULARY_TYPE}Class')
    | get_types_from_msg(VOCABULARY, VOCABULARY_TYPE)
)


def deserialize(data: Data, kind: str) -> Any:
    """Return the message of this type from its bytes.

    Raises:
        rosbags.serde.SerdeError: the bytes are not such a message.
    """
    return STORE.deserialize_cdr(data, kind)


def serialize(message: Any) -> memoryview:
    """Return the bytes of a message."""
    return STORE.serialize_cdr(message, message.__msgtype__, little_endian=True)


def make(kind: str, **fields: Any) -> Any:
    """Return a message of this type with these fields."""
    return STORE.types[kind](**fields)


def image(pixels: np.ndarray, encoding: str, header: Any) -> Any:
    """Return a sensor_msgs/Image without padding from [H, W] or [H, W, 3].

    The dtype must fit the encoding.
    """
    pixels = np.ascontiguousarray(pixels)
    return make(
        IMAGE,
        header=header,
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        is_bigendian=0,
        step=pixels.strides[0],
        data=pixels.reshape(-1).view(np.uint8),
    )


def label_mask(result: Segmentation, header: Any) -> Any:
    """Return the image of class ids: mono8, or 16UC1 if the ids need 16 bits."""
    encoding = 'mono8' if result.labels.dtype == np.uint8 else '16UC1'
    return image(result.labels, encoding, header)


def jpeg(pixels: np.ndarray, header: Any) -> Any:
    """Return a sensor_msgs/CompressedImage as image_transport makes it, from [H, W, 3] uint8
    RGB."""
    data = compressed.to_jpeg(pixels, JPEG_QUALITY)
    return make(
        COMPRESSED_IMAGE, header=header, format='rgb8; jpeg compressed bgr8', data=data.reshape(-1)
    )


def vocabulary(words: Vocabulary, stamp: Any) -> Any:
    """Return the vocabulary message: version 1, valid from this stamp on."""
    classes = [
        make(
            f'{VOCABULARY_TYPE}Class',
            id=c.id,
            name=c.name,
            prompts=list(c.prompts),
            color=make(
                'std_msgs/msg/ColorRGBA',
                **dict(zip('rgb', (x / 255 for x in c.color), strict=True)),
                a=1.0,
            ),
        )
        for c in words.classes
    ]
    return make(
        VOCABULARY_TYPE,
        header=make('std_msgs/msg/Header', stamp=stamp, frame_id=''),
        version=1,
        unlabeled_id=UNLABELED,
        classes=classes,
        background=list(words.background),
    )


def camera_info(
    info: Any, image_size: tuple[int, int], size: tuple[int, int], matrix: np.ndarray, header: Any
) -> Any:
    """Return the calibration of the labels.

    Args:
        info, image_size, matrix: see `geometry.moved_calibration`.
        size: (height, width) of the labels.
    """
    k, p = moved_calibration(info, image_size, matrix)
    roi = dict.fromkeys(('x_offset', 'y_offset', 'height', 'width'), 0)
    return make(
        CAMERA_INFO,
        header=header,
        height=size[0],
        width=size[1],
        distortion_model=info.distortion_model,
        d=info.d,
        k=k,
        r=info.r,
        p=p,
        binning_x=0,
        binning_y=0,
        roi=make('sensor_msgs/msg/RegionOfInterest', **roi, do_rectify=False),
    )
