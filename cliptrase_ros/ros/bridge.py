"""Choice of the code that converts images: cv_bridge if it gives the same arrays as encodings.py,
otherwise encodings.py.

cv_bridge misreads rows whose padding is not a whole number of pixels. It cannot convert 8UC1, 8UC3
and 8UC4 to RGB. With NumPy 2 it fails on big-endian messages. If it was built for NumPy 1, it can
end a process that has NumPy 2. So every case is tried once, with a message of noise, in a child
process. encodings.py converts the cases that fail.

cv_bridge is not asked for encodings with several planes (yuv.py): it knows few of them, and no rows
with padding. compressed.py decodes all compressed images: cv_bridge calls the same decoder, but
returns uint16 for 16-bit images and does not read `format`. encodings.py also writes all messages:
it takes half the time, and cv_bridge cannot write with OpenCV 5.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..media import compressed, encodings

SIZE = 46, 70
PADDING = 7
# (encoding, big-endian, padded)
CASES = tuple(itertools.product(encodings.ENCODINGS, (False, True), (False, True)))


@dataclass(frozen=True)
class Codec:
    """Functions as in encodings.py. `name` says which code `to_rgb` uses."""

    name: str
    to_rgb: Callable[[Any], np.ndarray]
    compressed_to_rgb: Callable[[Any], np.ndarray] = compressed.to_rgb

    def any_to_rgb(self, message: Any) -> np.ndarray:
        """Convert a sensor_msgs/Image or CompressedImage."""
        raw = hasattr(message, 'encoding')
        return self.to_rgb(message) if raw else self.compressed_to_rgb(message)


OWN = Codec('numpy', encodings.to_rgb)


def choose_codec(log: Any, timeout_s: float = 20.0) -> Codec:
    """Return the codec for this process. Log in one sentence which one it is, and why.

    This takes about one second if cv_bridge is installed.
    """
    if importlib.util.find_spec('cv_bridge') is None:
        log.info('converting images with the built-in NumPy codec: cv_bridge is not installed')
        return OWN
    try:
        equal = _tried_in_a_child(timeout_s)
        from cv_bridge import CvBridge

        codec = _mixed(CvBridge(), equal)
    except subprocess.TimeoutExpired:
        problem = f'its check took more than {timeout_s:g} s'
    except Exception as error:  # any error: the node works without cv_bridge
        problem = f'{type(error).__name__}: {error}'
    else:
        log.info(
            f'converting images with cv_bridge in {len(equal)} of {len(CASES)} cases of '
            'encoding, byte order and padding, and with the built-in NumPy codec in the others'
        )
        return codec
    log.warning(
        f'converting images with the built-in NumPy codec, because cv_bridge is broken: {problem}'
    )
    return OWN


def _mixed(bridge: Any, equal: set[tuple]) -> Codec:
    """Return a codec that uses cv_bridge in these cases, and our codec in the others."""

    def to_rgb(message: Any) -> np.ndarray:
        if message.encoding not in encodings.ENCODINGS:
            return encodings.to_rgb(message)
        padded = message.step > encodings.row_bytes(message)
        if (message.encoding, bool(message.is_bigendian), padded) in equal:
            return bridge.imgmsg_to_cv2(message, 'rgb8')
        return encodings.to_rgb(message)

    return Codec('cv_bridge', to_rgb)


def _tried_in_a_child(timeout_s: float) -> set[tuple]:
    """Return the cases in which cv_bridge equals our codec.

    Raises:
        ChildProcessError: there is no such case, or the child ended early.
        subprocess.TimeoutExpired: the child took too long and was killed.
    """
    program = (
        f'import sys; sys.path[:] = {sys.path!r}; import {__name__} as b; b.print_equal_cases()'
    )
    child = subprocess.run(
        [sys.executable, '-c', program],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )
    printed = child.stdout.splitlines()
    equal = json.loads(printed[-1]) if printed and child.returncode == 0 else []
    if not equal:
        said = child.stderr.strip().splitlines() or ['']
        raise ChildProcessError(f'its check ended with status {child.returncode}. {said[-1]}')
    return {tuple(case) for case in equal}


def print_equal_cases() -> None:
    """Print the cases in which cv_bridge equals our codec as the last line; errors to stderr."""
    from cv_bridge import CvBridge

    bridge = CvBridge()
    print(json.dumps([case for case in CASES if _equal(bridge, *case)]))


def _equal(bridge: Any, encoding: str, big: bool, padded: bool) -> bool:
    from sensor_msgs.msg import Image

    noise = np.random.default_rng(0)
    try:
        height, width = SIZE
        size, channels, _ = encodings.ENCODINGS[encoding]
        message = Image(height=height, width=width, encoding=encoding, is_bigendian=int(big))
        message.step = width * size * channels + padded * PADDING
        message.data.frombytes(noise.bytes(height * message.step))
        theirs = bridge.imgmsg_to_cv2(message, 'rgb8')
        return theirs.dtype == np.uint8 and np.array_equal(theirs, encodings.to_rgb(message))
    except Exception as error:  # an error counts as not equal
        print(f'{encoding}: {type(error).__name__}: {error}', file=sys.stderr)
        return False
