"""Depth of one camera: what comes in, which image it belongs to, and what it says in metres."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image

from ...errors import CliptraseError
from ...media import encodings
from ...space.geometry import Pinhole, metres, resized, same_view
from .. import diagnostics, messages, qos
from ..outputs import LabelledFrame
from ..parameters import NodeOptions
from ..worker import Statistics
from .pairing import Expected, Pairing

# Calibrations of one camera differ by less, those of colour and depth cameras by more.
SAME_CAMERA = 0.05
# Where no depth is nearer, it is not in metres.
FARTHEST_M = 100.0
# Several, since each belongs to one image, while of images only the newest counts.
QUEUE = 5


class DepthError(CliptraseError):
    """There is no depth for an image.

    Attributes:
        event: the counter of this kind.
    """

    def __init__(self, event: str, reason: str):
        super().__init__(reason)
        self.event = event


@dataclass(frozen=True, eq=False)
class Depth:
    """A depth image of the view of an image.

    Attributes:
        message: as it came.
        metres: [H, W] float32, NaN where it is not valid or out of range.
        camera: of its pixels.
    """

    message: Image
    metres: np.ndarray
    camera: Pinhole


def read(
    message: Image,
    info: CameraInfo | None,
    image_info: CameraInfo | None,
    image_size: tuple[int, int],
    options: NodeOptions,
) -> Depth:
    """The depth of an image.

    Args:
        info: intrinsics of the depth image, if they have come.
        image_info: of the image, which serve as well, since both show the same view.
        image_size: (H, W) of the image.

    Raises:
        DepthError: they do not fit together, or there is nothing in it.
    """
    try:
        pixels = encodings.depth(message)
    except encodings.ImageError as error:
        raise DepthError(diagnostics.DEPTH_BAD, str(error)) from None
    size = pixels.shape
    if not same_view(size, image_size):
        raise _unregistered(f'depth of {_px(size)}', _px(image_size))
    farthest = options.depth_max_m or float('inf')
    depth = metres(pixels, options.depth_min_m, farthest)
    if np.isnan(depth).all():
        raise DepthError(
            diagnostics.DEPTH_EMPTY,
            'the depth image holds no valid depth: all of it is 0, NaN, saturated, or outside of '
            'depth_min_m and depth_max_m',
        )
    if pixels.dtype == np.float32 and np.nanmin(depth) > FARTHEST_M:
        raise DepthError(
            diagnostics.DEPTH_BAD,
            f'nothing in the depth image is nearer than {np.nanmin(depth):.0f} m: 32FC1 is in '
            'metres; publish millimetres as 16UC1',
        )
    camera = _camera(info, size, image_info, image_size)
    if calibrated(image_info) and messages.calibrated_size(image_info) == image_size:
        move = resized(image_size, size)
        others = [one.moved(move) for one in messages.pinholes(image_info, image_size)]
        if min(_apart(camera, other, size) for other in others) > SAME_CAMERA:
            raise _unregistered(f'depth with {_seen_by(camera)}', _seen_by(others[0]))
    return Depth(message, depth, camera)


def _unregistered(depth: str, image: str) -> DepthError:
    return DepthError(
        diagnostics.DEPTH_UNREGISTERED,
        f'{depth} does not show the view of the image of {image}: use depth that is registered to '
        'the colour image, such as align_depth of RealSense or depth_image_proc',
    )


def _apart(one: Pinhole, other: Pinhole, size: tuple[int, int]) -> float:
    """How unlike two cameras of images of one size are, as a part of focal lengths and sides."""
    focal = abs(one.fx / other.fx - 1), abs(one.fy / other.fy - 1)
    return max(*focal, abs(one.cx - other.cx) / size[1], abs(one.cy - other.cy) / size[0])


def _seen_by(camera: Pinhole) -> str:
    return f'a focal length of {camera.fx:.0f} px about x = {camera.cx:.0f}'


def _camera(
    info: CameraInfo | None,
    size: tuple[int, int],
    image_info: CameraInfo | None,
    image_size: tuple[int, int],
) -> Pinhole:
    """The camera of a depth image of `size`.

    Raises:
        DepthError: no intrinsics, or of another size.
    """
    of_image = not calibrated(info)
    if of_image:
        info, own_size, what = image_info, image_size, 'image'
    else:
        own_size, what = size, 'depth image'
    if not calibrated(info):
        raise DepthError(
            diagnostics.DEPTH_NO_INTRINSICS,
            'depth without intrinsics: neither depth/camera_info nor camera_info has come with a '
            'focal length; remap one of them to what the camera driver publishes',
        )
    expected = messages.calibrated_size(info)
    if expected != own_size:
        raise DepthError(
            diagnostics.DEPTH_OTHER_INTRINSICS,
            f'the intrinsics are for {_px(expected)}, the {what} has {_px(own_size)}: publish '
            'camera_info of the same size, as image_proc does when it resizes',
        )
    camera = messages.pinholes(info, own_size)[0]
    return camera.moved(resized(image_size, size)) if of_image else camera


def calibrated(info: CameraInfo | None) -> bool:
    """Whether there is a calibration, and it is filled in."""
    return info is not None and bool(messages.pinholes(info, messages.calibrated_size(info)))


def _px(size: tuple[int, int]) -> str:
    return f'{size[1]} x {size[0]} px'


class DepthInput:
    """The depth subscriptions of one camera, made only while somebody wants what needs depth.

    Args:
        prefix: of the topics, such as 'front/'.
        warn: called with an event and a sentence.
        changed: called from any thread when `wanted` has changed; the executor's is to call
            `follow` then.
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
        self.info: CameraInfo | None = None
        self._node = node
        self._prefix = prefix
        self._statistics = statistics
        self._warn = warn
        self._changed = changed
        self._wanted = False
        self._reliability: str | None = None
        self._subscriptions: list = []
        self._pairing = Pairing()
        self._told: set[str] = set()

    def want(self, yes: bool) -> None:
        """Say whether depth is needed; any thread."""
        if yes != self._wanted:
            self._wanted = yes
            self._changed()

    def subscribe(self, reliability: str) -> None:
        """Subscribe whenever depth is wanted from now on."""
        self._reliability = reliability
        self.follow()

    def unsubscribe(self) -> None:
        """Drop the subscriptions."""
        self._reliability = None
        self.follow()

    def follow(self) -> None:
        """Subscribe or not, as is wanted; on the executor's thread."""
        wanted = self._wanted and self._reliability is not None
        if wanted and not self._subscriptions:
            self._make()
        elif not wanted:
            for subscription in self._subscriptions:
                self._node.destroy_subscription(subscription)
            self._subscriptions, self.topic = [], None
            self._pairing.forget()

    def _make(self) -> None:
        node = self._node
        depth = node.create_subscription(
            Image,
            f'{self._prefix}depth/image_rect',
            self._take,
            qos.newest(self._reliability, QUEUE),
        )
        info = node.create_subscription(
            CameraInfo,
            f'{self._prefix}depth/camera_info',
            self._take_info,
            qos.newest(self._reliability),
        )
        self._subscriptions = [depth, info]
        self.topic = depth.topic_name
        self._statistics.count(diagnostics.DEPTH_LISTENING)
        node.get_logger().info(f'listening to {self.topic}')

    def _take(self, message: Image) -> None:
        self._statistics.count(diagnostics.DEPTH_RECEIVED)
        self.size = message.height, message.width
        self.seen = f'{message.width} x {message.height} {message.encoding}'
        self._pairing.put(messages.nanoseconds(message.header), message)

    def _take_info(self, message: CameraInfo) -> None:
        self.info = message

    def expect(self, stamp_ns: int) -> Expected | None:
        """Take the depth of an image into care, if depth is listened to."""
        return self._pairing.expect(stamp_ns) if self.topic else None

    def beside(self, expected: Expected | None, options: NodeOptions) -> Image | None:
        """The depth image of an image; None, and a warning where that is due, if there is none."""
        if expected is None:
            return None  # the first image after somebody subscribed
        slop_s, patience_s = options.depth_slop_s, options.depth_patience_s
        found = self._pairing.wait(expected, patience_s)
        if found is None:
            self._statistics.count(diagnostics.DEPTH_MISSING)
            return None  # silence() tells why
        apart_s = (found[0] - expected.stamp_ns) * 1e-9
        if abs(apart_s) > slop_s:
            self._warn(
                diagnostics.DEPTH_APART,
                f'the stamp of the nearest depth image on {self.topic} is {apart_s:+.3f} s from '
                f'that of the image, more than depth_slop_s {slop_s:g}: are both of one camera and '
                'clock, does depth come at the rate of the images, and not more than '
                f'depth_patience_s {patience_s:g} after them?',
            )
            return None
        self._statistics.count(diagnostics.DEPTH_NEAREST if apart_s else diagnostics.DEPTH_EXACT)
        return found[1]

    def read(self, message: Image, it: LabelledFrame) -> Depth:
        """What it says of an image; another frame_id is told. Errors: as the function."""
        frame, own = message.header.frame_id, it.header.frame_id
        if frame and own and frame != own:
            self._statistics.count(diagnostics.DEPTH_OTHER_FRAME)
            self._tell_once(
                f'depth on {self.topic} is in frame {frame!r}, the image in {own!r}: points are '
                'right only if depth is registered to the image'
            )
        return read(message, self.info, it.camera_info, it.image.shape[:2], it.options)

    def _tell_once(self, sentence: str) -> None:
        if sentence not in self._told:
            self._told.add(sentence)
            self._node.get_logger().warning(sentence)

    def silence(self) -> str:
        """Why no depth comes; '' while it does, or none is listened to."""
        came = (diagnostics.DEPTH_RECEIVED, diagnostics.DEPTH_LISTENING)
        if not self.topic or not diagnostics.silent(self._statistics, came):
            return ''
        return diagnostics.silence(self._node, self._subscriptions[0], 'depth image')

    def facts(self) -> dict[str, Any]:
        """For diagnostics."""
        return {'depth topic': self.topic, 'depth image': self.seen} if self.topic else {}
