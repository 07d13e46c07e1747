import io
import struct
import sys
import zlib
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image, features

from cliptrase_ros.errors import ImageError
from cliptrase_ros.media import compressed

RGB = np.random.default_rng(0).integers(0, 256, (6, 8, 3)).astype(np.uint8)
GRAY = np.repeat(RGB[..., :1], 3, 2)
RGB16 = np.random.default_rng(1).integers(0, 65536, (6, 8, 3)).astype(np.uint16)
RGB_OF_16 = np.rint(RGB16 / 257).astype(np.uint8)
GRAY_OF_16 = np.repeat(RGB_OF_16[..., :1], 3, 2)
SMOOTH = cv2.resize(RGB, (64, 48), interpolation=cv2.INTER_CUBIC)
MOSAIC = np.tile(np.array([[200, 100], [100, 30]], np.uint8), (8, 8))


def packed(pixels, kind, text=None, options=()):
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
    given = packed(SMOOTH[..., ::-1], 'jpeg', text, [cv2.IMWRITE_JPEG_QUALITY, 98])
    got = compressed.to_rgb(given)
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
    got = compressed.to_rgb(packed(pixels, 'png', text))
    assert got.dtype == np.uint8 and (got == expected).all()


@pytest.mark.parametrize(
    'text', ['jpeg', 'mono8; jpeg compressed mono8', 'bayer_rggb8; jpeg compressed mono8']
)
def test_a_gray_jpeg(text):
    """A grey JPEG stays grey, even one that image_transport made from a Bayer mosaic."""
    gray = SMOOTH[..., 0]
    got = compressed.to_rgb(packed(gray, 'jpeg', text, [cv2.IMWRITE_JPEG_QUALITY, 98])).astype(int)
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
    got = compressed.to_rgb(packed(mosaic, kind, text)).astype(int)
    assert got.shape == (16, 16, 3)
    assert np.abs(got.mean((0, 1)) - [200, 100, 30]).max() < (4 if kind == 'jpeg' else 0.1)


def test_an_orientation_in_exif_is_ignored():
    plain = packed(SMOOTH[..., ::-1], 'jpeg')
    exif = b'Exif\0\0II*\0\x08\0\0\0\x01\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0'
    segment = b'\xff\xe1' + (len(exif) + 2).to_bytes(2, 'big') + exif
    turned = SimpleNamespace(format='jpeg', data=plain.data[:2] + segment + plain.data[2:])
    seen = cv2.imdecode(np.frombuffer(turned.data, np.uint8), cv2.IMREAD_COLOR)
    assert seen.shape == (64, 48, 3), 'OpenCV knows this orientation'
    assert (compressed.to_rgb(turned) == compressed.to_rgb(plain)).all()


KINDS = ('JPEG', 'PNG', 'WebP', 'BMP', 'TIFF', 'GIF', 'AVIF', 'JPEG2000', 'HEIF')


def bytes_of(picture, kind, **options):
    """Return the file of a picture of Pillow."""
    if kind == 'HEIF':
        pytest.importorskip('pillow_heif').register_heif_opener()
    if kind == 'AVIF' and not features.check('avif'):
        pytest.skip('this Pillow has no AVIF')
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    'text',
    [
        '',
        ';',
        'jpeg',
        'png',
        'image/jpeg',
        'IMAGE/PNG',
        'bgr8; jpeg compressed bgr8',
        'rgb8; jpeg compressed bgr8',
    ],
)
@pytest.mark.parametrize('kind', KINDS)
def test_the_data_say_what_they_are(kind, text):
    """Whatever `format` says, also if it names another kind."""
    data = bytes_of(Image.fromarray(SMOOTH), kind)
    got = compressed.to_rgb(SimpleNamespace(format=text, data=data))
    assert got.shape == SMOOTH.shape and got.dtype == np.uint8
    assert np.abs(got.astype(int) - SMOOTH).mean() < 26, 'red and blue are not exchanged'


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('kept', [0.3, 0.9, 0.99])
def test_compressed_data_that_are_cut_off(kind, kept):
    data = bytes_of(Image.fromarray(SMOOTH), kind)
    data = data[: int(kept * len(data))]
    with pytest.raises(ImageError, match=f'^{len(data)} bytes of .* data are cut off or corrupt'):
        compressed.to_rgb(SimpleNamespace(format='jpeg', data=data))


@pytest.mark.parametrize(
    'picture, kind, close',
    [
        (Image.fromarray(SMOOTH).convert('L'), 'JPEG', 2),
        (Image.fromarray(SMOOTH).convert('CMYK'), 'JPEG', 4),
        (Image.fromarray(SMOOTH).convert('P'), 'PNG', 0),
        (Image.fromarray(SMOOTH).convert('P'), 'GIF', 0),
        (Image.fromarray(SMOOTH).convert('P'), 'BMP', 0),
        (Image.fromarray(SMOOTH).convert('1'), 'PNG', 0),
        (Image.fromarray(SMOOTH).convert('LA'), 'PNG', 0),
        (Image.fromarray(SMOOTH).convert('L'), 'WEBP', 9),
    ],
    ids=lambda it: getattr(it, 'mode', it),
)
def test_pictures_of_other_modes(picture, kind, close):
    """As Pillow decodes them."""
    data = bytes_of(picture, kind)
    got = compressed.to_rgb(SimpleNamespace(format='', data=data))
    expected = np.asarray(Image.open(io.BytesIO(data)).convert('RGB')).astype(int)
    assert np.abs(got - expected).mean() <= close


