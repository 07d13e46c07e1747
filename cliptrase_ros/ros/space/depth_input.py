"""Depth of one camera: its subscriptions, and which depth image belongs to which image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image

from ...media import compressed_depth
from .. import diagnostics, messages, qos
from ..calibration import Calibration
from ..configured import configured
from ..outputs import LabelledFrame
from ..parameters import NodeOptions
from ..statistics import Statistics
from .depth import Depth, depth_of
from .pairing import Expected, Pairing

# Several depth images, since each belongs to one image. Of the images only the newest counts.
QUEUE = 5
# Last parts of topics that have compressed depth.
COMPRESSED = ('/compressedDepth', '/compressed')


class DepthInput:
    """The depth subscriptions of one camera. They exist only while depth is needed.

    If the topic to which depth/image_rect is remapped ends with one of COMPRESSED, its messages are
    CompressedImage.

    Args:
        prefix: start of the topics, for example 'front/'.
        warn: called with an event and a sentence.
        changed: called from any thread when the need for depth has changed. The executor's thread
            must call `follow` then.
    """

    def __init__(
        self,
        node: Node,
        prefix: str,
        statistics: Statistics,
        warn: Callable[[str, str], None],
        changed: Callable[[], None],
    ):
        self.topic: str | None = None
        self.seen = ''
        # (H, W) of the newest depth image.
        self.size: tuple[int, int] | None = None
        self._node = node
        self._prefix = prefix
        self._statistics = statistics
        self._warn = warn
        self._changed = changed
        self._wanted = False
        self._reliability: str | None = None
        self._subscription: Subscription | None = None
        self._calibration = Calibration(node, f'{prefix}depth/camera_info')
        self._pairing = Pairing()
        self._told: set[str] = set()

    def want(self, yes: bool) -> None:
        """Set if depth is needed. Any thread may call it."""
        if yes != self._wanted:
            self._wanted = yes
            self._changed()

    def subscribe(self, reliability: str) -> None:
        """Subscribe whenever depth is needed from now on."""
        self._reliability = reliability
        self.follow()

    def unsubscribe(self) -> None:
        """Destroy the subscriptions."""
        self._reliability = None
        self.follow()

    def follow(self) -> None:
        """Subscribe if depth is needed, otherwise unsubscribe. For the executor's thread."""
        reliability = self._reliability if self._wanted else None
        if reliability is not None and not self._subscription:
            self._make(reliability)
        elif reliability is None:
            if self._subscription:
                self._node.destroy_subscription(self._subscription)
            self._calibration.unsubscribe()
            self._subscription = self.topic = None
            self._pairing.forget()

    def _make(self, reliability: str) -> None:
        node = self._node
        topic = node.resolve_topic_name(f'{self._prefix}depth/image_rect')
        packed = topic.endswith(COMPRESSED)
        self._subscription = node.create_subscription(
            CompressedImage if packed else Image,
            topic,
            self._take_compressed if packed else self._take,
            qos.newest(reliability, QUEUE),
        )
        self._calibration.subscribe()
        self.topic = self._subscription.topic_name
        self._statistics.count(diagnostics.DEPTH_LISTENING)
        node.get_logger().info(f'listening to {self.topic}')

    def _take(self, message: Image) -> None:
        self._put(message, (message.height, message.width), message.encoding)

    def _take_compressed(self, message: CompressedImage) -> None:
        self._put(message, compressed_depth.size(message), message.format)

    def _put(
        self, message: Image | CompressedImage, size: tuple[int, int] | None, encoding: str
    ) -> None:
        self._statistics.count(diagnostics.DEPTH_RECEIVED)
        self.size = size
        self.seen = f'{size[1]} x {size[0]} {encoding}' if size else encoding
        self._pairing.put(messages.nanoseconds(message.header), message)

    def expect(self, stamp_ns: int) -> Expected | None:
        """Start to look for the depth of an image, if the node listens to depth."""
        return self._pairing.expect(stamp_ns) if self.topic else None

    def beside(
        self, expected: Expected | None, options: NodeOptions
    ) -> Image | CompressedImage | None:
        """Return the depth image of an image, or None. Warn if its stamp is too far away."""
        if expected is None:
            return None  # the image came before the depth subscription
        slop_s, patience_s = options.depth.slop_s, options.depth.patience_s
        found = self._pairing.wait(expected, patience_s)
        if found is None:
            self._statistics.count(diagnostics.DEPTH_MISSING)
            return None  # silence() gives the reason
        apart_s = (found[0] - expected.stamp_ns) * 1e-9
        if abs(apart_s) > slop_s:
            self._warn(
                diagnostics.DEPTH_APART,
                f'the stamp of the nearest depth image on {self.topic} is {apart_s:+.3f} s from '
                f'that of the image, more than depth.slop_s {slop_s:g}. Check that both come from '
                'one camera and use one clock, that depth has the rate of the images, and that it '
                f'comes at most {patience_s:g} s (depth.patience_s) after them',
            )
            return None
        self._statistics.count(diagnostics.DEPTH_NEAREST if apart_s else diagnostics.DEPTH_EXACT)
        return found[1]

    def read(self, message: Image | CompressedImage, it: LabelledFrame) -> Depth:
        """Return the depth of an image. Log another frame_id once. Raise as `depth_of`."""
        frame, own = message.header.frame_id, it.header.frame_id
        if frame and own and frame != own:
            self._statistics.count(diagnostics.DEPTH_OTHER_FRAME)
            self._tell_once(
                f'depth on {self.topic} is in frame {frame!r}, the image in {own!r}: points are '
                'right only if depth is registered to the image'
            )
        return depth_of(
            message, self._calibration.newest, it.camera_info, it.image.shape[:2], it.options
        )

    def _tell_once(self, sentence: str) -> None:
        if sentence not in self._told:
            self._told.add(sentence)
            self._node.get_logger().warning(sentence)

    def silence(self) -> str:
        """Return why no depth comes, or '' if it comes or the node does not listen to it."""
        came = (diagnostics.DEPTH_RECEIVED, diagnostics.DEPTH_LISTENING)
        if not self.topic or not diagnostics.silent(self._statistics, came):
            return ''
        node = self._node
        others = [f'{self.topic}{end}' for end in COMPRESSED]
        packed = next(filter(node.count_publishers, others), None)
        if packed and not node.count_publishers(self.topic):
            return (
                f'no depth image on {self.topic} for {diagnostics.SILENCE_S:.0f} s: it is '
                f'published compressed, on {packed}. Remap depth/image_rect to that topic '
                '(depth_topic in the launch file)'
            )
        return diagnostics.silence(node, configured(self._subscription), 'depth image')

    def facts(self) -> dict[str, Any]:
        """Return the values for diagnostics."""
        return {'depth topic': self.topic, 'depth image': self.seen} if self.topic else {}
