"""The parts of bench/costmap that need no ROS: parameters, truth, scores."""

import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

sys.path.append(str(Path(__file__).parents[1] / 'bench' / 'costmap'))

import cells
from cells import Grid, Matched, demo_layer, grown, matched

ROOT = Path(__file__).parents[1]
SHIPPED = yaml.safe_load((ROOT / 'config' / 'nav2_semantic_layer.yaml').read_text())


def test_the_shipped_layer_with_the_words_of_the_demo():
    layer = demo_layer(SHIPPED, {})
    shipped = SHIPPED['local_costmap']['local_costmap']['ros__parameters'][cells.LAYER]
    camera, before = layer['camera'], shipped['camera']
    assert camera['class_types'] == ['free', 'avoid'] and camera['free']['classes'] == ['floor']
    assert {'wall', 'table', 'mug'} < set(camera['avoid']['classes'])
    assert not {'floor', 'sky', 'person'} & set(camera['avoid']['classes'])
    assert 'people' not in camera and 'people' in before
    for key in ('base_cost', 'max_cost', 'mark_confidence', 'samples_to_max_cost'):
        assert camera['avoid'][key] == before['avoid'][key]
    parameters = cells.costmap_parameters(layer, Grid())['/**']['ros__parameters']
    assert parameters['plugins'] == [cells.LAYER]
    assert parameters[cells.LAYER]['plugin'] == shipped['plugin']


def test_values_of_the_layer_are_changed():
    changes = {'avoid.base_cost': '200', 'tile_map_decay_time': '4.5', 'combination_method': '0'}
    layer = demo_layer(SHIPPED, changes)
    assert layer['camera']['avoid']['base_cost'] == 200
    assert layer['camera']['tile_map_decay_time'] == 4.5
    assert layer['combination_method'] == 0
    assert demo_layer(SHIPPED, {})['camera']['avoid']['base_cost'] != 200  # the file is not changed
    for key in ('base_cost', 'avoid.cost', 'people.base_cost'):
        with pytest.raises(SystemExit, match=key):
            demo_layer(SHIPPED, {key: '1'})


def test_cells_of_points():
    grid = Grid(side_m=1.0, resolution_m=0.25)
    inside = [(-0.5, -0.5, 9), (0.26, -0.01, 0), (0.27, -0.02, 3)]
    cells = grid.cells(np.array([*inside, (0.5, 0.0, 0), (0.0, -0.51, 0)]))
    assert np.argwhere(cells).tolist() == [[0, 0], [1, 3]]  # rows along y


def test_precision_and_recall():
    true, marked = np.zeros((2, 7, 9), bool)
    true[2, 2:5] = True
    marked[2, 2] = marked[3, 5] = marked[6, 8] = True  # true, beside a true one, wrong
    precision, recall = matched(marked, true), matched(true, marked)
    assert precision == Matched(cells=3, near=2, same=1)
    assert recall == Matched(cells=3, near=3, same=1)
    assert precision.row == [3, '0.667', '0.333']
    assert (precision + recall).row == [6, '0.833', '0.333']
    assert Matched().row == [0, '-', '-']


def test_neighbours_end_at_the_border():
    cells = np.zeros((3, 4), bool)
    cells[0, 3] = True
    assert np.argwhere(grown(cells)).tolist() == [[0, 2], [0, 3], [1, 2], [1, 3]]


def test_a_pose_from_a_quaternion():
    half = np.sqrt(0.5)
    pose = cells.pose_matrix((1, 2, 3), (0, 0, half, half))  # a quarter turn around z
    np.testing.assert_allclose(pose @ (1, 0, 0, 1), (1, 3, 3, 1), atol=1e-12)


def test_footprint_holds_what_cameras_see():
    """The simulator's scene from above has each true point of an image from the side."""
    pytest.importorskip('pybullet')
    from cliptrase_ros.demo.world import World

    grid = Grid()
    with World(5, (240, 320)) as world:
        camera = next(world.tour())
        view = world.render(camera)
        world.size = (cells.TOP_PX,) * 2
        truth = cells.footprint(world, grid)
    solid = np.array([thing.name != 'floor' for thing in view.things])[view.instances]
    points = cells.seen(view.depth, solid, view.camera_matrix, view.pose, 0.3, 5.0)
    floor = cells.seen(view.depth, ~solid, view.camera_matrix, view.pose, 0.0, 99.0)
    assert len(points) > 1000 and np.abs(floor[:, 2]).max() < 0.01
    distance = np.linalg.norm(points - camera.eye, axis=1)
    assert distance.min() > 0.3 and distance.max() < 5.0
    seen = grid.cells(points)
    assert (seen & grown(truth)).sum() > 0.98 * seen.sum()
    assert truth.mean() < 0.3
