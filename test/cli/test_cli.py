import contextlib
import json
import os
import struct
import subprocess
import sys
from functools import partial
from pathlib import Path

import forks
import numpy as np
import pytest
from forks import little_disk
from PIL import Image
from towers import picture

from cliptrase_ros import cli
from cliptrase_ros.errors import PictureError, ShapeError
from cliptrase_ros.media import pictures
from cliptrase_ros.media.pictures import KINDS
from cliptrase_ros.model import weights

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
        (['--words', 'a', 'a'], "name 'a' appears twice"),
        (['--words', 'a', '--input-size', '7'], 'input_size'),
        (['--words', 'a', '--weights', '/nowhere.pt'], 'no file /nowhere.pt'),
    ],
)
def test_errors_are_one_sentence_and_code_1(change, reason, photo, capsys):
    assert cli.main(['segment', str(photo), *TINY, *change]) == 1
    error = capsys.readouterr().err
    assert error.startswith('cliptrase: ') and reason in error and 'Traceback' not in error


def test_one_line_of_json_for_each_picture(photo, tmp_path, capsys):
    Image.fromarray(picture(40, 60)).save(tmp_path / 'hall.png')
    words = ['--words', 'floor', 'mug', '--json']
    assert cli.main(['segment', str(tmp_path), *words, *TINY, '-o', str(tmp_path / 'out')]) == 0
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line['picture'] for line in said] == [str(tmp_path / 'hall.png'), str(photo)]
    for line in said:
        labels = np.asarray(Image.open(line['labels']))
        shares = [(labels == n).mean() for n in (1, 2)]
        given = [line['shares'].get(name, 0) for name in ('floor', 'mug')]
        assert given == pytest.approx(shares) and sum(given) == pytest.approx(1)
        assert all(Path(line[what]).is_file() for what in ('confidence', 'overlay'))


def test_a_photo_is_turned_upright(tmp_path):
    scene = picture(40, 60)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be rotated clockwise
    Image.fromarray(scene).save(tmp_path / 'a.png', exif=exif)
    assert (pictures.read_picture(tmp_path / 'a.png') == np.rot90(scene, -1)).all()
    assert (pictures.read_picture(tmp_path / 'a.png', upright=False) == scene).all()


def test_grey_of_16_bits_is_scaled(tmp_path):
    values = np.linspace(0, 65535, 300).astype(np.uint16).reshape(15, 20)
    Image.fromarray(values).save(tmp_path / 'a.png')
    image = pictures.read_picture(tmp_path / 'a.png')
    assert (image == np.rint(values / 257).astype(np.uint8)[..., None]).all()


def test_pictures_of_floating_point_numbers_are_refused(tmp_path):
    Image.fromarray(np.linspace(0, 1, 300, dtype=np.float32).reshape(15, 20)).save(
        tmp_path / 'a.tif'
    )
    with pytest.raises(PictureError, match='floating-point numbers'):
        pictures.read_picture(tmp_path / 'a.tif')


def test_other_kinds_of_pictures_in_a_folder_are_told_of(photo, tmp_path, capsys):
    (tmp_path / 'phone.HEIC').write_bytes(b'ftypheic')
    arguments = ['segment', str(tmp_path), '--words', 'a', *TINY, '-o', str(tmp_path / 'out')]
    assert cli.main(arguments) == 3
    assert 'phone.HEIC is no picture; skipped' in capsys.readouterr().err


def test_what_is_given_twice_is_labelled_once(photo, tmp_path, capsys):
    arguments = ['segment', str(photo), str(photo), '--words', 'a', *TINY, '-o', str(tmp_path)]
    assert cli.main(arguments) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_before_the_model_is_loaded_the_files_are_looked_at(photo, tmp_path, capsys):
    # A load of the model would download the default weights.
    common = ['--words', 'a', '-o']
    assert cli.main(['segment', str(tmp_path / 'none.png'), *common, str(tmp_path)]) == 1
    assert 'no file or folder' in capsys.readouterr().err
    assert cli.main(['segment', str(photo), *common, str(photo)]) == 1
    assert capsys.readouterr().err == f'cliptrase: {photo}: File exists\n'


