import subprocess
import sys
from pathlib import Path

import pytest

import cliptrase_ros as ct

ROOT = Path(__file__).parents[1]


def bench(script, *options, timeout=None):
    """The lines that a benchmark prints."""
    done = subprocess.run(
        [sys.executable, f'bench/{script}.py', *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def cells(lines):
    """Those of table rows."""
    return [[cell.strip() for cell in line.strip('|').split('|')] for line in lines]


def test_the_benchmark_prints_a_table_with_the_machine():
    options = ['--model', 'cliptrase-tiny', '--device', 'cpu', '--sizes', '32', '64']
    machine, *table = bench('segment', *options, '--repeats', '2', '--words', '3')
    assert 'threads; torch' in machine and 'cliptrase-tiny (random), torch.float32' in machine
    rows = cells(table[2:])
    assert len(rows) == 2 * 7 and {row[0] for row in rows} == {'32 x 48', '64 x 80'}
    for _, _, p50, p95, ratio in rows:
        assert 0 < float(p50) <= float(p95) and float(ratio) >= 0
    assert [row[4] for row in rows if row[1] == 'forward (clip)'] == ['1.00', '1.00']


def test_the_benchmark_of_refinement_prints_a_table():
    size = ['--device', 'cpu', '--words', '2', '13', '--labels', '24x32', '--repeats', '2']
    machine, *table = bench('refine', *size)
    assert 'threads; torch' in machine and machine.endswith('refine_words 12')
    rows = cells(table[2:])
    rules = 'plain', 'guided', 'guided, all words', 'pamr', 'pamr, all words'
    assert [row[1:3] for row in rows] == [[n, rule] for n in ('2', '13') for rule in rules]
    assert [row[5] for row in rows if row[2] == 'plain'] == ['1.0', '1.0']


def test_the_benchmark_of_methods_compares_all_with_clip():
    options = ['--model', 'cliptrase-tiny', '--device', 'cpu', '--sizes', '32x32', '48x64']
    machine, *table = bench('methods', *options, '--repeats', '2', '--words', '3')
    assert 'cliptrase-tiny (random), torch.float32' in machine
    rows = cells(table[2:])
    assert {row[0] for row in rows} == {'32 x 32', '48 x 64'}
    assert [row[1] for row in rows] == 2 * [*reversed(ct.METHODS), 'resclip, feedback']
    for _, _, p50, p95, ratio in rows:
        assert 0 < float(p50) <= float(p95) and float(ratio) > 0
    assert [row[4] for row in rows if row[1] == 'clip'] == ['1.00', '1.00']


def test_the_benchmark_of_words_compares_with_the_whole_context():
    options = ['--model', 'cliptrase-tiny', '--device', 'cpu', '--words', '3', '--repeats', '2']
    machine, *table = bench('words', *options)
    assert 'cliptrase-tiny (random)' in machine
    rows = cells(table[2:])
    new = ['new word, whole context', 'new word']
    assert [row[1] for row in rows] == [*new, *new, '3 known words', 'fingerprint']
    assert [row[0] for row in rows] == ['80', '80', '7', '7', '80', '']
    assert rows[0][4] == '1.0000' and float(rows[1][4]) < 1
    assert all(0 < float(p50) <= float(p95) for _, _, p50, p95, _ in rows)


def test_the_benchmark_of_the_world_prints_both_stages():
    pytest.importorskip('pybullet', reason='the extra [demo] is not installed')
    size = ['--width', '80', '--height', '60', '--scenes', '2', '--views', '1']
    assert [line.split()[0] for line in bench('world', *size)] == ['new_scene', 'render']


def test_the_benchmark_of_the_node_prints_four_tables():
    pytest.importorskip('rclpy', reason='ROS 2 is not installed')
    size = ['--sizes', '64x48', '--frames', '3', '--seconds', '0.3', '--turns', '1', '--names', '2']
    lines = bench('node', *size, '--device', 'cpu', '--prompt-templates', 'photo', timeout=120)
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
