import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo, Image, RegionOfInterest
from std_msgs.msg import Header

from cliptrase_ros.media import encodings
from cliptrase_ros.ros import diagnostics, messages
from cliptrase_ros.ros.parameters import NodeOptions
from cliptrase_ros.ros.space.depth import DepthError, depth_of
from cliptrase_ros.space.geometry import Pinhole, calibrated_size

NAN = float('nan')
SIZE = (60, 80)
K = np.array([[75.0, 0, 41.0], [0, 70.0, 28.0], [0, 0, 1]])
# The projection matrix of the rectified image.
P = np.array([[77.0, 0, 39.0], [0, 72.0, 30.5], [0, 0, 1]])
K_CAMERA, P_CAMERA = (Pinhole(m[0, 0], m[1, 1], m[0, 2], m[1, 2]) for m in (K, P))


def info(size=SIZE, k=K, p=P, **fields):
    """Return a calibration. A matrix that is None is not filled in (zeros)."""
    made = messages.camera_info(size, np.zeros((3, 3)) if k is None else k, Header())
    made.p = [0.0] * 12 if p is None else np.hstack([p, np.zeros((3, 1))]).ravel()
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def cropped(x, y, width, height, binning=(1, 1), size=(480, 640)):
    """Return a calibration of a crop with binning (columns, rows)."""
    roi = RegionOfInterest(x_offset=x, y_offset=y, width=width, height=height)
    return info(size, 8 * K, 8 * P, roi=roi, binning_x=binning[0], binning_y=binning[1])


def depth_image(size=SIZE, value=1500):
    """Return a depth image: 16UC1 in mm from integers, 32FC1 in metres from floats."""
    value = np.asarray(value)
    whole = value.dtype.kind in 'iu'
    pixels = np.broadcast_to(value, size).astype(np.uint16 if whole else np.float32)
    return encodings.fill_image(
        Image(), pixels, '16UC1' if whole else '32FC1', Header(frame_id='depth')
    )


def close(camera):
    return pytest.approx([camera.fx, camera.fy, camera.cx, camera.cy])


def values(camera):
    return [camera.fx, camera.fy, camera.cx, camera.cy]


@pytest.mark.parametrize(
    'size, fields, expected',
    [
        ((480, 640), {}, (480, 640)),
        ((480, 640), {'binning_x': 2, 'binning_y': 4}, (120, 320)),
        ((480, 640), {'binning_x': 1, 'binning_y': 0}, (480, 640)),
        ((480, 640), {'roi': (40, 20, 200, 100)}, (100, 200)),
        ((480, 640), {'roi': (40, 20, 200, 100), 'binning_x': 2, 'binning_y': 5}, (20, 100)),
        ((480, 640), {'roi': (40, 20, 201, 101), 'binning_x': 2, 'binning_y': 5}, (20, 100)),
        ((0, 0), {}, (0, 0)),
    ],
)
def test_the_size_that_a_calibration_is_for(size, fields, expected):
    fields = dict(fields)
    if 'roi' in fields:
        x, y, width, height = fields['roi']
        fields['roi'] = RegionOfInterest(x_offset=x, y_offset=y, width=width, height=height)
    assert calibrated_size(info(size, **fields)) == expected


@pytest.mark.parametrize(
    'k, p, expected',
    [(K, P, [P_CAMERA, K_CAMERA]), (K, None, [K_CAMERA]), (None, P, [P_CAMERA]), (None, None, [])],
)
def test_the_projection_matrix_counts_else_k(k, p, expected):
    assert messages.pinholes(info(k=k, p=p), SIZE) == expected


@pytest.mark.parametrize('place, value', [(0, NAN), (0, -77.0), (1, 0.0), (1, float('inf'))])
def test_what_is_no_focal_length_is_no_calibration(place, value):
    bad = P.copy()
    bad[place, place] = value
    assert messages.pinholes(info(p=bad), SIZE) == [K_CAMERA]
    assert messages.pinholes(info(k=bad, p=bad), SIZE) == []


@pytest.mark.parametrize('with_p', [True, False])
def test_a_point_falls_on_its_pixel_of_a_cropped_and_binned_image(with_p):
    """The expected values come from the edges of pixels: first crop, then binning."""
    given = cropped(40, 20, 200, 100, (2, 5))
    if not with_p:
        given.p = [0.0] * 12
    camera = messages.pinholes(given, calibrated_size(given))[0]
    u, v, _ = 8 * (P if with_p else K) @ (0.1, -0.07, 1)
    assert camera.fx * 0.1 + camera.cx == pytest.approx((u + 0.5 - 40) / 2 - 0.5)
    assert camera.fy * -0.07 + camera.cy == pytest.approx((v + 0.5 - 20) / 5 - 0.5)


