import subprocess
import sys

import cv2
import numpy as np
import pytest
from processes import ROOT

from cliptrase_ros import weights
from cliptrase_ros.ros import demo


def run(*arguments, timeout=180):
    return subprocess.run(
        [sys.executable, '-m', 'cliptrase_ros.ros.demo', *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def test_the_demo_shows_what_it_promises(tmp_path):
    options = ['--model', 'cliptrase-tiny', '--weights', 'random', '--frames', '4']
    done = run(*options, '--out', tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    for text in ('label images of 640 x 480 px', 'rate', 'latency  p50', 'words    version 2'):
        assert text in done.stdout
    assert 'These labels mean nothing' in done.stdout
    for number in range(1, 5):
        saved = cv2.imread(str(tmp_path / f'overlay_{number}.png'))
        assert saved.shape[0] > 480 and saved.shape[1] == 640
        assert len(np.unique(saved[:480].reshape(-1, 3), axis=0)) > 50


@pytest.mark.parametrize(
    'options, reason',
    [
        (['--source', '/nowhere.mp4'], 'ros.camera ended with 1'),
        (['--words', 'a', 'a', '--frames', '1'], 'ros.node ended with 1'),
    ],
)
def test_a_demo_that_cannot_work_fails_and_says_why(options, reason, tmp_path):
    tiny = ['--model', 'cliptrase-tiny', '--weights', 'random']
    done = run(*tiny, *options, '--out', tmp_path)
    assert done.returncode == 1
    assert reason in done.stderr


def test_ending_the_demo_ends_its_processes(tmp_path):
    options = ['--model', 'cliptrase-tiny', '--weights', 'random', '--frames', '100000']
    command = [sys.executable, '-m', 'cliptrase_ros.ros.demo', *options, '--out', str(tmp_path)]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    for line in process.stdout:
        if 'listening' in line:
            break
    process.terminate()
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 1 and 'ended from outside' in output


@pytest.mark.parametrize(
    'reachable, expected',
    [(True, ('openai', 'ViT-B-16-quickgelu')), (False, ('random', 'cliptrase-tiny'))],
)
def test_real_weights_are_used_where_they_can_be_had(reachable, expected, monkeypatch, capsys):
    monkeypatch.setattr(demo, 'hub_reachable', lambda: reachable)
    assert demo._choose_weights(demo._parse([])) == expected
    assert ('untrained' in capsys.readouterr().out) == (not reachable)


def test_weights_given_are_used():
    assert demo._choose_weights(demo._parse(['--weights', 'a.pt'])) == (
        'a.pt',
        'ViT-B-16-quickgelu',
    )
    assert weights.RANDOM == 'random'
