"""Configurations for Nav2 and MoveIt, and the results of consumers' callbacks on our messages."""

import re
import textwrap
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

pytest.importorskip('sensor_msgs.msg', reason='ROS 2 is not installed')

from consumers import (
    Broken,
    Refused,
    camera_info_topic,
    class_costs,
    exact_time,
    nvblox_color,
    nvblox_depth,
    nvblox_mask,
    nvblox_people,
    observations,
    obstacles,
    octomap_cloud,
    octomap_depth,
    semantic_tiles,
    tile_costs,
)
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from cliptrase_ros.media import encodings
from cliptrase_ros.options import options_of
from cliptrase_ros.ros import messages
from cliptrase_ros.ros.parameters import OPTIONS, NodeOptions
from cliptrase_ros.ros.space import cloud_messages
from cliptrase_ros.space import clouds
from cliptrase_ros.space.geometry import Pinhole
from cliptrase_ros.space.groups import parse_groups

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / 'config'

# The topics that the node publishes, except the clouds of groups.
TOPICS = {
    f'/segmentation/{name}'
    for name in ('label_mask', 'confidence', 'label_info', 'points', 'depth/rest', 'depth/target')
}

# The parameters that each consumer reads, with the type that it declares.

SEMANTIC_LAYER = {
    'plugin': str,
    'enabled': bool,
    'combination_method': int,
    'use_approximate_time_sync': bool,
    'sensor_data_depth': int,
    'observation_sources': str,
}
SEMANTIC_SOURCE = {
    'segmentation_topic': str,
    'confidence_topic': str,
    'labels_topic': str,
    'pointcloud_topic': str,
    'min_obstacle_distance': float,
    'max_obstacle_distance': float,
    'tile_map_decay_time': float,
    'use_cost_selection': bool,
    'visualize_tile_map': bool,
    'class_types': list,
}
CLASS_TYPE = {
    'classes': list,
    'base_cost': int,
    'max_cost': int,
    'mark_confidence': int,
    'samples_to_max_cost': int,
    'dominant_priority': bool,
}
VOXEL_LAYER = {
    'plugin': str,
    'enabled': bool,
    'footprint_clearing_enabled': bool,
    'combination_method': int,
    'publish_voxel_map': bool,
    'origin_z': float,
    'z_resolution': float,
    'z_voxels': int,
    'unknown_threshold': int,
    'mark_threshold': int,
    'min_obstacle_height': float,
    'max_obstacle_height': float,
    'observation_sources': str,
}
OBSTACLE_SOURCE = {
    'topic': str,
    'data_type': str,
    'sensor_frame': str,
    'marking': bool,
    'clearing': bool,
    'inf_is_valid': bool,
    'min_obstacle_height': float,
    'max_obstacle_height': float,
    'obstacle_min_range': float,
    'obstacle_max_range': float,
    'raytrace_min_range': float,
    'raytrace_max_range': float,
    'observation_persistence': float,
    'expected_update_rate': float,
}
CLOUD_UPDATER = {
    'sensor_plugin': str,
    'point_cloud_topic': str,
    'max_range': float,
    'point_subsample': int,
    'padding_offset': float,
    'padding_scale': float,
    'max_update_rate': float,
    'filtered_cloud_topic': str,
}
DEPTH_UPDATER = {
    'sensor_plugin': str,
    'image_topic': str,
    'queue_size': int,
    'near_clipping_plane_distance': float,
    'far_clipping_plane_distance': float,
    'shadow_threshold': float,
    'padding_scale': float,
    'padding_offset': float,
    'max_update_rate': float,
    'skip_vertical_pixels': int,
    'skip_horizontal_pixels': int,
    'filtered_cloud_topic': str,
    'ns': str,
}


def check(block, table, blocks=()):
    """Check that the consumer reads every key and declares this type; `blocks` are its sources."""
    assert block.keys() <= table.keys() | set(blocks)
    for key, value in block.items():
        if key in table:
            assert type(value) is table[key], f'{key}: {value!r}'


def costmap(name, layer):
    """Return the parameters of a costmap layer."""
    text = (CONFIG / name).read_text()
    parameters = yaml.safe_load(text)['local_costmap']['local_costmap']['ros__parameters']
    assert parameters.keys() == {'plugins', layer}
    assert parameters['plugins'].index(layer) < parameters['plugins'].index('inflation_layer')
    return parameters[layer]


