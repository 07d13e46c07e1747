"""Outputs in space, compared with the truth of the demo world, through the messages of nodes."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rgbd import depth_array, points
from sensor_msgs.msg import Image
from std_msgs.msg import Header

import cliptrase_ros as ct
from cliptrase_ros.demo.world import CLASSES, World
from cliptrase_ros.media import encodings
from cliptrase_ros.ros import messages
from cliptrase_ros.ros.outputs import LabelledFrame, Live
from cliptrase_ros.ros.parameters import NodeOptions
from cliptrase_ros.ros.space.depth import depth_of
from cliptrase_ros.ros.space.depth_outputs import Scene
from cliptrase_ros.segmenter import Segmentation
from cliptrase_ros.space.groups import Group
from cliptrase_ros.words.vocabulary import Vocabulary

sys.path.append(str(Path(__file__).parents[3] / 'bench' / 'costmap'))

from cells import coarse

pytest.importorskip('pybullet', reason='the extra [demo] is not installed')

SIZE = (120, 160)
WORDS = Vocabulary.from_embeddings(CLASSES, np.eye(len(CLASSES)))
HEADER = Header(frame_id='eye')


@pytest.fixture(scope='module')
def segmenter():
    return ct.load(ct.Settings(model='cliptrase-tiny', weights='random', device='cpu'))


@pytest.fixture(scope='module')
def views():
    with World(21, SIZE) as world:
        return [view for _, view in zip(range(12), world.views(per_scene=2), strict=False)]


def scene(segmenter, view, encoding, labels=None, margin='none', **options):
    """Return the scene that the node makes from a view. By default every label is right."""
    if labels is None:
        labels = view.labels(WORDS.ids).astype(np.uint8)
    depth = view.depth
    if encoding == '16UC1':
        depth = np.nan_to_num(depth * 1000).round().astype(np.uint16)
    message = encodings.fill_image(Image(), depth, encoding, HEADER)
    info = messages.camera_info(SIZE, view.camera_matrix, HEADER)
    chosen = NodeOptions.from_mapping(
        {'objects.min_pixels': 40, 'depth.edge_margin_px': margin, **options}
    )
    result = Segmentation(labels, np.ones(SIZE, np.float32))
    it = LabelledFrame(view.image, HEADER, result, Live(segmenter, WORDS, 1), chosen, info)
    return Scene(it, depth_of(message, None, info, SIZE, chosen))


def truth(view):
    """Return the true points [H, W, 3] in metres, float64."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    rays = np.stack([columns, rows, np.ones(SIZE)], -1) @ np.linalg.inv(view.camera_matrix).T
    return rays * view.depth[..., None].astype(np.float64)


def xyz(cloud):
    return np.stack([cloud['x'], cloud['y'], cloud['z']], axis=-1).astype(np.float64)


@pytest.mark.parametrize('encoding', ['16UC1', '32FC1'])
def test_every_labelled_point_is_where_it_is(segmenter, views, encoding):
    floors = 0
    for view in views:
        made = scene(segmenter, view, encoding)
        found, true = xyz(points(made.cloud())), truth(view)
        labels = view.labels(WORDS.ids)
        there = (labels > 0) & np.isfinite(view.depth)
        assert (np.isfinite(found).all(-1) == there).all()
        away = np.linalg.norm(found - true, axis=-1)[there]
        assert away.max() <= 1e-3  # half a mm of depth, along a slanted ray
        # The floor is also level in the room.
        floor = points(made.group_cloud(Group('floor', ('floor',))))[0]
        in_world = xyz(floor) @ view.pose[:3, :3].T + view.pose[:3, 3]
        assert np.abs(in_world[:, 2]).max(initial=0) < 3e-3
        floors += len(floor)
    assert floors > 1000


def test_things_are_where_they_are(segmenter, views):
    checked = 0
    for view in views:
        made = scene(segmenter, view, '32FC1')
        true = truth(view)
        listed = made.objects().objects
        for number, thing in enumerate(view.things):
            of_it = (view.instances == number) & np.isfinite(view.depth)
            alone = sum(other.name == thing.name for other in view.things) == 1
            [told, *more] = [o for o in listed if o.name == thing.name] or [None]
            # If another thing hides its middle, it is found as two objects.
            if not (alone and told and not more and told.area == of_it.sum()):
                continue
            middle = true[of_it].mean(0)
            centre = told.centroid
            assert np.linalg.norm(middle - (centre.x, centre.y, centre.z)) < 1e-4
            checked += thing.name not in ('floor', 'wall')
    assert checked >= 10


