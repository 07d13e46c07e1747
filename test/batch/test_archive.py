"""Archives that are labelled in one process; the command `cliptrase label`."""

import json
import os
import shutil
from importlib import metadata

import archives
import numpy as np
import pytest
import torch
from archives import FLAGS, WORDS, bag, contents, job, tree
from PIL import Image
from safetensors.torch import load_file, save_file
from towers import picture

from cliptrase_ros import cli
from cliptrase_ros.batch import archive
from cliptrase_ros.batch.local import Labeller
from cliptrase_ros.errors import PictureError, SettingError, WeightsError
from cliptrase_ros.model.visual import Tower
from cliptrase_ros.model.weights import DEMO_SHA256, MODELS, open_clip_version
from cliptrase_ros.recordings.compression import zstd

ALL = [*FLAGS, '--words', *WORDS, '--background', 'sky']


@pytest.fixture
def photos(tmp_path):
    return tree(tmp_path / 'in')


def command(*arguments):
    return cli.main(['label', *map(str, arguments)])


def names(items):
    return [os.path.basename(item.target) for item in items]


# Which items an archive has


def test_a_tree_is_mirrored(photos, tmp_path):
    items, bags = archive.list_items([photos], tmp_path / 'out')
    assert not bags and names(items) == ['p0', 'p2', 'p1', 'p3']
    assert items[2] == (
        str(photos / 'deep' / 'er' / 'p1.png'),
        str(tmp_path / 'out' / 'deep' / 'er' / 'p1'),
    )


def test_own_output_hidden_files_and_others_are_not_listed(photos):
    for hidden in ('.x.png', '.thumbs/y.png', 'z.txt', 'deep/w.mp4'):
        path = photos / hidden
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b'')
    for out in (photos / 'out', photos / 'deep' / 'out'):
        archive.begin(out, job())
        Image.fromarray(picture(8, 8)).save(out / 'p9_labels.png')
    # A settings.json of another program does not make a folder our output.
    (photos / 'deep' / 'settings.json').write_text('{}')
    items, _ = archive.list_items([photos], photos / 'out')
    assert names(items) == ['p0', 'p2', 'p1', 'p3']


def test_two_pictures_for_one_place_are_refused(photos, tmp_path):
    Image.fromarray(picture(8, 8)).save(photos / 'p0.jpg')
    with pytest.raises(PictureError, match=r'p0.jpg and .*p0.png would both be written'):
        archive.list_items([photos], tmp_path / 'out')


def test_bags_by_name(tmp_path):
    one, other = bag(tmp_path / 'monday'), bag(tmp_path / 'tuesday')
    (other / 'metadata.yaml').unlink()
    file = next(one.glob('*.db3')).rename(tmp_path / 'friday.db3')
    items, bags = archive.list_items([one, other, file], tmp_path / 'out')
    assert bags and names(items) == ['monday', 'tuesday', file.stem]
    with pytest.raises(PictureError, match='both be written'):
        archive.list_items([one, one], tmp_path / 'out')


def test_new_folders_have_names_that_recordings_may_have(tmp_path):
    """Names with the suffix of a recording file are refused, so the suffix is removed."""
    file = next(bag(tmp_path / 'one').glob('*.db3'))
    for name, expected in (
        ('a.mcap.zstd', 'a'),
        ('a.bag.active', 'a'),
        ('a.b.mcap', 'a.b'),
        ('a.db3.mcap', 'a'),
        ('.mcap', '.mcap'),
        ('drive.7', 'drive.7'),
    ):
        path = tmp_path / name
        path.write_bytes(file.read_bytes())
        assert names(archive.list_items([path], tmp_path / 'out')[0]) == [expected]
    (tmp_path / 'a.mcap.zstd').write_bytes(zstd.compress(file.read_bytes()))
    other = bag(tmp_path / 'run.mcap')
    out = tmp_path / 'out'
    assert command(tmp_path / 'a.mcap.zstd', other, *ALL, '-o', out) == 0
    assert sorted(path.name for path in out.iterdir()) == ['a', 'run', 'settings.json']


