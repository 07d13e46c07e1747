import numpy as np
import pytest

import cliptrase_ros as ct
from cliptrase_ros.space import geometry
from cliptrase_ros.space.geometry import Pinhole

NAN, INF = float('nan'), float('inf')

pytestmark = pytest.mark.filterwarnings('error')


def shift(sx, sy, tx=0.0, ty=0.0):
    return np.array([[sx, 0, tx], [0, sy, ty]])


def numbered(size):
    """Return an image with different pixels: 1, 2, ..."""
    return np.arange(1, size[0] * size[1] + 1).reshape(size)


def same(got, expected):
    return np.array_equal(got, expected, equal_nan=True)


def test_every_depth_in_millimetres():
    """The result is the nearest float32 in metres; 0 and 65535 are not valid."""
    given = np.arange(65536, dtype=np.uint16).reshape(128, 512)
    got = geometry.metres(given)
    expected = (np.arange(65536) / 1000).astype(np.float32).reshape(128, 512)
    expected[0, 0] = expected[-1, -1] = np.nan
    assert got.dtype == np.float32 and same(got, expected)


def test_depth_in_metres():
    values = [0.5, 0.0, -0.0, -1.0, NAN, INF, -INF, 1e-30, 70.0, 65535.0]
    got = geometry.metres(np.array([values], np.float32))
    expected = [0.5, NAN, NAN, NAN, NAN, NAN, NAN, 1e-30, 70.0, 65535.0]
    assert got.dtype == np.float32 and same(got, np.array([expected], np.float32))


@pytest.mark.parametrize('kind', [np.uint16, np.float32])
@pytest.mark.parametrize('nearest, farthest', [(0.3, 3.0), (0.0, 0.7), (0.7, INF), (1.9, 2.3)])
def test_the_range_includes_its_ends(kind, nearest, farthest):
    """This holds for millimetres too: 3000 mm is not above 3 m."""
    millimetres = np.arange(1, 4000).reshape(1, -1)
    given = millimetres.astype(kind) if kind is np.uint16 else (millimetres / 1000).astype(kind)
    valid = np.array([nearest <= n / 1000 <= farthest for n in range(1, 4000)])
    assert (~np.isnan(geometry.metres(given, nearest, farthest)) == valid).all()
    assert 0 < valid.sum() < 3999


def test_what_is_not_valid_stays_so_with_a_range():
    given = np.array([[0, 65535, 500, 2000]], np.uint16)
    assert same(geometry.metres(given, 0.1, 1.0), np.array([[NAN, NAN, 0.5, NAN]], np.float32))
    given = np.array([[NAN, INF, -1, 0, 0.5, 2.0]], np.float32)
    expected = np.array([[NAN, NAN, NAN, NAN, 0.5, NAN]], np.float32)
    assert same(geometry.metres(given, 0.1, 1.0), expected)


@pytest.mark.parametrize('kind', [np.uint16, np.float32])
def test_the_depth_that_came_is_not_changed(kind):
    given = np.array([[0, 1, 2, 65535]], kind)
    kept = given.copy()
    got = geometry.metres(given, 0.5, 1.5)
    assert (given == kept).all() and not np.shares_memory(got, given)
    given.flags.writeable = False
    assert same(geometry.metres(given, 0.5, 1.5), got)


@pytest.mark.parametrize(
    'depth, got',
    [
        (np.zeros((2, 3)), r'\[2, 3\] float64'),
        (np.zeros((2, 3), np.int16), r'\[2, 3\] int16'),
        (np.zeros((2, 3), '>f4'), r'\[2, 3\] >f4'),
        (np.zeros((2, 3, 1), np.uint16), r'\[2, 3, 1\] uint16'),
        (np.zeros(6, np.float32), r'\[6\] float32'),
    ],
)
def test_what_is_no_depth_is_refused(depth, got):
    expected = rf'^depth: expected \[H, W\] uint16 in mm or float32 in m, got {got}$'
    with pytest.raises(ct.ShapeError, match=expected):
        geometry.metres(depth)


def test_rays_of_each_column_and_row():
    x, y = Pinhole(500.0, 400.0, 3.2, 1.1).rays((4, 7))
    assert x.dtype == y.dtype == np.float32 and x.shape == (7,) and y.shape == (4,)
    assert x == pytest.approx([(u - 3.2) / 500 for u in range(7)], rel=1e-6)
    assert y == pytest.approx([(v - 1.1) / 400 for v in range(4)], rel=1e-6)


def test_a_moved_camera_sees_points_on_moved_pixels():
    camera, move = Pinhole(500.0, 400.0, 3.2, 1.1), shift(0.5, 3.0, -7.0, 2.5)
    x, y = 0.3, -0.2
    u, v = camera.fx * x + camera.cx, camera.fy * y + camera.cy
    moved = camera.moved(move)
    got = moved.fx * x + moved.cx, moved.fy * y + moved.cy
    assert got == pytest.approx(tuple(move @ (u, v, 1)))


def test_resizing_keeps_the_edges_of_the_view():
    move = geometry.resized((30, 40), (60, 100))
    assert move @ (-0.5, -0.5, 1) == pytest.approx([-0.5, -0.5])
    assert move @ (39.5, 29.5, 1) == pytest.approx([99.5, 59.5])
    assert move @ (0, 0, 1) == pytest.approx([0.75, 0.5])