def group_topics(name):
    """Return the topics of the groups that the file tells the user to set in the node."""
    lines = (CONFIG / name).read_text().splitlines()
    lines = [line.partition('points.groups: ')[2] for line in lines if 'points.groups:' in line]
    entries = [entry for line in lines for entry in yaml.safe_load(line)]
    groups = parse_groups(entries)
    words = yaml.safe_load((CONFIG / 'segmentation.yaml').read_text())['/**']['ros__parameters']
    known = {*words['vocabulary'], 'mug'}
    assert groups and all(set(group.classes) <= known for group in groups)
    return {f'/segmentation/points/{group.name}' for group in groups}


def test_semantic_layer_configuration():
    layer = costmap('nav2_semantic_layer.yaml', 'semantic_segmentation_layer')
    assert layer['plugin'] == 'semantic_segmentation_layer::SemanticSegmentationLayer'
    sources = layer['observation_sources'].split()
    check(layer, SEMANTIC_LAYER, sources)
    words = yaml.safe_load((CONFIG / 'segmentation.yaml').read_text())['/**']['ros__parameters']
    for source in (layer[name] for name in sources):
        types = [source[name] for name in source['class_types']]
        check(source, SEMANTIC_SOURCE, source['class_types'])
        assert {v for k, v in source.items() if k.endswith('_topic')} <= TOPICS
        for kind in types:
            check(kind, CLASS_TYPE)
            assert all(0 <= kind[key] <= 254 for key in ('base_cost', 'max_cost'))
            assert kind['classes'] and kind['max_cost'] > 0
        named = [name for kind in types for name in kind['classes']]
        assert len(set(named)) == len(named)
        assert set(named) == set(words['vocabulary']) - {'ceiling'}


def test_an_obstacle_out_of_view_stays_lethal():
    layer = costmap('nav2_semantic_layer.yaml', 'semantic_segmentation_layer')
    source = layer[layer['observation_sources']]
    kinds = {name: source[name] for name in source['class_types']}
    assert [name for name in kinds if kinds[name]['max_cost'] == 254] == ['avoid', 'people']
    updates = np.arange(0, 60, 0.2)
    for name in ('avoid', 'people'):
        for stamps in ([1.0], [1.0, 1.2, 1.4], np.arange(1, 9, 0.2)):
            for confidence in (1, 255):
                decay = source['tile_map_decay_time']
                costs = tile_costs(kinds[name], stamps, updates, decay, 0.3, confidence)
                assert set(costs[7:]) == {254}
    # The values of before: a wall becomes passable.
    old = {**kinds['avoid'], 'base_cost': 100, 'samples_to_max_cost': 3}
    assert tile_costs(old, np.arange(1, 9, 0.2), updates, 3.0, 0.3)[-1] == 100


def test_the_table_of_decay_times():
    """Three observations are in time with the values of the page, and not with less."""
    page = (ROOT / 'doc' / 'navigation.md').read_text()
    rows = re.findall(r'^\| (\d+)[a-z ]* \| ([\d.]+) s \| ([\d.]+) s \|$', page, re.MULTILINE)
    assert len(rows) == 4
    kind = {'base_cost': 100, 'max_cost': 254, 'mark_confidence': 0, 'samples_to_max_cost': 3}
    shipped = costmap('nav2_semantic_layer.yaml', 'semantic_segmentation_layer')['camera']
    for rate, latency, decay in (map(float, row) for row in rows):
        assert decay == pytest.approx(latency + 3 / rate)
        assert decay <= shipped['tile_map_decay_time']
        stamps, updates = np.arange(0, 20, 1 / rate), np.arange(10, 20, 0.01)
        assert set(tile_costs(kind, stamps, updates, decay, latency)) == {254}
        less = tile_costs(kind, stamps, updates, latency + 1.9 / rate, latency)
        assert 100 in less


def test_voxel_layer_configuration():
    layer = costmap('nav2_voxel_layer.yaml', 'labelled_layer')
    assert layer['plugin'] == 'nav2_costmap_2d::VoxelLayer'
    sources = layer['observation_sources'].split()
    check(layer, VOXEL_LAYER, sources)
    assert layer['z_voxels'] <= 16
    assert layer['z_voxels'] * layer['z_resolution'] >= layer['max_obstacle_height']
    for source in (layer[name] for name in sources):
        check(source, OBSTACLE_SOURCE)
        assert source['data_type'] == 'PointCloud2'  # not the default
        assert source['max_obstacle_height'] > 0  # the default of 0 keeps nothing
    topics = {layer[name]['topic'] for name in sources}
    assert topics == group_topics('nav2_voxel_layer.yaml')


