"""Messages of a real node, read by replays of its consumers."""

from types import SimpleNamespace

import numpy as np
import pytest
from consumers import (
    Broken,
    class_costs,
    exact_time,
    iterate,
    nvblox_depth,
    nvblox_people,
    obstacles,
    octomap_cloud,
    octomap_depth,
    semantic_tiles,
)
from processes import wait_for
from rclpy.qos import qos_profile_sensor_data
from robot import WORDS, array, image, node
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from test_outputs import publish_info

from cliptrase_ros.media import encodings

# Half the size of the image, and twice the size of the labels. It shows a floor that is nearer at
# the lower edge, and a stripe without depth.
METRES = np.repeat(np.linspace(4.0, 1.0, 60, dtype=np.float32)[:, None], 80, axis=1)
METRES[:, 30:36] = np.nan
DEPTH_INFO = CameraInfo(width=80, height=60)
DEPTH_INFO.k = [50.0, 0.0, 39.5, 0.0, 55.0, 29.5, 0.0, 0.0, 1.0]
KINDS = {
    'label_mask': Image,
    'confidence': Image,
    'points': PointCloud2,
    'points/obstacles': PointCloud2,
    'points/ground': PointCloud2,
    'points/scene': PointCloud2,
    'depth/rest': Image,
    'depth/camera_info': CameraInfo,
    'mask/floor': Image,
    'camera_info': CameraInfo,
}


def depth_image(encoding):
    if encoding == '32FC1':
        return encodings.fill_image(Image(), METRES, encoding, Image().header)
    millimetres = (np.nan_to_num(METRES) * 1000).round().astype(np.uint16)
    return encodings.fill_image(Image(), millimetres, encoding, Image().header)


@pytest.fixture(params=['16UC1', '32FC1'])
def heard(request, robot, start):
    """The messages of one image, the words, and the camera's depth."""
    process = node(
        start,
        WORDS,
        'regions:=none',
        'confidence_threshold:=0.36',
        'points.groups:=["obstacles=!floor", "ground=floor", "scene=!mug"]',
        'target.classes:=["mug"]',
        'depth.edge_margin_px:=none',
        'output_size:=40x30',
        remaps=[
            'image:=/camera/image_raw',
            'camera_info:=/camera/camera_info',
            'depth/image_rect:=/camera/depth',
            'depth/camera_info:=/camera/depth_info',
        ],
    )
    depth = robot.node.create_publisher(Image, '/camera/depth', 5)
    depth_info = robot.node.create_publisher(CameraInfo, '/camera/depth_info', 5)
    publish_info(robot)
    events = []
    for topic, kind in KINDS.items():
        robot.node.create_subscription(
            kind,
            f'/segmentation/{topic}',
            lambda message, topic=topic: events.append((topic, message)),
            qos_profile_sensor_data,
        )
    own = depth_image(request.param)

    def send():
        own.header = robot.send(image()).header
        depth.publish(own)
        depth_info.publish(DEPTH_INFO)

    timer = robot.node.create_timer(0.2, send)
    wait_for(lambda: exact_time(events, list(KINDS)), what='all of one image', process=process)
    robot.node.destroy_timer(timer)
    found = dict(zip(KINDS, exact_time(events, list(KINDS))[-1], strict=True))
    words = [(c.id, c.name) for c in robot.vocabularies[-1].classes]
    return SimpleNamespace(found=found, words=words, depth=own)


def test_consumers_read_what_is_meant(heard):
    found, depth = heard.found, heard.depth
    labels = array(found['label_mask'])
    floor, mug = labels == 1, labels == 9
    measured = np.ones(labels.shape, bool)
    measured[:, 15:18] = False  # the stripe
    assert {*np.unique(labels)} == {0, 1, 2, 9}

    # The cloud agrees with the depth image, the label mask, and ~/camera_info.
    cloud, k = found['points'], found['camera_info'].k
    x, y, z = (iterate(cloud, name).reshape(labels.shape) for name in 'xyz')
    assert (~np.isnan(z) == (measured & (labels > 0))).all()
    rows, columns = np.indices(labels.shape)
    assert np.allclose(x, (columns - k[2]) / k[0] * z, atol=1e-5, equal_nan=True)
    assert np.allclose(y, (rows - k[5]) / k[4] * z, atol=1e-5, equal_nan=True)
    apart = z - METRES[:, :1].reshape(-1, 2).mean(1, keepdims=True)
    assert np.nanmax(np.abs(apart)) < 0.027  # half the step between rows, plus half a millimetre

    info = SimpleNamespace(
        class_map=[SimpleNamespace(class_id=i, class_name=name) for i, name in heard.words]
    )
    costs = class_costs(info, {'floor': 1, 'mug': 254})
    tiles = semantic_tiles(found['label_mask'], found['confidence'], cloud, costs, farthest=9.0)
    assert {number for number, _ in tiles.values()} == {1, 9}
    sure = array(found['confidence'])
    places = np.floor(np.stack([x, y], axis=-1) / 0.05)
    for tile, pixel in tiles.items():
        there = (places == tile).all(-1)
        assert pixel in {*zip(labels[there], sure[there], strict=True)}

    def marked(topic):
        return obstacles(found[topic], low=-9.0, high=9.0, up=(0, -1, 0), farthest=9.0)

    assert len(marked('points/ground')) == (floor & measured).sum() > 0
    assert len(marked('points/obstacles')) == (~floor & measured).sum() > 0
    assert len(octomap_cloud(found['points/scene'])) == (~mug & measured).sum()

    people = nvblox_people(depth, DEPTH_INFO, found['mask/floor'], found['camera_info'])
    assert (people == (floor & measured).repeat(2, 0).repeat(2, 1)).all()
    rest = nvblox_depth(found['depth/rest'], found['depth/camera_info']) > 0
    assert rest.any() and not (rest & mug.repeat(2, 0).repeat(2, 1)).any()
    if depth.encoding == '16UC1':
        points = octomap_depth(found['depth/rest'], found['depth/camera_info'])
        assert len(points) == rest.sum()
    else:
        with pytest.raises(Broken, match='NaN'):
            octomap_depth(found['depth/rest'], found['depth/camera_info'])
