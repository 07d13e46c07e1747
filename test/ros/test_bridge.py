"""The choice between cv_bridge and our codec, with fake modules in place of cv_bridge, and with the
real cv_bridge if one works."""

import logging
import sys

import cv2
import numpy as np
import pytest

from cliptrase_ros.media import compressed, encodings
from cliptrase_ros.ros import bridge

messages = pytest.importorskip('sensor_msgs.msg')
LOG = logging.getLogger('choice')

# Works correctly, and records the encodings that it was asked for.
GOOD = """
from cliptrase_ros.media import encodings

asked = []

class CvBridge:
    def imgmsg_to_cv2(self, message, desired_encoding):
        asked.append(message.encoding)
        assert desired_encoding == 'rgb8'
        return encodings.to_rgb(message)
"""
# Drops the low byte, reads padding as pixels, fails on big-endian messages and Bayer mosaics, and
# returns another dtype for rgba8.
POOR = """
import cv2
import numpy as np
from cliptrase_ros.media import encodings

asked = []

class CvBridge:
    def imgmsg_to_cv2(self, message, desired_encoding):
        asked.append(message.encoding)
        if message.is_bigendian or 'bayer' in message.encoding:
            raise TypeError('cannot')
        size, channels, conversion = encodings.ENCODINGS[message.encoding]
        data = np.frombuffer(message.data, np.uint8)[size - 1 :: size]
        data = data[: message.height * message.width * channels]
        pixels = data.reshape(message.height, message.width, channels)
        if conversion is not None:
            pixels = cv2.cvtColor(pixels, conversion)
        return pixels.astype(int) if message.encoding == 'rgba8' else pixels
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Function that installs a source text as the module cv_bridge."""

    def put(source):
        (tmp_path / 'cv_bridge.py').write_text(source)

    monkeypatch.delitem(sys.modules, 'cv_bridge', raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    yield put
    sys.modules.pop('cv_bridge', None)


@pytest.fixture
def choose(caplog):
    """Function that chooses a codec, and checks that one sentence of this level explains it."""

    def choose(level, sentence, **options):
        caplog.clear()
        with caplog.at_level(logging.INFO, 'choice'):
            codec = bridge.choose_codec(LOG, **options)
        (record,) = caplog.records
        assert record.levelno == level and sentence in record.getMessage()
        return codec

    return choose


def image(encoding, big=False, padding=0, size=(480, 640)):
    """Return a message of noise."""
    bytes_, channels, _ = encodings.ENCODINGS[encoding]
    height, width = size
    step = width * channels * bytes_ + padding
    message = messages.Image(height=height, width=width, step=step, encoding=encoding)
    message.is_bigendian = int(big)
    message.data.frombytes(np.random.default_rng(3).bytes(height * step))
    return message


def test_without_cv_bridge(choose, monkeypatch):
    monkeypatch.setattr(bridge.importlib.util, 'find_spec', lambda name: None)
    assert choose(logging.INFO, 'cv_bridge is not installed') is bridge.OWN
    assert bridge.OWN.name == 'numpy'
    assert bridge.OWN.to_rgb is encodings.to_rgb
    assert bridge.OWN.compressed_to_rgb is compressed.to_rgb


def test_a_cv_bridge_that_works_is_used(choose, stand_in):
    stand_in(GOOD)
    codec = choose(logging.INFO, 'with cv_bridge in 116 of 116 cases')
    assert codec.name == 'cv_bridge' and codec.compressed_to_rgb is compressed.to_rgb
    asked = sys.modules['cv_bridge'].asked
    message = image('bgr16', big=True, padding=5)
    assert (codec.to_rgb(message) == encodings.to_rgb(message)).all()
    assert asked == ['bgr16']


def test_what_it_gets_wrong_is_not_asked_of_it(choose, stand_in):
    stand_in(POOR)
    codec = choose(logging.INFO, 'with cv_bridge in ')
    asked = sys.modules['cv_bridge'].asked
    for encoding in encodings.ENCODINGS:
        for big in (False, True):
            for padding in (0, 3):
                message = image(encoding, big, padding, (12, 16))
                got = codec.to_rgb(message)
                assert got.dtype == np.uint8 and (got == encodings.to_rgb(message)).all()
                able = not (big or padding or 'bayer' in encoding or '16' in encoding)
                assert asked == [encoding] * (able and encoding != 'rgba8')
                asked.clear()


def test_bad_messages_get_our_sentences_before_it_sees_them(choose, stand_in):
    stand_in(GOOD)
    codec = choose(logging.INFO, 'with cv_bridge')
    message = image('rgb8')
    message.height = 481
    with pytest.raises(encodings.ImageError, match='640 x 481 px rgb8 needs rows of 1920 bytes'):
        codec.to_rgb(message)
    assert not sys.modules['cv_bridge'].asked


@pytest.mark.parametrize(
    'source, sentence',
    [
        ('raise ImportError("built for NumPy 1")', 'status 1. ImportError: built for NumPy 1'),
        ('import os; os.abort()', 'ended with status -6.'),
        ('import os; os._exit(0)', 'ended with status 0.'),
        ('print("hello"); raise SystemExit', 'JSONDecodeError'),
        ('import time; time.sleep(60)', 'its check took more than 2 s'),
        ('class CvBridge: pass', "'CvBridge' object has no attribute"),
        (
            'import sys\nif "pytest" in sys.modules: raise ImportError("here")\n' + GOOD,
            'broken: ImportError: here',
        ),
    ],
    ids=['import', 'abort', 'exit', 'says', 'hang', 'empty', 'only in this process'],
)
def test_a_broken_cv_bridge_does_no_harm(choose, stand_in, source, sentence):
    stand_in(source)
    assert choose(logging.WARNING, sentence, timeout_s=2 if 'sleep' in source else 20) is bridge.OWN


@pytest.fixture(scope='module')
def real():
    """The codec with the real cv_bridge. `choose_codec` imports it, since an import can crash."""
    codec = bridge.choose_codec(LOG)
    if codec is bridge.OWN:
        pytest.skip('there is no cv_bridge that works')
    return codec


# Encodings that cv_bridge does not convert to RGB. Newer versions convert the last two.
UNKNOWN = {'8UC1', '8UC3', '8UC4', 'uyvy', 'yuyv'}


def test_the_real_one_gives_the_same_arrays(real):
    convert = sys.modules['cv_bridge'].CvBridge().imgmsg_to_cv2
    for encoding in encodings.ENCODINGS.keys() - UNKNOWN:
        message = image(encoding)
        theirs = convert(message, 'rgb8')
        assert theirs.dtype == np.uint8, encoding
        assert (theirs == encodings.to_rgb(message)).all(), encoding


@pytest.mark.parametrize('padding', [0, 1, 7, 64])
@pytest.mark.parametrize('big', [False, True])
def test_the_codec_with_the_real_one(real, big, padding):
    for encoding in encodings.ENCODINGS:
        message = image(encoding, big, padding, (50, 66))
        assert (real.to_rgb(message) == encodings.to_rgb(message)).all(), encoding


@pytest.mark.parametrize('kind, channels', [('jpeg', 3), ('png', 3), ('png', 4)])
def test_the_real_one_decodes_colours_as_we_do(real, kind, channels):
    pixels = np.random.default_rng(5).integers(0, 256, (48, 64, channels)).astype(np.uint8)
    message = messages.CompressedImage(format=kind)
    message.data.frombytes(cv2.imencode(f'.{kind}', pixels)[1])
    theirs = sys.modules['cv_bridge'].CvBridge().compressed_imgmsg_to_cv2(message, 'rgb8')
    assert (theirs == compressed.to_rgb(message)).all()
