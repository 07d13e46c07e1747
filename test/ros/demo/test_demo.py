"""make demo: short complete runs, its parts, and how it fails."""

import dataclasses
import json
import signal
import socket
import subprocess
import sys
from types import SimpleNamespace

import cv2
import forks
import numpy as np
import pytest
import rclpy
from builtin_interfaces.msg import Time
from cliptrase_ros.msg import Vocabulary, VocabularyClass
from forks import Fork
from PIL import Image as Pillow
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from towers import picture

from cliptrase_ros.demo import SETTINGS
from cliptrase_ros.demo.world import CLASSES
from cliptrase_ros.media import encodings
from cliptrase_ros.model import weights
from cliptrase_ros.ros.demo import panels, report, runner
from cliptrase_ros.ros.demo.collector import (
    Cloud,
    Collector,
    Failure,
    HeardLabels,
    Snapshot,
    depth_error_mm,
    points_of,
)
from cliptrase_ros.ros.space import cloud_messages
from cliptrase_ros.space import clouds

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group('demo')]

TINY = ['--model', 'cliptrase-tiny', '--weights', 'random']


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / 'photo.png'
    cv2.imwrite(str(path), picture(120, 160, 0))
    return path


@pytest.fixture
def depth_photo(tmp_path):
    path = tmp_path / 'depth.png'
    cv2.imwrite(str(path), np.full((120, 160), 2000, np.uint16))
    return path


def run(*arguments):
    """Run the demo. It starts its own processes with new interpreters."""
    return forks.run('ros.demo.runner', *arguments)


def test_make_demo_starts_this_command():
    command = [sys.executable, '-m', 'cliptrase_ros.ros.demo', '--help']
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith('usage: make demo'), done.stderr


def test_the_demo_world_is_scored(tmp_path):
    pytest.importorskip('pybullet', reason='the extra [demo] is not installed')
    done = run('--frames', '8', '--out', tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    for text in (
        *('label images of 320 x 240 px', 'latency  p50', 'version 2', 'mIoU', 'note'),
        *('of the points are valid', 'per image', 'error of labelled points: largest 0.000 mm'),
    ):
        assert text in done.stdout
    result = json.loads((tmp_path / 'result.json').read_text())
    assert 0 < result['miou'] < 1 and set(result['iou']) == set(CLASSES)
    assert result['settings'] == SETTINGS and 'nothing about CLIP' in result['note']
    assert result['frames'] >= 16 and result['rate_hz'] > 0
    assert 0 < result['latency_ms']['p50'] <= result['latency_ms']['p95']
    heard = result['clouds']
    assert heard['number'] >= 12 and heard['rate_hz'] > 0 and 0.5 < heard['valid'] <= 1
    assert 0 < heard['latency_ms']['p50'] <= heard['latency_ms']['p95']
    assert result['objects']['messages'] >= 12 and result['objects']['per_frame'] > 1
    # The points of the cloud equal those of the simulator, bit for bit.
    error = result['depth_error_mm']
    assert error == {'clouds': error['clouds'], 'max': 0.0, 'p99': 0.0}
    assert error['clouds'] >= 12
    assert {'python', 'torch', 'open_clip_torch', 'pybullet'} <= set(result['versions'])
    first, second = result['vocabularies']
    assert first['frames'] >= 6 and second['frames'] >= 6
    assert {'yellow duck', 'blue block'} <= set(second['iou'])
    assert {first['ids'][name] for name in ('floor', 'wall')} == {
        second['ids'][name] for name in ('floor', 'wall')
    }
    saved_as = sorted(tmp_path.glob('frame_*.png'))
    assert 2 <= len(saved_as) <= 2 * runner.PICTURES
    for path in saved_as:
        saved = cv2.imread(str(path))
        assert saved.shape[1] == 3 * 640 and saved.shape[0] > 2 * (480 + 44)
        rows = saved[44:524], saved[44 + 524 : 2 * 524]
        parts = [part for row in rows for part in np.split(row, 3, axis=1)]
        assert len({part.tobytes() for part in parts}) == 6
    with Pillow.open(tmp_path / runner.FILM) as film:
        assert film.n_frames >= 8 and film.size[0] == 800
    assert (tmp_path / runner.FILM).stat().st_size < panels.FILM_BYTES


def test_pictures_of_ones_own_have_no_scores(photo, tmp_path):
    (tmp_path / 'frame_99.png').touch()
    done = run('--source', photo, *TINY, '--frames', '3', '--rate', '10', '--out', tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / 'result.json').read_text())
    assert not (tmp_path / 'frame_99.png').exists()
    assert 'miou' not in result and 'note' not in result and 'mIoU' not in done.stdout
    assert cv2.imread(str(tmp_path / 'frame_1.png')).shape[1] == 2 * 480
    assert 'lamp' in result['vocabularies'][1]['ids']


