"""Pictures of a point cloud for people: with a grid of one metre, or in perspective."""

from __future__ import annotations

import math

import cv2
import numpy as np

from ..errors import ShapeError

Range = tuple[float, float]

EVERYWHERE = (-math.inf, math.inf)
_GROUND = (24, 24, 24)
_GRID = (64, 64, 64)
_AXIS = (120, 120, 120)
_TEXT = (255, 255, 255)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
# The viewer beside the camera is so many times as far from the middle of the cloud as the camera.
_FARTHER = 1.2


def top_view(
    points: np.ndarray,
    colors: np.ndarray,
    x_m: Range = (-3.0, 3.0),
    z_m: Range = (0.0, 6.0),
    y_m: Range = EVERYWHERE,
    pixels_per_m: float = 60.0,
) -> np.ndarray:
    """Draw a cloud from above: right is right, ahead is up.

    If several points are on one pixel, the highest is visible.

    Args:
        points: [N, 3] float32 in metres in the optical frame: x right, y down, z ahead. Points
            that are not finite are skipped.
        colors: [N, 3] uint8 RGB.
        x_m, z_m: range of the picture, (lowest, highest).
        y_m: points outside this range are skipped. (-1.0, inf) skips the ceiling, for example.

    Returns:
        [h, w, 3] uint8 RGB; h and w are the ranges of z and x times pixels_per_m.

    Raises:
        ShapeError: points and colours are not [N, 3], or a range is empty.
    """
    return _drawn(points, colors, (0, 2, 1), (x_m, z_m, y_m), pixels_per_m, up=True)


def front_view(
    points: np.ndarray,
    colors: np.ndarray,
    x_m: Range = (-3.0, 3.0),
    y_m: Range = (-2.0, 2.0),
    z_m: Range = EVERYWHERE,
    pixels_per_m: float = 60.0,
) -> np.ndarray:
    """Draw a cloud as seen from the camera, without perspective.

    If several points are on one pixel, the nearest is visible. Arguments and errors are those of
    `top_view`, but h and w are the ranges of y and x times pixels_per_m.
    """
    return _drawn(points, colors, (0, 1, 2), (x_m, y_m, z_m), pixels_per_m, up=False)


def aside_view(
    points: np.ndarray,
    colors: np.ndarray,
    size: tuple[int, int] = (480, 640),
    yaw_deg: float = 25.0,
    pitch_deg: float = 20.0,
    dot_px: int = 3,
) -> np.ndarray:
    """Draw a cloud in perspective, as somebody beside the camera sees it.

    The viewer turns around the middle of the cloud. The scale shows all points except the
    outermost. If several points are on one pixel, the nearest is visible.

    Args:
        points: [N, 3] float32 in metres in the optical frame: x right, y down, z ahead. Points
            that are not finite are skipped.
        colors: [N, 3] uint8 RGB.
        size: (height, width) of the picture in pixels.
        yaw_deg, pitch_deg: how far the viewer goes to the right and up, in degrees.
        dot_px: side of the square that a point becomes.

    Returns:
        [h, w, 3] uint8 RGB.

    Raises:
        ShapeError: points and colours are not [N, 3].
    """
    _check(points, colors)
    height, width = size
    picture = np.full((height, width, 3), _GROUND, np.uint8)
    finite = np.isfinite(points).all(axis=1)
    points, colors = points[finite].astype(np.float64), colors[finite]
    if not len(points):
        return picture
    pitch = cv2.Rodrigues(np.array([math.radians(pitch_deg), 0.0, 0.0]))[0]
    yaw = cv2.Rodrigues(np.array([0.0, math.radians(yaw_deg), 0.0]))[0]
    middle = np.median(points, axis=0)
    x, y, away = pitch @ yaw @ (points - middle).T
    distance = _FARTHER * np.linalg.norm(middle)
    ahead = away > -0.8 * distance
    colors, away = colors[ahead], away[ahead] + distance
    places = np.stack([y[ahead], x[ahead]], axis=1) / away[:, None]
    low, high = np.percentile(places, (1, 99), axis=0)
    scale = 0.95 * min(np.array(size) / np.maximum(high - low, 1e-6))
    corner = (places - (low + high) / 2) * scale + np.array(size) / 2 - dot_px / 2
    dots = np.argwhere(np.ones((dot_px, dot_px)))
    order = np.argsort(-away, kind='stable')  # the last point drawn on a pixel stays
    pixels = (corner.round().astype(np.intp)[order][:, None] + dots).reshape(-1, 2)
    colors = colors[order].repeat(len(dots), axis=0)
    inside = ((pixels >= 0) & (pixels < size)).all(axis=1)
    picture[tuple(pixels[inside].T)] = colors[inside]
    return picture


