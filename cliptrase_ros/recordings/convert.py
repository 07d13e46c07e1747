"""Types of messages: what a recording says of them, and messages of ROS 1 as those of ROS 2."""

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

# What ROS 2 has under another name; the fields are the same.
RENAMED = {'tf/msg/tfMessage': 'tf2_msgs/msg/TFMessage'}
_IDL = '=' * 80 + '\nIDL: '


class ConversionError(CliptraseError):
    """Messages of this type cannot be made ones of ROS 2."""


def ros2_types() -> Typestore:
    """A store of the types that ROS 2 comes with, to which others can be added."""
    return get_typestore(Stores.ROS2_JAZZY)


@lru_cache(maxsize=256)
def described(kind: str, definition: str, digest: str) -> tuple[str, str]:
    """(definition, hash) of a type for a recording of ROS 2; each '' if it cannot be known.

    Args:
        definition: as it was found, '' if it was not; it is kept as it is.
        digest: hash as it was found.
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
        own.register(_parsed(kind, definition))
        return definition, own.hash_rihs01(kind)
    except Exception as error:  # whatever a parser does with text that it does not know
        log.warning(
            '%s: the recording has no hash of it and none can be made (%s)', kind, reason(error)
        )
        return definition, ''


def _parsed(kind: str, definition: str) -> dict:
    if not definition.startswith(_IDL):
        return get_types_from_msg(definition, kind)
    types: dict = {}
    for part in definition.split('=' * 80 + '\n')[1:]:
        types.update(get_types_from_idl(part.partition('\n')[2]))
    return types


def to_ros2(channel: Channel) -> tuple[Channel, Convert]:
    """A channel of ROS 1 as one of ROS 2, and what makes its messages such.

    Types that ROS 2 comes with become those; others keep their definition.

    Raises:
        ConversionError: the type is not known, or cannot be converted.
    """
    kind = RENAMED.get(channel.type, channel.type)
    if not channel.definition.strip() and kind not in ros2_types().fielddefs:
        raise ConversionError(f'the recording does not say what {channel.type} is')
    try:
        known = get_types_from_msg(channel.definition, channel.type)
        source, target = get_typestore(Stores.EMPTY), ros2_types()
        source.register(known)
        target.register({name: it for name, it in known.items() if name not in target.fielddefs})
        definition, _ = target.generate_msgdef(kind, ros_version=2)
        digest = target.hash_rihs01(kind)
        convert = _converter(source, target, channel.type, kind)
    except Exception as error:  # whatever a parser does with text that it does not know
        raise ConversionError(f'its definition cannot be read ({reason(error)})') from error
    return Channel(channel.topic, kind, definition, channel.qos, digest), convert


def _converter(source: Typestore, target: Typestore, old: str, new: str) -> Convert:
    if is_same_wireformat(source, target, old, new):
        return partial(target.ros1_to_cdr, typename=new)
    return partial(
        migrate_bytes, source, target, old, new, {}, src_is2=False, dst_is2=True
    )  # fields by name and type; what is new is 0
