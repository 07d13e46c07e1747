"""Encodings with planes, compared with OpenCV and with the equations of BT.601."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from cliptrase_ros.errors import ImageError
from cliptrase_ros.media import encodings, yuv

NOISE = np.random.default_rng(0)


def planes_of(encoding, height, width):
    """Return random luma [H, W] and colours [h, w, 2], U first."""
    rows, columns = yuv.PLANES[encoding][:2]
    shape = -(-height // rows), -(-width // columns), 2
    return NOISE.integers(0, 256, (height, width), np.uint8), NOISE.integers(
        0, 256, shape, np.uint8
    )


def message(encoding, luma, colour, step=None, extra=0):
    """Return an Image with rows padded to `step`."""
    _, columns, paired, v_first = yuv.PLANES[encoding]
    height, width = luma.shape
    step = step or width
    colour = colour[..., ::-1] if v_first else colour
    pitch = -(-step // columns)
    colour = np.pad(colour, ((0, 0), (0, pitch - colour.shape[1]), (0, 0)), constant_values=55)
    luma = np.pad(luma, ((0, 0), (0, step - width)), constant_values=77)
    data = luma.tobytes() + (colour if paired else np.moveaxis(colour, 2, 0)).tobytes()
    made = {'height': height, 'width': width, 'encoding': encoding, 'step': step, 'is_bigendian': 0}
    return SimpleNamespace(**made, data=data + bytes(extra))


def by_equation(luma, colour, rows, columns):
    """BT.601 in the limited range, each sample of colour used for its whole block."""
    height, width = luma.shape
    u, v = np.moveaxis(colour.repeat(rows, 0).repeat(columns, 1)[:height, :width] - 128.0, 2, 0)
    y = 1.164 * np.maximum(luma - 16.0, 0)
    rgb = np.stack([y + 1.596 * v, y - 0.813 * v - 0.391 * u, y + 2.018 * u], -1)
    return rgb.clip(0, 255)


@pytest.mark.parametrize('size', [(6, 8), (5, 7), (5, 8), (6, 7), (1, 1), (2, 1)])
@pytest.mark.parametrize('padding', [0, 1, 8])
@pytest.mark.parametrize('encoding', yuv.PLANES)
def test_planes(encoding, padding, size):
    luma, colour = planes_of(encoding, *size)
    given = message(encoding, luma, colour, size[1] + padding)
    got = encodings.to_rgb(given)
    expected = by_equation(luma, colour, *yuv.PLANES[encoding][:2])
    assert got.dtype == np.uint8 and got.shape == expected.shape and got.flags.c_contiguous
    assert np.abs(got - expected).max() <= 1.5


@pytest.mark.parametrize(
    'encoding, code',
    [
        ('nv12', cv2.COLOR_YUV2RGB_NV12),
        ('nv21', cv2.COLOR_YUV2RGB_NV21),
        ('i420', cv2.COLOR_YUV2RGB_I420),
        ('yuv420', cv2.COLOR_YUV2RGB_I420),
        ('yv12', cv2.COLOR_YUV2RGB_YV12),
    ],
)
def test_opencv_gives_the_same(encoding, code):
    given = message(encoding, *planes_of(encoding, 48, 64))
    rows = np.frombuffer(given.data, np.uint8).reshape(72, 64)
    assert (encodings.to_rgb(given) == cv2.cvtColor(rows, code)).all()


@pytest.mark.parametrize(
    'encoding, code', [('nv16', cv2.COLOR_YUV2RGB_YUY2), ('yuv422p', cv2.COLOR_YUV2RGB_YUY2)]
)
def test_the_same_pixels_in_one_plane_and_in_several(encoding, code):
    luma, colour = planes_of(encoding, 48, 64)
    packed = np.dstack([luma, colour.reshape(48, 64)])
    assert (encodings.to_rgb(message(encoding, luma, colour)) == cv2.cvtColor(packed, code)).all()


@pytest.mark.parametrize(
    'encoding, step',
    [('nv12', 12), ('i420', 12), ('nv21', 16), ('nv16', 16), ('nv24', 24), ('nv24', 16)],
)
@pytest.mark.parametrize('extra', [0, 3])
def test_a_step_that_counts_all_planes(encoding, step, extra):
    """Also if the data have a few bytes more, such as a whole page of memory."""
    luma, colour = planes_of(encoding, 6, 8)
    expected = encodings.to_rgb(message(encoding, luma, colour))
    given = message(encoding, luma, colour, extra=extra)
    given.step = step
    assert (encodings.to_rgb(given) == expected).all()


def test_rows_padded_to_one_and_a_half_are_not_taken_for_all_planes():
    luma, colour = planes_of('nv12', 6, 8)
    got = encodings.to_rgb(message('nv12', luma, colour, 12))
    assert (got == encodings.to_rgb(message('nv12', luma, colour))).all()


@pytest.mark.parametrize('encoding', ['NV12', 'YUV420P', 'I420'])
def test_capitals(encoding):
    luma, colour = planes_of(encoding.lower(), 6, 8)
    given = message(encoding.lower(), luma, colour)
    expected = encodings.to_rgb(given)
    given.encoding = encoding
    assert (encodings.to_rgb(given) == expected).all()


@pytest.mark.parametrize(
    'change, reason',
    [
        ({'height': 0}, 'image of 8 x 0 px has no pixels'),
        ({'width': 0}, 'image of 0 x 6 px has no pixels'),
        ({'step': 7}, 'rows of 8 bytes of luma and 72 bytes in total; it has step 7 and 72'),
        ({'step': 0}, 'it has step 0'),
        ({'data': b''}, 'px nv12 needs .* 0 bytes of data'),
        ({'data': bytes(71)}, '72 bytes in total; it has step 8 and 71 bytes of data'),
        ({'height': 8}, 'needs .* 96 bytes in total; it has step 8 and 72 bytes'),
        ({'step': 10, 'data': bytes(80)}, 'with step 10 needs 90 bytes; it has 80 bytes of data'),
    ],
)
def test_what_does_not_fit_is_refused(change, reason):
    given = message('nv12', *planes_of('nv12', 6, 8))
    given.__dict__.update(change)
    with pytest.raises(ImageError, match=reason):
        encodings.to_rgb(given)
