"""Types of messages that hold an image: those of sensor_msgs, and those of Foxglove."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import numpy as np
from rosbags.serde import SerdeError
from rosbags.typesys.store import Typestore

from ..errors import ImageError, ShapeError
from ..media import compressed, encodings
from ..model.preprocessing import check_image
from . import output_messages
from .channel import Channel, Data, reason
from .convert import parsed, ros2_types

RAW, COMPRESSED = 'foxglove_msgs/msg/RawImage', 'foxglove_msgs/msg/CompressedImage'
# For files without definitions. A definition in the file is preferred: old ones have no frame_id.
_HEAD = 'builtin_interfaces/Time timestamp\nstring frame_id\n'
_DEFINITIONS = {
    RAW: f'{_HEAD}uint32 width\nuint32 height\nstring encoding\nuint32 step\nuint8[] data\n',
    COMPRESSED: f'{_HEAD}uint8[] data\nstring format\n',
}
DECODERS: dict[str, Callable[[Any], np.ndarray]] = {
    output_messages.IMAGE: encodings.to_rgb,
    output_messages.COMPRESSED_IMAGE: compressed.to_rgb,
    RAW: encodings.to_rgb,
    COMPRESSED: compressed.to_rgb,
}
RAW_TYPES = output_messages.IMAGE, RAW


def image_message(data: Data, channel: Channel) -> Any:
    """Return an image message with the fields of sensor_msgs.

    Raises:
        ImageError: the data are not a message of this type.
    """
    try:
        if channel.type not in _DEFINITIONS:
            return output_messages.deserialize(data, channel.type)
        own: Any = _store(channel.type, channel.definition).deserialize_cdr(data, channel.type)
        return SimpleNamespace(
            **vars(own),
            is_bigendian=0,
            header=output_messages.make(
                'std_msgs/msg/Header', stamp=own.timestamp, frame_id=getattr(own, 'frame_id', '')
            ),
        )
    except SerdeError as error:
        raise ImageError(f'not a valid {channel.type} ({error})') from error


def pixels(message: Any, channel: Channel) -> np.ndarray:
    """Return the pixels of an image message, [H, W, 3] uint8 RGB.

    Raises:
        ImageError: they cannot be read, or the image cannot be labelled.
    """
    image = DECODERS[channel.type](message)
    try:
        check_image(image)
    except ShapeError as error:
        raise ImageError(str(error)) from error
    return image


@lru_cache(maxsize=16)
def _store(kind: str, definition: str) -> Typestore:
    """Return a store with one of Foxglove's types.

    Raises:
        ImageError: its definition cannot be used.
    """
    store = ros2_types()
    try:
        types = parsed(kind, definition or _DEFINITIONS[kind])
        store.register({name: it for name, it in types.items() if name not in store.fielddefs})
        has = {name for name, _ in store.fielddefs[kind][1]}
    except Exception as error:  # a parser may raise anything on unknown text
        raise ImageError(f'its definition cannot be read ({reason(error)})') from error
    needs = {line.split()[1] for line in _DEFINITIONS[kind].splitlines()} - {'frame_id'}
    if lacks := ', '.join(sorted(needs - has)):
        raise ImageError(f'the type {kind} of this recording has no {lacks}')
    return store
