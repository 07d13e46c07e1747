"""Content of /diagnostics: counters, rates, times, and one sentence on the health of each camera
and of the model."""

from __future__ import annotations

import resource
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from rclpy.node import Node
from rclpy.qos import QoSCompatibility, qos_check_compatible
from rclpy.subscription import Subscription

from .statistics import Statistics

LISTENING = 'times subscribed'
RECEIVED = 'received'
PUBLISHED = 'published'
DROPPED_FOR_NEWER = 'dropped: a newer image came'
DROPPED_RATE = 'dropped: above max_rate_hz'
DROPPED_OLD = 'dropped: older than max_age_s'
DROPPED_BAD_IMAGE = 'dropped: bad image'
DROPPED_ERROR = 'dropped: error'
OUTPUT_ERROR = 'outputs: failed'
STAMP_WENT_BACK = 'stamps that went back'
DEPTH_LISTENING = 'depth: times subscribed'
DEPTH_RECEIVED = 'depth: received'
DEPTH_EXACT = 'depth: with the stamp of an image'
DEPTH_NEAREST = 'depth: with a stamp within depth.slop_s'
DEPTH_MISSING = 'depth: none in time for an image'
DEPTH_APART = 'depth: stamps too far apart'
DEPTH_BAD = 'depth: bad image'
DEPTH_UNREGISTERED = 'depth: not registered'
DEPTH_OTHER_FRAME = 'depth: another frame_id'
DEPTH_EMPTY = 'depth: nothing valid'
DEPTH_NO_SIZE = 'depth: none yet, labels use the image size'
DEPTH_NO_INTRINSICS = 'depth: no intrinsics'
DEPTH_OTHER_INTRINSICS = 'depth: intrinsics of another size'
INFO_OTHER_SIZE = 'camera_info: of another size'
VOCABULARY_ERRORS = 'vocabulary errors'
SPACE_PUBLISHED = 'outputs in space: published'
SPACE_FOR_NEWER = 'outputs in space: left out for a newer image'
SPACE_HELD = 'outputs in space: ~/points held for ~/label_info'
SPACE_ERROR = 'outputs in space: error'
SILENT = 'silent'
DEPTH_SILENT = 'depth: silent'
INFERENCE = 'inference'
SPACE = 'outputs in space'
FROM_RECEIPT = 'receipt to publish'
FROM_STAMP = 'stamp to publish'

# Events that make a camera's status a warning, the worst first.
TROUBLES = (
    DROPPED_BAD_IMAGE,
    DROPPED_OLD,
    STAMP_WENT_BACK,
    DEPTH_BAD,
    DEPTH_UNREGISTERED,
    DEPTH_NO_INTRINSICS,
    DEPTH_OTHER_INTRINSICS,
    DEPTH_EMPTY,
    DEPTH_APART,
    INFO_OTHER_SIZE,
)

SILENCE_S = 5.0
RECENT_S = 10.0
ERROR_SHOWN_S = 10.0
OLD_S = 1.0

Health = tuple[bytes, str]


def of_camera(
    statistics: Statistics,
    listening: bool,
    silence: str,
    reasons: Mapping[str, str],
    no_depth: str = '',
    waiting: str = '',
) -> Health:
    """Return (level, sentence) for one camera.

    Args:
        listening: True while the node subscribes to the camera.
        silence: sentence to report if no image has come for a while, otherwise ''.
        reasons: newest sentence of each event that has one.
        no_depth: as `silence`, for the depth images.
        waiting: sentence about nodes that must be active first, otherwise ''.
    """
    for event in (DROPPED_ERROR, OUTPUT_ERROR, SPACE_ERROR):
        if statistics.age(event) < ERROR_SHOWN_S:
            return DiagnosticStatus.ERROR, reasons[event]
    if not listening:
        return (DiagnosticStatus.WARN, waiting) if waiting else (DiagnosticStatus.OK, 'not active')
    if silence:
        return DiagnosticStatus.STALE, silence
    for event in TROUBLES:
        if statistics.age(event) < SILENCE_S:
            return DiagnosticStatus.WARN, reasons[event]
    if no_depth:
        return DiagnosticStatus.WARN, no_depth
    if statistics.age(DEPTH_NO_SIZE) < SILENCE_S:
        return DiagnosticStatus.WARN, reasons[DEPTH_NO_SIZE]
    dropped, published = (
        statistics.recent(event, RECENT_S) for event in (DROPPED_FOR_NEWER, PUBLISHED)
    )
    if dropped > published:
        return DiagnosticStatus.WARN, (
            f'slower than the camera: {published} of {published + dropped} images of the last '
            f'{RECENT_S:.0f} s were segmented. Lower input_size to be faster, or set max_rate_hz '
            'to this rate if it is enough'
        )
    age_ms = (statistics.quantiles_ms(FROM_STAMP, RECENT_S) or (0.0,))[0]
    if age_ms > 1e3 * OLD_S:
        return DiagnosticStatus.WARN, (
            f'results are {age_ms / 1e3:.1f} s old by the stamps of their images: the model is '
            'slow, or the camera uses another clock than this node'
        )
    return DiagnosticStatus.OK, 'segmenting'


