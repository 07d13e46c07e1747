"""ROS parameters from the declared settings: descriptors, read-only, validation."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node

from ..errors import SettingError
from ..settings import Settings, check_options, option
from ..space.groups import Group, parse_groups
from ..words.colors import RGB, parse_colors
from ..words.vocabulary import MAX_ID
from .qos import RELIABILITY
from .topic_names import topic_name


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
    colors: tuple = option(
        ('',),
        'Colours of classes, each name=#rrggbb, such as floor=#8000ff. A class that is not named '
        'here has a colour that depends on its name. Empty ones are ignored.',
        live=True,
    )
    overlay_alpha: float = option(
        0.5, 'Share of the class colour in the overlay.', low=0.0, high=1.0, live=True
    )
    smoothing: float = option(
        0.0,
        'How much the scores of the frames before count in those of a frame (exponential mean); 0: '
        'each frame on its own. Steadies labels of a slow camera and blurs those of a fast one.',
        low=0.0,
        high=0.99,
        live=True,
    )
    present_patience: int = option(
        5,
        'With present_only, a word leaves when its score has been below half of present_threshold '
        'for so many frames in a row; 0: each frame on its own.',
        low=0,
        high=1000,
        live=True,
    )
    max_rate_hz: float = option(
        0.0,
        'Images a second, of each camera, that are worked on at most; 0: as many as can be.',
        low=0.0,
        high=1000.0,
        live=True,
    )
    max_age_s: float = option(
        0.0,
        'Images that are older by their stamp, in seconds, are dropped; 0: none is.',
        low=0.0,
        high=3600.0,
        live=True,
    )
    depth_min_m: float = option(
        0.0,
        'Depth below this, in metres, counts as invalid.',
        low=0.0,
        high=1000.0,
        live=True,
    )
    depth_max_m: float = option(
        0.0,
        'Depth above this, in metres, counts as invalid; 0: no limit.',
        low=0.0,
        high=1000.0,
        live=True,
    )
    depth_slop_s: float = option(
        0.05,
        'How far the stamps of an image and its depth image may be apart, in seconds; one with the '
        'same stamp goes first.',
        low=0.0,
        high=10.0,
        live=True,
    )
    depth_patience_s: float = option(
        0.2,
        'How long outputs in space wait for the depth of an image after it came, in seconds; '
        'labels and masks do not.',
        low=0.0,
        high=10.0,
        live=True,
    )
    unlabeled_points: bool = option(
        False,
        'Keep points without a label in ~/points; false: they are NaN there, so that no consumer '
        'takes them for a class.',
        live=True,
    )
    point_groups: tuple = option(
        ('',),
        'Groups of classes with a cloud of their own, each group=class;class such as '
        'seats=chair;sofa, or group=!class;class for all points but those of these classes, the '
        'unlabelled included, such as obstacles=!floor. Empty ones are ignored.',
        live=True,
    )
    target_classes: tuple = option(
        ('',),
        'Classes that ~/depth/target holds the depth of, and ~/depth/rest lacks. Empty ones are '
        'ignored.',
        live=True,
    )
    target_margin_m: float = option(
        0.02,
        'How far around the target classes ~/depth/rest is emptied at least, in metres.',
        low=0.0,
        high=1.0,
        live=True,
    )
    object_classes: tuple = option(
        ('',),
        'Classes that ~/objects tells things of; none: all. Empty ones are ignored.',
        live=True,
    )
    object_min_pixels: int = option(
        100,
        'Things with fewer pixels that have depth are left out of ~/objects.',
        low=1,
        high=10**6,
        live=True,
    )
    object_depth_jump: float = option(
        0.03,
        'Neighbouring pixels of a class belong to two things if their depths differ by more than '
        'this part of the nearer one. Small depth images of flat things seen at a grazing angle '
        'need more.',
        low=0.001,
        high=1.0,
        live=True,
    )
    cameras: tuple = option(
        ('',),
        'Names of cameras; all topics of a camera are below its name: front/image, '
        '~/front/label_mask. One empty name: one camera, and no prefix.',
    )
    image_transport: str = option(
        'raw',
        'raw: sensor_msgs/Image on the topic image; compressed: sensor_msgs/CompressedImage (JPEG '
        'or PNG) on that topic with /compressed at its end.',
        choices=('raw', 'compressed'),
    )
    label_encoding: str = option(
        'mono8',
        'Encoding of the label mask: mono8 holds ids up to 254, 16UC1 up to 65534.',
        choices=('mono8', '16UC1'),
    )
    unlabeled_id: int = option(
        0, 'What pixels without a label have in the label mask.', low=0, high=65535
    )
    input_reliability: str = option(
        'best_effort',
        'QoS of the image subscription; best_effort works with every camera driver, reliable '
        'loses no large image on default Fast DDS transport.',
        choices=tuple(RELIABILITY),
    )
    output_reliability: str = option(
        'reliable',
        'QoS of what is published for each image; reliable serves both kinds of subscriber.',
        choices=tuple(RELIABILITY),
    )
    output_depth: int = option(
        1, 'How many messages an output keeps for a subscriber that is slow.', low=1, high=100
    )
    start_enabled: bool = option(
        True, 'Take images once active; false: wait for the service ~/enable.'
    )
    autostart: bool = option(
        True, 'Configure and activate by itself; false: wait for lifecycle transitions.'
    )
    diagnostics_period_s: float = option(
        1.0, 'Time between messages on /diagnostics, in seconds.', low=0.1, high=60.0
    )

    def __post_init__(self):
        check_options(self)
        names = list(self.cameras)
        twice = {name for name in names if names.count(name) > 1}
        if not names or twice or (len(names) > 1 and '' in names):
            raise SettingError(f"cameras: {names} need different names, or one may be ''")
        if self.label_encoding == 'mono8' and self.unlabeled_id > 255:
            raise SettingError(
                f"unlabeled_id: {self.unlabeled_id} does not fit into label_encoding 'mono8'; use "
                "'16UC1'"
            )
        if self.depth_max_m and self.depth_max_m <= self.depth_min_m:
            raise SettingError(
                f'depth_max_m: {self.depth_max_m:g} m is not above depth_min_m '
                f'{self.depth_min_m:g} m'
            )
        _ = self.colors_by_name, self.groups_by_topic  # raise where one is bad

    @property
    def background_words(self) -> tuple[str, ...]:
        """The background words without the empty ones (ROS has no typed empty array)."""
        return _not_empty(self.background)

    @property
    def colors_by_name(self) -> dict[str, RGB]:
        """The colours that are chosen."""
        return parse_colors(_not_empty(self.colors))

    @property
    def groups_by_topic(self) -> dict[str, Group]:
        """The groups of classes that have a cloud, by the last part of its topic."""
        groups: dict[str, Group] = {}
        for group in parse_groups(_not_empty(self.point_groups)):
            topic = topic_name(group.name)
            if not topic or topic in groups:
                raise SettingError(
                    f'point_groups: {group.name!r} cannot have a topic of its own; give it '
                    'another name, of letters, digits and _'
                )
            groups[topic] = group
        return groups

    @property
    def targets(self) -> tuple[str, ...]:
        """The target classes."""
        return _stripped(self.target_classes)

    @property
    def objects(self) -> tuple[str, ...]:
        """The classes that things are told of; empty: all."""
        return _stripped(self.object_classes)

    @property
    def largest_id(self) -> int:
        """The largest class id that the label mask can hold."""
        return 254 if self.label_encoding == 'mono8' else MAX_ID


def _not_empty(entries: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(entry for entry in entries if entry.strip())


def _stripped(entries: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(entry.strip() for entry in _not_empty(entries))


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


def read_options(node: Node, options: type, changes: dict[str, Any] | None = None) -> Any:
    """An options dataclass from the node's parameters, with some values replaced.

    Raises:
        SettingError: a value is bad.
    """
    values = {f.name: node.get_parameter(f.name).value for f in dataclasses.fields(options)}
    values.update((k, v) for k, v in (changes or {}).items() if k in values)
    return options(**values)


def parameter_names() -> list[str]:
    """Every parameter of the segmentation node."""
    return [field.name for options in OPTIONS for field in dataclasses.fields(options)]
