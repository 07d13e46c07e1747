"""A picture of the camera, its labels and the costmap beside them, with the truth outlined."""

import cv2
import numpy as np

from cliptrase_ros.demo.things import CLASSES
from cliptrase_ros.media import drawing
from cliptrase_ros.words.colors import color_of

SIDE = 1000
MARGIN_M = 0.4
HEAD = 40
# How much larger the legends are than the package's own.
LARGER = 1.5
LETHAL, HIGH, LOW, FREE = (150, 30, 60), (235, 130, 50), (250, 205, 140), (235, 240, 235)
SEEN, HIDDEN, PATH = (0, 140, 60), (150, 150, 150), (20, 80, 220)
LEGEND = {
    'cost 254 (lethal)': LETHAL,
    'cost 200 to 253': HIGH,
    'cost 2 to 199': LOW,
    'free or unknown': FREE,
    'true, seen in the drive': SEEN,
    'true, not seen': HIDDEN,
    'camera': PATH,
}


def side_by_side(image, overlay, costs, truth, visible, path, grid):
    """Return a picture [H, W, 3] uint8 RGB.

    Args:
        image, overlay: [h, w, 3] uint8 RGB.
        costs: [size, size] uint8.
        truth, visible: true cells, and those of them that were seen, [size, size] bool.
        path: poses [4, 4] of the camera, the newest last.
        grid: a cells.Grid.
    """
    height = SIDE // 2
    width = round(height * image.shape[1] / image.shape[0])
    names = [(name, color_of(name)) for name in CLASSES]
    left = [
        _captioned(cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC), 'camera'),
        _captioned(cv2.resize(overlay, (width, height), interpolation=cv2.INTER_CUBIC), 'labels'),
        _legend(names, width),
    ]
    right = [
        _captioned(_map(costs, truth, visible, path, grid), 'costmap from above'),
        _legend(list(LEGEND.items()), SIDE),
    ]
    columns = [np.vstack(column) for column in (left, right)]
    tallest = max(len(column) for column in columns)
    columns = [
        np.pad(c, ((0, tallest - len(c)), (8, 8), (0, 0)), constant_values=255) for c in columns
    ]
    return np.hstack(columns)


def _map(costs, truth, visible, path, grid):
    """Return the part of the costmap with anything in it, y up, [SIDE, SIDE, 3] uint8 RGB."""
    places = np.array([pose[:2, 3] for pose in path])
    rows, columns = np.nonzero(truth & (visible | (costs > 1)) | visible)
    cells = np.concatenate([np.column_stack([columns, rows]), _cell(places, grid)])
    middle = (cells.min(0) + cells.max(0)) / 2
    span = (cells.max(0) - cells.min(0)).max() + 2 * MARGIN_M / grid.resolution_m
    scale = SIDE / span

    def to_px(points):
        """Cells (x, y) -> pixels (x, y)."""
        moved = (np.asarray(points) - middle) * scale
        return np.rint(moved * (1, -1) + SIDE / 2).astype(int)

    picture = _enlarged(_colors(costs), scale, middle, FREE)
    for color, chosen in ((HIDDEN, truth & ~visible), (SEEN, visible)):
        shape = _enlarged(chosen.astype(np.uint8), scale, middle, 0)
        outlines, _ = cv2.findContours(shape, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, outlines, -1, color, 2)
    track = to_px(_cell(places, grid))
    cv2.polylines(picture, [track], False, PATH, 3, cv2.LINE_AA)
    ahead = path[-1][:2, 2] / np.linalg.norm(path[-1][:2, 2])
    tip = to_px(_cell(places[-1:] + 0.35 * ahead, grid))[0]
    cv2.arrowedLine(picture, tuple(map(int, track[-1])), tuple(map(int, tip)), PATH, 4, cv2.LINE_AA)
    cv2.circle(picture, tuple(map(int, track[-1])), 9, PATH, cv2.FILLED, cv2.LINE_AA)
    return picture


def _colors(costs):
    table = np.array([FREE, FREE, *[LOW] * 198, *[HIGH] * 54, LETHAL, FREE], np.uint8)
    return table[costs]


def _cell(places, grid):
    """Return places [N, 2] in metres as cells; the middle of a cell is an integer."""
    return (places + grid.side_m / 2) / grid.resolution_m - 0.5


def _enlarged(cells, scale, middle, beside):
    """Return cells [size, size, ...] around a middle (x, y) as pixels, y up; `beside` the map."""
    to_cells = np.array(
        [
            [1 / scale, 0, middle[0] - SIDE / 2 / scale],
            [0, -1 / scale, middle[1] + SIDE / 2 / scale],
        ]
    )
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(cells, to_cells, (SIDE, SIDE), flags=flags, borderValue=beside)


def _legend(entries, width):
    small = drawing.legend(entries, round(width / LARGER))
    return cv2.resize(small, (width, round(len(small) * LARGER)), interpolation=cv2.INTER_CUBIC)


def _captioned(picture, text):
    head = np.full((HEAD, picture.shape[1], 3), 255, np.uint8)
    cv2.putText(head, text, (4, 29), cv2.FONT_HERSHEY_SIMPLEX, 0.95, (0, 0, 0), 2, cv2.LINE_AA)
    return np.vstack([head, picture])
