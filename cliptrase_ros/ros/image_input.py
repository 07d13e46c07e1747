"""The image subscription of one camera: its topic and type, by `image_transport` and publishers."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from rclpy.node import Node
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image

from . import diagnostics, qos
from .configured import configured
from .parameters import NodeOptions

# Transports beside the image topic that this node cannot read.
FOREIGN = 'compressedDepth', 'ffmpeg', 'theora', 'zstd'


class Feed(NamedTuple):
    """A topic with images of a type."""

    topic: str
    kind: type


class ImageInput:
    """The subscription to the images of one camera. It exists from `subscribe` to `unsubscribe`.

    Args:
        name: of the topic, before it is remapped.
    """

    def __init__(self, node: Node, name: str):
        self.topic: str | None = None
        self._node = node
        self._name = name
        self._base = node.resolve_topic_name(name)
        self._transport = 'raw'
        self._subscription: Subscription | None = None

    def subscribe(self, options: NodeOptions, take: Callable[[Any], None]) -> None:
        """Subscribe. Each message is passed to `take`."""
        self._take, self._reliability = take, options.qos.input_reliability
        self._transport = options.image_transport
        compressed = Feed(f'{self._base}/compressed', CompressedImage)
        self._sources = {
            'raw': [Feed(self._base, Image)],
            'compressed': [compressed],
            'auto': [Feed(self._base, Image), compressed, Feed(self._base, CompressedImage)],
        }[options.image_transport]
        self._seen = self._decided = self._published()
        self._make((self._decided or self._sources)[0])
        if advice := self._advice_on_name():
            self._node.get_logger().warning(advice)

    def unsubscribe(self) -> None:
        """Destroy the subscription."""
        if self._subscription:
            self._node.destroy_subscription(self._subscription)
        self._subscription = self.topic = None

    def follow(self, silent: bool) -> bool:
        """Subscribe to what is published, if that changed. Return True if the subscription changed.

        A driver makes its topics one after another, so a change counts when two calls see it. Some
        drivers announce a topic that they never use: after SILENCE_S without images, the next
        published topic is tried.
        """
        if not self._subscription or len(self._sources) == 1:
            return False
        published, before = self._published(), self._seen
        self._seen = published
        if published != before or not published:
            return False
        if published != self._decided:
            self._decided, best = published, published[0]
        elif silent and time.monotonic() - self._made_s > diagnostics.SILENCE_S:
            place = published.index(self._source) if self._source in published else -1
            best = published[(place + 1) % len(published)]
        else:
            return False
        if best == self._source:
            return False
        self.unsubscribe()
        self._make(best)
        return True

    def silence(self) -> str:
        """Return a sentence on why no image comes."""
        return diagnostics.silence(
            self._node, configured(self._subscription), 'image', self._advice()
        )

    def _make(self, source: Feed) -> None:
        self._source, self._made_s = source, time.monotonic()
        self._subscription = self._node.create_subscription(
            source.kind,
            source.topic,
            self._take,
            qos.newest(self._reliability),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )
        self.topic = self._subscription.topic_name
        self._node.get_logger().info(f'listening to {self.topic}')

    def _published(self) -> list[Feed]:
        """Return the sources that somebody publishes, the preferred one first."""
        return [source for source in self._sources if self._is_published(source)]

    def _is_published(self, source: Feed) -> bool:
        wanted = diagnostics.type_name(source.kind)
        publishers = self._node.get_publishers_info_by_topic(source.topic)
        return any(info.topic_type == wanted for info in publishers)

    def _advice(self) -> str:
        """Return what to do about images that are published in another way, or ''."""
        base, transport = self._base, self._transport
        beside = Feed(f'{base}/compressed', CompressedImage)
        if advice := self._advice_on_name():
            return advice
        if transport == 'raw' and self._is_published(beside):
            return f'{beside.topic} is published: set image_transport to compressed (or auto)'
        if transport == 'compressed' and self._is_published(Feed(base, Image)):
            return f'{base} is published: set image_transport to raw (or auto)'
        if transport != 'auto' and self._is_published(Feed(base, CompressedImage)):
            return f'{base} has compressed images: set image_transport to auto'
        foreign = [f'{base}/{name}' for name in FOREIGN]
        if there := [topic for topic in foreign if self._node.count_publishers(topic)]:
            return (
                f'{", ".join(there)} is published, which this node cannot read: let '
                'image_transport republish it as raw'
            )
        return self._advice_on_others()

    def _advice_on_others(self) -> str:
        """Return what to do if images are on other topics, all in the other transport, or ''."""
        raw = diagnostics.topics_of(self._node, Image)
        compressed = [
            topic
            for topic in diagnostics.topics_of(self._node, CompressedImage)
            if topic.rpartition('/')[2] not in FOREIGN
        ]
        if self._transport == 'compressed' and raw and not compressed:
            kind, there, topic, transport = 'raw', raw, raw[0], 'raw (or auto)'
        elif self._transport != 'compressed' and compressed and not raw:
            kind, there = 'compressed', compressed
            topic = there[0].removesuffix('/compressed')
            transport = 'auto' if topic == there[0] else 'compressed (or auto)'
        else:
            return ''
        return (
            f'only {kind} images are published, on {", ".join(there)}: write '
            f'{self._name}:={topic}, and set image_transport to {transport}'
        )

    def _advice_on_name(self) -> str:
        """Return what to write instead of a topic that ends in /compressed, or ''."""
        topic = self._base.removesuffix('/compressed')
        ends_so = topic not in ('', self._base)
        if not ends_so or self._transport == 'auto' or self._is_published(Feed(self._base, Image)):
            return ''
        return (
            f'the image topic {self._base} ends in /compressed: write {self._name}:={topic} (in '
            f'launch files image_topic:={topic}), and set image_transport to compressed'
        )