def test_words_with_commas_are_told_of(photo, tmp_path, capsys):
    arguments = ['segment', str(photo), '--words', 'floor,mug', *TINY, '-o', str(tmp_path)]
    assert cli.main(arguments) == 0
    assert "'floor,mug' is taken as one word with a comma" in capsys.readouterr().err


def test_an_interrupt_while_a_command_is_imported(monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, 'import_module', interrupted)
    assert cli.main(['segment', '--help']) == 130
    assert 'interrupted' in capsys.readouterr().err


def test_what_was_made_of_a_folder_is_no_picture_of_it(photo, tmp_path):
    Image.fromarray(picture(40, 60)).save(tmp_path / 'odd_labels.png')
    arguments = ['segment', str(tmp_path), '--words', 'a', *TINY, '-o', str(tmp_path)]
    for _ in range(2):
        assert cli.main(arguments) == 0
    made = {f'{stem}_{kind}.png' for stem in ('kitchen', 'odd_labels') for kind in KINDS}
    assert {p.name for p in tmp_path.iterdir()} == {photo.name, 'odd_labels.png', *made}


@pytest.mark.slow
@pytest.mark.parametrize('as_json', [True, False])
def test_results_go_to_standard_output_below_a_bar(photo, tmp_path, as_json):
    bar, terminal = os.openpty()
    command = [sys.executable, '-m', 'cliptrase_ros.cli', 'segment', str(photo), '--words', 'a']
    command += ['--json'] * as_json
    running = subprocess.Popen(
        [*command, *TINY, '-o', str(tmp_path)], stdout=subprocess.PIPE, stderr=terminal, text=True
    )
    os.close(terminal)
    shown = b''
    with contextlib.suppress(OSError):  # the other end is closed
        while part := os.read(bar, 1000):
            shown += part
    os.close(bar)
    said = running.stdout.read()
    assert running.wait() == 0 and b'pictures' in shown and b'shares' not in shown
    assert json.loads(said)['picture'] == str(photo) if as_json else said.startswith(str(photo))


@pytest.mark.slow
def test_names_that_are_no_text(tmp_path):
    path = os.fsencode(tmp_path) + b'/\xff.png'
    Image.fromarray(picture(40, 60)).save(os.fsdecode(path))
    command = [sys.executable, '-m', 'cliptrase_ros.cli', 'segment', path, '--words', 'a']
    for more in ([], ['--json']):
        done = subprocess.run(
            [*command, *TINY, *more, '-o', tmp_path / 'out'],
            capture_output=True,
            env={**os.environ, 'PYTHONIOENCODING': 'utf-8:strict'},
        )
        assert (done.returncode == 0 and b'xff.png' in done.stdout) or b'udcff.png' in done.stdout


