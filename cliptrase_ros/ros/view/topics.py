"""The subscriptions of the page. They exist only while a browser is there."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import ParameterEvent
from rclpy.node import Node, NodeNameNonExistentError
from rclpy.qos import QoSProfile, ReliabilityPolicy, qos_profile_parameter_events
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image, PointCloud2

from ...msg import ObjectArray, Vocabulary
from .. import diagnostics
from ..qos import LATCHED, newest

Take = Callable[[str, Any], None]

KINDS = {diagnostics.type_name(kind): kind for kind in (Image, CompressedImage)}
OF_CAMERA = 'image', 'label_mask', 'confidence', 'points', 'objects'


class Topics:
    """Subscribes to a segmentation node. Only the executor's thread may use it.

    Args:
        name: full name of the segmentation node.
        take: called with the name of each message (those of OF_CAMERA, 'vocabulary',
            'diagnostics', 'parameters') and the message.
    """

    def __init__(self, node: Node, name: str, take: Take):
        self._node = node
        self._name = name
        self._take = take
        self._made: dict[str, Subscription] = {}
        self._depth: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._made)

    def watch(self) -> None:
        """Subscribe to what says how the node is and what its words are."""
        self._make('diagnostics', DiagnosticArray, '/diagnostics', newest(depth=10))
        self._make('parameters', ParameterEvent, '/parameter_events', qos_profile_parameter_events)
        self._make('vocabulary', Vocabulary, f'{self._name}/vocabulary', LATCHED)

    def show(self, prefix: str) -> None:
        """Subscribe to the labels of a camera.

        Args:
            prefix: of its outputs, such as '' or 'front/'.
        """
        self._make('label_mask', Image, f'{self._name}/{prefix}label_mask')
        self._make('confidence', Image, f'{self._name}/{prefix}confidence')

    def see(self, topic: str) -> None:
        """Subscribe to the images of a camera, raw or compressed, as they are published."""
        publishers = self._node.get_publishers_info_by_topic(topic)
        kinds = [KINDS[info.topic_type] for info in publishers if info.topic_type in KINDS]
        if kinds:
            self._make('image', kinds[0], topic)

    def follow_depth(self, prefix: str, images: Collection[str]) -> None:
        """Subscribe to the cloud and the objects of a camera while depth is published.

        The node subscribes to depth only while somebody wants an output of it, and then warns if
        none comes. So the first look subscribes, sees which topics the node takes, and gives up if
        nobody publishes them.

        Args:
            images: topics of the images of all cameras.
        """
        if 'points' in self._made:
            self._depth |= self._taken_by_the_node() - set(images)
        published = any(map(self._node.count_publishers, self._depth))
        if self._depth and not published:
            self.drop('points', 'objects')
        else:
            self._make('points', PointCloud2, f'{self._name}/{prefix}points')
            self._make('objects', ObjectArray, f'{self._name}/{prefix}objects')

    def drop(self, *names: str) -> None:
        """Destroy these subscriptions; without names, all."""
        for name in names or tuple(self._made):
            if name in self._made:
                self._node.destroy_subscription(self._made.pop(name))
        if not names or 'label_mask' in names:
            self._depth = set()

    def _taken_by_the_node(self) -> set[str]:
        """Return the topics with images that the segmentation node subscribes to."""
        namespace, _, name = self._name.rpartition('/')
        try:
            pairs = self._node.get_subscriber_names_and_types_by_node(name, namespace or '/')
        except NodeNameNonExistentError:
            return set()
        return {topic for topic, kinds in pairs if not KINDS.keys().isdisjoint(kinds)}

    def _make(self, name: str, kind: type, topic: str, qos: QoSProfile | None = None) -> None:
        qos = qos or self._newest(topic)
        made = self._made.get(name)
        if made and (made.topic_name, made.msg_type, made.qos_profile.reliability) == (
            topic,
            kind,
            qos.reliability,
        ):
            return
        self.drop(name)
        self._made[name] = self._node.create_subscription(
            kind, topic, partial(self._take, name), qos
        )

    def _newest(self, topic: str) -> QoSProfile:
        """Return a profile that fits all publishers. Reliable if they are: on the default transport
        most large best-effort images are lost."""
        offered = {
            info.qos_profile.reliability for info in self._node.get_publishers_info_by_topic(topic)
        }
        return newest('best_effort' if ReliabilityPolicy.BEST_EFFORT in offered else 'reliable')