def test_a_recording_with_depth_has_clouds(photo, depth_photo, tmp_path):
    done = run(
        *('--source', photo, '--depth', depth_photo, '--intrinsics', '150,150,80,60', *TINY),
        *('--frames', '3', '--rate', '10', '--out', tmp_path),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / 'result.json').read_text())
    assert result['clouds']['valid'] == 1.0 and 'depth_error_mm' not in result
    assert result['objects']['messages'] > 0
    assert cv2.imread(str(tmp_path / 'frame_1.png')).shape[1] == 3 * 480


@pytest.mark.parametrize(
    'options, reason',
    [
        (['--depth', 'd'], 'need --source'),
        (['--intrinsics', '1,2,3,4'], 'need --source'),
        (['--source', 'a', '--intrinsics', '1,2,3'], 'fx,fy,cx,cy, got 1,2,3'),
        (['--source', 'a', '--intrinsics', '1,2,3,x'], 'fx,fy,cx,cy, got 1,2,3,x'),
    ],
)
def test_options_that_do_not_go_together(options, reason, capsys):
    with pytest.raises(SystemExit):
        runner._parse(options)
    assert reason in capsys.readouterr().err


def test_how_the_camera_is_started(monkeypatch):
    started = []
    monkeypatch.setattr(runner, '_start', lambda *command: started.append(command))
    given = ['--source', 'rgb', '--depth', 'd', '--depth-unit', '0.0002', '--intrinsics', '5,6,3,4']
    runner._start_camera(runner._parse(given))
    module, parameters, topics = started[0]
    assert module == 'camera' and f'image:={runner.CAMERA}' in topics
    assert set(parameters) >= {
        *('source:=rgb', 'depth_source:=d', 'depth_unit_m:=0.0002'),
        *('fx:=5.0', 'fy:=6.0', 'cx:=3.0', 'cy:=4.0'),
    }


@pytest.mark.parametrize(
    'options, reason',
    [
        (['--source', '/nowhere.mp4'], 'ros.camera ended with 1'),
        (['--words', 'a', 'a', '--frames', '1'], 'ros.node ended with 1'),
    ],
)
def test_a_demo_that_cannot_work_fails_and_says_why(options, reason, photo, tmp_path):
    source = [] if '--source' in options else ['--source', photo]
    done = run(*TINY, *options, *source, '--out', tmp_path)
    assert done.returncode == 1
    assert reason in done.stderr


def test_ending_the_demo_ends_its_processes(photo, tmp_path):
    options = [*TINY, '--frames', '100000', '--source', photo, '--out', tmp_path]
    process = Fork('ros.demo.runner', *options, merged=True)
    for line in process.stdout:
        if 'listening' in line:
            break
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 1 and 'ended from outside' in output


def test_a_page_until_ctrl_c(photo, tmp_path):
    pytest.importorskip('viser', reason='the extra [view] is not installed')
    (tmp_path / 'frame_1.png').touch()
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        port = taken.getsockname()[1]
        options = ['--view', '--port', str(port), '--source', photo, *TINY, '--out', tmp_path]
        done = run(*options)
    assert done.returncode == 1 and 'ros.view.web_view ended with 1' in done.stderr
    process = Fork('ros.demo.runner', *options, merged=True)
    for line in process.stdout:
        if 'the page is at' in line:
            break
    assert f'http://127.0.0.1:{port}/' in line
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 0, output
    assert (tmp_path / 'frame_1.png').exists()  # this writes no pictures


