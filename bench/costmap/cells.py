"""Cells of a costmap: parameters of the layer, the truth of the demo world, scores.

No ROS is needed here. Cells are arrays [rows along y, columns along x], as in a costmap message.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
import yaml

from cliptrase_ros.demo.things import CLASSES
from cliptrase_ros.demo.viewpoints import Camera

FLOOR, SKY = 'floor', 'sky'
LAYER = 'semantic_segmentation_layer'
# Costs from which a cell counts as marked. 254 is lethal for Nav2; its planners avoid 200.
THRESHOLDS = (254, 200)
# The camera that looks down on the scene. It is so high that it looks almost straight down.
TOP_M, TOP_PX = 25.0, 1200


@dataclass(frozen=True)
class Grid:
    """A square map around the origin of the world.

    Attributes:
        side_m: length of a side in metres.
        resolution_m: length of a side of a cell in metres.
    """

    side_m: float = 12.0
    resolution_m: float = 0.05

    @property
    def size(self) -> int:
        """Cells per side."""
        return round(self.side_m / self.resolution_m)

    def cells(self, points: np.ndarray) -> np.ndarray:
        """Return the cells [size, size] bool that hold some of the points [N, 2 or 3] in metres."""
        held = np.zeros((self.size, self.size), bool)
        places = np.floor((points[:, :2] + self.side_m / 2) / self.resolution_m).astype(int)
        x, y = places[((places >= 0) & (places < self.size)).all(1)].T
        held[y, x] = True
        return held


# Parameters of the layer


def layer_parameters(
    shipped: dict, free: list[str], avoid: list[str], changes: dict[str, str]
) -> dict:
    """Return the layer's block of config/nav2_semantic_layer.yaml for other words.

    Only the class types `free` and `avoid` remain.

    Args:
        shipped: the whole file.
        changes: {key: value in YAML}. Keys begin in the block of the layer's only source, such as
            avoid.base_cost, or in that of the layer.

    Raises:
        SystemExit: there is no such key.
    """
    block = shipped['local_costmap']['local_costmap']['ros__parameters'][LAYER]
    source = block[block['observation_sources']]
    kept = {'free': free, 'avoid': avoid}
    other = set(source['class_types']) - kept.keys()
    source = {key: value for key, value in source.items() if key not in other}
    source |= {name: source[name] | {'classes': words} for name, words in kept.items()}
    block = block | {block['observation_sources']: source | {'class_types': list(kept)}}
    for key, value in changes.items():
        _change(block, key, yaml.safe_load(value))
    return block


def demo_layer(shipped: dict, changes: dict[str, str]) -> dict:
    """Return `layer_parameters` for the words of the demo world: everything is avoided except the
    floor, and except the sky, which has no depth."""
    others = [name for name in CLASSES if name not in (FLOOR, SKY)]
    return layer_parameters(shipped, [FLOOR], others, changes)


def _change(block: dict, key: str, value) -> None:
    *path, last = key.split('.')
    for part in (block[block['observation_sources']], block):
        for name in path:
            part = part.get(name, {})
        if last in part:
            part[last] = value
            return
    raise SystemExit(f'--layer {key}: the layer in config/nav2_semantic_layer.yaml has no such key')


def costmap_parameters(layer: dict, grid: Grid) -> dict:
    """Return the parameters of a costmap with this layer only, in the frames of the demo world."""
    values = {
        'global_frame': 'world',
        'robot_base_frame': 'camera_optical_frame',
        'update_frequency': 5.0,
        'publish_frequency': 5.0,
        'always_send_full_costmap': True,
        'transform_tolerance': 1.0,
        'width': round(grid.side_m),
        'height': round(grid.side_m),
        'origin_x': -grid.side_m / 2,
        'origin_y': -grid.side_m / 2,
        'resolution': grid.resolution_m,
        'plugins': [LAYER],
        LAYER: layer,
    }
    return {'/**': {'ros__parameters': values}}


# Truth


def pose_matrix(position, quaternion) -> np.ndarray:
    """Return [4, 4] of a position (x, y, z) and a unit quaternion (x, y, z, w)."""
    x, y, z, w = quaternion
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    pose = np.eye(4)
    pose[:3, :3] += 2 * (w * cross + cross @ cross)
    pose[:3, 3] = position
    return pose


def in_world(depth: np.ndarray, matrix: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """Return the points [H, W, 3] of a depth image in the world.

    Args:
        depth: [H, W] metres along the optical axis, NaN where there is none.
        matrix: [3, 3] of the pinhole camera.
        pose: [4, 4], camera optical frame in the world.
    """
    rows, columns = np.indices(depth.shape)
    x = (columns - matrix[0, 2]) / matrix[0, 0] * depth
    y = (rows - matrix[1, 2]) / matrix[1, 1] * depth
    return np.stack([x, y, depth], axis=-1) @ pose[:3, :3].T + pose[:3, 3]


def seen(
    depth: np.ndarray,
    thing: np.ndarray,
    matrix: np.ndarray,
    pose: np.ndarray,
    nearest: float,
    farthest: float,
) -> np.ndarray:
    """Return the points [N, 3] in the world of the pixels `thing` [H, W] bool whose distance from
    the camera is in the layer's range in metres."""
    points = in_world(depth, matrix, pose)[thing & (depth > 0)]
    distance = np.linalg.norm(points - pose[:3, 3], axis=1)
    return points[(distance > nearest) & (distance < farthest)]


