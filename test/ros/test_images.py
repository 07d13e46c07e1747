import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from cliptrase_ros.ros import images

RGB = np.random.default_rng(0).integers(0, 256, (6, 8, 3)).astype(np.uint8)
GRAY = np.repeat(RGB[..., :1], 3, 2)
RGB16 = np.random.default_rng(1).integers(0, 65536, (6, 8, 3)).astype(np.uint16)
RGB_OF_16 = np.rint(RGB16 / 257).astype(np.uint8)
GRAY_OF_16 = np.repeat(RGB_OF_16[..., :1], 3, 2)


def message(rows, encoding, width, big=False, padding=0):
    """An Image with rows [H, bytes] uint8 and padded steps."""
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
    return SimpleNamespace(
        height=rows.shape[0],
        width=width,
        encoding=encoding,
        is_bigendian=int(big),
        step=rows.shape[1],
        data=rows.tobytes(),
    )


def wide(pixels, big=False):
    """16-bit pixels as the bytes of a message."""
    return pixels.astype('>u2' if big else '<u2').view(np.uint8)


def flat(pixels):
    return pixels.reshape(len(pixels), -1)


CASES = {
    'rgb8': (RGB, RGB),
    'bgr8': (RGB[..., ::-1], RGB),
    '8UC3': (RGB[..., ::-1], RGB),
    'rgba8': (np.dstack([RGB, RGB[..., :1]]), RGB),
    'bgra8': (np.dstack([RGB[..., ::-1], RGB[..., :1]]), RGB),
    '8UC4': (np.dstack([RGB[..., ::-1], RGB[..., :1]]), RGB),
    'mono8': (RGB[..., 0], GRAY),
    '8UC1': (RGB[..., 0], GRAY),
}


@pytest.mark.parametrize('padding', [0, 5])
@pytest.mark.parametrize('encoding', CASES)
def test_8_bit_images(encoding, padding):
    pixels, expected = CASES[encoding]
    got = images.to_rgb(message(flat(np.ascontiguousarray(pixels)), encoding, 8, padding=padding))
    assert got.dtype == np.uint8 and (got == expected).all()


@pytest.mark.parametrize('big', [True, False])
@pytest.mark.parametrize('padding', [0, 5, 6])
@pytest.mark.parametrize(
    'encoding, pixels, expected',
    [
        ('mono16', RGB16[..., 0], GRAY_OF_16),
        ('rgb16', RGB16, RGB_OF_16),
        ('bgr16', RGB16[..., ::-1], RGB_OF_16),
        ('rgba16', np.dstack([RGB16, RGB16[..., :1]]), RGB_OF_16),
        ('bgra16', np.dstack([RGB16[..., ::-1], RGB16[..., :1]]), RGB_OF_16),
    ],
)
def test_16_bit_images(encoding, pixels, expected, padding, big):
    rows = flat(wide(np.ascontiguousarray(pixels), big))
    got = images.to_rgb(message(rows, encoding, 8, big, padding))
    assert got.dtype == np.uint8 and (got == expected).all()


def test_every_16_bit_value_is_rounded():
    values = np.arange(65536).reshape(256, 256)
    got = images.to_rgb(message(wide(values), 'mono16', 256))
    assert (got[..., 0] == np.rint(values / 257)).all()


@pytest.mark.parametrize('size', [8, 16])
@pytest.mark.parametrize('pattern', ['rggb', 'bggr', 'gbrg', 'grbg'])
def test_bayer_patterns(pattern, size):
    """A plain colour through the mosaic is that colour again."""
    color = np.array([200, 100, 30], np.uint8)
    cell = color[['rgb'.index(c) for c in pattern]].reshape(2, 2)
    mosaic = np.tile(cell, (3, 4))
    rows = mosaic if size == 8 else flat(wide(mosaic * 257.0))
    got = images.to_rgb(message(rows, f'bayer_{pattern}{size}', 8))
    assert (got == color).all()


