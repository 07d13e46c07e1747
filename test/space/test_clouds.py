import math

import numpy as np
import pytest

from cliptrase_ros.space import clouds
from cliptrase_ros.space.geometry import Pinhole

pytestmark = pytest.mark.filterwarnings('error')

CAMERA = Pinhole(31.5, 29.0, 3.2, 1.7)


def scene(labels=np.uint8, size=(4, 7)):
    """Return random arguments of `clouds.fill`, except the camera. Some depths are NaN."""
    rng = np.random.default_rng(0)
    depth = rng.uniform(0.2, 9, size).astype(np.float32)
    depth[rng.random(size) < 0.3] = np.nan
    image = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
    largest = np.iinfo(labels).max
    ids = rng.integers(0, largest, size).astype(labels)
    ids[0, :2] = 0, largest
    return depth, image, ids, rng.random(size).astype(np.float32)


def filled(labels=np.uint8, camera=CAMERA, given=None):
    depth, image, ids, confidence = given or scene(labels)
    points = np.zeros(depth.shape, clouds.point_type(ids.dtype))
    clouds.fill(points, depth, camera, image, ids, confidence)
    return points


@pytest.mark.parametrize('labels', [np.uint8, np.uint16])
def test_a_point_has_24_bytes(labels):
    kind = clouds.point_type(np.dtype(labels))
    assert kind.itemsize == 24
    assert {name: (str(k), offset) for name, (k, offset) in kind.fields.items()} == {
        'x': ('float32', 0),
        'y': ('float32', 4),
        'z': ('float32', 8),
        'rgb': ('uint32', 12),
        'confidence': ('float32', 16),
        'label': (np.dtype(labels).name, 20),
    }


@pytest.mark.parametrize('labels', [np.uint8, np.uint16])
def test_every_field_of_every_point(labels):
    depth, image, ids, confidence = scene(labels)
    points = filled(labels)
    assert np.isnan(depth).any() and (~np.isnan(depth)).any()
    for v, u in np.ndindex(depth.shape):
        z, point = float(depth[v, u]), points[v, u]
        x, y = (u - CAMERA.cx) / CAMERA.fx * z, (v - CAMERA.cy) / CAMERA.fy * z
        got = [float(point[name]) for name in 'xyz']
        assert got == pytest.approx([x, y, z], rel=1e-6, nan_ok=True)
        red, green, blue = map(int, image[v, u])
        assert int(point['rgb']) == red * 65536 + green * 256 + blue
        assert point['confidence'] == confidence[v, u] and point['label'] == ids[v, u]


def test_filling_changes_nothing_else():
    given = scene()
    kept = [array.copy() for array in given]
    filled(given=given)
    for array, copy in zip(given, kept, strict=True):
        assert np.array_equal(array, copy, equal_nan=array.dtype == np.float32)


def test_points_of_a_crop_are_a_crop_of_the_points():
    whole, part = scene(), [array[1:3, 2:6] for array in scene()]
    camera = CAMERA.moved(np.array([[1.0, 0, -2.0], [0, 1.0, -1.0]]))
    got, expected = filled(camera=camera, given=part), filled(given=whole)[1:3, 2:6]
    for name in expected.dtype.names:
        assert got[name] == pytest.approx(expected[name], rel=1e-6, nan_ok=True)


def test_packed_colours():
    """The bytes in memory are blue, green, red, 0, as other programs expect."""
    image = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [1, 2, 3]]], np.uint8)
    got = clouds.packed(image)
    assert got.dtype == np.uint32 and got.tolist() == [[0, 0xFFFFFF, 0xFF0000, 0x010203]]
    assert got[0, 3].astype('<u4').tobytes() == bytes([3, 2, 1, 0])


def test_packed_colours_of_a_part():
    image = scene(size=(8, 9))[1]
    part = image[1:7:2, ::-3]
    expected = (part.astype(np.uint32) * (65536, 256, 1)).sum(2)
    assert (clouds.packed(part) == expected).all()


