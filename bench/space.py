#!/usr/bin/env python3
"""The cost of outputs in space in addition to segmentation.

bench/space.py [--sizes 480x640] [--words 8] [--repeats 50] [--no-profile]

Each time is from a labelled image and a depth message to the message of an output, or to its
publication. The scene has flat things at different depths in front of a wall, on a floor; each
thing has one label. Messages are published over DDS to a process that receives them. All lines are
measured in turn in one process. Ratios are to the organised cloud: the median over the turns.
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import rclpy
import torch
from sensor_msgs.msg import Image, PointCloud2
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

sys.path.insert(0, str(Path(__file__).parents[1]))

from cliptrase_ros.msg import ObjectArray

from cliptrase_ros import load
from cliptrase_ros.cli import arguments
from cliptrase_ros.evaluation import speed, timing
from cliptrase_ros.media import encodings
from cliptrase_ros.ros import messages
from cliptrase_ros.ros.camera.publisher import pinhole
from cliptrase_ros.ros.demo import domain
from cliptrase_ros.ros.demo.runner import PROFILE
from cliptrase_ros.ros.outputs import LabelledFrame, Live
from cliptrase_ros.ros.parameters import NodeOptions
from cliptrase_ros.ros.qos import newest
from cliptrase_ros.ros.shutdown import run
from cliptrase_ros.ros.space.depth import depth_of
from cliptrase_ros.ros.space.depth_outputs import Scene
from cliptrase_ros.runtime import memory
from cliptrase_ros.segmenter import Segmentation
from cliptrase_ros.settings import Settings
from cliptrase_ros.space.groups import Group

ROOT = Path(__file__).parents[1]
NEAR_MM, FAR_MM = 600, 4000
PATIENCE_S = 60
EMBEDDED = 8  # arbitrary, because the labels do not come from words here
PUBLISHED = {
    'points': (PointCloud2, Scene.cloud),
    'points/w1': (PointCloud2, lambda scene: scene.group_cloud(Group('w1', ('w1',)))),
    'points/all_but_w1': (
        PointCloud2,
        lambda scene: scene.group_cloud(Group('others', ('w1',), others=True)),
    ),
    'depth/target': (Image, Scene.target_depth),
    'depth/rest': (Image, Scene.rest_depth),
    'objects': (ObjectArray, Scene.objects),
    'objects/markers': (MarkerArray, Scene.markers),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--sizes', nargs='+', default=[(480, 640)], type=arguments.size)
    parser.add_argument('--words', type=arguments.positive, default=8)
    parser.add_argument('--repeats', type=arguments.positive, default=50)
    parser.add_argument(
        '--no-profile', action='store_true', help="use Fast DDS's default transport"
    )
    parser.add_argument('--consume', action='store_true', help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.consume:
        run('consumer', consumer)
        return
    memory.keep_freed()  # as the node does
    print(timing.hardware(torch.device('cpu')))
    with tempfile.TemporaryDirectory() as folder, publishers(folder, options) as own:
        timing.print_header('size', 'what', 'p50 ms', 'p95 ms', 'of the cloud')
        for size in options.sizes:
            makers = [scene_maker(size, options.words, margin) for margin in ('auto', 'none')]
            times = timing.timed(work(*makers, own), options.repeats, torch.device('cpu'))
            timing.print_rows(f'{size[0]} x {size[1]}', times, times['points'])


@contextlib.contextmanager
def publishers(folder, options):
    """Yield {topic: publisher} when another process has subscribed to each."""
    if not options.no_profile:
        for name in ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE'):
            os.environ[name] = str(ROOT / PROFILE)
    os.environ['ROS_LOG_DIR'] = folder
    lock = domain.claim()
    process = subprocess.Popen([sys.executable, __file__, '--consume'])
    rclpy.init()
    try:
        node = rclpy.create_node('bench')
        own = {
            topic: node.create_publisher(kind, topic, newest())
            for topic, (kind, _) in PUBLISHED.items()
        }
        deadline = time.monotonic() + PATIENCE_S
        while not all(publisher.get_subscription_count() for publisher in own.values()):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit('the subscribing process ended, or did not subscribe in time')
            time.sleep(0.01)
        yield own
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
        rclpy.try_shutdown()
        lock.close()


def consumer():
    """Make a node that receives all topics without reading the messages."""
    node = rclpy.create_node('consumer')
    for topic, (kind, _) in PUBLISHED.items():
        node.create_subscription(kind, topic, lambda _: None, newest(), raw=True)
    return node


def scene_maker(size, count, margin):
    """Return a function that makes a new scene from its messages, as the node does for each
    image. `margin` is `depth.edge_margin_px`."""
    segmenter = load(Settings(model='cliptrase-tiny', weights='random', device='cpu'))
    words = speed.random_words(count, EMBEDDED)
    image = speed.scene(*size)
    # The things in the picture have flat colours; each colour gives a label and a depth.
    things = image.astype(np.uint16).sum(2) // 24
    labels = (1 + things % count).astype(np.uint8)
    mm = NEAR_MM + things * ((FAR_MM - NEAR_MM) // int(things.max()))
    confidence = (image[..., 0] / np.float32(255)).astype(np.float32)
    header = Header(frame_id='camera')
    depth = encodings.fill_image(Image(), mm.astype(np.uint16), '16UC1', header)
    info = messages.camera_info(size, pinhole(size[1], size[0], 60.0), header)
    options = NodeOptions.from_mapping({'target.classes': ('w1',), 'depth.edge_margin_px': margin})
    live = Live(segmenter, words, 1)
    it = LabelledFrame(image, header, Segmentation(labels, confidence), live, options, info)
    return lambda: Scene(it, depth_of(depth, info, None, size, options))


def work(make, make_whole, own):
    """Return {what is measured: function}. `make_whole` keeps the points behind edges."""
    functions = {
        'depth in metres': make,
        'points, those behind edges too': lambda: make_whole().cloud(),
    }
    for topic, (_, output) in PUBLISHED.items():
        functions[topic] = lambda output=output: output(make())
        functions[f'{topic}, published'] = lambda output=output, to=own[topic]: to.publish(
            output(make())
        )

    def everything():
        scene = make()
        for topic, (_, output) in PUBLISHED.items():
            own[topic].publish(output(scene))

    return functions | {'all, published': everything}


if __name__ == '__main__':
    main()
