import numpy as np
import pytest

from cliptrase_ros.errors import ShapeError
from cliptrase_ros.space import objects
from cliptrase_ros.space.geometry import Pinhole
from cliptrase_ros.space.objects import find, number_things, oriented_boxes

SIZE = 90, 120
CAMERA = Pinhole(100, 110, 59.5, 44.5)


def naive_components(labels, depth, jump):
    """Number the components by a flood fill from each pixel."""
    result = np.zeros(labels.shape, int)
    count = 0
    for start in np.ndindex(labels.shape):
        if result[start] or not labels[start] or np.isnan(depth[start]):
            continue
        count += 1
        result[start] = count
        front = [start]
        while front:
            y, x = here = front.pop()
            for there in (y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1):
                if min(there) < 0 or there[0] == labels.shape[0] or there[1] == labels.shape[1]:
                    continue
                nearer, farther = sorted((depth[here], depth[there]))
                near = farther - nearer <= jump * nearer
                if near and labels[there] == labels[here] and not result[there]:
                    result[there] = count
                    front.append(there)
    return result


def same_partition(numbers, expected):
    """Return True if both are equal except for the numbering of the components (0 stays 0)."""
    pairs = {(0, 0), *zip(numbers.ravel().tolist(), expected.ravel().tolist(), strict=True)}
    count = int(expected.max()) + 1
    return all(sorted(pair[side] for pair in pairs) == list(range(count)) for side in (0, 1))


def search(labels, depth, ids=(1,), confidence=None, camera=CAMERA, jump=0.05, min_pixels=1):
    confidence = np.ones(labels.shape, np.float32) if confidence is None else confidence
    return find(labels, confidence, depth, camera, ids, jump, min_pixels)


def rectangle(rotation, center, size, camera=CAMERA, image=SIZE):
    """Return the depth [H, W] float32 of a flat thing, NaN around it.

    Its normal is the z axis of the rotation.
    """
    y, x = np.mgrid[: image[0], : image[1]]
    rays = np.stack([(x - camera.cx) / camera.fx, (y - camera.cy) / camera.fy, np.ones(image)], -1)
    z = center @ rotation[:, 2] / (rays @ rotation[:, 2])
    place = (rays * z[..., None] - center) @ rotation[:, :2]
    inside = (np.abs(place) <= np.divide(size, 2)).all(-1)
    return np.where(inside, z, np.nan).astype(np.float32)


def about(axis, degrees):
    """Return the rotation matrix about a coordinate axis."""
    result = np.eye(3)
    first, second = (axis + 1) % 3, (axis + 2) % 3
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    result[[first, second], [first, second]] = c
    result[first, second], result[second, first] = -s, s
    return result


def angle(one, other):
    """Return the angle between two directions in degrees."""
    return np.degrees(np.arccos(np.clip(one @ other, -1, 1)))


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
@pytest.mark.parametrize('size', [(9, 14), (14, 9), (1, 20), (20, 1), (1, 1)])
@pytest.mark.parametrize('seed', range(8))
def test_components_are_those_of_a_flood(seed, size, dtype):
    random = np.random.default_rng(seed)
    labels = random.choice([0, 1, 2, 255], size, p=[0.1, 0.6, 0.2, 0.1]).astype(dtype)
    # With these values all differences are exact, and some are exactly as large as the jump.
    depths = np.array([1, 1.25, 1.5, 2, np.nan], np.float32)
    depth = random.choice(depths, size, p=[0.4, 0.2, 0.15, 0.15, 0.1])
    for jump in (0.25, 0.2, 0.5):
        expected = naive_components(labels, depth, jump)
        numbers = number_things(labels, depth, jump)
        assert numbers.dtype == np.int32 and numbers.flags.c_contiguous
        assert same_partition(numbers, expected)
        assert same_partition(number_things(labels.T, depth.T, jump).T, expected)