def test_octomap_configuration():
    file = CONFIG / 'moveit_sensors_3d.yaml'
    sensors = yaml.safe_load(file.read_text())
    cloud, depth = sensors['labelled_points'], sensors['labelled_depth']
    assert sensors.keys() == {'sensors', 'octomap_resolution', 'labelled_points', 'labelled_depth'}
    assert set(sensors['sensors']) < sensors.keys()
    assert type(sensors['octomap_resolution']) is float
    for block, table in ((cloud, CLOUD_UPDATER), (depth, DEPTH_UPDATER)):
        check(block, table)
        assert block.keys() == table.keys()  # a missing key ends the reading
    assert cloud['sensor_plugin'] == 'occupancy_map_monitor/PointCloudOctomapUpdater'
    assert depth['sensor_plugin'] == 'occupancy_map_monitor/DepthImageOctomapUpdater'
    assert {cloud['point_cloud_topic']} == group_topics(file.name)
    assert depth['image_topic'] in TOPICS
    assert camera_info_topic(depth['image_topic']) == '/segmentation/depth/camera_info'


# The messages of one picture: the floor is on the left, the wall on the right, the top row has no
# label, and one pixel has no depth. Neighbouring pixels are 25 cm apart.

FLOOR, WALL = 1, 2
LABELS = np.repeat([[FLOOR, WALL]], 4, axis=1).repeat(6, axis=0).astype(np.uint8)
LABELS[0] = 0
DEPTH = np.full((6, 8), 2, np.float32)
DEPTH[3, 1] = np.nan
CAMERA = Pinhole(8.0, 8.0, 3.5, 2.5)
INFO = SimpleNamespace(class_map=[SimpleNamespace(class_id=FLOOR, class_name='floor')])
INFO.class_map += [SimpleNamespace(class_id=WALL, class_name='wall')]
COSTS = class_costs(INFO, {'floor': 1, 'wall': 254})


def header(s=7):
    made = Header(frame_id='eye')
    made.stamp.sec = s
    return made


def image(pixels, encoding='mono8', padding=0, s=7):
    """Return an Image; each row has `padding` extra pixels at its end."""
    padded = np.pad(pixels, ((0, 0), (0, padding)))
    message = encodings.fill_image(Image(), padded, encoding, header(s))
    message.width -= padding
    return message


def points(labels=LABELS, depth=DEPTH):
    """Return points [H, W] of a `clouds.point_type`."""
    made = np.empty(labels.shape, clouds.point_type(labels.dtype))
    shape = labels.shape
    clouds.fill(made, depth, CAMERA, np.zeros((*shape, 3), np.uint8), labels, np.ones(shape))
    return made


def organised(labels=LABELS, depth=DEPTH, unlabeled=False):
    """Return the organised cloud; unlabelled pixels have points only if `unlabeled` is true."""
    depth = depth if unlabeled else np.where(labels > 0, depth, np.float32(np.nan))
    message, to = cloud_messages.empty(labels.shape, labels.dtype, header())
    to[:] = points(labels, depth)
    return message


def group(chosen):
    """Return the cloud of the chosen pixels."""
    return cloud_messages.cloud(clouds.selected(points(), chosen), header())


def calibration(size=(6, 8), camera=CAMERA, s=7):
    matrix = np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]])
    return messages.camera_info(size, matrix, header(s))


def padded(cloud, more):
    """Return the cloud with `more` bytes at the end of each row, and row_step to match."""
    rows = np.array(cloud.data, np.uint8).reshape(cloud.height, -1)
    cloud.row_step += more
    cloud.data = np.pad(rows, ((0, 0), (0, more))).tobytes()
    return cloud


SURE = image(np.where(LABELS > 0, 200, 0).astype(np.uint8))


# Nav2's semantic layer


def tile(row, column, resolution=0.05):
    x, y = (column - CAMERA.cx) * 2 / CAMERA.fx, (row - CAMERA.cy) * 2 / CAMERA.fy
    return int(np.floor(x / resolution)), int(np.floor(y / resolution))


@pytest.mark.parametrize('by_cost', [True, False])
def test_semantic_layer_takes_each_label_to_its_place(by_cost):
    found = semantic_tiles(image(LABELS), SURE, organised(), COSTS, by_cost=by_cost)
    seen = [(row, column) for row, column in np.ndindex(6, 8) if row and (row, column) != (3, 1)]
    assert found == {tile(*at): (LABELS[at], 200) for at in seen}