@pytest.mark.parametrize(
    'value, metres', [(1500, 1.5), (np.float32(1.5), 1.5), ([[500], [0]] * 30, [[0.5], [NAN]] * 30)]
)
def test_reading(value, metres):
    message = depth_image(value=value)
    got = depth_of(message, info(), None, (480, 640), NodeOptions())
    assert (got.pixels == encodings.depth(message)).all() and values(got.camera) == close(P_CAMERA)
    expected = np.broadcast_to(metres, SIZE).astype(np.float32)
    assert got.metres.dtype == np.float32 and np.array_equal(got.metres, expected, equal_nan=True)


def test_the_limits_of_depth():
    row = np.linspace(0.1, 8.0, 80, dtype=np.float32)  # steps of 0.1 m
    options = {'depth.min_m': 0.5, 'depth.max_m': 3.0}
    for limits, first, last in ((options, 4, 29), ({'depth.min_m': 0.5}, 4, 79), ({}, 0, 79)):
        got = depth_of(depth_image(value=row), info(), None, SIZE, NodeOptions.from_mapping(limits))
        for line in ~np.isnan(got.metres):
            assert np.flatnonzero(line).tolist() == list(range(first, last + 1))


def test_depth_has_intrinsics_of_its_own():
    """They also count if those of the image differ a little or cannot be compared."""
    alike = P * [[1.04], [1.04], [1]]
    for of_image in (info(p=alike), info((640, 480), p=2 * P), CameraInfo()):
        got = depth_of(depth_image(), info(), of_image, SIZE, NodeOptions())
        assert values(got.camera) == close(P_CAMERA)


@pytest.mark.parametrize('scale, shift', [(1.1, 0.0), (0.9, 0.0), (1.0, 8.0), (1.0, -8.0)])
def test_depth_of_another_camera_is_told_by_its_intrinsics(scale, shift):
    """Depth of RealSense that is not aligned has the size of the colour image, but another view."""
    other = P * [[scale, 1, 1]] + [[0, 0, shift], [0, 0, 0], [0, 0, 0]]
    with pytest.raises(DepthError, match='registered to the colour image') as caught:
        depth_of(depth_image(), info(p=other), info(), SIZE, NodeOptions())
    assert caught.value.event == diagnostics.DEPTH_UNREGISTERED
    assert f'a focal length of {77 * scale:.0f} px, centre x = {39 + shift:.0f}' in str(
        caught.value
    )
    # The same holds at another size.
    large = info((480, 640), k=8 * K, p=8 * P)
    with pytest.raises(DepthError, match='registered'):
        depth_of(depth_image(), info(p=other), large, (480, 640), NodeOptions())


def test_depth_in_the_view_of_either_of_an_images_cameras_will_do():
    """A user's calibration has a P that differs from K; the factory's aligned depth does not."""
    calibrated = info(k=K, p=P * [[0.84], [0.84], [1]])
    got = depth_of(depth_image(), info(p=None), calibrated, SIZE, NodeOptions())
    assert values(got.camera) == close(K_CAMERA)


@pytest.mark.parametrize('k, p, expected', [(K, None, K_CAMERA), (None, P, P_CAMERA)])
def test_half_a_calibration_of_depth_will_do(k, p, expected):
    got = depth_of(depth_image(), info(k=k, p=p), None, SIZE, NodeOptions())
    assert values(got.camera) == close(expected)


def test_depth_that_is_cropped_and_binned():
    given = cropped(40, 20, 200, 150, (2, 2))
    got = depth_of(depth_image((75, 100)), given, None, (150, 200), NodeOptions())
    assert values(got.camera) == close(messages.pinholes(given, (75, 100))[0])
    assert got.camera.cx == pytest.approx((8 * 39.0 + 0.5 - 40) / 2 - 0.5)


@pytest.mark.parametrize(
    'own',
    [
        None,
        CameraInfo(),
        info((0, 0)),
        info((60, 0)),
        info(k=None, p=None),
        info((9, 9), None, None),
    ],
    ids=[
        'none',
        'empty',
        'no size',
        'no width',
        'not calibrated',
        'of another size, not calibrated',
    ],
)
@pytest.mark.parametrize('size', [(60, 80), (120, 160), (30, 40), (21, 28)])
def test_intrinsics_of_the_image_serve_as_well(own, size):
    """This also holds for depth of another size: a point is at the same part of the view."""
    got = depth_of(depth_image(size), own, info(), SIZE, NodeOptions()).camera
    part = size[0] / SIZE[0]
    u, v, _ = P @ (0.1, -0.07, 1)
    assert got.fx * 0.1 + got.cx == pytest.approx((u + 0.5) * part - 0.5)
    assert got.fy * -0.07 + got.cy == pytest.approx((v + 0.5) * part - 0.5)


