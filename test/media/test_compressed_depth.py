import struct
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from cliptrase_ros.errors import ImageError
from cliptrase_ros.media import compressed_depth

MM = np.random.default_rng(0).integers(1, 65536, (6, 9)).astype(np.uint16)
MM[1:3, 2:5], MM[0, 0], MM[-1, -1] = 0, 0, 0
METRES = np.random.default_rng(1).uniform(0.3, 9, (6, 9)).astype(np.float32)
METRES[2, 3:6] = np.nan


def png(pixels):
    return cv2.imencode('.png', pixels)[1].tobytes()


def rvl(pixels):
    """Encode [H, W] uint16 with loops, from the paper."""
    halves = []

    def put(number):
        while True:
            number, three = number >> 3, number & 7
            halves.append(three | (8 if number else 0))
            if not number:
                return

    values, at, before = pixels.ravel().tolist(), 0, 0
    while at < len(values):
        zeros = 0
        while at + zeros < len(values) and not values[at + zeros]:
            zeros += 1
        at += zeros
        others = 0
        while at + others < len(values) and values[at + others]:
            others += 1
        put(zeros), put(others)
        for value in values[at : at + others]:
            step = value - before
            put(2 * step if step >= 0 else -2 * step - 1)
            before = value
        at += others
    halves += [0] * (-len(halves) % 8)
    words = [
        int(''.join(f'{h:x}' for h in halves[i : i + 8]), 16) for i in range(0, len(halves), 8)
    ]
    height, width = pixels.shape
    return struct.pack(f'<II{len(words)}I', width, height, *words)


PACK = {'png': png, 'rvl': rvl}


def header(a=0.0, b=0.0):
    return struct.pack('<iff', 0, a, b)


def message(text, data):
    return SimpleNamespace(format=text, data=data)


@pytest.mark.parametrize(
    'text, packed',
    [
        ('16UC1; compressedDepth png', 'png'),
        ('16UC1; compressedDepth', 'png'),
        ('16uc1; CompressedDepth PNG', 'png'),
        ('16UC1', 'png'),
        ('mono16; compressedDepth png', 'png'),
        ('16UC1; compressedDepth rvl', 'rvl'),
        ('16UC1; compressedDepth RVL', 'rvl'),
    ],
)
@pytest.mark.parametrize('start', [header(), header(float('nan'), -1e30)])
@pytest.mark.parametrize('pixels', [MM, MM[:1], MM[:, :1], np.zeros_like(MM), np.maximum(MM, 1)])
def test_millimetres(text, packed, start, pixels):
    """What the header holds does not matter: the package leaves it unset."""
    given = message(text, start + PACK[packed](pixels))
    got = compressed_depth.depth(given)
    assert got.dtype == np.uint16 and np.array_equal(got, pixels)
    assert compressed_depth.size(given) == pixels.shape


@pytest.mark.parametrize('packed', ['png', 'rvl'])
def test_quantised_metres(packed):
    """The defaults of compressed_depth_image_transport: quantisation 100, maximum 10 m."""
    a = np.float32(100 * 101)
    b = np.float32(1 - a / 10)
    stored = np.nan_to_num(a / METRES + b).astype(np.uint16)
    given = message(f'32FC1; compressedDepth {packed}', header(a, b) + PACK[packed](stored))
    got = compressed_depth.depth(given)
    assert got.dtype == np.float32 and compressed_depth.size(given) == METRES.shape
    assert np.array_equal(np.isnan(got), np.isnan(METRES))
    # A step of the stored number is METRES ** 2 / a.
    assert np.nanmax(np.abs(got - METRES) / METRES**2) <= 1.01 / a
    valid = stored > 0
    assert (got[valid] == a / (stored[valid].astype(np.float32) - b)).all()


@pytest.mark.parametrize('text', ['png', '', '16UC1; png compressed ', 'image/png'])
def test_a_plain_png_of_16_bits(text):
    """As the transport "compressed" sends depth."""
    given = message(text, png(MM))
    assert np.array_equal(compressed_depth.depth(given), MM)
    assert compressed_depth.size(given) == MM.shape


GOOD_RVL = header() + rvl(MM)
CORRUPT = 'RVL data are cut off or corrupt'


@pytest.mark.parametrize(
    'text, data, reason',
    [
        ('16UC1; compressedDepth png', b'', 'holds no known data; expected a 16-bit PNG or RVL'),
        ('16UC1; compressedDepth png', header(), 'holds no known data'),
        ('16UC1; jpeg compressed ', cv2.imencode('.jpg', MM // 256)[1].tobytes(), 'JPEG cannot'),
        ('16UC1; compressedDepth png', header() + png(MM)[:-30], 'PNG data are cut off or corrupt'),
        ('16UC1; compressedDepth png', header() + png(MM // 256)[:9], 'PNG data are cut off'),
        ('16UC1; compressedDepth png', header() + png(MM.astype(np.uint8)), 'pixels of uint8'),
        ('png', png(np.dstack([MM] * 3)), r'pixels of uint16, shape \[6, 9, 3\]; expected one'),
        ('compressedDepth png', header() + png(MM), 'does not say how depth is stored; expected'),
        ('rgb8; compressedDepth png', header() + png(MM), 'such as "16UC1; compressedDepth png"'),
        ('32FC1; compressedDepth png', header() + png(MM), 'has no quantisation in its header'),
        ('32FC1; compressedDepth png', header(float('nan')) + png(MM), 'has no quantisation'),
        ('32FC1; png compressed ', png(MM), 'has no quantisation in its header'),
        ('16UC1; compressedDepth rvl', b'', 'bytes of RVL data are cut off'),
        ('16UC1; compressedDepth rvl', GOOD_RVL[:16], 'bytes of RVL data are cut off'),
        ('16UC1; compressedDepth rvl', GOOD_RVL[:20], CORRUPT),
        ('16UC1; compressedDepth rvl', GOOD_RVL[:60], CORRUPT),
        ('16UC1; compressedDepth rvl', GOOD_RVL[:-8], CORRUPT),
        ('16UC1; compressedDepth rvl', GOOD_RVL[:20] + b'\xff' * 40, CORRUPT),
        ('16UC1; compressedDepth rvl', GOOD_RVL[:20] + b'\xff' * 40 + bytes(8), 'data are corrupt'),
        ('16UC1; compressedDepth rvl', header() + struct.pack('<II', 8, 2) + rvl(MM)[8:], CORRUPT),
        (
            '16UC1; compressedDepth rvl',
            header() + struct.pack('<II', 2**31, 9),
            '1 to 67108864 pix',
        ),
        (
            '16UC1; compressedDepth rvl',
            header() + struct.pack('<II', 0, 9),
            'of 0 x 9 px are corru',
        ),
    ],
)
def test_what_is_no_depth_is_refused(text, data, reason):
    with pytest.raises(ImageError, match=reason):
        compressed_depth.depth(message(text, data))


@pytest.mark.parametrize(
    'text, data', [('16UC1', b''), ('png', png(MM)[:18]), ('16UC1; rvl', header()), ('', header())]
)
def test_data_without_a_size(text, data):
    assert compressed_depth.size(message(text, data)) is None