def test_semantic_layer_leaves_out_what_it_has_no_cost_for():
    costs = class_costs(INFO, {'wall': 254, 'lava': 254})
    found = semantic_tiles(image(LABELS), SURE, organised(), costs)
    assert costs == {WALL: 254} and {number for number, _ in found.values()} == {WALL}
    assert not semantic_tiles(image(LABELS), SURE, organised(), COSTS, farthest=1.9)


@pytest.mark.parametrize('cost', [0, 1])
def test_points_without_a_label_hide_free_ground_from_the_semantic_layer(cost):
    """The first pixel of a tile decides, unless a later one has a class with a larger max_cost."""

    def free(cloud):
        found = semantic_tiles(image(LABELS), SURE, cloud, {FLOOR: cost}, resolution=9.0)
        return (-1, -1) in found  # the upper left quarter

    assert free(organised())
    assert free(organised(unlabeled=True)) == (cost > 0)


def test_semantic_layer_refuses_other_sizes():
    small = LABELS[:, :4].copy()
    with pytest.raises(Refused, match='different sizes'):
        semantic_tiles(image(small), SURE, organised(), COSTS)
    with pytest.raises(Refused, match='different sizes'):  # the cloud of a class is not organised
        semantic_tiles(image(LABELS), SURE, group(LABELS == FLOOR), COSTS)
    cut = image(LABELS)
    cut.data = cut.data[:-1]
    with pytest.raises(Refused, match='too few bytes'):
        semantic_tiles(cut, SURE, organised(), COSTS)
    with pytest.raises(Refused, match='class map'):
        semantic_tiles(image(LABELS), SURE, organised(), class_costs(INFO, {'lava': 254}))
    with pytest.raises(Broken, match='null pointer'):
        semantic_tiles(image(LABELS), SURE, organised(), None)
    with pytest.raises(Broken, match='beyond'):
        semantic_tiles(image(LABELS), image(small), organised(), COSTS)


def test_semantic_layer_misreads_other_encodings_and_padding():
    right = semantic_tiles(image(LABELS), SURE, organised(), COSTS)
    wide = image(LABELS.astype(np.uint16), '16UC1')
    assert semantic_tiles(wide, SURE, organised(), COSTS) != right
    assert semantic_tiles(image(LABELS, padding=3), SURE, organised(), COSTS) != right
    turned = organised(LABELS.T.copy(), DEPTH.T)
    assert semantic_tiles(image(LABELS), SURE, turned, COSTS) != right
    far = SimpleNamespace(class_map=[SimpleNamespace(class_id=256 + FLOOR, class_name='floor')])
    assert class_costs(far, {'floor': 0}) == {FLOOR: 0}


# Nav2's obstacle and voxel layer


def test_obstacle_layer_marks_the_points_of_a_group():
    wall = group(LABELS == WALL)
    marked = obstacles(wall, low=-2.0, high=2.0, up=(0, -1, 0))
    assert len(marked) == (LABELS == WALL).sum() and (marked[:, 0] > 0).all()
    low = obstacles(wall, low=-2.0, high=0.0, up=(0, -1, 0))
    assert 0 < len(low) < len(marked) and (low[:, 1] >= 0).all()
    assert not len(obstacles(wall, up=(0, -1, 0)))  # the default max_obstacle_height of a source
    assert not len(obstacles(wall, low=-2.0, high=2.0, up=(0, -1, 0), farthest=1.9))


def test_obstacle_layer_leaves_out_points_that_are_not_valid():
    marked = obstacles(organised(), low=-2.0, high=2.0, up=(0, -1, 0))
    assert len(marked) == (LABELS > 0).sum() - 1
    assert not np.isnan(marked).any()


def test_an_empty_cloud_replaces_the_one_before():
    """Without observation_persistence a layer keeps the newest cloud until another arrives."""
    nothing = group(LABELS == 3)
    assert (nothing.height, nothing.width, len(nothing.data)) == (1, 0, 0)
    assert len(obstacles(nothing, high=2.0)) == 0
    assert observations([1.0, 2.0], now_s=60.0, persistence_s=0.0) == [2.0]