def test_a_component_may_wind_through_others():
    labels = np.full((41, 63), 2, np.uint8)
    for turn in range(0, 41, 4):
        labels[turn] = 1
        labels[turn : turn + 4, 62 if turn % 8 else 0] = 1
    depth = np.ones(labels.shape, np.float32)
    numbers = number_things(labels, depth, 0.01)
    assert len(np.unique(numbers[labels == 1])) == 1
    assert same_partition(numbers, naive_components(labels, depth, 0.01))


def test_components_of_a_larger_image():
    random = np.random.default_rng(0)
    labels = random.integers(1, 3, (160, 240)).astype(np.uint8)
    labels[random.random(labels.shape) < 0.5] = 1
    depth = random.choice(np.array([1, 1.25], np.float32), labels.shape, p=[0.9, 0.1])
    expected = naive_components(labels, depth, 0.2)
    assert np.bincount(expected.ravel()).max() > 200
    assert same_partition(number_things(labels, depth, 0.2), expected)


def test_the_jump_is_a_part_of_the_nearer_depth():
    labels = np.ones((1, 2), np.uint8)
    for z in (0.5, 1.0, 4.0):
        for difference, things in ((0.049 * z, 1), (0.0505 * z, 2)):
            for depth in ([z, z + difference], [z + difference, z]):
                assert len(search(labels, np.array([depth], np.float32))) == things


def test_things_that_touch_at_two_depths_are_two():
    labels = np.zeros(SIZE, np.uint8)
    labels[10:50, 20:90] = 1
    depth = np.full(SIZE, 1.0, np.float32)
    depth[:, 60:] = 1.5
    near, far = search(labels, depth)
    assert (near.box, near.area, near.centroid[2]) == ((20, 10, 40, 40), 1600, 1.0)
    assert (far.box, far.area, far.centroid[2]) == ((60, 10, 30, 40), 1200, 1.5)
    assert len(search(labels, depth, jump=0.5)) == 1


def test_pixels_without_depth_belong_to_nothing_and_split():
    labels = np.ones(SIZE, np.uint8)
    depth = np.ones(SIZE, np.float32)
    depth[:, 50] = np.nan
    depth[3, 4] = np.nan
    right, left = search(labels, depth)
    assert (right.box, right.area) == ((51, 0, 69, 90), 69 * 90)
    assert (left.box, left.area) == ((0, 0, 50, 90), 50 * 90 - 1)
    depth[70, 50] = 1.0
    (whole,) = search(labels, depth)
    assert (whole.box, whole.area) == ((0, 0, 120, 90), 119 * 90)


def squares(dtype, *values):
    """Return labels with squares of these values side by side; each is one pixel wider."""
    labels = np.zeros(SIZE, dtype)
    for n, value in enumerate(values):
        labels[5 : 8 + n, 12 * n : 12 * n + 3 + n] = value
    return labels, np.ones(SIZE, np.float32)


def test_classes_come_as_they_are_asked_for_and_the_largest_thing_first():
    images = squares(np.uint8, 4, 9, 4, 2, 9, 7)
    found = search(*images, ids=[9, 200, 4, 2])
    assert [(thing.id, thing.area) for thing in found] == [
        (9, 49),
        (9, 16),
        (4, 25),
        (4, 9),
        (2, 36),
    ]
    assert search(*images, ids=()) == [] == search(*images, ids=[0])


def test_things_as_large_as_each_other_come_from_left_to_right():
    labels = np.zeros(SIZE, np.uint8)
    for left, top in ((80, 3), (10, 60), (40, 2)):
        labels[top : top + 5, left : left + 5] = 1
    found = search(labels, np.ones(SIZE, np.float32))
    assert [thing.box[0] for thing in found] == [10, 40, 80]


def test_things_with_too_few_pixels_are_left_out():
    images = squares(np.uint8, 1, 1, 2, 1)
    for least, areas in ((9, [36, 16, 9, 25]), (10, [36, 16, 25]), (16, [36, 16, 25]), (37, [])):
        found = search(*images, ids=[1, 2], min_pixels=least)
        assert [thing.area for thing in found] == areas


