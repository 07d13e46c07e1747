"""ROS parameters from the declared settings: descriptors, read-only, validation."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node

from ..settings import Settings, check, option


@dataclass(frozen=True)
class NodeOptions:
    """What the node needs beyond the engine's settings."""

    vocabulary: tuple = option(
        ('floor', 'wall', 'ceiling', 'person', 'door', 'window', 'table', 'chair'),
        'Words to look for, each [id:]name[=prompt;prompt...], such as floor or '
        '7:mug=mug;coffee cup. Ids that are not given are dealt out and never move.',
        live=True,
    )
    background: tuple = option(
        ('',),
        'Distractor words: pixels that they win become unlabelled. Empty ones are ignored.',
        live=True,
    )
    overlay_alpha: float = option(
        0.5, 'Share of the class colour in the overlay.', low=0.0, high=1.0, live=True
    )
    input_reliability: str = option(
        'best_effort',
        'QoS of the image subscription; best_effort works with every camera driver, reliable '
        'loses no large image on default Fast DDS transport.',
        choices=('best_effort', 'reliable'),
    )
    autostart: bool = option(
        True, 'Configure and activate by itself; false: wait for lifecycle transitions.'
    )
    diagnostics_period_s: float = option(
        1.0, 'Time between messages on /diagnostics, in seconds.', low=0.1, high=60.0
    )

    def __post_init__(self):
        check(self)

    @property
    def background_words(self) -> tuple[str, ...]:
        """The background words without the empty ones (ROS has no typed empty array)."""
        return tuple(word for word in self.background if word.strip())


OPTIONS = (Settings, NodeOptions)


def declare(node: Node, options: type, any_type: tuple[str, ...] = ()) -> None:
    """Declare every field of a dataclass of options as a parameter of the node.

    Args:
        any_type: names whose values may have another type (`-p source:=0` is an integer to ROS).

    Raises:
        rclpy's ParameterException family: a start value has the wrong type or is out of range.
    """
    for field in dataclasses.fields(options):
        default = list(field.default) if type(field.default) is tuple else field.default
        about = descriptor(field)
        about.dynamic_typing = field.name in any_type
        node.declare_parameter(field.name, default, about)


def descriptor(field: dataclasses.Field) -> ParameterDescriptor:
    """The descriptor of one setting: description, range, choices, read-only unless live."""
    meta = field.metadata
    result = ParameterDescriptor(description=meta['doc'], read_only=not meta['live'])
    if meta['choices']:
        result.additional_constraints = 'one of: ' + ', '.join(meta['choices'])
    if meta['low'] is not None:
        low, high = meta['low'], meta['high']
        if type(field.default) is float:
            span = FloatingPointRange(from_value=float(low), to_value=float(high), step=0.0)
            result.floating_point_range = [span]
        else:
            result.integer_range = [IntegerRange(from_value=low, to_value=high, step=1)]
    return result


def read(node: Node, options: type, changes: dict[str, Any] | None = None) -> Any:
    """An options dataclass from the node's parameters, with some values replaced.

    Raises:
        SettingError: a value is bad.
    """
    values = {f.name: node.get_parameter(f.name).value for f in dataclasses.fields(options)}
    values.update((k, v) for k, v in (changes or {}).items() if k in values)
    return options(**values)


def names() -> list[str]:
    """Every parameter of the segmentation node."""
    return [field.name for options in OPTIONS for field in dataclasses.fields(options)]