def test_persistence_counts_from_the_stamp():
    late_s = 0.8  # from the stamp to the cloud
    stamps = [10.0, 10.5, 11.0]
    assert observations(stamps, 11.0 + late_s, 0.5) == []
    assert observations(stamps, 11.0 + late_s, 1.4) == [11.0, 10.5]


def test_obstacle_layer_does_not_read_row_step_and_needs_x_y_and_z():
    with pytest.raises(Broken, match='beyond'):
        obstacles(padded(organised(), more=5), high=2.0)
    flat = organised()
    flat.fields = [field for field in flat.fields if field.name != 'z']
    with pytest.raises(Broken, match='field z'):
        obstacles(flat, high=2.0)


# nvblox


def test_exact_time_pairs_what_has_one_stamp():
    def events(mask_late):
        for s in range(20):
            yield 'color', image(LABELS, s=s)
            yield 'color_info', calibration(s=s)
            if s >= mask_late:
                yield 'mask', image(LABELS, s=s - mask_late)
                yield 'mask_info', calibration(s=s - mask_late)

    topics = 'color', 'color_info', 'mask', 'mask_info'
    for mask_late in (0, 9):
        pairs = exact_time(events(mask_late), topics)
        assert [p[0].header.stamp.sec for p in pairs] == list(range(20 - mask_late))
        assert all(message.header == p[0].header for p in pairs for message in p)
    assert not exact_time(events(10), topics)  # the images have left the queue


@pytest.mark.parametrize('encoding', ['32FC1', '16UC1'])
def test_nvblox_takes_the_people_out_of_depth(encoding):
    depth = np.nan_to_num(DEPTH)
    pixels = depth if encoding == '32FC1' else (depth * 1000).astype(np.uint16)
    message = image(pixels, encoding)
    assert np.allclose(nvblox_depth(message, calibration()), depth, atol=5e-4)
    mask = np.where(LABELS == FLOOR, 255, 0).astype(np.uint8)
    found = nvblox_people(message, calibration(), image(mask), calibration())
    assert (found == ((LABELS == FLOOR) & (depth > 0))).all()
    # A mask of half the size, with the calibration of that size.
    half = calibration((3, 4), Pinhole(4.0, 4.0, 1.5, 1.0))
    found = nvblox_people(message, calibration(), image(mask[1::2, ::2].copy()), half)
    assert (found == (mask[1::2, ::2].repeat(2, 0).repeat(2, 1) > 0) & (depth > 0)).all()


def test_nvblox_refuses_other_encodings_and_ends_on_other_sizes():
    mask = image(LABELS)
    nvblox_color(image(LABELS, 'rgb8'), mask)
    with pytest.raises(Refused, match='mask image encoding: 8UC1'):
        nvblox_mask(image(LABELS, '8UC1'), calibration())
    with pytest.raises(Refused, match='color image encoding: bgr8'):
        nvblox_color(image(LABELS, 'bgr8'), mask)
    with pytest.raises(Refused, match='depth image encoding: 64FC1'):
        nvblox_depth(image(DEPTH, '64FC1'), calibration())
    with pytest.raises(Broken, match='CHECK'):
        nvblox_mask(mask, calibration((3, 4)))
    with pytest.raises(Broken, match='CHECK'):
        nvblox_color(image(LABELS[:3], 'rgb8'), mask)
    with pytest.raises(Broken, match='CHECK'):
        nvblox_depth(image(DEPTH, '32FC1'), calibration((3, 4)))


# MoveIt's octomap


def are_those_of(found, keep):
    """Return whether the points [N, 3] are those of these pixels, to half a millimetre."""
    chosen = clouds.selected(points(), keep)
    right = np.stack([chosen['x'], chosen['y'], chosen['z']], axis=1)
    return found.shape == right.shape and np.allclose(found, right, atol=5e-4)


def test_octomap_of_depth():
    millimetres = np.where(LABELS == WALL, np.nan_to_num(DEPTH) * 1000, 0).astype(np.uint16)
    found = octomap_depth(image(millimetres, '16UC1'), calibration())
    assert are_those_of(found, LABELS == WALL)
    metres = (millimetres / 1000).astype(np.float32)
    assert np.allclose(octomap_depth(image(metres, '32FC1'), calibration()), found)
    far = image(np.full((6, 8), 5500, np.uint16), '16UC1')
    assert not len(octomap_depth(far, calibration()))