def test_selected_points():
    points = filled(np.uint16)
    depth = scene(np.uint16)[0]
    chosen = np.random.default_rng(1).random(depth.shape) < 0.5
    kept = points.copy()
    got = clouds.selected(points, chosen)
    expected = [
        points[place]
        for place in np.ndindex(depth.shape)
        if chosen[place] and not math.isnan(depth[place])
    ]
    assert 0 < len(expected) < chosen.sum()
    assert got.dtype == points.dtype and got.tolist() == [point.tolist() for point in expected]
    got['x'] = 0
    assert points.tobytes() == kept.tobytes()


@pytest.mark.parametrize('chosen', [True, False])
def test_no_point_is_selected(chosen):
    depth, *others = scene()
    if chosen:
        depth = np.full_like(depth, np.nan)
    points = filled(given=(depth, *others))
    got = clouds.selected(points, np.full(depth.shape, chosen))
    assert got.shape == (0,) and got.dtype == points.dtype


def naive_grown(depth, target, focal, margin_m):
    """Do what the docstring of `clouds.grown` says, pixel by pixel."""
    solid = [place for place in np.ndindex(depth.shape) if target[place] and depth[place] > 0]
    result = target.copy()
    while solid:
        nearest = min(float(depth[place]) for place in solid)
        part = [place for place in solid if depth[place] < 2 * nearest]
        solid = [place for place in solid if place not in part]
        reach = math.ceil(focal * margin_m / nearest)
        for y, x in np.ndindex(depth.shape):
            near = [float(depth[r, c]) for r, c in part if max(abs(r - y), abs(c - x)) <= reach]
            if near and min(near) - margin_m <= depth[y, x] <= max(near) + margin_m:
                result[y, x] = True
    return result


