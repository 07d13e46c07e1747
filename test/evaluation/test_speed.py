import json
import math
import subprocess
import sys
from pathlib import Path

import forks
import numpy as np
import pytest
import torch

import cliptrase_ros as ct
from cliptrase_ros import cli
from cliptrase_ros.evaluation import speed, timing
from cliptrase_ros.media import videos
from cliptrase_ros.model import recipes

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group('bench')]

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / 'bench'))

from memory import growth  # noqa: E402

TINY = ['--model', 'cliptrase-tiny', '--device', 'cpu']


def script(name, *options):
    """Return the lines that a benchmark prints."""
    done = forks.run(str(ROOT / 'bench' / f'{name}.py'), *options)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def cells(lines):
    """Return the cells of table rows."""
    return [[cell.strip() for cell in line.strip('|').split('|')] for line in lines]


def test_bench_prints_the_machine_and_a_row_for_each_stage(capsys):
    runs = ['--methods', 'cliptrase', 'clip', '--precision', 'fp32', 'bf16', '--image', '64x48']
    options = ['--sizes', '32', '64', '--words', '1', '3', '--repeats', '2']
    assert cli.main(['bench', *TINY, *runs, *options]) == 0
    machine, note, _, *table = capsys.readouterr().out.splitlines()
    assert 'threads, load ' in machine and 'cliptrase-tiny (random); 20' in machine
    assert note.startswith('Random weights')
    heads, _, *rows = cells(table)
    assert heads[-4:] == ['p50 ms', 'p95 ms', 'of bare', 'peak MB']
    stages = ['bare encode_image', 'upload, resize', 'tower', 'DBSCAN', 'region maps']
    of_words = ['scores', 'labels', 'segment()']
    assert [(*row[:4], row[4].split(', clusters: ')[0]) for row in rows] == [
        (size, method, precision, words, stage)
        for size in ('32 x 48', '64 x 80')
        for method in ('cliptrase', 'clip')
        for precision in ('fp32', 'bf16')
        for words, names in (('-', stages), ('1', of_words), ('3', of_words))
        for stage in names
    ]
    for *_, p50, p95, ratio, peak in rows:
        assert 0 <= float(p50) <= float(p95) and float(ratio) >= 0 and float(peak) >= 0
    assert {row[7] for row in rows if row[4] == stages[0]} == {'1.00'}