def test_what_cannot_be_listed(photos, tmp_path):
    (tmp_path / 'empty').mkdir()
    out = tmp_path / 'out'
    for sources, reason in (
        ([tmp_path / 'no'], 'no file or folder '),
        ([photos / 'p0.png'], 'is one picture; give its folder'),
        ([tmp_path / 'empty'], 'no picture in or below'),
        ([photos, photos / 'deep'], 'one folder of pictures, or only recordings'),
        ([photos, bag(tmp_path / 'bag')], 'one folder of pictures, or only recordings'),
    ):
        with pytest.raises(PictureError, match=reason):
            archive.list_items(sources, out)
    for around in (photos, tmp_path):
        with pytest.raises(PictureError, match='the folder of the pictures or contains it'):
            archive.list_items([photos], around)


def test_a_folder_that_cannot_be_read_is_not_passed_over(tmp_path):
    # os.walk alone would ignore this error.
    with pytest.raises(FileNotFoundError):
        archive._below(tmp_path / 'gone', tmp_path / 'out')


# The words and settings that a folder was made with


def test_other_words_or_settings_are_refused_and_named(tmp_path):
    out = tmp_path / 'out'
    assert archive.begin(out, job()) == []
    record = json.loads((out / 'settings.json').read_text())
    assert record['words'] == [[1, 'floor', 'floor'], [9, 'mug', 'mug', 'cup']]
    assert record['settings']['method'] == 'cliptrase' and 'torch' in record['versions']
    settings = job().settings
    assert archive.begin(out, job(overlay=True, settings=settings.replace(compile=True))) == []
    for other, said in (
        (
            {'entries': ('floor', 'lid')},
            r"words was \[\[9, 'mug', .*\]\], is \[\[2, 'lid', 'lid'\]\]",
        ),
        ({'entries': WORDS[:1]}, 'words was .*, is'),
        ({'background': ()}, r"background was \['sky'\], is \[\]"),
        ({'settings': settings.replace(method='gclip')}, "method was 'cliptrase', is 'gclip'"),
        ({'bags': True}, "of was 'pictures', is 'bags'; topics was None, is"),
    ):
        with pytest.raises(SettingError, match=said):
            archive.begin(out, job(**other))


def test_other_weights_under_the_same_path_are_refused(photos, tmp_path, capsys):
    file, out = tmp_path / 'w.safetensors', tmp_path / 'out'
    shutil.copy(MODELS / 'cliptrase-demo.safetensors', file)
    settings = job().settings.replace(model='cliptrase-demo', weights=str(file))
    assert archive.begin(out, job(settings=settings)) == []
    assert archive.begin(out, job(settings=settings)) == []
    tensors = load_file(file)
    save_file({name: tensor + 1 for name, tensor in tensors.items()}, file)
    with pytest.raises(SettingError, match=f"sha256_of_weights was '{DEMO_SHA256}', is "):
        archive.begin(out, job(settings=settings))
    file.unlink()
    with pytest.raises(WeightsError, match='no file'):
        archive.begin(tmp_path / 'new', job(settings=settings))
    assert not (tmp_path / 'new').exists()
    assert command(photos, '-o', out, *ALL, '--weights', file) == 1
    assert f'weights: no file {file}' in capsys.readouterr().err


def test_modules_that_no_record_is_installed_of(tmp_path, monkeypatch):
    def nothing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, 'version', nothing)
    archive.begin(tmp_path, job())
    versions = json.loads((tmp_path / 'settings.json').read_text())['versions']
    assert versions['torch'] == torch.__version__
    assert versions['open_clip_torch'] == open_clip_version()


def test_the_order_of_background_words_counts(tmp_path):
    archive.begin(tmp_path, job(background=('a', 'b')))
    with pytest.raises(SettingError, match=r"was \['a', 'b'\], is \['b', 'a'\]"):
        archive.begin(tmp_path, job(background=('b', 'a')))


def test_other_versions_are_told(tmp_path):
    archive.begin(tmp_path, job())
    path = tmp_path / 'settings.json'
    record = json.loads(path.read_text())
    record['versions']['torch'] = '1.0'
    path.write_text(json.dumps(record))
    (sentence,) = archive.begin(tmp_path, job())
    assert 'torch 1.0, now it is' in sentence


@pytest.mark.parametrize('content', ['{"of"', '[]', '{}'])
def test_settings_of_somebody_else(tmp_path, content):
    (tmp_path / 'settings.json').write_text(content)
    with pytest.raises(SettingError, match='another program wrote it'):
        archive.begin(tmp_path, job())


# Labelling


