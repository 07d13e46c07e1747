"""The simulated camera: its ground truth, its geometry, its scenes."""

import subprocess
import sys
from itertools import islice

import numpy as np
import pytest

from cliptrase_ros.demo import captions, renders, textures, viewpoints
from cliptrase_ros.demo.things import ASSETS, COLORS, THINGS, Thing
from cliptrase_ros.demo.world import CLASSES, MissingExtra, World
from cliptrase_ros.errors import SettingError

pytest.importorskip('pybullet', reason='the extra [demo] is not installed')

SIZE = (60, 80)


@pytest.fixture(scope='module')
def world():
    with World(3, SIZE) as made:
        yield made


def back_projected(view):
    """Return the world coordinates [H, W, 3] of every pixel."""
    height, width = view.depth.shape
    y, x = np.mgrid[:height, :width]
    rays = np.stack([x, y, np.ones_like(x)], -1) @ np.linalg.inv(view.camera_matrix).T
    return (rays * view.depth[..., None]) @ view.pose[:3, :3].T + view.pose[:3, 3]


def where(view, name):
    return np.array([thing.name == name for thing in view.things])[view.instances]


def view_of(world, *things, share=0.0):
    """Return a view in which each of the things covers more than `share` of the picture."""
    for _ in range(300):
        view = world.render(world.draw_camera())
        if all(view.share().get(thing, 0) > share for thing in things):
            return view
    raise AssertionError(f'no view shows {things}')


def test_a_seed_is_a_world():
    with World(11, SIZE) as one, World(11, SIZE) as same, World(12, SIZE) as other:
        views = [list(islice(w.views(2), 3)) for w in (one, same, other)]
    for a, b, c in zip(*views, strict=True):
        assert (a.image == b.image).all() and (a.instances == b.instances).all()
        np.testing.assert_array_equal(a.depth, b.depth)
        assert (a.image != c.image).mean() > 0.3


def test_depth_intrinsics_and_pose_agree_with_the_room(world):
    checked = set()
    for _ in range(6):
        world.new_scene([('mug', 'red')])  # on a table, in a room
        view = world.render(world.draw_camera())
        points = back_projected(view)
        floor, wall = where(view, 'floor'), where(view, 'wall')
        assert np.abs(points[floor][:, 2]).max(initial=0) < 2e-3
        inner = world.half_m - 0.03
        off = np.abs(np.abs(points[wall][:, :2]) - inner).min(1) if wall.any() else np.zeros(1)
        assert np.percentile(off, 95) < 1e-3
        checked |= {name for name, mask in (('floor', floor), ('wall', wall)) if mask.sum() > 50}
        np.testing.assert_allclose(view.pose[:3, :3] @ view.pose[:3, :3].T, np.eye(3), atol=1e-9)
        assert np.linalg.det(view.pose[:3, :3]) == pytest.approx(1)
    assert checked == {'floor', 'wall'}


def test_views_hold_what_is_promised():
    seen = set()
    with World(8, SIZE) as world:
        views = list(islice(world.views(), 60))
    for view in views:
        assert view.image.shape == (*SIZE, 3) and view.image.dtype == np.uint8
        assert view.depth.dtype == np.float32 and view.instances.shape == SIZE
        sky = view.instances == 0
        assert (np.isnan(view.depth) == sky).all() and (view.depth[~sky] > 0).all()
        shares = view.share()
        assert sum(shares.values()) == pytest.approx(1) and max(shares.values()) < 0.93
        assert set(view.things) <= set(THINGS)
        seen |= {thing.name for thing in shares}
    assert seen == set(CLASSES)


def test_labels_take_a_colour_before_the_bare_name(world):
    world.new_scene([('mug', 'red'), ('mug', 'blue')])
    view = view_of(world, Thing('mug', 'red'), Thing('mug', 'blue'))
    red, mug = (
        where(view, 'mug')
        & np.isin(
            view.instances, [n for n, thing in enumerate(view.things) if thing.color == 'red']
        ),
        where(view, 'mug'),
    )
    labels = view.labels({'mug': 5, 'red mug': 7, 'cup': 9})
    assert (labels[red] == 7).all() and (labels[mug & ~red] == 5).all()
    assert not labels[~mug].any()
    assert 0 < red.sum() < mug.sum()


def test_what_is_asked_for_stands_on_the_table(world):
    world.new_scene([('duck', 'green'), ('soccer ball', '')])
    view = world.render(world.draw_camera())
    assert {Thing('duck', 'green'), Thing('soccer ball'), Thing('table')} <= set(view.things)