def test_octomap_of_depth_is_wrong_with_skipped_rows_nan_and_padding():
    slope = np.broadcast_to(1000 + 100 * np.arange(6)[:, None], (6, 8)).astype(np.uint16)
    whole = octomap_depth(image(slope, '16UC1'), calibration())
    skipped = octomap_depth(image(slope, '16UC1'), calibration(), skip_rows=2, skip_columns=2)
    assert not any((whole == point).all(1).any() for point in skipped)
    with pytest.raises(Broken, match='NaN'):
        octomap_depth(image(DEPTH, '32FC1'), calibration())
    wide = octomap_depth(image(slope, '16UC1', padding=3), calibration())
    assert wide.shape != whole.shape or not np.allclose(wide, whole)
    with pytest.raises(Refused, match='mono16'):
        octomap_depth(image(slope, 'mono16'), calibration())
    with pytest.raises(Broken, match='focal'):
        octomap_depth(image(slope, '16UC1'), calibration(camera=Pinhole(0.0, 8.0, 3.5, 2.5)))


def test_octomap_of_clouds():
    wall = LABELS == WALL
    for cloud in (group(wall), organised(LABELS * wall)):
        assert are_those_of(octomap_cloud(cloud), wall)
    assert len(octomap_cloud(organised(), max_range=2.1)) < len(octomap_cloud(organised()))
    assert len(octomap_cloud(group(LABELS == 3))) == 0
    # The updater subsamples rows and columns of an organised cloud, and points of other clouds.
    everywhere = organised(np.full_like(LABELS, WALL), np.full_like(DEPTH, 2))
    assert len(octomap_cloud(everywhere, subsample=2)) == 3 * 4
    assert len(octomap_cloud(group(wall), subsample=2)) == wall.sum() // 2


def test_octomap_of_clouds_needs_y_and_z_behind_x():
    cloud = organised()
    assert are_those_of(octomap_cloud(cloud), LABELS > 0)
    for field in cloud.fields:
        field.offset = {'x': 8, 'z': 0}.get(field.name, field.offset)
    assert not are_those_of(octomap_cloud(cloud), LABELS > 0)
    assert not are_those_of(octomap_cloud(padded(organised(), more=4)), LABELS > 0)
    short = organised()
    short.data = short.data[:-24]
    with pytest.raises(Broken, match='beyond'):
        octomap_cloud(short)


# Documents

PAGES = [ROOT / 'doc' / 'navigation.md', ROOT / 'doc' / 'manipulation.md']
NVBLOX = {
    f'camera_0/{kind}/{part}'
    for kind in ('depth', 'color', 'mask')
    for part in ('image', 'camera_info')
}
DEPTH_IMAGE_PROC = {'image_rect', 'camera_info', 'points'}


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_parameters_in_documents_are_of_the_node(page):
    """The parameters are valid together, and have the groups that the configurations read."""
    blocks = re.findall(r'```yaml\n(.*?)```', page.read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        values = yaml.safe_load(textwrap.dedent(block))['/**']['ros__parameters']
        for kind in OPTIONS:  # no group is of both
            names = {one.name.partition('.')[0] for one in options_of(kind)}
            options = kind.from_mapping({name: values.pop(name) for name in names & values.keys()})
            if kind is NodeOptions:
                groups, words = options.groups_by_topic.values(), options.vocabulary
        assert not values
        assert {name for group in groups for name in group.classes} <= {*words}
    file = {'navigation.md': 'nav2_voxel_layer.yaml', 'manipulation.md': 'moveit_sensors_3d.yaml'}
    assert group_topics(file[page.name]) == {f'/segmentation/points/{g.name}' for g in groups}


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_remappings_in_documents(page):
    """Remappings go from a topic that the consumer subscribes to one that the node publishes."""
    text = page.read_text().replace('$camera', '/camera/camera')
    pairs = re.findall(r'-r (\S+):=(\S+)', text)
    known = NVBLOX if page.name == 'navigation.md' else DEPTH_IMAGE_PROC
    assert pairs and {name for name, _ in pairs} <= known
    published = TOPICS | {f'/segmentation/{name}' for name in ('camera_info', 'mask/person')}
    published.add('/segmentation/depth/camera_info')
    ours = {topic for _, topic in pairs if topic.startswith('/segmentation')}
    assert ours and ours <= published
    for name, topic in pairs:
        if name.endswith('/image'):  # the calibration must be that of the same images
            own = '/segmentation/camera_info' if 'mask/' in topic else camera_info_topic(topic)
            assert (name.removesuffix('image') + 'camera_info', own) in pairs
