"""ROS parameters from the declared options: descriptors, read-only, validation."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node

from ..errors import SettingError
from ..options import NULLS, Option, Options, option, options_of, unknown
from ..settings import Auto, Off, Settings
from ..space.groups import Group, parse_groups
from ..space.objects import STUFF
from ..words.stream_options import StreamOptions, not_empty
from ..words.vocabulary import MAX_ID
from . import parameter_files, rclpy_compat
from .qos import RELIABILITY
from .topic_names import topic_name

Declared = TypeVar('Declared', bound=Options)


@dataclass(frozen=True)
class DepthOptions:
    """Depth images, for clouds, depth of targets and objects (the outputs in space)."""

    min_m: float = option(
        0.0,
        'Depth below this is invalid, in metres.',
        low=0.0,
        high=1000.0,
        live=True,
    )
    max_m: float | Off = option(
        'none',
        'Depth above this is invalid, in metres. Must be above min_m. none: no limit.',
        kind=float,
        words=('none',),
        low=0.0,
        high=1000.0,
        live=True,
    )
    slop_s: float = option(
        0.05,
        'How far the stamps of an image and its depth image may differ, in seconds. An equal stamp '
        'is preferred.',
        low=0.0,
        high=10.0,
        live=True,
    )
    patience_s: float = option(
        0.2,
        'How long outputs in space wait for the depth image after the image came, in seconds. '
        'Labels and masks do not wait.',
        low=0.0,
        high=10.0,
        live=True,
    )
    edge_margin_px: int | Auto | Off = option(
        'auto',
        'Outputs in space leave out the pixels behind an edge (a jump in depth) up to this far '
        'from it, in pixels of the depth image, because labels and depth are not exact there. '
        '~/depth/rest keeps them. auto: half a patch of the model. none: keep all.',
        kind=int,
        words=('auto', 'none'),
        low=0,
        high=100,
        live=True,
    )


@dataclass(frozen=True)
class PointsOptions:
    """Labelled point clouds, ~/points."""

    unlabeled: bool = option(
        False,
        'Keep points without a label in ~/points. false: they are NaN there, so no consumer takes '
        'them for a class.',
        live=True,
    )
    groups: tuple = option(
        ('',),
        'Groups of classes with their own cloud: group=class;class such as seats=chair;sofa. '
        'group=!class;class takes all points except these classes, unlabelled points included, '
        'such as obstacles=!floor. Empty entries are ignored.',
        live=True,
    )
    label_info_lead_s: float = option(
        1.0,
        'Hold ~/points this long after each new subscriber of ~/label_info, and after its first '
        'message, in seconds; longer if a subscriber has not received it. Reason: the semantic '
        'layer of Nav2 crashes if a cloud comes before its first LabelInfo. 0: never hold it.',
        low=0.0,
        high=60.0,
        live=True,
    )


@dataclass(frozen=True)
class TargetOptions:
    """Depth of chosen classes, ~/depth/target, and of everything else, ~/depth/rest."""

    classes: tuple = option(
        ('',),
        'Classes in ~/depth/target. They are missing in ~/depth/rest. Empty entries are ignored.',
        live=True,
    )
    margin_m: float = option(
        0.02,
        '~/depth/rest is empty at least this far around these classes, in metres.',
        low=0.0,
        high=1.0,
        live=True,
    )


@dataclass(frozen=True)
class ObjectsOptions:
    """Things with place and size, ~/objects."""

    classes: tuple = option(
        ('',),
        'Classes in ~/objects. No entry: all classes except stuff. Empty entries are ignored.',
        live=True,
    )
    stuff: tuple = option(
        STUFF,
        'Classes that are surfaces, not things. They are not in ~/objects, unless classes names '
        'them. Names that are no classes have no effect.',
        live=True,
    )
    min_pixels: int = option(
        100,
        'Things with fewer pixels that have depth are left out.',
        low=1,
        high=10**6,
        live=True,
    )
    depth_jump: float = option(
        0.03,
        'Neighbouring pixels of a class belong to two things if their depths differ by more than '
        'this share of the nearer one. Raise it if a flat thing falls apart (small depth images, '
        'grazing angles).',
        low=0.001,
        high=1.0,
        live=True,
    )


@dataclass(frozen=True)
class QosOptions:
    """Quality of service of topics."""

    input_reliability: str = option(
        'best_effort',
        'Reliability of the image and depth subscriptions. best_effort fits every camera driver. '
        'reliable loses no large image on the default Fast DDS transport, but needs a reliable '
        'publisher.',
        choices=tuple(RELIABILITY),
    )
    output_reliability: str = option(
        'reliable',
        'Reliability of the outputs. reliable fits both kinds of subscriber.',
        choices=tuple(RELIABILITY),
    )
    output_depth: int = option(
        1, 'How many messages an output keeps for a slow subscriber.', low=1, high=100
    )


@dataclass(frozen=True)
class NodeOptions(StreamOptions):
    """What the node needs beyond the engine's settings."""

    max_rate_hz: float | Off = option(
        'none',
        'Segment at most this many images a second of each camera. none: as many as possible.',
        kind=float,
        words=('none',),
        low=0.001,
        high=1000.0,
        live=True,
    )
    max_age_s: float | Off = option(
        'none',
        'Drop images whose stamp is older than this, in seconds. none: drop none.',
        kind=float,
        words=('none',),
        low=0.001,
        high=3600.0,
        live=True,
    )
    cameras: tuple = option(
        ('',),
        'Names of cameras. All topics of a camera are below its name: front/image, '
        '~/front/label_mask. One empty name: one camera without a prefix.',
    )
    image_transport: str = option(
        'raw',
        'raw: sensor_msgs/Image on the topic image. compressed: sensor_msgs/CompressedImage on '
        'image/compressed. auto: what is published there, raw first; also compressed images on '
        'the topic image itself. auto follows a publisher that comes later or changes.',
        choices=('raw', 'compressed', 'auto'),
    )
    label_encoding: str = option(
        'mono8',
        'Encoding of the label mask. mono8 holds ids up to 254, 16UC1 up to 65534.',
        choices=('mono8', '16UC1'),
    )
    unlabeled_id: int = option(
        0,
        'Value of pixels without a label in the label mask. At most 255 with mono8.',
        low=0,
        high=65535,
    )
    start_enabled: bool = option(
        True, 'Take images once active. false: wait for the service ~/enable.'
    )
    autostart: bool = option(
        True, 'Configure and activate at start. false: wait for lifecycle transitions.'
    )
    wait_for: tuple = option(
        ('',),
        'Names of lifecycle nodes, such as /local_costmap/local_costmap. Take images only while '
        'all of them are active. Empty entries are ignored.',
    )
    diagnostics_period_s: float = option(
        1.0, 'Time between messages on /diagnostics, in seconds.', low=0.1, high=60.0
    )
    depth: DepthOptions = DepthOptions()
    points: PointsOptions = PointsOptions()
    target: TargetOptions = TargetOptions()
    objects: ObjectsOptions = ObjectsOptions()
    qos: QosOptions = QosOptions()

    def __post_init__(self) -> None:
        super().__post_init__()
        names, depth = list(self.cameras), self.depth
        twice = {name for name in names if names.count(name) > 1}
        if not names or twice or (len(names) > 1 and '' in names):
            raise SettingError(f"cameras: {names} need different names, or one may be ''")
        if self.label_encoding == 'mono8' and self.unlabeled_id > 255:
            raise SettingError(
                f'unlabeled_id: {self.unlabeled_id} does not fit into label_encoding mono8. Use '
                '16UC1'
            )
        if depth.max_m != 'none' and depth.max_m <= depth.min_m:
            raise SettingError(
                f'depth.max_m: {depth.max_m:g} m is not above depth.min_m {depth.min_m:g} m'
            )
        _ = self.groups_by_topic  # raise if one is bad

    @property
    def groups_by_topic(self) -> dict[str, Group]:
        """The groups of classes that have a cloud, by the last part of its topic."""
        groups: dict[str, Group] = {}
        for group in parse_groups(not_empty(self.points.groups)):
            topic = topic_name(group.name)
            if not topic or topic in groups:
                raise SettingError(
                    f'points.groups: {group.name!r} cannot have a topic of its own. Give it '
                    'another name, of letters, digits and _'
                )
            groups[topic] = group
        return groups

    @property
    def target_classes(self) -> tuple[str, ...]:
        """The target classes without the empty ones."""
        return _stripped(self.target.classes)

    @cached_property
    def object_classes(self) -> tuple[str, ...]:
        """The classes of things without the empty ones; none: all except stuff."""
        return _stripped(self.objects.classes)

    def has_objects(self, name: str) -> bool:
        """Return True if things of this class are among the objects."""
        return name in self.object_classes if self.object_classes else name not in self._stuff

    @cached_property
    def _stuff(self) -> frozenset[str]:
        return frozenset(_stripped(self.objects.stuff))

    @property
    def companions(self) -> tuple[str, ...]:
        """The nodes in `wait_for` without the empty ones."""
        return _stripped(self.wait_for)

    @property
    def largest_id(self) -> int:
        """The largest class id that the label mask can hold."""
        return 254 if self.label_encoding == 'mono8' else MAX_ID


