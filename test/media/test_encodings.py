import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

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


@pytest.mark.parametrize('encoding', ['yuv422', 'uyvy', 'yuv422_yuy2', 'yuyv'])
def test_yuv(encoding):
    """Grey stays grey, and a colour is equal within the rounding of 8-bit YUV."""
    y, u, v = 150, 100, 180
    luma_first = encoding in ('yuv422_yuy2', 'yuyv')
    row = np.tile([y, u, y, v] if luma_first else [u, y, v, y], 4).astype(np.uint8)
    got = encodings.to_rgb(message(np.tile(row, (6, 1)), encoding, 8))
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
    assert set(encodings.ENCODINGS) == tested


def test_an_rgb8_image_is_not_copied():
    given = message(flat(RGB), 'rgb8', 8)
    assert np.shares_memory(encodings.to_rgb(given), np.frombuffer(given.data, np.uint8))


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
    with pytest.raises(encodings.ImageError, match=reason):
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
    with pytest.raises(encodings.ImageError, match=f'^depth .*{reason}'):
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


SMOOTH = cv2.resize(RGB, (64, 48), interpolation=cv2.INTER_CUBIC)
MOSAIC = np.tile(np.array([[200, 100], [100, 30]], np.uint8), (8, 8))


def compressed(pixels, kind, text=None, options=()):
    """Return a CompressedImage of pixels in OpenCV's order of channels."""
    data = cv2.imencode(f'.{kind}', pixels, options)[1].tobytes()
    return SimpleNamespace(format=text or kind, data=data)


@pytest.mark.parametrize(
    'text',
    [
        'jpeg',
        'jpg',
        'JPEG',
        'jpeg compressed bgr8',
        'bgr8; jpeg compressed bgr8',
        'rgb8; jpeg compressed bgr8',
        'rgba16; jpeg compressed bgr8',
        '8UC3; jpeg compressed ',
        'yuv422_yuy2; jpeg compressed bgr8',
    ],
)
def test_jpeg(text):
    given = compressed(SMOOTH[..., ::-1], 'jpeg', text, [cv2.IMWRITE_JPEG_QUALITY, 98])
    got = encodings.compressed_to_rgb(given)
    assert got.shape == SMOOTH.shape and got.dtype == np.uint8
    assert np.abs(got.astype(int) - SMOOTH).mean() < 3


ALPHA = RGB[..., :1] // 2


@pytest.mark.parametrize(
    'pixels, text, expected',
    [
        (RGB[..., ::-1], 'png', RGB),
        (RGB[..., ::-1], 'rgb8; png compressed bgr8', RGB),
        (np.dstack([RGB[..., ::-1], ALPHA]), 'png', RGB),
        (np.dstack([RGB[..., ::-1], ALPHA]), 'bgra8; png compressed bgra8', RGB),
        (RGB16[..., ::-1], 'bgr16; png compressed bgr16', RGB_OF_16),
        (RGB16[..., 0], 'mono16; png compressed ', GRAY_OF_16),
        (RGB[..., 0], 'mono8; png compressed ', GRAY),
        (RGB[..., 0], 'rgb8; png compressed bgr8', GRAY),
        # Without "bgr" the channel order is red, green, blue.
        (RGB, 'rgb8; png compressed ', RGB),
        (RGB, 'bgr8; png compressed rgb8', RGB),
        (np.dstack([RGB, ALPHA]), 'rgba8; png compressed ', RGB),
    ],
)
def test_png(pixels, text, expected):
    got = encodings.compressed_to_rgb(compressed(pixels, 'png', text))
    assert got.dtype == np.uint8 and (got == expected).all()


