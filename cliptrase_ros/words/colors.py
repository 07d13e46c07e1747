"""Colours of classes: computed from the name, or given by the user."""

from __future__ import annotations

import colorsys
import hashlib
import re
from collections.abc import Sequence

from ..errors import SettingError

RGB = tuple[int, int, int]
# Means: use the colour that is computed from the name.
OF_NAME: RGB = (-1, -1, -1)

_COLOR = re.compile(r'(.+)=\s*#([0-9a-fA-F]{6})\s*')
# (saturation, value) of vivid, pale, dark and greyish colours. Hues alone would be too similar.
_SHADES = ((0.95, 0.95), (0.5, 1.0), (0.9, 0.55), (0.3, 0.75))
# Chosen so that common indoor and street words, and the words of the demo, look different.
_COLOR_SEED = '3372 '


def color_of(name: str) -> RGB:
    """Return an RGB colour (0..255 each) that depends only on the name."""
    digest = hashlib.sha256((_COLOR_SEED + name).encode()).digest()
    hue = int.from_bytes(digest[:2], 'big') / 65536
    red, green, blue = colorsys.hsv_to_rgb(hue, *_SHADES[digest[2] % len(_SHADES)])
    return round(255 * red), round(255 * green), round(255 * blue)


def parse_colors(entries: Sequence[str]) -> dict[str, RGB]:
    """Return colours by name, from entries such as 'floor=#8000ff'.

    Raises:
        SettingError: an entry does not have this form.
    """
    colors = {}
    for entry in entries:
        match = _COLOR.fullmatch(entry)
        if not match:
            raise SettingError(f"colour {entry!r}: write name=#rrggbb, such as 'floor=#8000ff'")
        red, green, blue = bytes.fromhex(match[2])
        colors[match[1].strip()] = red, green, blue
    return colors