def _stripped(entries: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(entry.strip() for entry in not_empty(entries))


OPTIONS = (NodeOptions, Settings)


def declare(node: Node, *declared: type[Options]) -> None:
    """Declare every option as a parameter of the node. Log what looks wrong in its parameters
    files.

    Raises:
        SettingError: the node was started with a parameter that does not exist.
        rclpy's ParameterException family: a start value is out of range.
    """
    for doubt in parameter_files.doubts(sys.argv, node.get_fully_qualified_name()):
        node.get_logger().warning(doubt)
    for one in (one for options in declared for one in options_of(options)):
        default = list(one.default) if one.kind is tuple else one.default
        node.declare_parameter(one.name, default, descriptor(one))
    # ROS takes no notice of a misspelt parameter in a file; the node must not either start with
    # other values than its file says.
    for name in rclpy_compat.given_parameters(node):
        if not node.has_parameter(name) and not name.startswith('qos_overrides.'):
            raise unknown(name, *declared)


def descriptor(one: Option) -> ParameterDescriptor:
    """Return the descriptor of one option: description, range, choices, read-only unless live.

    The type is dynamic. So a number may be a word, an integer may stand for a float, a list may be
    empty, and a wrong type is refused in our words (`Option.checked`).
    """
    result = ParameterDescriptor(description=one.doc, read_only=not one.live, dynamic_typing=True)
    if one.choices or one.words:
        result.additional_constraints = one.expected
    if one.low is not None and one.high is not None:
        if one.kind is float:
            span = FloatingPointRange(from_value=float(one.low), to_value=float(one.high))
            result.floating_point_range = [span]
        else:
            low, high = int(one.low), int(one.high)
            result.integer_range = [IntegerRange(from_value=low, to_value=high, step=1)]
    return result


def read_options(
    node: Node, declared: type[Declared], changes: Mapping[str, Any] | None = None
) -> Declared:
    """Return the options from the node's parameters, with some values replaced.

    Raises:
        SettingError: a value is bad.
    """
    changes = changes or {}
    values: dict[str, Any] = {}
    for one in options_of(declared):
        name = one.name
        value = changes[name] if name in changes else node.get_parameter(name).value
        # Tools that edit text send '0.7' where the value was 'auto'; YAML's null is text in ROS.
        if isinstance(value, str) and (one.words or value in NULLS):
            value = one.from_text(value)
        values[name] = value
    return declared.from_mapping(values)


def parameter_names() -> list[str]:
    """Return the names of all parameters of the segmentation node."""
    return [one.name for declared in OPTIONS for one in options_of(declared)]