@pytest.mark.parametrize(
    'text', ['jpeg', 'mono8; jpeg compressed mono8', 'bayer_rggb8; jpeg compressed mono8']
)
def test_a_gray_jpeg(text):
    """A grey JPEG stays grey, even one that image_transport made from a Bayer mosaic."""
    gray = SMOOTH[..., 0]
    got = encodings.compressed_to_rgb(
        compressed(gray, 'jpeg', text, [cv2.IMWRITE_JPEG_QUALITY, 98])
    ).astype(int)
    assert got.shape == (48, 64, 3) and (got == got[..., :1]).all()
    assert np.abs(got[..., 0] - gray).mean() < 2


@pytest.mark.parametrize(
    'kind, text, mosaic',
    [
        ('png', 'bayer_rggb8; png compressed ', MOSAIC),
        ('png', 'bayer_rggb16; png compressed ', MOSAIC.astype(np.uint16) * 257),
        ('jpeg', 'bayer_rggb8; jpeg compressed ', MOSAIC),
        ('jpeg', 'bayer_rggb8; jpeg compressed bayer_rggb8', MOSAIC),
    ],
)
def test_a_compressed_mosaic(kind, text, mosaic):
    got = encodings.compressed_to_rgb(compressed(mosaic, kind, text)).astype(int)
    assert got.shape == (16, 16, 3)
    assert np.abs(got.mean((0, 1)) - [200, 100, 30]).max() < (4 if kind == 'jpeg' else 0.1)


def test_an_orientation_in_exif_is_ignored():
    plain = compressed(SMOOTH[..., ::-1], 'jpeg')
    exif = b'Exif\0\0II*\0\x08\0\0\0\x01\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0'
    segment = b'\xff\xe1' + (len(exif) + 2).to_bytes(2, 'big') + exif
    turned = SimpleNamespace(format='jpeg', data=plain.data[:2] + segment + plain.data[2:])
    seen = cv2.imdecode(np.frombuffer(turned.data, np.uint8), cv2.IMREAD_COLOR)
    assert seen.shape == (64, 48, 3), 'OpenCV knows this orientation'
    assert (encodings.compressed_to_rgb(turned) == encodings.compressed_to_rgb(plain)).all()


@pytest.mark.parametrize(
    'text', ['', ';', 'h264', '16UC1; compressedDepth png', 'rgb8; tiff compressed ', 'bgr8; ']
)
def test_other_compressed_formats_are_refused(text):
    given = compressed(RGB, 'png')
    given.format = text
    with pytest.raises(
        encodings.ImageError, match=f"format '{text}' is not known; send jpeg or png"
    ):
        encodings.compressed_to_rgb(given)


@pytest.mark.parametrize('kind', ['jpeg', 'png'])
@pytest.mark.parametrize('kept', [0, 0.01, 0.5, 0.99])
def test_compressed_data_that_are_cut_off(kind, kept):
    given = compressed(SMOOTH, kind)
    given.data = given.data[: int(kept * len(given.data))]
    with pytest.raises(encodings.ImageError, match=f'bytes of {kind} data are cut off or corrupt'):
        encodings.compressed_to_rgb(given)


def test_what_follows_a_jpeg_does_not_matter():
    given = compressed(SMOOTH, 'jpeg')
    padded = SimpleNamespace(format='jpeg', data=given.data + b'\0some\xff')
    assert (encodings.compressed_to_rgb(padded) == encodings.compressed_to_rgb(given)).all()


@pytest.mark.parametrize('kind', ['jpeg', 'png'])
def test_compressed_data_that_are_something_else(kind):
    given = SimpleNamespace(format=kind, data=RGB.tobytes())
    with pytest.raises(
        encodings.ImageError, match=f'144 bytes of {kind} data are cut off or corrupt'
    ):
        encodings.compressed_to_rgb(given)


def test_to_jpeg():
    good, small = (encodings.to_jpeg(SMOOTH, quality) for quality in (98, 10))
    assert good.dtype == np.uint8 and good.ndim == 1 and len(small) < len(good)
    got = encodings.compressed_to_rgb(
        SimpleNamespace(format='rgb8; jpeg compressed bgr8', data=good.tobytes())
    )
    assert np.abs(got.astype(int) - SMOOTH).mean() < 3