def test_labels_are_those_of_segment(photos, tmp_path):
    out = tmp_path / 'out'
    assert command(photos, *ALL, '-o', out, '--overlay') == 0
    assert cli.main(['segment', str(photos), *ALL, '-o', str(tmp_path / 'flat')]) == 0
    assert len(contents(out)) == 12
    flat, deep = contents(tmp_path / 'flat'), contents(out)
    assert flat.keys() == {name for name in deep if '/' not in name}
    assert all(deep[name] == pixels for name, pixels in flat.items())
    assert {1, 9} & set(np.unique(Image.open(out / 'deep' / 'er' / 'p1_labels.png')))


def test_what_is_there_is_left_alone(photos, tmp_path, capsys):
    out = tmp_path / 'out'
    assert command(photos, *ALL, '-o', out) == 0
    assert capsys.readouterr().out.startswith('4 pictures labelled')
    before = contents(out)
    for path in out.rglob('*.png'):
        path.write_bytes(b'mine')
    (out / 'p0_confidence.png').unlink()
    assert command(photos, *ALL, '-o', out) == 0
    assert '3 already done' in capsys.readouterr().out
    assert (out / 'p2_labels.png').read_bytes() == b'mine'
    for name in ('p0_labels.png', 'p0_confidence.png'):
        assert np.asarray(Image.open(out / name)).tobytes() == before[name]
    # Now nothing is left to do, so no model is loaded.
    assert command(photos, *ALL, '-o', out, '--json') == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)['there'] == 4 and json.loads(line)['labelled'] == 0


def test_a_broken_picture_is_named_and_skipped(photos, tmp_path, capsys):
    (photos / 'deep' / 'broken.jpg').write_bytes(b'no')
    assert command(photos, *ALL, '-o', tmp_path / 'out', '--json') == 3
    done = capsys.readouterr()
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert lines[-1]['labelled'] == 4 and lines[-1]['skipped'] == 1 and len(lines) == 6
    (broken,) = (line for line in lines if 'error' in line)
    assert broken['source'].endswith('broken.jpg') and 'is no picture' in broken['error']
    for line in lines[:-1]:
        assert 'error' in line or os.path.exists(line['labels'])
    assert 'broken.jpg is no picture; skipped' in done.err


def test_nothing_but_broken_pictures(tmp_path, capsys):
    (tmp_path / 'in').mkdir()
    (tmp_path / 'in' / 'broken.jpg').write_bytes(b'no')
    assert command(tmp_path / 'in', *ALL, '-o', tmp_path / 'out') == 1
    assert 'none of the 1 pictures could be used' in capsys.readouterr().err


def test_a_picture_that_memory_does_not_suffice_for_is_named(photos, tmp_path, monkeypatch):
    embed = Tower.embed

    def narrow(tower, images):
        if images.shape[-1] > 100:
            raise torch.cuda.OutOfMemoryError('full')
        return embed(tower, images)

    labeller = Labeller(job())
    monkeypatch.setattr(Tower, 'embed', narrow)
    Image.fromarray(picture(32, 200)).save(photos / 'wide.png')
    items, _ = archive.list_items([photos], tmp_path / 'out')
    failed = [outcome for outcome in labeller(items) if outcome.error]
    assert [o.item.source for o in failed] == [str(photos / 'wide.png')]
    assert 'wide.png: out of memory' in failed[0].error and failed[0].images == 0
    assert len(contents(tmp_path / 'out')) == 8


def test_where_nothing_can_be_written_the_run_ends(photos, tmp_path, capsys):
    out = tmp_path / 'out'
    archive.begin(out, job())
    (out / 'deep').write_bytes(b'a file')
    assert command(photos, *ALL, '-o', out) == 1
    assert 'deep' in capsys.readouterr().err


def test_words_and_models_that_cannot_be_used(photos, tmp_path, capsys):
    given = [photos, *FLAGS, '-o', tmp_path / 'out', '--words']
    assert command(*given, 'a', 'a') == 1
    assert not (tmp_path / 'out').exists()
    assert command(*given, 'mug ' * 99) == 1
    assert 'too long' in capsys.readouterr().err


