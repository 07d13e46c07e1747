"""A camera without a camera: pictures, folders, videos and webcams as `image` + `camera_info`."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import rclpy
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from ..errors import CliptraseError
from ..settings import check, option
from . import messages, parameters
from .qos import OUTPUT
from .shutdown import run

PICTURES = {'.bmp', '.jpeg', '.jpg', '.png', '.ppm', '.tif', '.tiff', '.webp'}


class SourceError(CliptraseError):
    """The source does not exist or holds no picture."""


@dataclass(frozen=True)
class CameraOptions:
    """The parameters of camera_publisher."""

    source: str = option('', 'Picture, folder of pictures, video, or webcam number.')
    rate_hz: float = option(
        0.0, "Pictures a second; 0: the video's own, else 10.", low=0.0, high=1000.0
    )
    loop: bool = option(True, 'Start again at the end; false: exit there.')
    wait_for_subscriber: bool = option(False, 'Hold the first picture until heard.')
    frame_id: str = option('camera_optical_frame', 'frame_id of the headers.')
    width: int = option(0, 'Resize to this width in px; 0: as it is.', low=0, high=8192)
    fov_deg: float = option(
        60.0, 'Horizontal field of view in degrees, for camera_info.', low=1.0, high=179.0
    )

    def __post_init__(self):
        check(self)


class Source:
    """RGB pictures [H, W, 3] uint8 from a file, a folder (by name), a video or a webcam number.

    Raises:
        SourceError: nothing to read there.
    """

    def __init__(self, source: str):
        self.rate_hz = 0.0
        self._pictures: list[Path] = []
        self._capture: cv2.VideoCapture | None = None
        path = Path(source).expanduser()
        self.endless = source.isdecimal()
        if self.endless:
            self._open_capture(int(source))
        elif path.is_dir():
            self._pictures = sorted(p for p in path.iterdir() if p.suffix.lower() in PICTURES)
            if not self._pictures:
                raise SourceError(f'source: no picture in the folder {path}')
        elif path.suffix.lower() in PICTURES:
            self._pictures = [path]
        elif path.is_file():
            self._open_capture(str(path))
        if not self._pictures and self._capture is None:
            raise SourceError(f'source: {source!r} is no picture, folder, video or webcam number')
        self._frames = self._once()
        self._first = next(self._frames, None)
        if self._first is None:
            raise SourceError(f'source: no picture can be read from {source!r}')

    def frames(self, loop: bool) -> Iterator[np.ndarray]:
        """The pictures in order; again from the start if `loop`, as long as there are any."""
        yield self._first
        yield from self._frames
        again = loop and not self.endless
        while again:
            again = False  # unless there is still something to read
            for frame in self._once():
                again = True
                yield frame

    def _open_capture(self, what: int | str) -> None:
        self._capture = cv2.VideoCapture(what)
        if not self._capture.isOpened():
            raise SourceError(f'source: cannot open the video or webcam {what!r}')
        self.rate_hz = float(self._capture.get(cv2.CAP_PROP_FPS) or 0)

    def _once(self) -> Iterator[np.ndarray]:
        if self._capture is None:
            for path in self._pictures:
                # imread has no error but None; a picture that cannot be read is left out.
                bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
                if bgr is not None:
                    yield cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
            return
        if not self.endless:
            self._capture.set(cv2.CAP_PROP_POS_FRAMES, 0)
        while True:
            good, bgr = self._capture.read()
            if not good:
                return
            yield cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def pinhole(width: int, height: int, fov_deg: float) -> np.ndarray:
    """K [3, 3] of an ideal camera with the horizontal field of view, in pixels."""
    focal = width / 2 / math.tan(math.radians(fov_deg) / 2)
    return np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])


class CameraPublisher(Node):
    """Publishes a source at a rate, until it ends or for ever."""

    def __init__(self, **kwargs):
        super().__init__('camera', **kwargs)

        parameters.declare(self, CameraOptions, any_type=('source',))
        source = str(self.get_parameter('source').value)
        self._options = options = parameters.read(self, CameraOptions, {'source': source})
        if not source:
            raise SourceError('source: name a picture, a folder, a video or a webcam number')
        reader = Source(source)
        self._frames = reader.frames(options.loop)
        self._wait = options.wait_for_subscriber
        self.done = False
        self._image = self.create_publisher(Image, 'image', OUTPUT)
        self._info = self.create_publisher(CameraInfo, 'camera_info', OUTPUT)
        rate = options.rate_hz or reader.rate_hz or 10.0
        self.create_timer(1 / rate, self._publish)
        self.get_logger().info(f'{source} at {rate:g} Hz on {self._image.topic_name}')

    def _publish(self) -> None:
        if self._wait and not self._image.get_subscription_count():
            return
        self._wait = False
        pixels = next(self._frames, None)
        if pixels is None:
            self.done = True
            return
        options = self._options
        if options.width:
            height = round(pixels.shape[0] * options.width / pixels.shape[1])
            pixels = cv2.resize(pixels, (options.width, height), interpolation=cv2.INTER_AREA)
        header = Header(stamp=self.get_clock().now().to_msg(), frame_id=options.frame_id)
        height, width = pixels.shape[:2]
        self._image.publish(messages.picture(pixels, header))
        matrix = pinhole(width, height, options.fov_deg)
        self._info.publish(messages.camera_info((height, width), matrix, header))


def main(args: list[str] | None = None) -> int:
    """Run until the source ends, Ctrl-C or SIGTERM; 1 if there is nothing to publish."""

    def spin(node: CameraPublisher) -> None:
        while rclpy.ok() and not node.done:
            rclpy.spin_once(node, timeout_sec=1.0)

    return run('camera', CameraPublisher, args, spin)


if __name__ == '__main__':
    sys.exit(main())