@pytest.mark.parametrize('size', [(7, 11), (11, 7), (1, 9), (6, 6)])
@pytest.mark.parametrize('focal, margin_m', [(4.0, 0.5), (10.0, 0.25), (1.0, 0.125), (100.0, 1.0)])
@pytest.mark.parametrize('seed', range(5))
def test_grown_targets(size, focal, margin_m, seed):
    """The depths are multiples of 1/16 m, so no sum is rounded."""
    rng = np.random.default_rng(seed)
    depth = (rng.integers(4, 60, size) / 16).astype(np.float32)
    depth[rng.random(size) < 0.2] = np.nan
    target = rng.random(size) < (0.05 if seed % 2 else 0.2)
    target[size[0] // 2, rng.integers(size[1])] = True
    kept = depth.copy(), target.copy()
    got = clouds.grown(depth, target, focal, margin_m)
    assert got.dtype == bool and (got == naive_grown(depth, target, focal, margin_m)).all()
    assert np.array_equal(depth, kept[0], equal_nan=True) and (target == kept[1]).all()


@pytest.mark.parametrize('place', [(0, 0), (0, 8), (5, 0), (5, 8), (0, 4), (3, 8)])
def test_targets_at_the_border_grow_inwards(place):
    depth, target = np.ones((6, 9), np.float32), np.zeros((6, 9), bool)
    target[place] = True
    got = clouds.grown(depth, target, 20.0, 0.1)
    for y, x in np.ndindex(depth.shape):
        assert got[y, x] == (max(abs(y - place[0]), abs(x - place[1])) <= 2)


def test_a_target_grows_up_to_the_whole_picture():
    depth, target = np.ones((6, 9), np.float32), np.zeros((6, 9), bool)
    target[5, 8] = True
    assert clouds.grown(depth, target, 1e9, 1.0).all()


def test_a_target_without_a_margin():
    depth = np.ones((6, 9), np.float32)
    target = np.eye(6, 9, dtype=bool)
    assert (clouds.grown(depth, target, 500.0, 0.0) == target).all()


def test_nothing_grows_from_no_target():
    depth = np.ones((6, 9), np.float32)
    assert not clouds.grown(depth, np.zeros((6, 9), bool), 500.0, 0.1).any()


def test_a_target_without_depth_stays_as_it_is():
    depth = np.ones((6, 9), np.float32)
    depth[2:4, 3:6] = np.nan
    target = np.isnan(depth)
    assert (clouds.grown(depth, target, 500.0, 0.1) == target).all()


def test_what_is_far_grows_by_fewer_pixels():
    depth = np.full((9, 40), 1.0, np.float32)
    depth[:, 20:] = 4.0
    target = np.zeros(depth.shape, bool)
    target[4, [5, 35]] = True
    got = clouds.grown(depth, target, 40.0, 0.1)
    assert got[:, :20].sum() == 81 and got[:, 20:].sum() == 9


def test_one_stray_pixel_in_front_of_a_target_changes_little():
    """If a label covers one pixel of a nearer thing, pixels between the two depths are kept."""
    depth = np.full((31, 31), 0.5, np.float32)
    target = np.zeros(depth.shape, bool)
    target[10:21, 10:21] = True
    depth[10:21, 10:21] = 0.8
    without = clouds.grown(depth, target, 100.0, 0.02)
    depth[10, 10] = 0.2
    assert (clouds.grown(depth, target, 100.0, 0.02) == without).all() and (without == target).all()


def edged(depth, margin):
    """Return `clouds.behind_edges`, pixel by pixel in float64."""
    inverse = 1 / depth.astype(np.float64)
    found = np.zeros(depth.shape, bool)
    for v, u in np.ndindex(depth.shape):
        window = inverse[max(0, v - margin) : v + margin + 1, max(0, u - margin) : u + margin + 1]
        if not np.isnan(inverse[v, u]):
            above = np.nanmax(window) - inverse[v, u]
            below = inverse[v, u] - np.nanmin(window)
            found[v, u] = above - below > 0.05 * inverse[v, u]
    return found


@pytest.mark.parametrize('margin', [0, 1, 3])
@pytest.mark.parametrize('empty', [0.0, 0.3])
def test_pixels_behind_edges_by_the_definition(margin, empty):
    rng = np.random.default_rng(3)
    depth = np.full((23, 31), 4.0, np.float32)
    for _ in range(6):
        top, left = rng.integers(0, 20, 2)
        depth[top : top + 7, left : left + 9] = rng.uniform(0.5, 4)
    depth += rng.normal(0, 0.01, depth.shape).astype(np.float32)
    depth[rng.random(depth.shape) < empty] = np.nan
    found = clouds.behind_edges(depth, margin)
    assert (found == edged(depth, margin)).all()
    assert found.any() == bool(margin)
    assert not np.isnan(depth[found]).any()


def test_only_the_far_side_of_an_edge_is_behind_it():
    depth = np.full((20, 30), 3.0, np.float32)
    depth[:, 12] = 1.0  # a pole of one pixel
    depth[:, 20] = 2.9  # too small a step
    found = clouds.behind_edges(depth, 2)
    assert (found == np.isin(np.arange(30), (10, 11, 13, 14))).all()
    gap = depth.copy()
    gap[:, 13] = np.nan  # the shadow that stereo cameras leave beside a thing
    assert (clouds.behind_edges(gap, 2) == np.isin(np.arange(30), (10, 11, 14))).all()


def test_a_plane_has_no_edge():
    """Also if it is seen at a grazing angle, where depth grows by more than a jump per pixel."""
    rows, columns = np.mgrid[:60, :80]
    for across, down in ((0.0, 0.02), (0.01, 0.005), (0.03, 0.04)):
        depth = (1 / (0.05 + across * columns + down * rows)).astype(np.float32)
        assert (depth[0] / depth[2]).max() > 1.05
        inner = clouds.behind_edges(depth, 3)[3:-3, 3:-3]  # at the border the window is cut
        assert not inner.any()


def test_without_depth_nothing_is_behind_an_edge():
    assert not clouds.behind_edges(np.full((5, 6), np.nan, np.float32), 2).any()
