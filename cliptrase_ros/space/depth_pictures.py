"""Depth pictures in files: 16-bit steps, or 32-bit float metres."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from ..errors import PictureError
from .geometry import SATURATED_MM, metres, same_view

# One step of 16UC1 depth is a millimetre (REP 118).
MM = 0.001


def read_depth(path: Path, unit_m: float, size: tuple[int, int]) -> np.ndarray:
    """Return a depth picture [H, W]: uint16 in mm if one step is 1 mm, otherwise float32 in m.

    Args:
        path: 16-bit picture (0 and 65535 are not valid), or 32-bit float picture in metres.
        unit_m: metres per step of a 16-bit picture.
        size: (H, W) of the picture that it belongs to, with the same aspect.

    Returns:
        uint16: the unchanged picture. float32: with NaN where it is not valid.

    Raises:
        PictureError: it cannot be read, is of another kind, or has another aspect.
    """
    pixels = pixels_of(path)
    if pixels is None:
        raise PictureError(f'{path} cannot be read')
    check_depth(path, pixels, size)
    if pixels.dtype == np.float32:
        return metres(pixels)
    if unit_m == MM:
        return pixels
    result = pixels * np.float32(unit_m)
    result[(pixels == 0) | (pixels == SATURATED_MM)] = np.nan
    return result


def pixels_of(path: Path, flags: int = cv2.IMREAD_UNCHANGED) -> np.ndarray | None:
    """Return the pixels, or None if the file cannot be read."""
    try:
        return cv2.imread(str(path), flags)
    except cv2.error:  # the picture is too large
        return None


def check_depth(path: Path, pixels: np.ndarray, size: tuple[int, int]) -> None:
    """Raise PictureError unless the pixels are a depth picture of the view of `size` (H, W)."""
    if pixels.ndim != 2 or pixels.dtype not in (np.uint16, np.float32):
        channels = pixels.shape[2] if pixels.ndim == 3 else 1
        raise PictureError(
            f'{path} is {pixels.dtype} with {channels} channels; give 16-bit PNG or 32-bit float '
            'TIFF in metres, with one channel'
        )
    if not same_view(pixels.shape, size):
        (h, w), (height, width) = pixels.shape, size
        raise PictureError(
            f'{path} is {w} x {h} px, but its picture is {width} x {height} px: give depth that is '
            'registered to the picture'
        )
