"""Pictures of clouds: which point is visible, and at which pixel."""

import numpy as np
import pytest

from cliptrase_ros.errors import ShapeError
from cliptrase_ros.space.views import aside_view, front_view, top_view

RED, GREEN, BLUE = np.eye(3, dtype=np.uint8) * 255


def cloud(*points):
    return np.array(points, np.float32).reshape(-1, 3)


def seen(picture, color):
    """Return [(row, column)] of the pixels of a colour."""
    return np.argwhere((picture == color).all(axis=-1)).tolist()


@pytest.mark.parametrize(
    'view, ranges, size, places',
    [
        # 20 pixels per metre: x = -3 m is column 0; in the top view z = 0 m is the last row.
        (top_view, {}, (120, 120), ([[99, 70]], [[19, 50]])),
        (front_view, {}, (80, 120), ([[54, 70]], [[20, 50]])),
        (top_view, {'x_m': (0, 2), 'z_m': (1, 3)}, (40, 40), ([[39, 10]], [])),
        (front_view, {'x_m': (-1, 0), 'y_m': (-2, 1)}, (60, 20), ([], [[20, 10]])),
    ],
)
def test_points_are_seen_where_they_are(view, ranges, size, places):
    points = cloud((0.525, 0.725, 1.025), (-0.475, -0.975, 5.025))
    picture = view(points, np.stack([RED, GREEN]), pixels_per_m=20, **ranges)
    assert picture.shape == (*size, 3) and picture.dtype == np.uint8
    assert (seen(picture, RED), seen(picture, GREEN)) == places


@pytest.mark.parametrize('view, axis', [(top_view, 1), (front_view, 2)])
@pytest.mark.parametrize('first', [RED, GREEN])
def test_the_highest_or_nearest_point_is_seen(view, axis, first):
    """Check both orders. y points down, z points away from the camera."""
    second = RED + GREEN - first
    points = np.full((2, 3), 1.01, np.float32)
    points[:, axis] = (0.5, 1.5) if first is RED else (1.5, 0.5)
    picture = view(points, np.stack([first, second]))
    assert len(seen(picture, RED)) == 1 and not seen(picture, GREEN)


def test_the_nearest_of_many_is_that_of_a_loop():
    rng = np.random.default_rng(0)
    points = rng.uniform((-1, -1, 0), (1, 1, 2), (500, 3)).astype(np.float32)
    colors = rng.integers(200, 256, (500, 3)).astype(np.uint8)
    expected = {}
    for point, color in zip(points, colors, strict=True):
        place = 19 - int(point[2] * 10), int((point[0] + 1) * 10)
        if place not in expected or point[1] < expected[place][0]:
            expected[place] = point[1], color.tolist()
    picture = top_view(points, colors, x_m=(-1, 1), z_m=(0, 2), pixels_per_m=10)
    for (row, column), (_, color) in expected.items():
        if row < 8:  # above the caption
            assert picture[row, column].tolist() == color


def test_from_the_side_near_things_hide_far_ones_and_the_ground_is_seen_from_above():
    # A wall 3 m ahead, and before it a small board 2 m ahead.
    across, down = np.meshgrid(np.linspace(-1, 1, 81), np.linspace(-1, 1, 81))
    wall = np.stack([across, down, np.full_like(across, 3)], axis=-1).reshape(-1, 3)
    board = wall * (0.2, 0.2, 2 / 3)
    points, colors = np.concatenate([board, wall]), np.repeat([RED, GREEN], len(wall), axis=0)
    order = np.random.default_rng(0).permutation(len(points))
    middles = {}
    for angles in ((0, 0), (30, 0), (0, 30)):
        view = aside_view(points[order], colors[order], (120, 160), *angles)
        assert view.shape == (120, 160, 3) and view.dtype == np.uint8
        red = np.argwhere((view == RED).all(axis=-1))
        green = np.argwhere((view == GREEN).all(axis=-1))
        middles[angles] = red.mean(0) - green.mean(0)
        inner = view[red[:, 0].min() : red[:, 0].max(), red[:, 1].min() : red[:, 1].max()]
        if angles == (0, 0):
            assert (inner == RED).all()
    assert abs(middles[0, 0]).max() < 1
    # From the right, what is near moves to the left; from above, it moves down.
    assert middles[30, 0][1] < -5 and abs(middles[30, 0][0]) < 1
    assert middles[0, 30][0] > 5 and abs(middles[0, 30][1]) < 1


def test_from_the_side_only_finite_points_are_drawn():
    points = cloud((np.nan, 0, 1), (0, 0, np.inf))
    nothing = aside_view(points, np.stack([RED, RED]), (12, 16))
    assert len(np.unique(nothing)) == 1
    one = aside_view(cloud((0.1, 0.2, 1)), RED[None], (12, 16), dot_px=3)
    assert seen(one, RED) == [[y, x] for y in (4, 5, 6) for x in (6, 7, 8)]
    with pytest.raises(ShapeError, match='expected points and colours'):
        aside_view(np.zeros((2, 2)), np.zeros((2, 2)))


@pytest.mark.parametrize('view, away', [(top_view, 'y_m'), (front_view, 'z_m')])
@pytest.mark.parametrize(
    'values, limits',
    [((np.nan, np.inf, -np.inf), (-np.inf, np.inf)), ((np.nan, -9.0, 9.0), (0.0, 6.0))],
)
def test_what_is_not_finite_or_not_in_range_is_left_out(view, away, values, limits):
    bad = cloud(
        *(np.where(np.arange(3) == axis, value, 1.0) for axis in range(3) for value in values)
    )
    empty = view(cloud(), np.empty((0, 3), np.uint8), **{away: limits})
    assert (view(bad, np.tile(RED, (len(bad), 1)), **{away: limits}) == empty).all()
    assert not seen(empty, RED)
    assert len(seen(view(cloud((1, 1, 1)), RED[None], **{away: limits}), RED)) == 1


def test_a_ceiling_can_be_cut_off():
    points, colors = cloud((1, -2, 1), (1, 1, 1)), np.stack([RED, GREEN])
    assert not seen(top_view(points, colors, y_m=(-1.0, np.inf)), RED)
    assert not seen(front_view(points, colors, z_m=(2.0, np.inf)), GREEN)


def test_lines_at_each_metre():
    picture = top_view(cloud(), np.empty((0, 3), np.uint8), x_m=(-1.5, 2), pixels_per_m=50)
    row, column = picture[10].sum(axis=-1), picture[:, 10].sum(axis=-1)
    assert picture.shape == (300, 175, 3)
    assert np.flatnonzero(row > row.min()).tolist() == [25, 75, 125]
    assert row.argmax() == 75  # straight ahead of the camera
    assert np.flatnonzero(column[:250] > column.min()).tolist() == [49, 99, 149, 199, 249]


@pytest.mark.parametrize(
    'points, colors, ranges, reason',
    [
        (np.zeros((2, 2)), np.zeros((2, 2)), {}, r'expected points and colours \[N, 3\]'),
        (np.zeros((4, 5, 3)), np.zeros((4, 5, 3)), {}, r'got \[4, 5, 3\]'),
        (np.zeros((2, 3)), np.zeros((1, 3)), {}, r'got \[2, 3\] and \[1, 3\]'),
        (np.zeros((2, 3)), np.zeros((2, 3)), {'z_m': (3, 3)}, r'3 .. 3 m of z is empty'),
    ],
)
def test_what_cannot_be_drawn_is_an_error(points, colors, ranges, reason):
    with pytest.raises(ShapeError, match=reason):
        top_view(points, colors, **ranges)