def decay(statistics: Statistics) -> dict[str, str]:
    """Return how long a costmap must remember images so that it always has three of them: the
    latency (p95, from the stamp) and three periods, in seconds. Nothing before the first image."""
    latency = statistics.quantiles_ms(FROM_STAMP)
    rate = statistics.rate(PUBLISHED)
    if not latency or not rate:
        return {}
    return {'three images in s': f'{latency[1] / 1e3 + 3 / rate:.2f}'}


def silent(statistics: Statistics, events: Iterable[str] = (RECEIVED, LISTENING)) -> bool:
    """Return True if none of these events happened in the last SILENCE_S seconds."""
    return min(map(statistics.age, events)) > SILENCE_S


def type_name(kind: Any) -> str:
    """Return the ROS name of a class of messages, such as 'sensor_msgs/msg/Image'."""
    return f'{kind.__module__.split(".")[0]}/msg/{kind.__name__}'


def topics_of(node: Node, kind: Any) -> list[str]:
    """Return the topics of a type that others publish."""
    own, wanted = f'{node.get_fully_qualified_name()}/', type_name(kind)
    return [
        name
        for name, types in node.get_topic_names_and_types()
        if wanted in types and not name.startswith(own) and node.count_publishers(name)
    ]


def silence(node: Node, subscription: Subscription, what: str = 'image', advice: str = '') -> str:
    """Return a sentence on why nothing comes: who publishes, and whether type and QoS fit.

    Args:
        advice: what to do, if the caller knows more.
    """
    topic = subscription.topic_name
    kind: Any = subscription.msg_type  # rclpy's type hints call it a message, not a class
    wanted = type_name(kind)
    start = f'no {what} on {topic} for {SILENCE_S:.0f} s: '
    publishers = node.get_publishers_info_by_topic(topic)
    if not publishers and advice:
        return f'{start}nobody publishes it; {advice}'
    if not publishers:
        others = ', '.join(topics_of(node, kind)) or 'no topic'
        return (
            f'{start}nobody publishes it; {wanted} is on {others}. Remap the topic, or start the '
            'camera'
        )
    said = []
    for info in publishers:
        name = f'{info.node_namespace.rstrip("/")}/{info.node_name}'
        if info.topic_type != wanted:
            said.append(f'{name} publishes {info.topic_type} there, not {wanted}')
            continue
        fit, reason = qos_check_compatible(info.qos_profile, subscription.qos_profile)
        reliability = info.qos_profile.reliability.name.lower()
        if fit == QoSCompatibility.ERROR:
            ours = subscription.qos_profile.reliability.name.lower()
            said.append(
                f'{name} is {reliability}, which does not fit qos.input_reliability {ours} '
                f'({reason.strip(" ;")})'
            )
        else:
            said.append(f'{name} is {reliability}, which fits; does it publish?')
    return start + '; '.join([*said, advice] if advice else said)


def namesakes(node: Node) -> str:
    """Return a sentence if another node has the name of this one, otherwise ''."""
    own = node.get_name(), node.get_namespace()
    count = node.get_node_names_and_namespaces().count(own)
    if count < 2:
        return ''
    return (
        f'{count} nodes are named {node.get_fully_qualified_name()}: parameters and services reach '
        'any of them, and their outputs mix. Give each another name (-r __node:=NAME) or namespace '
        '(-r __ns:=/NAME, in launch files namespace:=NAME). A node that was killed counts for some '
        'seconds'
    )


def of_model(statistics: Statistics, ready: bool, last_error: str, namesakes: str = '') -> Health:
    """Return (level, sentence) for the model."""
    if statistics.age(VOCABULARY_ERRORS) < ERROR_SHOWN_S:
        return DiagnosticStatus.ERROR, last_error
    if namesakes:
        return DiagnosticStatus.WARN, namesakes
    return DiagnosticStatus.OK, 'ready' if ready else 'not loaded'


def memory() -> dict[str, str]:
    """Return the peak memory of this process, in MB."""
    peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        'peak memory MB': f'{peak_kb / 1024:.0f}',
        'peak GPU memory MB': f'{torch.cuda.max_memory_allocated() / 2**20:.0f}',
    }


def status(
    name: str, statistics: Statistics, health: Health, facts: Mapping[str, object]
) -> DiagnosticStatus:
    """Return the status message: counters, rates over 5 s, times over 100 frames, and the facts."""
    values: dict[str, object] = dict(statistics.counts())
    for event in (RECEIVED, PUBLISHED):
        if event in values:
            values[f'{event} Hz'] = f'{statistics.rate(event):.1f}'
    for times in (INFERENCE, SPACE, FROM_RECEIPT, FROM_STAMP):
        quantiles = statistics.quantiles_ms(times)
        for quantile, value in zip(('p50', 'p95', 'max'), quantiles or (), strict=False):
            values[f'{times} {quantile} ms'] = f'{value:.1f}'
    values.update(facts)
    pairs = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
    level, text = health
    return DiagnosticStatus(level=level, name=name, message=text, values=pairs)