def test_moves_are_undone_and_put_together():
    first, second = shift(2.0, 3.0, 5.0, -7.0), shift(0.3, 0.7, -1.0, 2.0)
    point = np.array([11.0, 13.0, 1.0])
    there = first @ point
    assert geometry.inverse(first) @ (*there, 1) == pytest.approx(point[:2])
    assert geometry.after(second, first) @ point == pytest.approx(second @ (*there, 1))


MOVES = {
    'shrunk': ((12, 20), geometry.resized((12, 20), (5, 7)), (5, 7)),
    'by an even number': ((12, 24), geometry.resized((12, 24), (2, 4)), (2, 4)),
    'enlarged': ((5, 7), geometry.resized((5, 7), (13, 21)), (13, 21)),
    'enlarged a lot': ((2, 3), geometry.resized((2, 3), (97, 211)), (97, 211)),
    'wider and lower': ((6, 5), geometry.resized((6, 5), (4, 9)), (4, 9)),
    'cropped': ((12, 20), shift(1.0, 1.0, -4.0, -3.0), (6, 9)),
    'cropped to its first pixels': ((5, 7), shift(1.0, 1.0), (3, 4)),
    'cropped, shrunk': ((12, 20), shift(0.7, 0.4, -1.3, -0.9), (4, 12)),
    'with a border': ((5, 7), shift(1.0, 1.0, 3.0, 2.0), (9, 14)),
    'with a border, enlarged': ((5, 7), shift(2.3, 1.9, 4.2, 3.1), (20, 30)),
    'out of sight': ((5, 7), shift(1.0, 1.0, -7.0, 0.0), (5, 7)),
}


@pytest.mark.parametrize('source, move, size', MOVES.values(), ids=MOVES)
def test_each_pixel_is_the_nearest(source, move, size):
    """Compare with the place of each pixel. If two pixels are equally near, both are accepted."""
    image = numbered(source)
    got = geometry.looked_up(image, move, size, -1)
    assert got.shape == size and got.dtype == image.dtype
    for v, u in np.ndindex(size):
        x, y = (u - move[0, 2]) / move[0, 0], (v - move[1, 2]) / move[1, 1]
        inside = -0.5 <= x < source[1] - 0.5 and -0.5 <= y < source[0] - 0.5
        assert (got[v, u] != -1) == inside
        if inside:
            row, column = divmod(got[v, u] - 1, source[1])
            assert max(abs(row - y), abs(column - x)) <= 0.5 + 1e-9


def test_of_two_that_are_as_near_the_later_one():
    image = numbered((4, 8))
    half = geometry.looked_up(image, geometry.resized((4, 8), (2, 4)), (2, 4), -1)
    assert (half == image[1::2, 1::2]).all()


def test_pixels_half_a_step_off_the_edge():
    """The outer edge of the first pixel is in the image, the outer edge of the last is not."""
    image = numbered((2, 2))
    got = geometry.looked_up(image, shift(1.0, 1.0, 0.5, 0.5), (3, 3), -1)
    assert got.tolist() == [[1, 2, -1], [3, 4, -1], [-1, -1, -1]]


@pytest.mark.parametrize('kind, outside', [(np.uint8, 0), (np.uint16, 0), (np.float32, NAN)])
@pytest.mark.parametrize('source, move, size', MOVES.values(), ids=MOVES)
def test_no_value_is_made_up(source, move, size, kind, outside):
    given = np.random.default_rng(0).choice([7, 90, 201], source).astype(kind)
    kept = given.copy()
    got = geometry.looked_up(given, move, size, outside)
    values = set(got[~np.isnan(got) & (got != 0)].tolist())
    assert got.dtype == kind and values <= {7, 90, 201} and (given == kept).all()


@pytest.mark.parametrize('size', [(10, 14), (15, 21), (6, 8), (11, 23), (5, 8)])
def test_there_and_back(size):
    image = numbered((5, 7))
    move = geometry.resized((5, 7), size)
    there = geometry.looked_up(image, move, size, -1)
    back = geometry.looked_up(there, geometry.inverse(move), (5, 7), -1)
    assert (back == image).all() and set(np.unique(there)) == set(image.ravel())


def test_an_image_of_the_same_pixels_is_not_copied():
    image = numbered((5, 7))
    there = geometry.resized((5, 7), (480, 640))
    back = geometry.resized((480, 640), (5, 7))
    assert geometry.looked_up(image, geometry.after(back, there), (5, 7), -1) is image
    assert geometry.looked_up(image, shift(1.0, 1.0, 1.0), (5, 7), -1) is not image


@pytest.mark.parametrize(
    'size, other, expected',
    [
        ((480, 640), (480, 640), True),
        ((480, 640), (120, 160), True),
        ((240, 424), (480, 848), True),
        ((360, 640), (240, 424), True),
        ((480, 640), (640, 480), False),
        ((480, 640), (360, 640), False),
        ((480, 640), (400, 640), False),
        ((1000, 1000), (1000, 1019), True),
        ((1000, 1000), (1000, 1021), False),
        ((1000, 1000), (1019, 1000), True),
        ((1000, 1000), (1021, 1000), False),
        ((0, 0), (480, 640), False),
        ((0, 640), (480, 640), False),
        ((480, 0), (480, 640), False),
    ],
)
def test_sizes_of_one_view(size, other, expected):
    assert geometry.same_view(size, other) is expected
    assert geometry.same_view(other, size) is expected


def test_rays_are_shared_and_cannot_be_changed():
    camera = Pinhole(50.0, 50.0, 4.0, 3.0)
    for rays in camera.rays((6, 8)):
        with pytest.raises(ValueError, match='read-only'):
            rays += 1
    assert camera.rays((6, 8))[0] is camera.rays((6, 8))[0]