def test_without_pybullet_it_names_the_extra(monkeypatch, capsys):
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    assert runner.main([]) == 1
    assert 'pip install pybullet' in capsys.readouterr().err


REAL = {'model': 'ViT-B-16-quickgelu', 'weights': 'openai'}


@pytest.mark.parametrize(
    'arguments, reachable, expected',
    [
        ([], True, SETTINGS),
        ([], False, SETTINGS),
        (['--source', 'a.png'], True, REAL),
        (['--source', 'a.png'], False, SETTINGS),
        (['--weights', 'a.pt'], False, {**REAL, 'weights': 'a.pt'}),
        (['--model', 'ViT-B-32'], False, {**REAL, 'model': 'ViT-B-32'}),
        (['--weights', 'demo'], False, SETTINGS),
        (
            ['--model', 'cliptrase-demo', '--weights', 'new.safetensors'],
            False,
            {**SETTINGS, 'weights': 'new.safetensors'},
        ),
    ],
)
def test_which_model_runs(arguments, reachable, expected, monkeypatch, capsys):
    monkeypatch.setattr(weights, 'hub_reachable', lambda: reachable)
    assert runner._choose_model(runner._parse(arguments)) == expected
    alone = 'knows only the demo world' in capsys.readouterr().out.replace('\n', ' ')
    assert alone == (arguments == ['--source', 'a.png'] and not reachable)


def test_which_words_are_asked_for():
    first, second = runner._choose_words(runner._parse([]))
    assert first == list(CLASSES) and 'yellow duck' in second and 'duck' not in second
    first, second = runner._choose_words(runner._parse(['--words', 'a', 'b']))
    assert (first, second) == (['a', 'b'], ['b', 'lamp'])
    assert runner._choose_words(runner._parse(['--words', 'a', 'lamp']))[1] == ['lamp']


def labelled(ids, version=1, **changes):
    mask = Image(height=1, width=len(ids), step=len(ids), encoding='mono8', data=list(ids))
    mask.header.frame_id = 'eye'
    for name, value in changes.items():
        setattr(mask, name, value)
    return [HeardLabels(mask, None, version, 0.0, 0.0)]


WORDS = [
    Vocabulary(version=1, classes=[VocabularyClass(id=1), VocabularyClass(id=2)]),
    Vocabulary(version=2, classes=[VocabularyClass(id=2), VocabularyClass(id=3)]),
]


@pytest.mark.parametrize(
    'ids, version', [([0, 1, 2], 1), ([3, 0], 1), ([3, 2], 2), ([1, 1], 0), ([1, 1], 2)]
)
def test_masks_of_a_published_vocabulary_pass(ids, version):
    report._check(labelled(ids, version), WORDS)


@pytest.mark.parametrize(
    'mask, reason',
    [
        (labelled([1, 3]), 'ids .*, but no published vocabulary'),
        (labelled([1, 1], version=3), 'ids .*, but no published vocabulary'),
        (labelled([1, 1], encoding='8UC1'), 'expected mono8, got 8UC1'),
        (labelled([1, 1], step=4), 'padded rows or no frame_id'),
    ],
)
def test_masks_that_break_the_interface_fail_the_demo(mask, reason):
    with pytest.raises(Failure, match=reason):
        report._check(mask, WORDS)


LABELS = np.array([[1, 2, 0], [2, 1, 1]], np.uint8)
METRES = np.array([[1, 2, 3], [4, np.nan, 6]], np.float32)


def cloud(labels=LABELS, metres=METRES):
    message, points = cloud_messages.empty(labels.shape, labels.dtype, Image().header)
    points['x'], points['y'], points['z'] = 0.5, -0.5, metres
    points['rgb'], points['label'] = 0x010203, labels
    return message


