import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from cliptrase_ros.errors import ImageError
from cliptrase_ros.media import encodings

RGB = np.random.default_rng(0).integers(0, 256, (6, 8, 3)).astype(np.uint8)
GRAY = np.repeat(RGB[..., :1], 3, 2)
RGB16 = np.random.default_rng(1).integers(0, 65536, (6, 8, 3)).astype(np.uint16)
RGB_OF_16 = np.rint(RGB16 / 257).astype(np.uint8)
GRAY_OF_16 = np.repeat(RGB_OF_16[..., :1], 3, 2)


def message(rows, encoding, width, big=False, padding=0):
    """Return an Image with rows [H, bytes] uint8 and padded steps."""
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
    """Return 16-bit pixels as the bytes of a message."""
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
    got = encodings.to_rgb(
        message(flat(np.ascontiguousarray(pixels)), encoding, 8, padding=padding)
    )
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
        ('16UC3', RGB16[..., ::-1], RGB_OF_16),
        ('16UC4', np.dstack([RGB16[..., ::-1], RGB16[..., :1]]), RGB_OF_16),
    ],
)
def test_16_bit_images(encoding, pixels, expected, padding, big):
    rows = flat(wide(np.ascontiguousarray(pixels), big))
    got = encodings.to_rgb(message(rows, encoding, 8, big, padding))
    assert got.dtype == np.uint8 and (got == expected).all()


def test_every_16_bit_value_is_rounded():
    values = np.arange(65536).reshape(256, 256)
    got = encodings.to_rgb(message(wide(values), 'mono16', 256))
    assert (got[..., 0] == np.rint(values / 257)).all()


@pytest.mark.parametrize('size', [8, 16])
@pytest.mark.parametrize('pattern', ['rggb', 'bggr', 'gbrg', 'grbg'])
def test_bayer_patterns(pattern, size):
    """A plain colour stays the same through mosaic and demosaic."""
    color = np.array([200, 100, 30], np.uint8)
    cell = color[['rgb'.index(c) for c in pattern]].reshape(2, 2)
    mosaic = np.tile(cell, (3, 4))
    rows = mosaic if size == 8 else flat(wide(mosaic * 257.0))
    got = encodings.to_rgb(message(rows, f'bayer_{pattern}{size}', 8))
    assert (got == color).all()


def test_the_mosaic_of_16_bits_is_rounded_once():
    """Interpolation is in 16 bits: the mean of 0 and 200 is 100, and 100 / 257 rounds to 0."""
    mosaic = np.zeros((8, 8))
    mosaic[::4, ::2] = 200
    got = encodings.to_rgb(message(flat(wide(mosaic)), 'bayer_rggb16', 8))
    assert set(got[2:-2, 2:-2, 0].ravel()) == {0, 1} and not got[3, 2:-2].any()


@pytest.mark.parametrize('encoding', ['yuv422', 'uyvy', 'yuv422_yuy2', 'yuyv', 'yuy2', 'yvyu'])
def test_yuv(encoding):
    """Grey stays grey, and a colour is equal within the rounding of 8-bit YUV."""
    y, u, v = 150, 100, 180
    samples = [u, y, v, y] if encoding in ('yuv422', 'uyvy') else [y, u, y, v]
    samples = [y, v, y, u] if encoding == 'yvyu' else samples
    row = np.tile(samples, 4).astype(np.uint8)
    got = encodings.to_rgb(message(np.tile(row, (6, 1)), encoding, 8))
    expected = [
        1.164 * (y - 16) + 1.596 * (v - 128),
        1.164 * (y - 16) - 0.392 * (u - 128) - 0.813 * (v - 128),
        1.164 * (y - 16) + 2.017 * (u - 128),
    ]
    assert got.shape == (6, 8, 3) and np.abs(got - np.array(expected)).max() < 3


def test_every_known_encoding_is_tested_here():
    tested = {*CASES, 'mono16', 'rgb16', 'bgr16', 'rgba16', 'bgra16', '16UC3', '16UC4'}
    tested |= {'yuv422', 'uyvy', 'yuv422_yuy2', 'yuyv', 'yuy2', 'yvyu'}
    tested |= {f'bayer_{p}{s}' for p in ('rggb', 'bggr', 'gbrg', 'grbg') for s in (8, 16)}
    assert set(encodings.ENCODINGS) == tested


def test_every_encoding_of_jazzy_is_read_or_refused_by_name():
    """The names are those of Jazzy's image_encodings.hpp; U, S and F are numbers."""
    colour = [
        'rgb8',
        'rgba8',
        'rgb16',
        'rgba16',
        'bgr8',
        'bgra8',
        'bgr16',
        'bgra16',
        'mono8',
        'mono16',
    ]
    colour += [
        'uyvy',
        'yuv422',
        'yuyv',
        'yuv422_yuy2',
        'nv21',
        'nv24',
        '8UC1',
        '8UC3',
        '8UC4',
        '16UC3',
        '16UC4',
    ]
    colour += [f'bayer_{p}{s}' for p in ('rggb', 'bggr', 'gbrg', 'grbg') for s in (8, 16)]
    assert all(encodings.name_of(name) == name for name in colour)
    kinds = ['8UC', '8SC', '16UC', '16SC', '32SC', '32FC', '64FC']
    numbers = {f'{kind}{channels}' for kind in kinds for channels in range(1, 5)} - {*colour}
    for name in numbers:
        with pytest.raises(ImageError, match='holds numbers of unknown meaning'):
            encodings.to_rgb(message(flat(RGB), name, 8))