@pytest.mark.parametrize('encoding', ['16UC1', '32FC1'])
@pytest.mark.parametrize('margin_m', [0.0, 0.02])
def test_nothing_is_left_of_a_target(segmenter, views, encoding, margin_m):
    removed = 0
    for view in views:
        for name in {thing.name for thing in view.things} - {'sky'}:
            made = scene(
                segmenter, view, encoding, target={'classes': (name,), 'margin_m': margin_m}
            )
            target, rest = (depth_array(m) for m in (made.target_depth(), made.rest_depth()))
            of_it = (view.labels(WORDS.ids) == WORDS.ids[name]) & np.isfinite(view.depth)
            assert not (rest[of_it] > 0).any()
            assert ((target > 0) == of_it).all()
            if not margin_m:
                assert ((rest > 0) == np.isfinite(view.depth) & ~of_it).all()
            removed += of_it.sum()
    assert removed > 1000


def test_no_label_is_far_behind_its_thing(segmenter, views):
    """A pixel at the rim of a thing has the label of the thing and the depth of what is behind."""
    streaks, kept, behind = {}, {}, 0
    for view in views:
        labels = coarse(view.labels(WORDS.ids).astype(np.uint8), 6)
        true = truth(view)
        for margin in ('none', 'auto', 4):
            made = scene(segmenter, view, '32FC1', labels, margin, target={'classes': ('table',)})
            found = np.isfinite(points(made.cloud())['z'])
            target = depth_array(made.target_depth()) > 0
            rest = np.nan_to_num(depth_array(made.rest_depth())) > 0
            for name in {thing.name for thing in view.things} - {'sky', 'floor', 'wall'}:
                number = WORDS.ids[name]
                of_it = (view.labels(WORDS.ids) == number) & np.isfinite(view.depth)
                if of_it.sum() < 40:
                    continue
                near = true[of_it]
                placed = found & (labels == number)
                apart = [np.linalg.norm(near - point, axis=1).min() for point in true[placed]]
                bad = np.array(apart) > 0.1
                streaks.setdefault(margin, []).append(bad.sum())
                kept.setdefault(margin, []).append((~bad).sum())
                cloud = points(made.group_cloud(Group(name, (name,))))
                assert cloud.shape == (1, placed.sum())
                if name == 'table':
                    assert (target == placed).all()
            table = (labels == WORDS.ids['table']) & np.isfinite(view.depth)
            assert not (rest & table).any(), 'also what is behind the edge of a target is removed'
            behind += (table & ~target).sum()
    assert behind > 0
    streaks, kept = ({m: sum(n) for m, n in all_.items()} for all_ in (streaks, kept))
    assert streaks['none'] > 0.02 * kept['none']
    for margin in ('auto', 4):
        assert streaks[margin] < 0.2 * streaks['none']
        assert kept[margin] > 0.85 * kept['none']


@pytest.mark.slow
def test_the_benchmark_of_outputs_in_space_measures_each():
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, 'bench/space.py', '--sizes', '48x64', '--repeats', '2', '--no-profile'],
        cwd=root,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    machine, _, _, _, *rows = done.stdout.splitlines()
    assert 'threads, load ' in machine
    cells = [[cell.strip() for cell in row.strip('|').split('|')] for row in rows]
    outputs = ['points', 'points/w1', 'points/all_but_w1', 'depth/target', 'depth/rest', 'objects']
    outputs.append('objects/markers')
    pairs = [name for output in outputs for name in (output, f'{output}, published')]
    assert [row[1] for row in cells] == [
        'depth in metres',
        'points, those behind edges too',
        *pairs,
        'all, published',
    ]
    assert {row[0] for row in cells} == {'48 x 64'}
    assert all(0 <= float(p50) <= float(p95) for _, _, p50, p95, _ in cells)