def test_ids_may_need_16_bits():
    images = squares(np.uint16, 300, 300 - 256, 65535)
    found = search(*images, ids=[65535, 300])
    assert [(thing.id, thing.area) for thing in found] == [(65535, 25), (300, 9)]
    narrow = search(images[0].astype(np.uint8), images[1], ids=[300, 44])
    assert [thing.id for thing in narrow] == [44, 44]


def test_everything_about_a_thing_is_as_computed_pixel_by_pixel():
    random = np.random.default_rng(0)
    labels = np.kron(random.integers(0, 5, (9, 12)), np.ones((10, 10))).astype(np.uint8)
    depth = (2 + np.kron(random.random((9, 12)), np.ones((10, 10)))).astype(np.float32)
    depth += random.normal(0, 0.005, SIZE).astype(np.float32)
    depth[random.random(SIZE) < 0.1] = np.nan
    confidence = random.random(SIZE).astype(np.float32)
    ids = [3, 1, 4]
    numbers = naive_components(labels, depth, 0.05)
    found = search(labels, depth, ids, confidence, min_pixels=30)
    expected = [number for number in range(1, numbers.max() + 1) if (numbers == number).sum() >= 30]
    expected = [number for number in expected if labels[numbers == number][0] in ids]
    assert len(found) == len(expected) > 20
    for thing in found:
        x, y, width, height = thing.box
        crop = slice(y, y + height), slice(x, x + width)
        inside = [n for n in expected if (numbers[crop] == n).sum() == thing.area]
        (number,) = (n for n in inside if labels[numbers == n][0] == thing.id)
        rows, columns = np.nonzero(numbers == number)
        assert (x, y) == (columns.min(), rows.min())
        assert (x + width - 1, y + height - 1) == (columns.max(), rows.max())
        assert thing.score == confidence[rows, columns].max()
        assert abs(thing.confidence - confidence[rows, columns].mean(dtype=float)) < 1e-9
        z = depth[rows, columns].astype(float)
        ray = [(columns - CAMERA.cx) / CAMERA.fx, (rows - CAMERA.cy) / CAMERA.fy, np.ones(len(z))]
        points = np.array(ray) * z
        assert np.abs(thing.centroid - points.mean(1)).max() < 1e-6
        place = thing.axes.T @ (points - thing.center[:, None])
        spread = np.cov(place)
        assert np.abs(spread - np.diag(np.diag(spread))).max() < 1e-6 * np.trace(spread)
        for side, values in zip(thing.size, place, strict=True):
            outside = int(0.01 * len(z))
            values = np.sort(values)[outside : len(z) - outside]
            assert np.abs(values[[0, -1]] - [-side / 2, side / 2]).max() < 1e-6
        assert (np.diff(thing.size) <= 0).all()
        assert np.allclose(np.cross(thing.axes[:, 0], thing.axes[:, 1]), thing.axes[:, 2])


@pytest.mark.parametrize(
    'rotation, center',
    [
        (about(2, 0), (0.3, -0.2, 2)),
        (about(2, 30), (0.2, 0.1, 2)),
        (about(2, -50), (-0.1, 0, 2)),
        # Tilted things are symmetric left and right.
        (about(0, 40), (0, 0.1, 2)),
        (about(0, -55), (0, 0, 2)),
    ],
)
def test_a_flat_thing_lies_where_it_was_put(rotation, center):
    camera = Pinhole(400, 420, 239.5, 179.5)
    depth = rectangle(rotation, np.array(center), (1.2, 0.6), camera, (360, 480))
    labels = np.full(depth.shape, 1, np.uint8)
    (thing,) = search(labels, depth, camera=camera)
    assert thing.area > 10000
    pixel = 2 / 400
    assert np.abs(thing.center - center).max() < pixel
    assert np.abs(thing.size - (0.98 * 1.2, 0.98 * 0.6, 0)).max() < 2 * pixel
    assert thing.size[2] < 1e-6
    for column in range(3):
        off = angle(thing.axes[:, column], rotation[:, column])
        assert min(off, 180 - off) < (0.5, 0.5, 0.01)[column]
    if rotation[2, 1] == 0:  # seen frontally: no part is nearer, so the mean is in the middle
        assert np.abs(thing.centroid - center).max() < pixel / 4