def footprint(world, grid: Grid) -> np.ndarray:
    """Return the cells [size, size] bool that hold geometry which is not floor, seen from above.

    What is hidden below a thing has that thing in its cell.

    Args:
        world: a demo.world.World in the scene of interest, whose pictures are TOP_PX square.
    """
    camera = Camera((0.0, 0.0, TOP_M), (0.0, 0.01, 0.0), 2 * math.atan(grid.side_m / 2 / TOP_M))
    view = world.render(camera)
    solid = np.array([thing.name not in (FLOOR, SKY) for thing in view.things])[view.instances]
    return grid.cells(in_world(view.depth, view.camera_matrix, view.pose)[solid])


def coarse(labels: np.ndarray, patch: int) -> np.ndarray:
    """Return labels [H, W] uint8 as of a perfect model that sees patches of this side in pixels: it
    knows the share of each class in each patch."""
    size = labels.shape[1] // patch, labels.shape[0] // patch
    numbers, scores = np.unique(labels), []
    for number in numbers:
        share = cv2.resize(
            (labels == number).astype(np.float32), size, interpolation=cv2.INTER_AREA
        )
        scores.append(cv2.resize(share, labels.shape[::-1], interpolation=cv2.INTER_LINEAR))
    return numbers[np.argmax(scores, 0)]


# Scores


@dataclass(frozen=True)
class Matched:
    """How many cells have a cell of another kind in their place.

    Attributes:
        cells: their number.
        near: those that have one in the same cell or in one of its eight neighbours.
        same: those that have one in the same cell.
    """

    cells: int = 0
    near: int = 0
    same: int = 0

    def __add__(self, other: 'Matched') -> 'Matched':
        return Matched(self.cells + other.cells, self.near + other.near, self.same + other.same)

    @property
    def row(self) -> list:
        """The number of cells, and the shares near and same."""
        shares = [f'{n / self.cells:.3f}' if self.cells else '-' for n in (self.near, self.same)]
        return [self.cells, *shares]


def matched(cells: np.ndarray, others: np.ndarray) -> Matched:
    """Compare two kinds of cells, [H, W] bool each.

    The precision of marked cells is matched(marked, true); their recall is matched(true, marked).
    """
    near, same = cells & grown(others), cells & others
    return Matched(*(int(np.count_nonzero(of)) for of in (cells, near, same)))


def grown(cells: np.ndarray) -> np.ndarray:
    """Return the cells [H, W] bool and their eight neighbours."""
    padded = np.pad(cells, 1)
    height, width = cells.shape
    shifted = [padded[y : y + height, x : x + width] for y in range(3) for x in range(3)]
    return np.any(shifted, axis=0)