@pytest.mark.slow
def test_an_interrupted_run_goes_on(tmp_path):
    photos, out = tree(tmp_path / 'in', 40), tmp_path / 'out'
    code, said, errors = archives.interrupted(photos, *ALL, '-o', out, after=3)
    assert code == 130 and errors.splitlines()[-1] == 'cliptrase: interrupted'
    assert [os.path.exists(line['labels']) for line in said] == [True] * 3
    assert not list(out.rglob('.*')) and len(contents(out)) < 80
    done = archives.run(photos, *ALL, '-o', out, '--json')
    total = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 0 and total['there'] >= 3
    assert total['there'] + total['labelled'] == 40
    assert len(contents(out)) == 80


# Recordings


def test_bags(tmp_path, capsys):
    one, other = bag(tmp_path / 'monday', 3), bag(tmp_path / 'tuesday', 2)
    out = tmp_path / 'out'
    assert command(one, other, *ALL, '-o', out, '--every', '2', '--json') == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line['images'] for line in lines] == [2, 1, 3]
    assert lines[0]['bag'] == str(out / 'monday') and (out / 'monday' / 'metadata.yaml').exists()
    assert command(one, other, *ALL, '-o', out, '--every', '2') == 0
    assert '0 recordings labelled' in (said := capsys.readouterr().out)
    assert '2 already done' in said
    assert command(one, other, *ALL, '-o', out) == 1
    assert 'every was 2, is 1' in capsys.readouterr().err


def test_bags_that_are_damaged(tmp_path, capsys):
    good, torn = bag(tmp_path / 'good'), tmp_path / 'torn.mcap'
    torn.write_bytes(b'no recording')
    assert command(good, torn, *ALL, '-o', tmp_path / 'out') == 3
    done = capsys.readouterr()
    assert 'torn.mcap' in done.err and '1 recordings labelled' in done.out
    assert command(torn, *ALL, '-o', tmp_path / 'out2') == 1


def test_a_bag_of_which_a_part_is_missing(tmp_path, capsys):
    path = bag(tmp_path / 'torn', 40)
    file = next(path.glob('*.db3'))
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert command(path, *ALL, '-o', tmp_path / 'out', '--json') == 3
    done = capsys.readouterr()
    line, total = (json.loads(line) for line in done.out.splitlines())
    assert line['notes'] and 0 < line['images'] < 40 and 'torn' in done.err
    assert total['partly'] == 1 and total['skipped'] == 0
    # The next run finds the new recording and reports the same notes.
    other = bag(tmp_path / 'whole')
    assert command(other, path, *ALL, '-o', tmp_path / 'out', '--json') == 3
    done = capsys.readouterr()
    _, again = (json.loads(line) for line in done.out.splitlines())
    assert (again['there'], again['labelled'], again['partly']) == (1, 1, 1)
    assert all(f'{note}; skipped' in done.err for note in line['notes'])
    assert command(path, *ALL, '-o', tmp_path / 'out') == 3
    assert '1 already done, 1 only partly labelled' in capsys.readouterr().out
    assert command(other, *ALL, '-o', tmp_path / 'out') == 0
    for content in ('[', '5'):
        (tmp_path / 'out' / 'torn' / 'skipped.json').write_text(content)
        assert command(path, *ALL, '-o', tmp_path / 'out') == 3
        assert 'skipped.json, which lists' in capsys.readouterr().err


# Usage


@pytest.mark.parametrize(
    'flags, reason',
    [
        (['--workers', '2'], '--workers needs --engine ray'),
        (['--gpus-per-worker', '0'], '--gpus-per-worker needs --engine ray'),
        (['--topics', '/a'], '--topics and --every are for recordings only'),
        (['--every', '2'], '--topics and --every are for recordings only'),
    ],
)
def test_flags_that_do_not_fit(photos, tmp_path, capsys, flags, reason):
    assert command(photos, *ALL, '-o', tmp_path / 'out', *flags) == 1
    assert reason in capsys.readouterr().err


def test_overlay_is_of_pictures(tmp_path, capsys):
    assert command(bag(tmp_path / 'bag'), *ALL, '-o', tmp_path / 'out', '--overlay') == 1
    assert '--overlay is for pictures only' in capsys.readouterr().err


@pytest.mark.parametrize('flags', [['--every', '0'], ['--gpus-per-worker', '-1']])
def test_numbers_out_of_range(photos, flags):
    with pytest.raises(SystemExit) as stopped:
        command(photos, *ALL, '-o', 'out', *flags)
    assert stopped.value.code == 2