def test_space_scales_with_depth():
    random = np.random.default_rng(0)
    labels = np.kron(random.integers(0, 3, (9, 12)), np.ones((10, 10))).astype(np.uint8)
    depth = (1 + np.kron(random.random((9, 12)), np.ones((10, 10)))).astype(np.float32)
    depth += random.normal(0, 0.003, SIZE).astype(np.float32)
    ones = search(labels, depth, (1, 2))
    for scale, tolerance in ((2, 0), (0.25, 0), (7, 1e-5)):
        scaled = search(labels, np.float32(scale) * depth, (1, 2))
        assert len(scaled) == len(ones) > 30
        for thing, one in zip(scaled, ones, strict=True):
            assert (thing.id, thing.area, thing.box) == (one.id, one.area, one.box)
            for name in ('centroid', 'center', 'size'):
                expected = scale * getattr(one, name)
                off = np.abs(getattr(thing, name) - expected).max()
                assert off <= tolerance * scale


def test_small_things_far_away_are_measured_as_well_as_their_depth_is():
    camera = Pinhole(20000, 20000, -4000, -3000)
    labels = np.zeros(SIZE, np.uint8)
    labels[20:60, 30:78] = 1
    depth = np.full(SIZE, 20, np.float32)
    (thing,) = search(labels, depth, camera=camera)
    pixel = 20 / 20000
    assert np.abs(thing.center - (4053.5 * pixel, 3039.5 * pixel, 20)).max() < 1e-5
    assert np.abs(thing.size - (47 * pixel, 39 * pixel, 0)).max() < 1e-5
    assert np.abs(thing.axes - np.eye(3)).max() < 1e-4