def test_a_jpeg_without_huffman_tables():
    """Cameras with motion JPEG leave the standard tables out."""
    data = bytes_of(Image.fromarray(SMOOTH), 'JPEG')
    whole = compressed.to_rgb(SimpleNamespace(format='jpeg', data=data))
    short = data
    while (at := short.find(b'\xff\xc4')) > 0:
        short = short[:at] + short[at + 2 + int.from_bytes(short[at + 2 : at + 4], 'big') :]
    assert len(short) < len(data)
    assert (compressed.to_rgb(SimpleNamespace(format='jpeg', data=short)) == whole).all()


def test_data_that_claim_to_be_huge():
    """OpenCV refuses more than 2^30 pixels with an error of its own."""
    data = bytearray(cv2.imencode('.png', RGB)[1].tobytes())
    data[16:24] = struct.pack('>II', 40000, 40000)
    data[29:33] = struct.pack('>I', zlib.crc32(data[12:29]))
    with pytest.raises(ImageError, match='bytes of PNG data are cut off or corrupt'):
        compressed.to_rgb(SimpleNamespace(format='png', data=bytes(data)))


VIDEO = b'\0\0\0\1\x67\x42\0\x1e' + bytes(40)
NOISE = bytes(range(100, 200))
FLOATS = cv2.imencode('.tiff', np.ones((6, 8), np.float32))[1].tobytes()


@pytest.mark.parametrize(
    'text, data, reason',
    [
        ('', b'', "format '' has no data; expected JPEG, PNG, WebP"),
        (
            'jpeg',
            NOISE,
            "format 'jpeg' holds unknown data that begin with 64 65 66 67 .*; expected",
        ),
        ('jpeg', b'\xff', 'holds unknown data that begin with ff; expected JPEG'),
        ('h264', VIDEO, 'holds H.264 or H.265 video, and one message of a video is not a whole'),
        ('', VIDEO[1:], 'holds H.264 or H.265 video, .* publish the images with compressed_image_'),
        ('vp9', NOISE, "format 'vp9' holds vp9 video, "),
        ('bgr8; hevc', NOISE, 'holds hevc video, '),
        ('jpeg', b'\0\0\0\x18ftypisom\0\0\0\0isomiso2', 'holds MP4 video, '),
        (
            '16UC1; compressedDepth png',
            bytes(12) + cv2.imencode('.png', GRAY)[1].tobytes(),
            'depth',
        ),
        (
            '',
            bytes(12) + cv2.imencode('.png', GRAY)[1].tobytes(),
            'holds depth and no colours: give',
        ),
        ('16UC1; compressedDepth rvl', bytes(12) + NOISE, 'holds depth and no colours'),
        ('jpeg', b'<html><head>', 'holds an HTML page; expected'),
        ('', b'\0\0\1\0\1\0' + NOISE, 'holds ICO; expected'),
        ('jxl', b'\xff\x0a' + NOISE, 'holds JPEG XL; expected'),
        ('32FC1; tiff compressed ', FLOATS, 'TIFF image of float32 numbers; expected 8 or 16 bits'),
    ],
)
def test_what_is_no_picture_is_named(text, data, reason):
    with pytest.raises(ImageError, match=reason):
        compressed.to_rgb(SimpleNamespace(format=text, data=data))


@pytest.mark.parametrize(
    'kind, module, told',
    [('HEIF', 'pillow_heif', 'HEIC needs the package pillow-heif: pip install pillow-heif')],
)
def test_a_missing_package_is_named(monkeypatch, kind, module, told):
    data = bytes_of(Image.fromarray(SMOOTH), kind)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImageError, match=told):
        compressed.to_rgb(SimpleNamespace(format='', data=data))


def test_a_pillow_without_avif_is_told(monkeypatch):
    data = bytes_of(Image.fromarray(SMOOTH), 'AVIF')
    monkeypatch.setattr(features, 'check', lambda name: False)
    with pytest.raises(ImageError, match=r'AVIF needs Pillow 11\.3 or newer'):
        compressed.to_rgb(SimpleNamespace(format='', data=data))


@pytest.mark.parametrize('text', ['', 'jpeg', 'image/webp', 'rgb8; jpeg compressed bgr8', 'mjpeg'])
def test_topics_that_may_have_colours(text):
    assert compressed.may_have_colour(text)


@pytest.mark.parametrize(
    'text',
    [
        'mono8; jpeg compressed mono8',
        'MONO16; png compressed ',
        '8UC1; png compressed ',
        '16UC1; compressedDepth',
        '32FC1; CompressedDepth rvl',
        'h264',
        'HEVC',
        'x265',
        'AV1',
    ],
)
def test_topics_without_colours(text):
    assert not compressed.may_have_colour(text)


def test_what_follows_a_jpeg_does_not_matter():
    given = packed(SMOOTH, 'jpeg')
    padded = SimpleNamespace(format='jpeg', data=given.data + b'\0some\xff')
    assert (compressed.to_rgb(padded) == compressed.to_rgb(given)).all()


def test_to_jpeg():
    good, small = (compressed.to_jpeg(SMOOTH, quality) for quality in (98, 10))
    assert good.dtype == np.uint8 and good.ndim == 1 and len(small) < len(good)
    got = compressed.to_rgb(
        SimpleNamespace(format='rgb8; jpeg compressed bgr8', data=good.tobytes())
    )
    assert np.abs(got.astype(int) - SMOOTH).mean() < 3