def _check(points: np.ndarray, colors: np.ndarray) -> None:
    if points.ndim != 2 or points.shape[1] != 3 or colors.shape != points.shape:
        raise ShapeError(
            'view: expected points and colours [N, 3], got '
            f'{list(points.shape)} and {list(colors.shape)}'
        )


def _drawn(
    points: np.ndarray,
    colors: np.ndarray,
    axes: tuple[int, int, int],
    ranges: tuple[Range, Range, Range],
    pixels_per_m: float,
    up: bool,
) -> np.ndarray:
    """Draw a cloud.

    Args:
        axes, ranges: of the columns, of the rows, and of the direction away from the viewer.
        up: whether the axis of the rows points up in the picture.
    """
    _check(points, colors)
    for axis, (low, high) in zip(axes, ranges, strict=True):
        if not low < high:
            raise ShapeError(f'view: the range {low:g} .. {high:g} m of {"xyz"[axis]} is empty')
    width, height = (max(1, round((high - low) * pixels_per_m)) for low, high in ranges[:2])
    inside = np.isfinite(points).all(axis=1)
    for axis, (low, high) in zip(axes, ranges, strict=True):
        inside &= (points[:, axis] >= low) & (points[:, axis] < high)
    columns, rows, away = (points[inside, axis] for axis in axes)
    columns = _places(columns, ranges[0][0], pixels_per_m, width)
    rows = _places(rows, ranges[1][0], pixels_per_m, height)
    picture = _grid(height, width, ranges[:2], pixels_per_m)
    order = np.argsort(-away, kind='stable')  # the last point drawn on a pixel stays
    picture[rows[order], columns[order]] = colors[inside][order]
    if up:
        picture = np.ascontiguousarray(picture[::-1])
    caption = ', '.join(
        f'{"xyz"[axis]} {low:.3g}..{high:.3g}'
        for axis, (low, high) in zip(axes[:2], ranges[:2], strict=True)
    )
    text = f'{caption} m; grid 1 m'
    for color, thickness in ((_GROUND, 3), (_TEXT, 1)):
        place = (4, height - 5)
        cv2.putText(picture, text, place, _FONT, 0.4, color, thickness, cv2.LINE_AA)
    return picture


def _places(values: np.ndarray, low: float, pixels_per_m: float, side: int) -> np.ndarray:
    return ((values - low) * pixels_per_m).astype(np.intp).clip(0, side - 1)


def _grid(height: int, width: int, ranges: tuple[Range, Range], pixels_per_m: float) -> np.ndarray:
    """Return an empty picture with lines at whole metres; lines through the camera are brighter."""
    picture = np.full((height, width, 3), _GROUND, np.uint8)
    by_axis = picture.swapaxes(0, 1), picture
    for color, only_zero in ((_GRID, False), (_AXIS, True)):
        for lines, (low, high) in zip(by_axis, ranges, strict=True):
            metres = np.arange(math.ceil(low), math.ceil(high))
            shown = metres[metres == 0] if only_zero else metres
            lines[_places(shown, low, pixels_per_m, len(lines))] = color
    return picture
