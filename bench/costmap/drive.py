"""`bench/costmap cells`: the costmap after a drive, compared with the demo world's truth."""

import threading
from pathlib import Path

import cv2
import numpy as np
import torch
from cells import (
    FLOOR,
    THRESHOLDS,
    TOP_PX,
    Grid,
    Matched,
    footprint,
    matched,
    pose_matrix,
    seen,
)
from picture import side_by_side
from processes import (
    CAMERA,
    DEPTH,
    INFO,
    NODES,
    OUTPUTS,
    POSE,
    TINY,
    TRUTH,
    Trouble,
    hear_frames,
    stamp_of,
    wait,
)

from cliptrase_ros.demo.things import THINGS
from cliptrase_ros.demo.world import World
from cliptrase_ros.evaluation import timing
from cliptrase_ros.media import encodings
from cliptrase_ros.words.vocabulary import parse_vocabulary

# True cells of images of this time before the costmap are not expected in it: a cell needs several
# images. "Lately" starts this long before the costmap, whatever the layer's decay is.
SETTLE_S, LATELY_S = 1.5, 3.0
FIRST_CELLS_S = 30.0
TRIES = 5
OVERLAY = f'{OUTPUTS}overlay'
COLUMNS = (
    'scene',
    'labels Hz',
    'cost from',
    'cells marked',
    'precision',
    'same cell',
    'true cells seen lately',
    'recall',
    'same cell',
    'true cells seen in the drive',
    'recall',
    'same cell',
)
TRUE_LABELS = str(Path(__file__).with_name('truth.py'))
# The fastest model, and half a patch of the demo's model.
STAND_IN = {'regions': 'none', 'depth.edge_margin_px': 4}


class Drive:
    """What the camera saw in a scene: the cells of true points of each image, and the places of
    the camera.

    Args:
        nearest, farthest: the layer's range in metres.
    """

    def __init__(self, grid, nearest, farthest):
        self._grid, self._range = grid, (nearest, farthest)
        titles, _ = parse_vocabulary([thing.title for thing in THINGS])
        self._floor = {c.name: c.id for c in titles}[FLOOR]
        self._lock = threading.Lock()
        self.clear()

    def clear(self):
        """Forget everything, at the start of a scene."""
        with self._lock:
            self._cells, self.newest, self.path = {}, {}, []

    def take(self, frame):
        """Take the messages of one stamp, as hear_frames gives them."""
        depth = encodings.depth(frame[DEPTH])
        truth = np.frombuffer(frame[TRUTH].data, np.uint8).reshape(depth.shape)
        place, turn = frame[POSE].pose.position, frame[POSE].pose.orientation
        pose = pose_matrix((place.x, place.y, place.z), (turn.x, turn.y, turn.z, turn.w))
        matrix = np.reshape(frame[INFO].k, (3, 3))
        points = seen(depth, truth != self._floor, matrix, pose, *self._range)
        with self._lock:
            self._cells[stamp_of(frame[DEPTH])] = self._grid.cells(points)
            self.path.append(pose)
            self.newest = frame

    def visible(self, since_ns, until_ns):
        """Return the cells [size, size] bool of the images in a time."""
        with self._lock:
            chosen = [c for stamp, c in self._cells.items() if since_ns <= stamp <= until_ns]
        return np.any([np.zeros((self._grid.size,) * 2, bool), *chosen], axis=0)


def cells(setup, options):
    """Print a table with two rows for each scene, one for each threshold, and those of all."""
    grid, source = Grid(), setup.layer['camera']
    drive = Drive(grid, source['min_obstacle_distance'], source['max_obstacle_distance'])
    hear_frames(setup.node, drive.take, *([OVERLAY] if options.picture else []))
    setup.listen(beside=False)
    world = {'scene_s': 'none', 'motion': options.motion}
    world |= NODES['demo'][1] | {'rate_hz': options.rate}
    setup.start_world(seed=options.seed, **world)
    if options.labels == 'truth':
        setup.start_node((TRUE_LABELS, str(options.patch_px)), **TINY | STAND_IN)
    else:
        setup.start_node(**NODES['demo'][0])
    print(timing.hardware(torch.device('cpu')))
    seen_by = f', as of patches of {options.patch_px} px' if options.labels == 'truth' else ''
    print(f'\nLabels: {options.labels}{seen_by}. {options.seconds:g} s each\n')
    print('| ' + ' | '.join(COLUMNS) + ' |\n|' + '---|' * len(COLUMNS))
    total = {threshold: [Matched()] * 3 for threshold in THRESHOLDS}
    for seed in range(options.seed, options.seed + options.scenes):
        if seed > options.seed:
            setup.start_world(seed=seed, **world)
        costs, lately, seen_cells, rate_hz = _driven(setup, drive, grid, options.seconds)
        with World(seed, (TOP_PX, TOP_PX)) as scene:
            truth = footprint(scene, grid) | seen_cells
        for threshold in THRESHOLDS:
            marked = costs >= threshold
            pairs = (marked, truth), (lately, marked), (seen_cells, marked)
            found = [matched(*pair) for pair in pairs]
            total[threshold] = [a + b for a, b in zip(total[threshold], found, strict=True)]
            _print_row(seed, f'{rate_hz:.1f}', threshold, found)
        if options.picture and seed == options.seed:
            _save(options.picture, drive, costs, truth, seen_cells, grid)
    for threshold, found in total.items():
        _print_row('all', '', threshold, found)


def _print_row(scene, rate_hz, threshold, found):
    row = scene, rate_hz, threshold, *(value for one in found for value in one.row)
    print('| ' + ' | '.join(map(str, row)) + ' |', flush=True)


def _driven(setup, drive, grid, seconds):
    """Return the costs of a new costmap after a drive, the true cells that the camera saw lately,
    those that it saw in the whole drive, [size, size] each, and the rate of the labels.

    A costmap that dies is started again.
    """
    for _ in range(TRIES):
        drive.clear()
        try:
            return _one_drive(setup, drive, grid, seconds)
        except Trouble as trouble:
            print(f'the costmap is started again: {trouble}', flush=True)
    raise SystemExit(f'the costmap failed {TRIES} times')


def _one_drive(setup, drive, grid, seconds):
    with setup.costmap(grid=grid) as costmap:
        costmap.change('configure', 'activate')
        if not wait(lambda: setup.has_cells(costmap), FIRST_CELLS_S):
            raise SystemExit(f'the costmap has no cells after {FIRST_CELLS_S:.0f} s')
        since_ns = costmap.stamp_ns
        rate_hz = setup.rate_hz(seconds)
        setup.check()
        costmap.process.check()
        costs, now_ns = costmap.costs, costmap.stamp_ns
        until_ns, lately_ns = (now_ns - int(1e9 * ago_s) for ago_s in (SETTLE_S, LATELY_S))
        seen_cells = [drive.visible(start_ns, until_ns) for start_ns in (lately_ns, since_ns)]
        return costs, *seen_cells, rate_hz


def _save(file, drive, costs, truth, visible, grid):
    images = (encodings.to_rgb(drive.newest[topic]) for topic in (CAMERA, OVERLAY))
    picture = side_by_side(*images, costs, truth, visible, drive.path, grid)
    file.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(file), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90]):
        raise SystemExit(f'{file}: cannot write a picture of this kind')