def test_the_mosaic_of_16_bits_is_rounded_once():
    """Interpolated in 16 bits: the mean of 0 and 200 is 100, and 100 / 257 rounds to 0."""
    mosaic = np.zeros((8, 8))
    mosaic[::4, ::2] = 200
    got = images.to_rgb(message(flat(wide(mosaic)), 'bayer_rggb16', 8))
    assert set(got[2:-2, 2:-2, 0].ravel()) == {0, 1} and not got[3, 2:-2].any()


@pytest.mark.parametrize('encoding', ['yuv422', 'uyvy', 'yuv422_yuy2', 'yuyv'])
def test_yuv(encoding):
    """Gray stays gray, and a colour comes back within the rounding of 8-bit YUV."""
    y, u, v = 150, 100, 180
    luma_first = encoding in ('yuv422_yuy2', 'yuyv')
    row = np.tile([y, u, y, v] if luma_first else [u, y, v, y], 4).astype(np.uint8)
    got = images.to_rgb(message(np.tile(row, (6, 1)), encoding, 8))
    expected = [
        1.164 * (y - 16) + 1.596 * (v - 128),
        1.164 * (y - 16) - 0.392 * (u - 128) - 0.813 * (v - 128),
        1.164 * (y - 16) + 2.017 * (u - 128),
    ]
    assert got.shape == (6, 8, 3) and np.abs(got - np.array(expected)).max() < 3


def test_every_known_encoding_is_tested_here():
    tested = {*CASES, 'mono16', 'rgb16', 'bgr16', 'rgba16', 'bgra16'}
    tested |= {'yuv422', 'uyvy', 'yuv422_yuy2', 'yuyv'}
    tested |= {f'bayer_{p}{s}' for p in ('rggb', 'bggr', 'gbrg', 'grbg') for s in (8, 16)}
    assert set(images.ENCODINGS) == tested


def test_an_rgb8_image_is_not_copied():
    given = message(flat(RGB), 'rgb8', 8)
    assert np.shares_memory(images.to_rgb(given), np.frombuffer(given.data, np.uint8))


@pytest.mark.parametrize(
    'change, reason',
    [
        ({'encoding': 'rgb32'}, "encoding 'rgb32' is not known"),
        ({'encoding': '32FC1'}, "encoding '32FC1' is not known"),
        ({'height': 0}, 'image of 8 x 0 px'),
        ({'width': 0}, 'image of 0 x 6 px'),
        ({'data': b'\0' * 143}, 'step 24 and 143 bytes'),
        ({'data': b''}, 'step 24 and 0 bytes'),
        ({'step': 23}, 'rows of 24 bytes'),
        ({'width': 9}, 'rows of 27 bytes'),
        ({'height': 7}, '144 bytes of data'),
        ({'encoding': 'yuv422', 'width': 7}, 'the width must be even'),
        ({'encoding': 'yuyv', 'width': 7}, 'the width must be even'),
    ],
)
def test_what_is_no_image_is_refused(change, reason):
    damaged = message(flat(RGB), 'rgb8', 8)
    damaged.__dict__.update(change)
    with pytest.raises(images.ImageError, match=reason):
        images.to_rgb(damaged)


@pytest.mark.parametrize(
    'pixels, encoding, step',
    [
        (RGB, 'rgb8', 24),
        (RGB[:, ::2], 'rgb8', 12),
        (RGB[..., 0], 'mono8', 8),
        (RGB[..., 0].astype(np.uint16) * 3, 'mono16', 16),
    ],
)
def test_filling_a_message(pixels, encoding, step):
    sensor_msgs = pytest.importorskip('sensor_msgs.msg')
    header = sensor_msgs.Image().header
    filled = images.fill(sensor_msgs.Image(), pixels, encoding, header)
    assert (filled.height, filled.width) == pixels.shape[:2] and filled.step == step
    assert filled.header is header and filled.is_bigendian == 0
    assert bytes(filled.data) == np.ascontiguousarray(pixels).tobytes()
    assert sys.byteorder == 'little'


def test_opencv_colours_are_what_the_table_says():
    assert cv2.cvtColor(RGB, cv2.COLOR_BGR2RGB)[0, 0].tolist() == RGB[0, 0, ::-1].tolist()