def test_intrinsics_of_a_binned_image_serve_depth_of_another_size():
    of_image = info((480, 640), 8 * K, 8 * P, binning_x=4, binning_y=4)
    got = depth_of(depth_image(), None, of_image, (120, 160), NodeOptions())
    expected = [77.0, 72.0, (8 * 39.0 + 0.5) / 8 - 0.5, (8 * 30.5 + 0.5) / 8 - 0.5]
    assert values(got.camera) == pytest.approx(expected)


NO_INTRINSICS = (
    'depth without intrinsics: neither depth/camera_info nor camera_info has come with a focal '
    'length; remap one of them to the topic of the camera driver'
)
EMPTY = (
    'the depth image holds no valid depth: every pixel is 0, NaN, saturated, or outside '
    'depth.min_m .. depth.max_m'
)


def other_intrinsics(calibrated, what, own):
    return (
        f'the intrinsics are for {calibrated}, but the {what} has {own}, which is not the same '
        'view in another size: publish the camera_info of these images'
    )


def unregistered(own, image):
    return (
        f'depth with {own} does not show the view of the image with {image}: use depth that is '
        'registered to the colour image, for example by align_depth of RealSense or by '
        'depth_image_proc'
    )


@pytest.mark.parametrize(
    'change, event, reason',
    [
        (
            {'message': Image(encoding='rgb8', height=60, width=80, step=240)},
            diagnostics.DEPTH_BAD,
            "depth encoding 'rgb8' is not known; send one of 16UC1, mono16, 32FC1",
        ),
        (
            {'message': Image(encoding='16UC1')},
            diagnostics.DEPTH_BAD,
            'depth image of 0 x 0 px has no pixels',
        ),
        (
            {'message': Image(encoding='16UC1', height=60, width=80, step=160)},
            diagnostics.DEPTH_BAD,
            'depth image of 80 x 60 px 16UC1 needs rows of 160 bytes; it has step 160 and 0 bytes '
            'of data',
        ),
        (
            {'message': depth_image((80, 60))},
            diagnostics.DEPTH_UNREGISTERED,
            unregistered('60 x 80 px', '80 x 60 px'),
        ),
        (
            {'image_size': (60, 90)},
            diagnostics.DEPTH_UNREGISTERED,
            unregistered('80 x 60 px', '90 x 60 px'),
        ),
        ({'message': depth_image(value=0)}, diagnostics.DEPTH_EMPTY, EMPTY),
        ({'message': depth_image(value=65535)}, diagnostics.DEPTH_EMPTY, EMPTY),
        ({'message': depth_image(value=NAN)}, diagnostics.DEPTH_EMPTY, EMPTY),
        ({'options': NodeOptions(depth={'min_m': 1.6})}, diagnostics.DEPTH_EMPTY, EMPTY),
        ({'options': NodeOptions(depth={'max_m': 1.4})}, diagnostics.DEPTH_EMPTY, EMPTY),
        (
            {'message': depth_image(value=np.float32(1500))},
            diagnostics.DEPTH_BAD,
            'no pixel of the depth image is nearer than 1500 m: 32FC1 must be in metres; publish '
            'millimetres as 16UC1',
        ),
        ({'info': None}, diagnostics.DEPTH_NO_INTRINSICS, NO_INTRINSICS),
        ({'info': CameraInfo()}, diagnostics.DEPTH_NO_INTRINSICS, NO_INTRINSICS),
        ({'info': info((0, 0))}, diagnostics.DEPTH_NO_INTRINSICS, NO_INTRINSICS),
        ({'info': info(k=None, p=None)}, diagnostics.DEPTH_NO_INTRINSICS, NO_INTRINSICS),
        (
            {'info': None, 'image_info': info(k=None, p=None)},
            diagnostics.DEPTH_NO_INTRINSICS,
            NO_INTRINSICS,
        ),
        (
            {'info': info((480, 600))},
            diagnostics.DEPTH_OTHER_INTRINSICS,
            other_intrinsics('600 x 480 px', 'depth image', '80 x 60 px'),
        ),
        (
            {'info': info((120, 200), binning_x=2, binning_y=2), 'image_info': info()},
            diagnostics.DEPTH_OTHER_INTRINSICS,
            other_intrinsics('100 x 60 px', 'depth image', '80 x 60 px'),
        ),
        (
            {'info': None, 'image_info': info((360, 640))},
            diagnostics.DEPTH_OTHER_INTRINSICS,
            other_intrinsics('640 x 360 px', 'image', '80 x 60 px'),
        ),
    ],
)
def test_why_there_is_no_depth(change, event, reason):
    good = {
        'message': depth_image(),
        'info': info(),
        'image_info': None,
        'image_size': SIZE,
        'options': NodeOptions(),
    }
    depth_of(**good)
    with pytest.raises(DepthError) as caught:
        depth_of(**{**good, **change})
    assert str(caught.value) == reason and caught.value.event == event
