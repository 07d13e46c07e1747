"""The command `cliptrase evaluate`."""

import json
import signal
import time

import forks
import pytest
from forks import Fork
from layouts import build, stripes

from cliptrase_ros import cli

TINY = ['--model', 'cliptrase-tiny', '--weights', 'random', '--device', 'cpu']
QUICK = [*TINY, '--prompt-templates', 'none']
NATIVE = ['--protocol', 'native', '--input-size', '64']


def command(name, root, *more):
    return ['evaluate', '--dataset', name, '--root', str(root), *QUICK, *more]


@pytest.fixture
def mugs(tmp_path):
    """Make a labelled folder of three pictures."""
    root = tmp_path / 'mugs'
    build(root, 'folder', [stripes([0, 1, 2, 255]), stripes([1, 2]), stripes([0, 2])])
    return root


def test_a_table_for_people(mugs, capsys):
    assert cli.main(command('folder', mugs, *NATIVE)) == 0
    out = capsys.readouterr().out
    assert out.startswith('folder, 3 of 3 pictures\ncliptrase on cliptrase-tiny (random), protocol')
    assert 'mIoU' in out and 'background' in out and 'mug' in out
    assert '  - input_size is 64, not 336' in out


def test_everything_that_is_needed_to_repeat_it(mugs, tmp_path, capsys):
    out = tmp_path / 'out'
    small = ['--input-size', '64', '--sliding.window-px', '32', '--sliding.stride-px', '16']
    arguments = command('folder', mugs, '--method', 'sclip', *small, '--json', '-o', str(out))
    assert cli.main([*arguments, '--worst', '1']) == 0
    printed = capsys.readouterr()
    result = json.loads(printed.out)
    assert json.loads((out / 'result.json').read_text()) == result
    assert result['command'].startswith('cliptrase evaluate --dataset folder --root')
    assert (
        result['settings']['protocol'] == 'sliding'
        and result['settings']['sliding.window_px'] == 32
    )
    assert result['settings']['logit_scale'] == 40.0 and result['settings']['regions'] == 'none'
    assert result['measured'] == 3 and result['unreadable'] == {} and result['published'] == []
    assert set(result['differs']) == {
        'prompt_templates is none, not imagenet80',
        'input_size is 64, not 336',
        'sliding.window_px is 32, not 224',
        'sliding.stride_px is 16, not 112',
    }
    assert len(list((out / 'worst').iterdir())) == 1
    assert len((out / 'pictures.jsonl').read_text().splitlines()) == 3
    # The command in the result gives the same numbers in another folder.
    again = cli.shlex.split(result['command'])[1:]
    again[again.index('-o') + 1] = str(tmp_path / 'again')
    assert cli.main(again) == 0
    other = json.loads(capsys.readouterr().out)
    assert {k for k in result if result[k] != other[k]} <= {'command', 'date'}


@pytest.mark.slow
def test_published_numbers_stand_beside(tmp_path, capsys):
    build(tmp_path, 'voc20', [stripes([1, 2])])
    arguments = ['evaluate', '--dataset', 'voc20', '--root', str(tmp_path), '--method', 'naclip']
    few = ['--weights', 'random', '--device', 'cpu', '--prompt-templates', 'none']
    small = ['--input-size', '64', '--refine', 'none']
    assert cli.main([*arguments, *few, *small, '--precision', 'fp32']) == 0
    out = capsys.readouterr().out
    assert "79.70 %  NACLIP's README, and OV-Stitcher" in out
    assert "83.00 %  NACLIP's README (refine pamr)" in out
    assert out.count('not comparable: weights are random, not those of OpenAI') == 3
    assert 'refine is none, not pamr' in out and 'changed: input_size' in out
    # All pictures on disk were used, but the official set has more.
    assert 'voc20 val, 1 of 1 pictures' in out and out.count('; 1 of 1449 pictures') == 3
    assert 'bfloat16' not in out.split('Published')[1]
    assert cli.main([*arguments, *few, *small, '--precision', 'bf16']) == 0
    assert capsys.readouterr().out.count('the arithmetic is bfloat16, the published') == 3


def test_it_goes_on_and_refuses_other_settings(mugs, tmp_path, capsys):
    out = ['-o', str(tmp_path / 'out'), *NATIVE, '--worst', '0']
    assert cli.main(command('folder', mugs, *out, '--limit', '1')) == 0
    assert '1 of 3 pictures' in capsys.readouterr().out
    assert cli.main(command('folder', mugs, *out)) == 0
    text = capsys.readouterr()
    assert 'resuming: 1 of 3 pictures are already done' in text.err and '3 of 3' in text.out
    assert not list((tmp_path / 'out' / 'worst').iterdir())
    assert cli.main(command('folder', mugs, *out, '--method', 'clip')) == 1
    assert "settings.method was 'cliptrase', is 'clip'" in capsys.readouterr().err