@pytest.mark.parametrize('count', [500, 20000])
def test_the_box_has_the_axes_of_its_points(count):
    random = np.random.default_rng(count)
    half = np.array([0.5, 0.3, 0.1])
    turns = [about(0, 20) @ about(1, 35) @ about(2, 50), about(1, 100) @ about(0, 65)]
    some = random.uniform(-half, half, (count // 8, 3))
    mirrored = some * np.stack(np.meshgrid(*3 * [[-1, 1]]), -1).reshape(-1, 1, 3)
    points = mirrored.reshape(-1, 3)
    expected = np.quantile(points, 0.99, axis=0) - np.quantile(points, 0.01, axis=0)
    clouds = [(turn @ points.T).astype(np.float32) for turn in turns]
    centers, axes, sizes = oriented_boxes(clouds)
    assert np.abs(centers).max() < 2e-3
    assert np.abs(sizes - expected).max() < 0.02
    for turn, found in zip(turns, axes, strict=True):
        assert np.abs(np.abs(np.diag(turn.T @ found)) - 1).max() < 1e-6
        assert abs(np.linalg.det(found) - 1) < 1e-12


def test_the_sides_of_large_clouds_are_near_those_of_sorted_points():
    random = np.random.default_rng(0)
    values = np.stack(
        [random.normal(0, 1, 5000), random.exponential(1, 5000) ** 2, random.integers(0, 3, 5000)]
    ).astype(np.float32)
    assert values.shape[1] > objects.MANY
    sorted_values = np.sort(values, axis=1)
    ends = objects._ends(values.copy())
    extent = np.ptp(values, axis=1)
    for column, place in enumerate((50, 4949)):
        off = np.abs(ends[:, column] - sorted_values[:, place])
        assert (off <= 1.01 * extent / objects.BINS).all()


@pytest.mark.parametrize('rows', [30, 90])
def test_few_points_that_fly_behind_a_thing_do_not_lengthen_its_box(rows):
    labels = np.ones((rows, 2 * rows), np.uint8)
    depth = np.ones(labels.shape, np.float32)
    camera = Pinhole(rows, rows, rows, rows / 2)
    (clean,) = search(labels, depth, camera=camera)
    random = np.random.default_rng(0)
    flying = random.choice(labels.size, labels.size // 200, replace=False)
    depth.flat[flying] = 1.049  # within the jump
    (thing,) = search(labels, depth, camera=camera)
    assert thing.area == labels.size
    assert np.abs(thing.size - clean.size).max() < 0.01
    assert angle(thing.axes[:, 2], clean.axes[:, 2]) < 0.5


@pytest.mark.parametrize(
    'direction, across',
    [((0, 1, 0), (1, 0, 0)), ((1, 0, 0), (0, 1, 0)), ((0, 0.5, 0.866), (1, 0, 0))],
    ids=['upright', 'level', 'receding'],
)
def test_noise_does_not_turn_a_box_around(direction, across):
    rotation = np.stack([direction, across, np.cross(direction, across)], axis=1)
    depth = rectangle(rotation, np.array([0, 0, 2.0]), (1.4, 0.3))
    labels = np.ones(SIZE, np.uint8)
    for seed in range(20):
        noise = np.random.default_rng(seed).normal(0, 0.01, SIZE).astype(np.float32)
        thing = max(search(labels, depth + noise), key=lambda thing: thing.area)
        assert angle(thing.axes[:, 0], rotation[:, 0]) < 3
        assert angle(thing.axes[:, 1], rotation[:, 1]) < 10


@pytest.mark.parametrize(
    'region',
    [np.s_[7:8, 9:10], np.s_[3:4, 5:80], np.s_[3:70, 5:6], np.s_[3:5, 5:7], np.s_[:, :]],
    ids=['pixel', 'row', 'column', 'square', 'wall'],
)
def test_boxes_of_flat_and_thin_things_are_finite(region):
    labels = np.zeros(SIZE, np.uint8)
    labels[region] = 1
    depth = np.full(SIZE, 3.3, np.float32)
    (thing,) = search(labels, depth)
    assert thing.area == (labels == 1).sum()
    rows, columns = np.nonzero(labels)
    extents = np.ptp(columns) * 3.3 / CAMERA.fx, np.ptp(rows) * 3.3 / CAMERA.fy, 0
    expected = np.sort(extents)[::-1]
    assert (thing.size >= 0).all() and (thing.size <= expected + 1e-5).all()
    assert (thing.size >= 0.97 * expected - 1e-5).all()
    assert np.abs(thing.axes.T @ thing.axes - np.eye(3)).max() < 1e-12
    assert abs(np.linalg.det(thing.axes) - 1) < 1e-12
    assert np.abs(thing.center - thing.centroid).max() < 1e-3


def test_where_nothing_is_nothing_is_found():
    labels = np.ones(SIZE, np.uint8)
    assert search(labels, np.full(SIZE, np.nan, np.float32)) == []
    assert search(np.zeros(SIZE, np.uint8), np.ones(SIZE, np.float32)) == []


def test_shapes_and_types_that_do_not_fit_are_refused():
    labels, image = np.ones(SIZE, np.uint8), np.ones(SIZE, np.float32)
    for bad in (labels.astype(np.int32), labels[None]):
        with pytest.raises(ShapeError, match=r'labels: expected \[H, W\] uint8 or uint16, got \['):
            number_things(bad, image, 0.05)
    for bad in (image[1:], image.astype(np.float64), image[None]):
        with pytest.raises(ShapeError, match=r'depth: expected \[90, 120\] float32, the size of'):
            number_things(labels, bad, 0.05)
        with pytest.raises(ShapeError, match=r'depth: expected \[90, 120\] float32, the size of'):
            search(labels, bad)
        with pytest.raises(ShapeError, match=r'confidence: expected \[90, 120\] float32, the size'):
            search(labels, image, confidence=bad)