def depth(metres):
    return encodings.fill_image(Image(), metres, '32FC1', Image().header)


def test_points_are_read_from_a_cloud():
    points = points_of(cloud())
    assert points.shape == (2, 3) and points.dtype.names == clouds.point_type(np.uint8).names
    np.testing.assert_array_equal(points['z'], METRES)
    assert (points['label'] == LABELS).all() and (points['x'] == 0.5).all()
    swapped = cloud()
    swapped.is_bigendian = True
    swapped.data = bytes(points_of(cloud()).astype(points.dtype.newbyteorder('>')).tobytes())
    np.testing.assert_array_equal(points_of(swapped)['z'], METRES)


@pytest.mark.parametrize(
    'changes, reason',
    [
        ({'fields': []}, 'has unexpected fields: {}'),
        ({'row_step': 80}, 'padded rows'),
        ({'data': b'none'}, 'a number of bytes that does not fit'),
    ],
)
def test_clouds_that_break_the_interface_fail_the_demo(changes, reason):
    bad = cloud()
    for name, value in changes.items():
        setattr(bad, name, value)
    with pytest.raises(Failure, match=reason):
        points_of(bad)
    sixteen = cloud(LABELS.astype(np.uint16))
    with pytest.raises(Failure, match="'label': None"):
        points_of(sixteen)


def test_depth_of_labelled_points_is_held_against_the_truth():
    true = METRES.copy()
    true[1, 0] += 0.25  # labelled
    true[0, 2] += 9  # not labelled
    largest, p99 = depth_error_mm(points_of(cloud()), depth(true))
    assert largest == 250.0
    assert p99 == pytest.approx(np.percentile([0, 0, 250, 0], 99))
    assert depth_error_mm(points_of(cloud(labels=0 * LABELS)), depth(true)) is None
    with pytest.raises(Failure, match=r'has \(2, 3\) points, but depth has \(1, 3\) pixels'):
        depth_error_mm(points_of(cloud()), depth(true[:1]))
    true[0, 0] = np.nan
    with pytest.raises(Failure, match='labelled points at pixels without depth'):
        depth_error_mm(points_of(cloud()), depth(true))


def snapshot(mask, message):
    return Snapshot(HeardLabels(mask, None, 1, 0.0, 0.0), None, None, None, message)


def test_a_cloud_is_its_label_image():
    mask = encodings.fill_image(Image(), LABELS, 'mono8', Image().header)
    report._check_cloud(snapshot(mask, cloud()))
    report._check_cloud(snapshot(mask, None))
    without_point = LABELS.copy()
    without_point[1, 1] = 7
    report._check_cloud(snapshot(mask, cloud(without_point)))
    with pytest.raises(Failure, match='differ in labels'):
        report._check_cloud(snapshot(mask, cloud(LABELS[::-1].copy())))
    with pytest.raises(Failure, match='differ in size or header'):
        report._check_cloud(snapshot(mask, cloud(LABELS[:1], METRES[:1])))
    moved = cloud()
    moved.header.frame_id = 'other'
    with pytest.raises(Failure, match='differ in size or header'):
        report._check_cloud(snapshot(mask, moved))


def test_clouds_are_summed_up():
    heard = [
        Cloud(n, 0.1 * n, 0.5, error) for n, error in enumerate(((3.0, 1.0), None, (2.0, 2.0)))
    ]
    found = report._space(SimpleNamespace(clouds=heard, object_counts=[1, 2], failures=[]))
    assert found['clouds']['rate_hz'] == 1.0 and found['clouds']['valid'] == 0.5
    assert found['clouds']['latency_ms']['p50'] == pytest.approx(100.0)
    assert found['objects'] == {'messages': 2, 'per_frame': 1.5}
    assert found['depth_error_mm'] == {'clouds': 2, 'max': 3.0, 'p99': 2.0}
    assert report._space(SimpleNamespace(clouds=[], object_counts=[], failures=[])) == {}
    with pytest.raises(Failure, match='bad'):
        report._space(SimpleNamespace(clouds=[], object_counts=[], failures=[Failure('bad')]))


