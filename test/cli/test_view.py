"""`cliptrase view`: in a process, with the page; and what it refuses."""

import json
import signal
import socket
import subprocess
import sys
import urllib.request
from itertools import pairwise

import cv2
import numpy as np
import pytest
from PIL import Image
from towers import picture

from cliptrase_ros import cli
from cliptrase_ros.cli import view

TINY = ['--model', 'cliptrase-tiny', '--weights', 'random', '--device', 'cpu', '--input-size', '48']


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / 'kitchen.png'
    Image.fromarray(picture(48, 64)).save(path)
    return path


def free_port():
    with socket.socket() as one:
        one.bind(('127.0.0.1', 0))
        return one.getsockname()[1]


def parsed(*args):
    """Return the options of a command line."""
    return cli._parsers('view')[0].parse_args(['view', *map(str, args)])


@pytest.mark.slow
@pytest.mark.parametrize('source', ['photo', 'demo'])
def test_the_page_is_there_until_the_command_is_ended(source, photo):
    pytest.importorskip('viser')
    if source == 'demo':
        pytest.importorskip('pybullet')
    given = str(photo) if source == 'photo' else 'demo'
    port = free_port()
    command = [sys.executable, '-m', 'cliptrase_ros.cli', 'view', given, *TINY, '--json']
    process = subprocess.Popen(
        [*command, '--port', str(port)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        line = process.stdout.readline()
        address = json.loads(line)['address'] if line else process.stderr.read()
        assert address == f'http://127.0.0.1:{port}/'
        with urllib.request.urlopen(address) as answer:
            assert answer.status == 200 and b'<html' in answer.read()
    finally:
        process.send_signal(signal.SIGINT if source == 'photo' else signal.SIGTERM)
        more, error = process.communicate()
    assert process.returncode == 0 and more == '' and 'Traceback' not in error


@pytest.mark.parametrize(
    'args, reason',
    [
        (['nowhere.mp4'], 'no file or folder nowhere.mp4'),
        (['gopher://a'], 'expected an address that begins with rtsp://'),
        (['PHOTO', '--depth', 'depths'], '--depth: needs --intrinsics'),
        (['PHOTO', '--intrinsics', '1,2,3,4'], '--intrinsics: only depth needs them'),
        (['PHOTO', '--depth', 'depths', '--intrinsics', '1,2'], 'it holds 2 numbers'),
        (['PHOTO', '--depth', 'depths', '--intrinsics', '1,2,3,4'], 'no depth picture or folder'),
        (['demo', '--depth', 'PHOTO', '--intrinsics', '1,2,3,4'], 'has its own depth'),
        (['PHOTO', '--words', 'a', 'a'], "name 'a' appears twice"),
        (['PHOTO', '--vocabulary', 'indor'], "Did you mean 'indoor'"),
        (['PHOTO', '--input-size', '7'], 'input_size'),
    ],
)
def test_what_cannot_be_used_is_a_sentence(args, reason, photo, capsys):
    pytest.importorskip('viser')
    args = [str(photo) if one == 'PHOTO' else one for one in args]
    assert cli.main(['view', *args, *(() if '--input-size' in args else TINY)]) == 1
    error = capsys.readouterr().err
    assert error.startswith('cliptrase: ') and reason in error and 'Traceback' not in error


@pytest.mark.parametrize(
    'flags', [['--port', '0'], ['--rate', '0'], ['--depth-unit', '2'], ['--smoothing', '1']]
)
def test_flags_out_of_range_are_refused(flags, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(['view', '0', *flags])
    assert ended.value.code == 2 and 'expected' in capsys.readouterr().err


def test_a_port_in_use_is_a_sentence(photo, capsys):
    pytest.importorskip('viser')
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert cli.main(['view', str(photo), *TINY, '--port', port]) == 1
    error = capsys.readouterr().err
    assert f'127.0.0.1:{port}' in error and 'choose another port' in error


def test_without_viser_it_says_what_to_install(photo, capsys, monkeypatch):
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    assert cli.main(['view', str(photo), *TINY]) == 1
    assert 'pip install viser' in capsys.readouterr().err


def test_the_words_at_the_start():
    demo = view._chosen(parsed('demo', '--input-size', '240'))
    assert demo.stream.vocabulary[:2] == ('floor', 'wall') and demo.settings.weights == 'demo'
    assert demo.settings.input_size == 240 and demo.settings.refine == 'pamr'
    assert len(demo.stream.colors_by_name) > 16
    plain = view._chosen(parsed('0', '--background', 'sky', '--smoothing', '0.5'))
    assert 'person' in plain.stream.vocabulary and plain.stream.background == ('sky',)
    assert plain.stream.smoothing == 0.5 and plain.settings.weights == 'openai'
    given = view._chosen(parsed('0', '--words', 'mug', '2:cup', '--method', 'gclip'))
    assert given.stream.vocabulary == ('mug', '2:cup') and given.settings.method == 'gclip'


def test_depth_of_a_folder(tmp_path, photo):
    depths = tmp_path / 'depth'
    depths.mkdir()
    cv2.imwrite(str(depths / 'a.png'), np.full((48, 64), 5000, np.uint16))
    flags = ['--depth', depths, '--intrinsics', '60,60,31.5,23.5', '--depth-unit', '0.0002']
    (shot,) = view._source(parsed(photo, *flags), None).read()
    assert shot.depth.shape == (48, 64) and shot.depth.max() == pytest.approx(1.0)
    assert shot.camera.fx == 60


def test_the_demo_world_has_depth_and_new_scenes(monkeypatch):
    world_module = pytest.importorskip('cliptrase_ros.demo.world')
    pytest.importorskip('pybullet')
    monkeypatch.setattr(view, 'DEMO_SCENE_S', 0.2)
    with world_module.World(7, (48, 64)) as world:
        views = view._views(world, 10.0)
        shots = [next(views) for _ in range(3)]
    assert [shot.time_s for shot in shots] == pytest.approx([0.0, 0.1, 0.2])
    assert all(shot.image.shape == (48, 64, 3) for shot in shots)
    assert all(np.nanmin(shot.depth) > 0 and shot.camera.fx > 0 for shot in shots)
    apart = [np.abs(a.image.astype(int) - b.image).mean() for a, b in pairwise(shots)]
    assert apart[1] > apart[0]