@pytest.fixture
def broken(tmp_path):
    """Make a folder of pictures that cannot be read; return {name: reason}."""
    folder = tmp_path / 'broken'
    folder.mkdir()
    (folder / 'a.png').write_bytes(b'text')
    (folder / 'b.png').write_bytes(b'\x89PNG')
    Image.fromarray(picture(90, 120)).save(folder / 'c.jpg')
    whole = (folder / 'c.jpg').read_bytes()
    (folder / 'c.jpg').write_bytes(whole[: len(whole) // 2])
    Image.fromarray(picture(4, 60)).save(folder / 'd.png')
    Image.fromarray(picture(40, 60)).save(folder / 'f.tif')
    whole = bytearray((folder / 'f.tif').read_bytes())
    place = whole.index(struct.pack('<HHI', 257, 4, 1))  # ImageLength, as a fraction
    whole[place + 2] = 12
    (folder / 'f.tif').write_bytes(whole)
    (folder / 'e.png').mkdir()
    return {
        'a.png': 'is no picture',
        'b.png': 'is no picture',
        'c.jpg': 'cannot be read (image file is truncated',
        'd.png': 'one side is more than 8 times the other',
        'e.png': 'cannot be read (Is a directory)',
        'f.tif': 'cannot be read (',
    }


def test_broken_pictures_among_others_are_named_and_skipped(broken, photo, tmp_path, capsys):
    folder, out = tmp_path / 'broken', tmp_path / 'out'
    arguments = [str(folder), str(photo), '--words', 'a', *TINY, '-o', str(out)]
    assert cli.main(['segment', *arguments]) == 3
    said = capsys.readouterr()
    for name, reason in broken.items():
        assert any(f'{name}' in line and reason in line for line in said.err.splitlines()), name
    assert '6 of 7 pictures could not be used' in said.err
    assert said.out.startswith(str(photo)) and len(list(out.iterdir())) == 3


@pytest.mark.slow
def test_a_reader_that_has_had_enough(photo, tmp_path):
    command = [sys.executable, '-m', 'cliptrase_ros.cli', 'segment', str(photo), '--words', 'a']
    running = subprocess.Popen(
        [*command, *TINY, '-o', str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    running.stdout.close()
    error = running.stderr.read().decode()
    assert running.wait() == 1
    assert 'Traceback' not in error and 'BrokenPipe' not in error and 'Errno' not in error


def test_nothing_but_broken_pictures(broken, tmp_path, capsys):
    arguments = [str(tmp_path / 'broken'), str(tmp_path / 'none.png'), '--words', 'a', *TINY]
    assert cli.main(['segment', *arguments, '-o', str(tmp_path / 'out')]) == 1
    error = capsys.readouterr().err
    assert 'no picture could be used' in error
    assert 'none.png cannot be read (No such file or directory)' in error


def test_a_folder_without_pictures(tmp_path, capsys):
    assert cli.main(['segment', str(tmp_path), '--words', 'a', *TINY]) == 1
    assert f'no picture in the folder {tmp_path}' in capsys.readouterr().err


def test_a_full_disk_leaves_a_sentence_and_no_half_picture(photo, tmp_path):
    out = tmp_path / 'out'
    arguments = ['segment', photo, '--words', 'a', *TINY, '-o', out]
    done = forks.run('cli', *arguments, first=partial(little_disk, 2000))
    assert done.returncode == 1 and 'File too large' in done.stderr
    assert 'Traceback' not in done.stderr
    # Files that fit on the disk exist and are complete.
    names = {path.name for path in out.iterdir()}
    assert names <= {'kitchen_labels.png', 'kitchen_confidence.png'}
    assert all(Image.open(out / name).convert('L').size == (120, 90) for name in names)


def test_pictures_of_one_name_are_not_written_over_each_other(tmp_path, capsys):
    for folder in ('a', 'b'):
        (tmp_path / folder).mkdir()
        Image.fromarray(picture(32, 32)).save(tmp_path / folder / 'x.png')
    paths = [str(tmp_path / folder / 'x.png') for folder in ('a', 'b')]
    assert cli.main(['segment', *paths, '--words', 'a', *TINY, '-o', str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert all(path in error for path in paths) and 'would have the same file name' in error
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


LEFT = """
import atexit, gc
atexit.register(lambda: print(gc.get_freeze_count()))  # runs after the exit handler of main
from cliptrase_ros import cli
cli.main(['words', '--words', 'floor', '--check-only'])
"""


def test_python_does_not_sort_what_is_left_at_the_end():
    done = subprocess.run([sys.executable, '-c', LEFT], capture_output=True, text=True)
    assert int(done.stdout.splitlines()[-1]) > 1000


def test_help_has_examples():
    command = [sys.executable, '-m', 'cliptrase_ros.cli', '--help']
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and 'examples:' in done.stdout


@pytest.mark.parametrize('command', cli.COMMANDS)
def test_each_command_has_help_with_examples(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main([command, '--help'])
    text = capsys.readouterr().out
    assert stopped.value.code == 0 and f'cliptrase {command} ' in text.split('examples:')[1]


def test_an_overlay_needs_its_picture(tmp_path):
    paths = {'overlay': tmp_path / 'a_overlay.png'}
    with pytest.raises(ShapeError, match='no picture'):
        pictures.save_labels(paths, None, None, None)
    assert not list(tmp_path.iterdir())