def test_the_cloud_is_drawn_in_mixed_colours():
    palette = np.zeros((256, 3), np.uint8)
    palette[1] = 201, 102, 53
    labels = np.ones((60, 80), np.uint8)
    view = panels._cloud(cloud(labels, np.full((60, 80), 2, np.float32)), palette, (80, 60))
    assert view.shape == (60, 80, 3)
    assert (view == (101, 52, 28)).all(axis=-1).any()


def published(stamp, value, encoding='rgb8'):
    shape = (60, 80, 3) if encoding == 'rgb8' else (60, 80)
    header = Header(stamp=Time(sec=stamp), frame_id='eye')
    return encodings.fill_image(Image(), np.full(shape, value, np.uint8), encoding, header)


def vocabulary(version, names):
    classes = [VocabularyClass(id=n, name=name) for n, name in enumerate(names, 1)]
    for c in classes:
        c.color.r = c.color.g = c.id / 10
    return Vocabulary(version=version, classes=classes)


@pytest.fixture
def heard():
    """What a collector has heard without a node: two images of the first vocabulary, one of the
    second."""
    rclpy.init()
    collector = Collector()
    collector.vocabularies.append(vocabulary(1, ('floor', 'wall')))
    for stamp in (1, 2, 3, 4):
        if stamp == 3:
            collector.vocabularies.append(vocabulary(2, ('floor', 'lamp', 'mug')))
        collector.camera.keep(published(stamp, 10 * stamp))
        collector._take_mask(published(stamp, {3: 9}.get(stamp, stamp), 'mono8'))
        collector._confidence.keep(published(stamp, 128, 'mono8'))
        collector._take_overlay(published(stamp, 20 * stamp))
    yield collector
    collector.destroy_node()
    rclpy.shutdown()


def test_a_film_shows_camera_and_overlay_with_the_words_of_each_image(heard, tmp_path):
    heard._take_overlay(published(7, 0))  # without camera and mask: not in the film
    # Close to a change, a label image may have the words before or after it.
    found = [(frame.stamp[0], words.version, ids) for frame, words, ids in heard.filmed()]
    assert found == [(1, 1, {1}), (2, 1, {2})]
    heard.vocabularies[-1].classes.append(VocabularyClass(id=4, name='duck'))
    panels.film(heard, tmp_path / 'film.webp', 5.0)
    with Pillow.open(tmp_path / 'film.webp') as film:
        assert film.n_frames == 3 and film.info['loop'] == 0
        assert film.size[0] == 2 * 400
        film.seek(2)
        shown = np.asarray(film.convert('RGB')).astype(int)
        assert film.info['duration'] == 200
    camera, overlay = shown[100, 200], shown[100, 600]
    assert abs(camera - 40).max() < 8 and abs(overlay - 80).max() < 8


def test_a_film_that_is_too_large_is_written_with_less_quality(heard, tmp_path, monkeypatch):
    sizes = {}
    for limit in (10**9, 1):
        monkeypatch.setattr(panels, 'FILM_BYTES', limit)
        panels.film(heard, tmp_path / 'film.webp', 5.0)
        sizes[limit] = (tmp_path / 'film.webp').stat().st_size
    assert sizes[1] < sizes[10**9]


def test_panels_are_enlarged_and_name_only_what_is_there(heard):
    one = heard.labelled[0]
    taken = heard.snapshot()
    assert taken.labelled is heard.labelled[-1]
    made = panels.panels(heard, dataclasses.replace(taken, labelled=one))
    assert made.shape[1] == 2 * 480 and made.shape[0] > 2 * 360
    legend = {tuple(color) for color in made[-26 * 6 :].reshape(-1, 3).tolist()}
    floor, wall = (26, 26, 0), (51, 51, 0)
    assert floor in legend and wall not in legend
