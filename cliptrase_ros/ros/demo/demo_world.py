"""demo_world: a simulated robot camera with depth, pose and ground truth (demo/world.py)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from geometry_msgs.msg import Point, Pose, PoseStamped, Quaternion, TransformStamped, Vector3
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from ...demo.things import THINGS
from ...demo.viewpoints import MOTIONS, Camera
from ...demo.world import World
from ...media import encodings
from ...msg import Vocabulary as VocabularyMessage
from ...options import Options, option
from ...settings import Off
from ...space.geometry import quaternion
from ...words.vocabulary import parse_vocabulary
from .. import messages, parameters
from ..qos import LATCHED, OUTPUT
from ..shutdown import run

try:
    from tf2_msgs.msg import TFMessage
except ImportError:  # pip has no wheel of tf2_msgs; then the topic does not exist
    TFMessage = None


@dataclass(frozen=True)
class WorldOptions(Options):
    """The parameters of demo_world."""

    seed: int = option(500000, 'Seed of the scenes.', low=0, high=2**31 - 1)
    width: int = option(320, 'Width of the images in px.', low=64, high=1920)
    height: int = option(240, 'Height of the images in px.', low=48, high=1080)
    rate_hz: float = option(5.0, 'Images per second; fewer on a slow CPU.', low=0.1, high=100.0)
    scene_s: float | Off = option(
        6.0,
        'Seconds until the next scene, counted in images at rate_hz, so that a seed always gives '
        'the same images. none: keep the first scene.',
        words=('none',),
        low=0.001,
        high=86400.0,
    )
    motion: str = option(
        'drive', 'drive: move past things on an arc; pan: turn on the spot.', choices=MOTIONS
    )
    frame_id: str = option('camera_optical_frame', 'frame_id of the images.')
    world_frame: str = option('world', 'frame_id of the pose, and parent frame in TF.')
    wait_for_subscriber: bool = option(False, 'Hold the first image until somebody subscribes.')


class DemoWorld(Node):
    """Publishes what the simulated camera sees, until the node is ended."""

    def __init__(self, **kwargs):
        super().__init__('demo_world', **kwargs)
        parameters.declare(self, WorldOptions)
        self._options = options = parameters.read_options(self, WorldOptions)
        self._world = World(options.seed, (options.height, options.width))
        self._wait = options.wait_for_subscriber
        self._truth_classes, _ = parse_vocabulary([thing.title for thing in THINGS])
        self._truth_ids = {c.name: c.id for c in self._truth_classes}
        self._image = self.create_publisher(Image, 'image', OUTPUT)
        self._info = self.create_publisher(CameraInfo, 'camera_info', OUTPUT)
        self._depth = self.create_publisher(Image, 'depth/image_rect', OUTPUT)
        self._depth_info = self.create_publisher(CameraInfo, 'depth/camera_info', OUTPUT)
        self._truth = self.create_publisher(Image, 'ground_truth/label_mask', OUTPUT)
        self._pose = self.create_publisher(PoseStamped, 'pose', OUTPUT)
        self._tf = self.create_publisher(TFMessage, '/tf', 10) if TFMessage else None
        self._words = self.create_publisher(VocabularyMessage, 'ground_truth/vocabulary', LATCHED)
        self._words.publish(messages.vocabulary(self._truth_classes, (), 1, self._header()))
        self._count = 0
        self._cameras: Iterator[Camera] = iter(())
        self.create_timer(1 / options.rate_hz, self._publish)
        self.get_logger().info(
            f'{options.width} x {options.height} px at {options.rate_hz:g} Hz on '
            f'{self._image.topic_name}'
        )

    def destroy_node(self) -> None:
        """Destroy the node and close the renderer."""
        self._world.close()
        super().destroy_node()

    def _header(self) -> Header:
        return Header(stamp=self.get_clock().now().to_msg(), frame_id=self._options.frame_id)

    def _publish(self) -> None:
        if self._wait and not self._image.get_subscription_count():
            return
        self._wait = False
        self._move()
        view = self._world.render(next(self._cameras))
        header = self._header()  # the picture is there now; its stamp does not include the renderer
        size = view.depth.shape
        self._image.publish(messages.picture(view.image, header))
        self._depth.publish(encodings.fill_image(Image(), view.depth, '32FC1', header))
        truth = view.labels(self._truth_ids).astype(np.uint8)
        self._truth.publish(encodings.fill_image(Image(), truth, 'mono8', header))
        for publisher in (self._info, self._depth_info):
            publisher.publish(messages.camera_info(size, view.camera_matrix, header))
        self._publish_pose(view.pose, header)

    def _move(self) -> None:
        """Start the next scene when all images of the current one are published."""
        options = self._options
        if options.scene_s == 'none':
            starts = not self._count
        else:
            starts = self._count % max(1, round(options.scene_s * options.rate_hz)) == 0
        if starts and self._count:
            self._world.new_scene()
        if starts:
            self._cameras = self._world.tour(options.motion, 1 / options.rate_hz)
        self._count += 1

    def _publish_pose(self, pose: np.ndarray, header: Header) -> None:
        x, y, z = (float(value) for value in pose[:3, 3])
        rotation = Quaternion(**dict(zip('xyzw', quaternion(pose[:3, :3]), strict=True)))
        world = Header(stamp=header.stamp, frame_id=self._options.world_frame)
        place = Pose(position=Point(x=x, y=y, z=z), orientation=rotation)
        self._pose.publish(PoseStamped(header=world, pose=place))
        if self._tf is not None:
            transform = TransformStamped(header=world, child_frame_id=header.frame_id)
            transform.transform.translation = Vector3(x=x, y=y, z=z)
            transform.transform.rotation = rotation
            self._tf.publish(TFMessage(transforms=[transform]))


def main(args: list[str] | None = None) -> int:
    """Run until Ctrl-C or SIGTERM. Return 1 if PyBullet is missing or a parameter is bad."""
    return run('demo_world', DemoWorld, args)


if __name__ == '__main__':
    sys.exit(main())
