import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from towers import picture

from cliptrase_ros import cli, weights

TINY = ['--model', 'cliptrase-tiny', '--weights', 'random', '--device', 'cpu']


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / 'kitchen.png'
    Image.fromarray(picture(90, 120)).save(path)
    return path


def test_segment_writes_labels_confidence_and_overlay(photo, tmp_path, capsys):
    out = tmp_path / 'new' / 'out'
    words = ['--words', 'floor', '9:mug=mug;cup', '--background', 'sky']
    assert cli.main(['segment', str(photo), *words, *TINY, '-o', str(out)]) == 0
    labels = np.asarray(Image.open(out / 'kitchen_labels.png'))
    assert labels.shape == (90, 120) and set(np.unique(labels)) <= {0, 1, 9}
    assert np.asarray(Image.open(out / 'kitchen_confidence.png')).shape == (90, 120)
    assert np.asarray(Image.open(out / 'kitchen_overlay.png')).shape == (90, 120, 3)
    shares = capsys.readouterr().out
    assert shares.startswith(str(photo)) and '%' in shares


def test_settings_are_flags(photo, tmp_path):
    flags = ['--protocol', 'cliptrase', '--input-size', '64', '--cls-weighting']
    assert (
        cli.main(['segment', str(photo), '--words', 'a', *TINY, *flags, '-o', str(tmp_path)]) == 0
    )
    assert Image.open(tmp_path / 'kitchen_labels.png').size == (64, 64)
    assert Image.open(tmp_path / 'kitchen_overlay.png').size == (64, 64)


@pytest.mark.parametrize(
    'change, reason',
    [
        (['--words', 'a', 'a'], "name 'a' stands twice"),
        (['--words', 'a', '--input-size', '7'], 'input_size'),
        (['--words', 'a', '--weights', '/nowhere.pt'], 'no file /nowhere.pt'),
    ],
)
def test_errors_are_one_sentence_and_code_1(change, reason, photo, capsys):
    assert cli.main(['segment', str(photo), *TINY, *change]) == 1
    error = capsys.readouterr().err
    assert error.startswith('cliptrase: ') and reason in error and 'Traceback' not in error


def test_a_file_that_is_no_picture(tmp_path, capsys):
    for name, content in (('a.txt', b'text'), ('b.png', b'\x89PNG')):
        (tmp_path / name).write_bytes(content)
        arguments = ['segment', str(tmp_path / name), '--words', 'a', *TINY]
        assert cli.main([*arguments, '-o', str(tmp_path)]) == 1
        assert f'{name} is no picture' in capsys.readouterr().err
    assert cli.main(['segment', str(tmp_path / 'none.png'), '--words', 'a', *TINY]) == 1
    assert 'none.png' in capsys.readouterr().err


def test_pictures_of_one_name_are_not_written_over_each_other(tmp_path, capsys):
    for folder in ('a', 'b'):
        (tmp_path / folder).mkdir()
        Image.fromarray(picture(32, 32)).save(tmp_path / folder / 'x.png')
    paths = [str(tmp_path / folder / 'x.png') for folder in ('a', 'b')]
    assert cli.main(['segment', *paths, '--words', 'a', *TINY, '-o', str(tmp_path)]) == 1
    assert "several pictures are called 'x'" in capsys.readouterr().err
    assert not list(tmp_path.glob('*.png'))


def test_download_says_how_to_use_the_file(monkeypatch, tmp_path, capsys):
    calls = []

    def download(model, tag, folder):
        calls.append((model, tag, folder))
        return tmp_path / 'w.safetensors', 'ab12'

    monkeypatch.setattr(weights, 'download', download)
    assert cli.main(['download', '--model', 'm', '--weights', 't', '--out', str(tmp_path)]) == 0
    assert calls == [('m', 't', tmp_path)]
    assert "weights_sha256 'ab12'" in capsys.readouterr().out


@pytest.mark.parametrize('arguments', [[], ['segment'], ['segment', 'a.png'], ['nothing']])
def test_wrong_usage_is_code_2(arguments):
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2


def test_help_has_examples():
    command = [sys.executable, '-m', 'cliptrase_ros.cli', '--help']
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and 'examples:' in done.stdout