def test_exit_codes(mugs, tmp_path, capsys):
    (mugs / 'images' / 'b.png').write_bytes(b'')
    assert cli.main(command('folder', mugs, *NATIVE)) == 3
    text = capsys.readouterr()
    assert 'b.png is no picture: it is empty; expected JPEG' in text.err
    assert '1 pictures could not be read' in text.out
    for bad, reason in (
        (['--worst', '3'], 'worst: needs an output folder'),
        (['--split', 'val'], 'has no splits'),
        (['--output-size', '32x32', '--protocol', 'native'], 'output_size'),
    ):
        assert cli.main(command('folder', mugs, *bad)) == 1
        error = capsys.readouterr().err
        assert reason in error and 'Traceback' not in error
    assert cli.main(command('voc21', mugs)) == 1
    assert 'voc21 expects JPEGImages/*.jpg' in capsys.readouterr().err
    for dataset, *bad in (('voc',), ('folder', '--limit', '0'), ('folder', '--worst', '-1')):
        with pytest.raises(SystemExit) as stopped:
            cli.main(command(dataset, mugs, *bad))
        assert stopped.value.code == 2
    assert 'argument --worst: expected 0 or more, got -1' in capsys.readouterr().err


def test_what_is_there_of_others_is_kept(mugs, tmp_path, capsys):
    out = tmp_path / 'thesis'
    (out / 'worst').mkdir(parents=True)
    (out / 'worst' / 'draft.txt').write_text('years of work')
    assert cli.main(command('folder', mugs, *NATIVE, '-o', str(out))) == 1
    assert "holds 'worst', but no run.json of an evaluation" in capsys.readouterr().err
    assert (out / 'worst' / 'draft.txt').read_text() == 'years of work'
    assert [path.name for path in out.iterdir()] == ['worst']


def test_names_that_are_no_utf_8(mugs, tmp_path, capsys):
    for folder in ('images', 'labels'):
        (mugs / folder / 'b.png').rename(mugs / folder / 'caf\udce9.png')
    out = tmp_path / 'out'
    assert cli.main(command('folder', mugs, *NATIVE, '-o', str(out), '--json')) == 0
    assert json.loads(capsys.readouterr().out)['measured'] == 3
    assert cli.main(command('folder', mugs, *NATIVE, '-o', str(out))) == 0
    assert 'resuming: 3 of 3 pictures are already done' in capsys.readouterr().err


@pytest.mark.slow
def test_an_interrupt_keeps_what_was_done(tmp_path):
    """Start a real process and send it a real signal after its first picture."""
    root, out = tmp_path / 'set', tmp_path / 'out'
    count = 60
    build(root, 'camvid', [stripes([0, 1, 2])] * count)
    run = command('camvid', root, '-o', out, *NATIVE, '--method', 'clip', '--regions', 'none')
    process = Fork('cli', *run)
    while process.poll() is None:
        if (out / 'pictures.jsonl').exists() and (out / 'pictures.jsonl').read_text():
            process.send_signal(signal.SIGINT)
            break
        time.sleep(0.01)
    _, error = process.communicate(timeout=100)
    assert process.returncode == 130, error
    assert 'run the same command to resume' in error and 'Traceback' not in error
    done = len((out / 'pictures.jsonl').read_text().splitlines())
    assert 1 <= done < count and not (out / 'result.json').exists()
    finished = forks.run('cli', *run)
    assert finished.returncode == 0, finished.stderr
    assert f'resuming: {done} of {count} pictures' in finished.stderr
    assert f'{count} of {count} pictures' in finished.stdout
    assert json.loads((out / 'result.json').read_text())['measured'] == count


def test_what_a_protocol_prescribes_is_named_where_a_flag_does_not_fit_it(mugs, tmp_path, capsys):
    assert cli.main(command('folder', mugs, '--input-size', '64')) == 1
    error = capsys.readouterr().err
    assert 'sliding.window_px: 224 is larger than input_size 64' in error
    assert "Protocol 'sliding' prescribes" in error and '--protocol native' in error
    # A missing folder is reported before the settings are checked.
    assert cli.main(command('folder', tmp_path / 'none', '--input-size', '64')) == 1
    assert 'sliding.window_px' not in capsys.readouterr().err
