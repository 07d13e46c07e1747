"""make demo: the whole of it in short, its parts, and how it fails."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
from cliptrase_ros.msg import Vocabulary, VocabularyClass
from processes import ROOT
from sensor_msgs.msg import Image
from towers import picture

from cliptrase_ros.demo import SETTINGS
from cliptrase_ros.demo.world import CLASSES
from cliptrase_ros.ros import demo, report
from cliptrase_ros.ros.collector import Failure, Labelled

TINY = ['--model', 'cliptrase-tiny', '--weights', 'random']


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / 'photo.png'
    cv2.imwrite(str(path), picture(120, 160, 0))
    return path


def run(*arguments, timeout=180):
    return subprocess.run(
        [sys.executable, '-m', 'cliptrase_ros.ros.demo', *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def test_the_demo_world_is_scored(tmp_path):
    pytest.importorskip('pybullet', reason='the extra [demo] is not installed')
    done = run('--frames', '8', '--out', tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    for text in ('label images of 320 x 240 px', 'latency  p50', 'version 2', 'mIoU', 'note'):
        assert text in done.stdout
    result = json.loads((tmp_path / 'result.json').read_text())
    assert 0 < result['miou'] < 1 and set(result['iou']) == set(CLASSES)
    assert result['settings'] == SETTINGS and 'nothing of CLIP' in result['note']
    assert result['frames'] >= 16 and result['rate_hz'] > 0
    assert 0 < result['latency_ms']['p50'] <= result['latency_ms']['p95']
    assert {'python', 'torch', 'open_clip_torch', 'pybullet'} <= set(result['versions'])
    first, second = result['vocabularies']
    assert first['frames'] >= 6 and second['frames'] >= 6
    assert {'yellow duck', 'blue block'} <= set(second['iou'])
    assert {first['ids'][name] for name in ('floor', 'wall')} == {
        second['ids'][name] for name in ('floor', 'wall')
    }
    saved_as = sorted(tmp_path.glob('frame_*.png'))
    assert 2 <= len(saved_as) <= 2 * demo.PICTURES
    for path in saved_as:
        saved = cv2.imread(str(path))
        assert saved.shape[1] == 5 * 320 and saved.shape[0] > 240
        parts = np.split(saved[22:262], 5, axis=1)
        assert len({part.tobytes() for part in parts}) == 5


def test_pictures_of_ones_own_have_no_scores(photo, tmp_path):
    (tmp_path / 'frame_99.png').touch()
    done = run('--source', photo, *TINY, '--frames', '3', '--rate', '10', '--out', tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / 'result.json').read_text())
    assert not (tmp_path / 'frame_99.png').exists()
    assert 'miou' not in result and 'note' not in result and 'mIoU' not in done.stdout
    assert cv2.imread(str(tmp_path / 'frame_1.png')).shape[1] == 4 * 160
    assert 'lamp' in result['vocabularies'][1]['ids']


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
    options = [*TINY, '--frames', '100000', '--source', str(photo), '--out', str(tmp_path)]
    command = [sys.executable, '-m', 'cliptrase_ros.ros.demo', *options]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    for line in process.stdout:
        if 'listening' in line:
            break
    process.terminate()
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 1 and 'ended from outside' in output


def test_without_pybullet_it_names_the_extra(monkeypatch, capsys):
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    assert demo.main([]) == 1
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
    monkeypatch.setattr(demo, 'hub_reachable', lambda: reachable)
    assert demo._choose_model(demo._parse(arguments)) == expected
    alone = 'knows the demo world only' in capsys.readouterr().out.replace('\n', ' ')
    assert alone == (arguments == ['--source', 'a.png'] and not reachable)


def test_which_words_are_asked_for():
    first, second = demo._choose_words(demo._parse([]))
    assert first == list(CLASSES) and 'yellow duck' in second and 'duck' not in second
    first, second = demo._choose_words(demo._parse(['--words', 'a', 'b']))
    assert (first, second) == (['a', 'b'], ['b', 'lamp'])
    assert demo._choose_words(demo._parse(['--words', 'a', 'lamp']))[1] == ['lamp']


def labelled(ids, version=1, **changes):
    mask = Image(height=1, width=len(ids), step=len(ids), encoding='mono8', data=list(ids))
    mask.header.frame_id = 'eye'
    for name, value in changes.items():
        setattr(mask, name, value)
    return [Labelled(mask, None, version, 0.0, 0.0)]


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
        (labelled([1, 3]), 'ids .* of no published vocabulary'),
        (labelled([1, 1], version=3), 'ids .* of no published vocabulary'),
        (labelled([1, 1], encoding='8UC1'), 'expected mono8, got 8UC1'),
        (labelled([1, 1], step=4), 'padded or lacks its camera frame'),
    ],
)
def test_masks_that_break_the_interface_fail_the_demo(mask, reason):
    with pytest.raises(Failure, match=reason):
        report._check(mask, WORDS)
