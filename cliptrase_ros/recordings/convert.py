"""Message types of a recording, and the conversion of ROS 1 messages to ROS 2."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import lru_cache, partial

from rosbags.convert.converter import is_same_wireformat, migrate_bytes
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from ..errors import CliptraseError
from .channel import Channel, Data, reason

log = logging.getLogger(__name__)

Convert = Callable[[Data], Data]

# ROS 1 types that have another name in ROS 2; the fields are the same.
RENAMED = {'tf/msg/tfMessage': 'tf2_msgs/msg/TFMessage'}
_IDL = '=' * 80 + '\nIDL: '


class ConversionError(CliptraseError):
    """Messages of this type cannot be converted to ROS 2."""


def ros2_types() -> Typestore:
    """Return a new store with the standard types of ROS 2; others can be added."""
    return get_typestore(Stores.ROS2_JAZZY)


@lru_cache(maxsize=256)
def described(kind: str, definition: str, digest: str) -> tuple[str, str]:
    """Return (definition, hash) of a type for a ROS 2 recording; '' for what is unknown.

    Args:
        definition: as found in the recording, '' if it has none; kept unchanged.
        digest: hash as found in the recording.
    """
    store = ros2_types()
    if not definition:
        if kind not in store.fielddefs:
            return '', digest
        definition, _ = store.generate_msgdef(kind, ros_version=2)
    if digest:
        return definition, digest
    try:
        own = get_typestore(Stores.EMPTY)
        own.register(parsed(kind, definition))
        return definition, own.hash_rihs01(kind)
    except Exception as error:  # a parser may raise anything on unknown text
        log.warning(
            '%s: the recording has no type hash and none can be computed (%s)', kind, reason(error)
        )
        return definition, ''


def parsed(kind: str, definition: str) -> dict:
    """Return the types of a definition, in IDL or as .msg text; a parser may raise anything."""
    if not definition.startswith(_IDL):
        return get_types_from_msg(definition, kind)
    types: dict = {}
    for part in definition.split('=' * 80 + '\n')[1:]:
        types.update(get_types_from_idl(part.partition('\n')[2]))
    return types


def to_ros2(channel: Channel) -> tuple[Channel, Convert]:
    """Return the ROS 2 channel of a ROS 1 channel, and the function that converts its messages.

    A type with the name of a standard ROS 2 type becomes that type. Others keep their definition.

    Raises:
        ConversionError: the type is unknown or cannot be converted.
    """
    kind = RENAMED.get(channel.type, channel.type)
    if not channel.definition.strip() and kind not in ros2_types().fielddefs:
        raise ConversionError(f'the recording has no definition of {channel.type}')
    try:
        known = get_types_from_msg(channel.definition, channel.type)
        source, target = get_typestore(Stores.EMPTY), ros2_types()
        source.register(known)
        target.register({name: it for name, it in known.items() if name not in target.fielddefs})
        definition, _ = target.generate_msgdef(kind, ros_version=2)
        digest = target.hash_rihs01(kind)
        convert = _converter(source, target, channel.type, kind)
    except Exception as error:  # a parser may raise anything on unknown text
        raise ConversionError(f'its definition cannot be read ({reason(error)})') from error
    return Channel(channel.topic, kind, definition, channel.qos, digest), convert


def _converter(source: Typestore, target: Typestore, old: str, new: str) -> Convert:
    if is_same_wireformat(source, target, old, new):
        return partial(target.ros1_to_cdr, typename=new)
    return partial(
        migrate_bytes, source, target, old, new, {}, src_is2=False, dst_is2=True
    )  # matches fields by name and type; fields that are new in ROS 2 are 0