@pytest.mark.parametrize('motion', viewpoints.MOTIONS)
def test_a_tour_moves_smoothly_and_through_nothing(world, motion):
    for _ in range(3):
        world.new_scene()
        cameras = list(islice(world.tour(motion, step_s=0.2), 60))
        eyes = np.array([camera.eye for camera in cameras])
        steps = np.linalg.norm(np.diff(eyes, axis=0), axis=1)
        assert steps.max() < 0.15
        assert (steps.max() > 0.01) == (motion == 'drive')
        targets = np.array([camera.target for camera in cameras])
        assert np.linalg.norm(targets - targets[0], axis=1).max() > 0.05
        for thing in world._scenery.placed:
            gap = np.hypot(*(eyes[:, :2] - thing.position[:2]).T).min()
            assert gap > thing.size / 2 or eyes[0, 2] > thing.position[2] + thing.size / 2


def test_an_empty_table_has_a_tour(world):
    world.new_scene([])
    assert len(list(islice(world.tour(), 5))) == 5
    assert world.render(world.draw_camera()).image.any()


def test_a_full_table_leaves_out_what_has_no_place(world):
    world.new_scene([('tray', '')] * 12)
    view = world.render(world.draw_camera())
    assert 1 <= sum(thing.name == 'tray' for thing in view.things) < 12


@pytest.mark.parametrize(
    'thing, reason',
    [
        (('mog', 'red'), "no 'mog'. Did you mean 'mug'"),
        (('mug', ''), "no colour ''; expected 'red'"),
        (('tray', 'red'), "no colour 'red'; expected ''"),
    ],
)
def test_what_does_not_exist_is_refused(world, thing, reason):
    with pytest.raises(SettingError, match=reason):
        world.new_scene([thing])


def test_closing_twice_is_closing():
    world = World(0, SIZE)
    world.close()
    world.close()


def test_pybullet_is_silent(capfd):
    with World(0, SIZE) as made:
        made._scenery._load('husky/husky.urdf', 1.0)
    print('heard')
    heard = capfd.readouterr()
    assert (heard.out, heard.err) == ('heard\n', '')


def test_without_pybullet_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'pybullet', None)
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    with pytest.raises(MissingExtra, match=r'pip install pybullet'):
        World(0)


def test_renders_are_kept_and_read_again(tmp_path):
    first = renders.cached(tmp_path, 70, 5, SIZE, per_file=3, jobs=1)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(files) == 2 and len(first) == 5
    again = renders.cached(tmp_path, 70, 5, SIZE, per_file=3, jobs=1)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == files
    assert (first.images == again.images).all() and first.things == again.things
    direct = renders.render(71, 2, SIZE)
    assert (again.images[3:] == direct.images).all()
    assert (again.instances[3:] == direct.instances).all() and again.things[3:] == direct.things


def test_captions_name_what_is_there_and_never_what_is_held_out():
    rng = np.random.default_rng(0)
    things = [Thing('duck', 'yellow'), Thing('block', 'blue'), Thing('mug', 'red'), Thing('table')]
    written = [captions.caption(things[: 1 + k % 4], rng) for k in range(400)]
    assert not any('yellow duck' in text or 'blue block' in text for text in written)
    assert all('duck' in text for text in written)
    assert any('red mug' in text for text in written) and any('a mug' in text for text in written)
    assert any(
        'duck on a table' in captions.caption([things[0], things[3]], rng) for _ in range(50)
    )
    assert all('{' not in text for text in written)
    assert not captions.HELD_OUT & set(captions.COLORED)


def test_every_asset_comes_in_its_colours(world):
    painted = {name for name, asset in ASSETS.items() if asset.colors}
    assert painted == {'duck', 'mug', 'block'} and len(COLORS) == 6
    world.new_scene([('block', color) for color in COLORS])
    shown = []
    for color, rgb in COLORS.items():
        world.new_scene([('block', color)])
        view = view_of(world, Thing('block', color), share=0.02)
        mean = view.image[where(view, 'block')].mean(0)
        shown.append(np.corrcoef(mean, rgb)[0, 1] if color != 'white' else float(np.ptp(mean) < 40))
    assert min(shown) > 0.8


def test_the_world_needs_neither_ros_nor_torch():
    program = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('torch', 'open_clip', 'rclpy'):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
from cliptrase_ros.demo.world import World
World(0, (48, 64)).close()
"""
    done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_texture_that_is_missing_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='duck'):
        textures.write_ducks(tmp_path / 'duck.png', tmp_path)