def test_bench_as_json(capsys):
    options = ['--sizes', '32', '--words', '2', '--repeats', '2', '--image', '64x48', '--json']
    assert cli.main(['bench', *TINY, *options]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {(r['height'], r['width'], r['method']) for r in rows} == {(32, 48, 'cliptrase')}
    assert all('cliptrase-tiny (random)' in row['machine'] for row in rows)
    assert (rows[0]['what'], rows[0]['words'], rows[0]['of_bare']) == ('bare encode_image', None, 1)
    assert (rows[-1]['what'], rows[-1]['words']) == ('segment()', 2)
    assert all(0 < row['p50_ms'] <= row['p95_ms'] and row['peak_mb'] >= 0 for row in rows)


def test_bench_without_regions_has_no_stage_of_them(capsys):
    options = ['--sizes', '32', '--words', '1', '--repeats', '1', '--regions', 'none']
    assert cli.main(['bench', *TINY, *options]) == 0
    stages = [row[4] for row in cells(capsys.readouterr().out.splitlines()[5:])]
    assert stages[:4] == ['bare encode_image', 'upload, resize', 'tower', 'scores']


@pytest.mark.parametrize(
    'change, reason',
    [
        (['--sizes', '7'], 'input_size'),
        (['--image', '900x90'], 'more than 8 times'),
        (['--weights', '/nowhere.pt'], 'no file /nowhere.pt'),
        (['--device', 'abacus'], "'abacus' cannot be used here"),
    ],
)
def test_errors_of_bench_are_one_sentence_and_code_1(change, reason, capsys):
    assert cli.main(['bench', *TINY, *change]) == 1
    error = capsys.readouterr().err
    assert error.startswith('cliptrase: ') and reason in error


@pytest.mark.parametrize('change', [['--image', '640'], ['--repeats', '0'], ['--words', '-1']])
def test_wrong_usage_of_bench_is_code_2(change, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(['bench', *TINY, *change])
    assert stopped.value.code == 2 and change[1] in capsys.readouterr().err


@pytest.mark.parametrize('precision, tolerance', [('fp32', 1e-5), ('bf16', 3e-2)])
def test_the_bare_model_is_the_unchanged_tower_at_any_size(backbone, precision, tolerance):
    segmenter = ct.Segmenter(backbone, ct.Settings(precision=precision))
    tower = segmenter.encoder.tower
    images = torch.randn(1, 3, 40, 56).to(tower.device, tower.dtype)
    with torch.no_grad():
        got = speed.bare(segmenter, (40, 56))(images).float()
    expected = tower.pool(recipes.run(tower, images, recipes.unchanged(tower))).float()
    assert (got - expected).norm() <= tolerance * expected.norm()
    assert len(backbone.visual.positional_embedding) == 1 + 4 * 4


@pytest.mark.parametrize('opencv', [False, True])
def test_the_benchmark_of_videos_holds_the_command_against_its_parts(tmp_path, opencv):
    writer = videos.Writer(tmp_path / 'a.avi', 20.0)
    for _ in range(4):
        writer(speed.scene(48, 64))
    writer.close()
    options = ['--frames', '3', '--repeats', '2', '--words', '2', *(['--opencv'] * opencv)]
    _, _, *table = script('video', str(tmp_path / 'a.avi'), *TINY, *options)
    heads, _, *rows = cells(table)
    assert heads[0] == '64 x 48'
    names = ['labelling', 'reading', 'cliptrase video']
    names += ['reading, OpenCV', 'writing', 'writing, OpenCV'] * opencv
    names += ['labelling + reading']
    assert [row[1] for row in rows] == names and rows[-1][-1] == '1.00'
    assert all(0 <= float(row[2]) <= float(row[3]) for row in rows)


def test_what_is_measured_takes_turns_after_the_warm_up():
    calls = []
    work = {name: lambda name=name: calls.append(name) for name in 'ab'}
    times = timing.timed(work, 3, torch.device('cpu'))
    assert calls == ['a', 'b'] * (timing.WARM_UP + 3)
    assert {name: len(values) for name, values in times.items()} == {'a': 3, 'b': 3}


def test_ratios_are_medians_turn_by_turn():
    assert timing.ratio([2, 20, 9], [1, 10, 3]) == 2


def test_the_peak_of_a_call_is_what_it_took_at_once(device):
    def call():
        for _ in range(3):
            torch.ones(25_000_000, device=device)

    # The system may free the memory of other tests in between, so take the median.
    assert 95 <= np.median([timing.peak_mb(call, device) for _ in range(5)]) <= 150


def test_no_peak_where_the_system_does_not_tell(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(timing, 'CLEAR_REFS', tmp_path / 'none' / 'clear_refs')
    assert math.isnan(timing.peak_mb(lambda: None, torch.device('cpu')))
    assert cli.main(['bench', *TINY, '--sizes', '32', '--words', '1', '--repeats', '1']) == 0
    assert {row[8] for row in cells(capsys.readouterr().out.splitlines()[5:])} == {'-'}


def frames(label_of):
    """Return what is held more after 200 frames: [RSS MB, Python MB, objects, CUDA MB]."""
    settings = {'model': 'cliptrase-tiny', 'weights': 'random', 'prompt_templates': 'photo'}
    segmenter = ct.load(ct.Settings(**settings, input_size=48))
    sizes = (48, 64), (64, 48), (60, 60)
    # Use ten vocabularies first, because the last eight stay cached on the device.
    before, after = growth(segmenter, label_of(segmenter), sizes, 100, 200, 10)
    return np.subtract(after, before)


def test_memory_does_not_grow_with_the_frames():
    rss_mb, python_mb, objects, cuda_mb = frames(lambda segmenter: segmenter)
    assert objects < 50 and python_mb < 0.3 and rss_mb < 20 and cuda_mb < 1


def test_memory_that_grows_is_seen():
    kept = []

    def leaking(segmenter):
        return lambda image, words: kept.append(
            (segmenter(image, words), torch.ones(50_000), bytes(5_000))
        )

    rss_mb, python_mb, objects, _ = frames(leaking)
    assert objects > 200 and python_mb > 0.6 and rss_mb > 30


def test_the_benchmark_of_the_plain_pipeline_compares_each_part():
    sizes = ['--crops', '32', '64', '--whole', '48', '--precision', 'fp32', 'fp16', 'fp32']
    options = [*TINY, '--words', '2', '--repeats', '5', *sizes]
    lines = script('plain', *options)
    rows = cells(lines[4:-2])
    parts = ['resize', 'tower', 'DBSCAN', 'region maps', 'scores and vote', 'all']
    assert [(row[0], row[3], row[4]) for row in rows] == [
        (size, precision, part)
        for size in ('32 x 32', '64 x 64', '48 x 64')
        for precision in ('fp32', 'fp16')
        for part in parts
    ]
    for row in rows:
        for cell in row[5:7]:
            p50, p95 = map(float, cell.split(' / '))
            assert 0 <= p50 <= p95
        assert float(row[7]) > 0
    assert float(lines[-1].split()[-4]) > 80  # few pixels, in half precision


def test_the_benchmark_of_memory_prints_peaks_and_growth():
    options = [*TINY, '--words', '2', '--sizes', '48', '--frames', '3', '--warm-up', '5']
    # It starts its own processes, which does not work in a fork.
    command = [*forks.TIED, sys.executable, 'bench/memory.py', *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    _, model, *lines = done.stdout.splitlines()
    assert model == 'cliptrase-tiny (random), fp32, 2 words'
    peaks, held = cells(lines[3:5]), cells(lines[8:])
    assert [row[:2] for row in peaks] == [['48', 'segmenter'], ['48', 'plain']]
    assert all(float(row[2]) >= 0 for row in peaks)
    assert [row[0] for row in held] == ['5', '8']
    assert all(float(row[1]) > 50 and int(row[3]) > 1000 for row in held)


def test_the_benchmark_of_starts_measures_true_processes():
    pytest.importorskip('rclpy', reason='ROS 2 is not installed')
    machine, _, _, _, *rows = cells(script('start', '--turns', '1'))
    assert 'threads, load ' in machine[0]
    assert [row[0].split(': ')[0] for row in rows] == ['camera_publisher'] * 2 + ['node'] * 2
    assert all(0 < float(low) == float(median) == float(high) for _, median, low, high in rows)


def test_the_benchmark_of_starts_prints_ratios_of_two_checkouts(capsys):
    pytest.importorskip('rclpy', reason='ROS 2 is not installed')
    from start import print_table

    print_table([{'node': [1.0, 2.0, 4.0]}, {'node': [4.0, 9.0, 4.0]}])
    _, heads, _, row = cells(capsys.readouterr().out.splitlines())
    assert heads == ['', 'median', 'smallest', 'largest', 'other', 'this / other']
    assert row == ['node', '2.00', '1.00', '4.00', '4.00', '0.25']


def test_the_benchmark_of_refinement_prints_a_table():
    size = ['--device', 'cpu', '--words', '2', '13', '--labels', '24x32', '--repeats', '2']
    machine, *table = script('refine', *size)
    assert 'threads, load' in machine and machine.endswith('refine_words 12')
    rows = cells(table[3:])
    rules = 'plain', 'guided', 'guided, all words', 'pamr', 'pamr, all words'
    assert [row[1:3] for row in rows] == [[n, rule] for n in ('2', '13') for rule in rules]
    assert [row[5] for row in rows if row[2] == 'plain'] == ['1.0', '1.0']


def test_the_benchmark_of_methods_compares_all_with_clip():
    options = [*TINY, '--sizes', '32x32', '48x64']
    machine, *table = script('methods', *options, '--repeats', '2', '--words', '3')
    assert 'cliptrase-tiny (random)' in machine
    rows = cells(table[3:])
    assert {tuple(row[:2]) for row in rows} == {('32 x 32', 'fp32'), ('48 x 64', 'fp32')}
    assert [row[2] for row in rows] == 2 * [*reversed(ct.METHODS), 'resclip, feedback']
    for *_, p50, p95, ratio in rows:
        assert 0 < float(p50) <= float(p95) and float(ratio) > 0
    assert [row[5] for row in rows if row[2] == 'clip'] == ['1.00', '1.00']


def test_the_benchmark_of_words_compares_with_the_whole_context():
    options = ['--model', 'cliptrase-tiny', '--device', 'cpu', '--words', '3', '--repeats', '2']
    machine, *table = script('words', *options)
    assert 'cliptrase-tiny (random)' in machine
    rows = cells(table[3:])
    new = ['new word, whole context', 'new word']
    assert [row[1] for row in rows] == [*new, *new, '3 known words', 'fingerprint']
    assert [row[0] for row in rows] == ['80', '80', '7', '7', '80', '']
    assert rows[0][4] == '1.0000' and float(rows[1][4]) < 1
    assert all(0 <= float(p50) <= float(p95) for _, _, p50, p95, _ in rows)


def test_the_benchmark_of_objects_prints_a_table():
    options = ['--image', '96x64', '--min-pixels', '10', '--repeats', '2']
    machine, *table = script('objects', *options)
    assert 'OpenCV' in machine and machine.endswith('threads: 1')
    rows = cells(table[3:])
    scenes = 'room', 'speckled', 'wall', 'noise'
    parts = 'components', 'find'
    assert [(row[0], row[3]) for row in rows] == [(s, part) for s in scenes for part in parts]
    things = {row[0]: int(row[2]) for row in rows}
    assert things['room'] > 5 and things['wall'] == 1 and things['noise'] < things['room']
    assert all(0 <= float(p50) <= float(p95) for *_, p50, p95, _ in rows)


def test_the_benchmark_of_the_world_prints_both_stages():
    pytest.importorskip('pybullet', reason='the extra [demo] is not installed')
    size = ['--width', '80', '--height', '60', '--scenes', '2', '--views', '1']
    assert [line.split()[0] for line in script('world', *size)] == ['new_scene', 'render']


def test_the_benchmark_of_the_node_prints_four_tables():
    pytest.importorskip('rclpy', reason='ROS 2 is not installed')
    size = ['--sizes', '64x48', '--frames', '3', '--seconds', '0.3', '--turns', '1', '--names', '2']
    lines = script('node', *size, '--device', 'cpu', '--prompt-templates', 'photo')
    assert 'cliptrase-tiny (random), input_size 96' in lines[0]
    rows = cells(line for line in lines if line.startswith('| '))
    assert [row[0] for row in rows if row[0] != '---'] == [
        *('image', '64 x 48', '64 x 48'),
        *('subscribed', 'none', 'all'),
        *('change', 'two new words', 'known words', 'none'),
        *('change', 'to 2 names', 'back to 8'),
    ]
    for row in rows[2:4]:
        everything, node, engine = (float(cell.split(' / ')[0]) for cell in row[2:5])
        assert 0 < engine <= node and everything > 0
    assert 'Masks that did not come: 0.' in '\n'.join(lines)