@pytest.mark.parametrize('encoding', ['RGB8', 'Rgb8', ' rgb8'])
def test_capitals_in_an_encoding_do_not_matter(encoding):
    assert (encodings.to_rgb(message(flat(RGB), encoding, 8)) == RGB).all()


@pytest.mark.parametrize('size', [(1, 1), (2, 2), (1, 8), (3, 5)])
def test_small_and_odd_mosaics(size):
    rows = np.full(size, 9, np.uint8)
    assert encodings.to_rgb(message(rows, 'bayer_rggb8', size[1])).shape == (*size, 3)


def test_an_rgb8_image_is_not_copied():
    given = message(flat(RGB), 'rgb8', 8)
    assert np.shares_memory(encodings.to_rgb(given), np.frombuffer(given.data, np.uint8))


@pytest.mark.parametrize(
    'change, reason',
    [
        ({'encoding': 'rgb32'}, "encoding 'rgb32' is not known"),
        ({'encoding': 'rgb9'}, r"'rgb9' is not known; send one of .* Did you mean 'rgb8'"),
        ({'encoding': ''}, "encoding '' is not known; send one of rgb8, bgr8, .*nv12"),
        ({'encoding': '16UC1'}, "encoding '16UC1' holds numbers of unknown meaning, such as depth"),
        ({'encoding': '32FC1'}, "encoding '32FC1' holds numbers of unknown meaning"),
        ({'encoding': '8SC3'}, "encoding '8SC3' holds numbers of unknown meaning"),
        ({'encoding': '64FC4'}, "encoding '64FC4' holds numbers of unknown meaning"),
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
    with pytest.raises(ImageError, match=reason):
        encodings.to_rgb(damaged)


DEPTH_MM = np.random.default_rng(2).integers(0, 65536, (6, 8)).astype(np.uint16)
DEPTH_M = np.random.default_rng(3).uniform(0, 9, (6, 8)).astype(np.float32)
DEPTH_M[0, :4] = np.nan, np.inf, 0, -1


def depth_message(pixels, encoding, big=False, padding=0):
    rows = pixels.astype(pixels.dtype.newbyteorder('>' if big else '<')).view(np.uint8)
    return message(rows, encoding, pixels.shape[1], big, padding)


@pytest.mark.parametrize('size', [(6, 8), (1, 8), (6, 1)])
@pytest.mark.parametrize('big', [True, False])
@pytest.mark.parametrize('padding', [0, 3, 4])
@pytest.mark.parametrize(
    'encoding, pixels', [('16UC1', DEPTH_MM), ('mono16', DEPTH_MM), ('32FC1', DEPTH_M)]
)
def test_depth_images(encoding, pixels, padding, big, size):
    pixels = np.ascontiguousarray(pixels[: size[0], : size[1]])
    given = depth_message(pixels, encoding, big, padding)
    kept = bytes(given.data)
    got = encodings.depth(given)
    assert got.dtype == pixels.dtype and got.dtype.isnative and got.flags.c_contiguous
    assert got.tobytes() == pixels.tobytes() and given.data == kept


def test_every_known_encoding_of_depth_is_tested_here():
    assert set(encodings.DEPTH_ENCODINGS) == {'16UC1', 'mono16', '32FC1'}


def test_a_depth_image_is_not_copied():
    given = depth_message(DEPTH_MM, '16UC1')
    assert np.shares_memory(encodings.depth(given), np.frombuffer(given.data, np.uint8))


def test_a_depth_image_of_a_message():
    sensor_msgs = pytest.importorskip('sensor_msgs.msg')
    given = sensor_msgs.Image(height=6, width=8, encoding='32FC1', step=32)
    given.data.frombytes(DEPTH_M.tobytes())
    assert np.array_equal(encodings.depth(given), DEPTH_M, equal_nan=True)


@pytest.mark.parametrize(
    'change, reason',
    [
        ({'encoding': 'rgb8'}, "encoding 'rgb8' is not known; send one of 16UC1, mono16, "),
        ({'encoding': ''}, "encoding '' is not known; send one of 16UC1, mono16, 32FC1"),
        ({'height': 0}, 'image of 8 x 0 px'),
        ({'width': 0}, 'image of 0 x 6 px'),
        ({'data': b'\0' * 95}, 'rows of 16 bytes; it has step 16 and 95 bytes of data'),
        ({'data': b''}, 'rows of 16 bytes; it has step 16 and 0 bytes of data'),
        ({'step': 15}, 'image of 8 x 6 px 16UC1 needs rows of 16 bytes; it has step 15 '),
        ({'step': 0}, 'rows of 16 bytes; it has step 0'),
        ({'height': 7}, '96 bytes of data'),
        ({'encoding': '32FC1'}, 'image of 8 x 6 px 32FC1 needs rows of 32 bytes'),
    ],
)
def test_what_is_no_depth_image_is_refused(change, reason):
    damaged = depth_message(DEPTH_MM, '16UC1')
    damaged.__dict__.update(change)
    with pytest.raises(ImageError, match=f'^depth .*{reason}'):
        encodings.depth(damaged)


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
    filled = encodings.fill_image(sensor_msgs.Image(), pixels, encoding, header)
    assert (filled.height, filled.width) == pixels.shape[:2] and filled.step == step
    assert filled.header is header and filled.is_bigendian == 0
    assert bytes(filled.data) == np.ascontiguousarray(pixels).tobytes()
    assert sys.byteorder == 'little'


def test_opencv_colours_are_what_the_table_says():
    assert cv2.cvtColor(RGB, cv2.COLOR_BGR2RGB)[0, 0].tolist() == RGB[0, 0, ::-1].tolist()
