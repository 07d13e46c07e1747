"""camera_publisher: publishes pictures, folders, videos and webcams as `image` and `camera_info`,
together with the depth pictures of a recording."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rclpy
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from ...errors import SettingError
from ...media import encodings
from ...options import Options, option
from ...settings import Auto
from ...space.geometry import looked_up, resized
from .. import messages, parameters
from ..qos import OUTPUT
from ..shutdown import run
from .sources import MM, PictureSource, SourceError, read_depth_picture

WARN_PERIOD_S = 5.0


def _intrinsic(doc: str, low: float) -> Any:
    return option(
        'auto',
        f'{doc} Give fx, fy, cx and cy together. auto: by fov_deg.',
        kind=float,
        words=('auto',),
        low=low,
        high=1e5,
    )


@dataclass(frozen=True)
class CameraOptions(Options):
    """The parameters of camera_publisher."""

    source: str = option('', 'Picture, folder of pictures, video, or webcam number.')
    rate_hz: float | Auto = option(
        'auto',
        "Pictures per second. auto: the video's own rate, otherwise 10.",
        kind=float,
        words=('auto',),
        low=0.001,
        high=1000.0,
    )
    loop: bool = option(True, 'Start again at the end. false: exit at the end.')
    wait_for_subscriber: bool = option(False, 'Hold the first picture until somebody subscribes.')
    frame_id: str = option('camera_optical_frame', 'frame_id of the headers.')
    width: int | Auto = option(
        'auto',
        "Resize to this width in pixels. auto: keep the source's own.",
        kind=int,
        words=('auto',),
        low=1,
        high=8192,
    )
    fov_deg: float = option(
        60.0, 'Horizontal field of view in degrees, for camera_info.', low=1.0, high=179.0
    )
    fx: float | Auto = _intrinsic('Focal length along x in pixels of the source.', low=0.001)
    fy: float | Auto = _intrinsic('Focal length along y in pixels of the source.', low=0.001)
    cx: float | Auto = _intrinsic('Principal point along x in pixels of the source.', low=0.0)
    cy: float | Auto = _intrinsic('Principal point along y in pixels of the source.', low=0.0)
    depth_source: str = option(
        'none',
        'Depth picture (16-bit, or 32-bit float in metres), or a folder with one for each picture '
        'of source, in the order of names. none: no depth.',
        words=('none',),
    )
    depth_unit_m: float = option(
        MM, 'Metres per step of 16-bit depth pictures.', low=1e-6, high=1.0
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if len({value == 'auto' for value in (self.fx, self.fy, self.cx, self.cy)}) > 1:
            raise SettingError(
                'fx, fy, cx, cy: give all of them (in pixels of the source) or none of them'
            )

    @property
    def matrix(self) -> np.ndarray | None:
        """K [3, 3] of the source's pictures, or None if it is not given."""
        if self.fx == 'auto':
            return None
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]])


def pinhole(width: int, height: int, fov_deg: float) -> np.ndarray:
    """Return K [3, 3] of an ideal camera with this horizontal field of view, in pixels."""
    focal = width / 2 / math.tan(math.radians(fov_deg) / 2)
    return np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])


def rescaled(matrix: np.ndarray, source: tuple[int, int], target: tuple[int, int]) -> np.ndarray:
    """Return K [3, 3] of the same view at another size (H, W)."""
    return np.vstack([resized(source, target), (0, 0, 1)]) @ matrix


class CameraPublisher(Node):
    """Publishes a source at a rate, until the source ends or for ever."""

    def __init__(self, **kwargs):
        super().__init__('camera', **kwargs)

        parameters.declare(self, CameraOptions)
        named = {name: str(self.get_parameter(name).value) for name in ('source', 'depth_source')}
        self._options = options = parameters.read_options(self, CameraOptions, named)
        source = options.source
        if not source:
            raise SourceError('source is empty: give a picture, folder, video or webcam number')
        depth_source = None if options.depth_source == 'none' else options.depth_source
        reader = PictureSource(source, depth_source)
        self._frames = reader.frames(options.loop)
        self._wait = options.wait_for_subscriber
        self.done = False
        self._image = self.create_publisher(Image, 'image', OUTPUT)
        self._info = self.create_publisher(CameraInfo, 'camera_info', OUTPUT)
        if depth_source:
            self._depth = self.create_publisher(Image, 'depth/image_rect', OUTPUT)
            self._depth_info = self.create_publisher(CameraInfo, 'depth/camera_info', OUTPUT)
        rate = reader.rate_hz or 10.0 if options.rate_hz == 'auto' else options.rate_hz
        self.create_timer(1 / rate, self._publish)
        self.get_logger().info(f'{source} at {rate:g} Hz on {self._image.topic_name}')

    def _publish(self) -> None:
        if self._wait and not self._image.get_subscription_count():
            return
        self._wait = False
        pixels, depth_path = next(self._frames, (None, None))
        if pixels is None:
            self.done = True
            return
        options = self._options
        source = pixels.shape[:2]
        depth = self._read_depth(depth_path, source) if depth_path else None
        if options.width != 'auto':
            height = round(source[0] * options.width / source[1])
            pixels = cv2.resize(pixels, (options.width, height), interpolation=cv2.INTER_AREA)
        size = height, width = pixels.shape[:2]
        matrix = pinhole(width, height, options.fov_deg)
        if options.matrix is not None:
            matrix = rescaled(options.matrix, source, size)
        header = Header(stamp=self.get_clock().now().to_msg(), frame_id=options.frame_id)
        if depth is not None:
            self._publish_depth(depth, size, matrix, header)
        self._image.publish(messages.picture(pixels, header))
        self._info.publish(messages.camera_info(size, matrix, header))

    def _publish_depth(
        self, depth: np.ndarray, size: tuple[int, int], matrix: np.ndarray, header: Header
    ) -> None:
        """Publish depth. If `width` is set, resize it to the picture's `size` (H, W) first."""
        if self._options.width != 'auto':
            depth = looked_up(depth, resized(depth.shape, size), size, 0)
        encoding = '16UC1' if depth.dtype == np.uint16 else '32FC1'
        self._depth.publish(encodings.fill_image(Image(), depth, encoding, header))
        matrix = rescaled(matrix, size, depth.shape)
        self._depth_info.publish(messages.camera_info(depth.shape, matrix, header))

    def _read_depth(self, path: Path, size: tuple[int, int]) -> np.ndarray | None:
        try:
            return read_depth_picture(path, self._options.depth_unit_m, size)
        except SourceError as error:
            self.get_logger().warning(
                f'{error}; published its picture without depth', throttle_duration_sec=WARN_PERIOD_S
            )
            return None


def main(args: list[str] | None = None) -> int:
    """Run until the source ends, Ctrl-C or SIGTERM. Return 1 if there is nothing to publish."""

    def spin(node: CameraPublisher) -> None:
        while rclpy.ok() and not node.done:
            rclpy.spin_once(node, timeout_sec=1.0)

    return run('camera', CameraPublisher, args, spin)
