import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_the_benchmark_prints_a_table_with_the_machine():
    options = ['--model', 'cliptrase-tiny', '--device', 'cpu', '--sizes', '32', '64']
    done = subprocess.run(
        [sys.executable, 'bench/segment.py', *options, '--repeats', '2', '--words', '3'],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    machine, *table = done.stdout.splitlines()
    assert 'threads; torch' in machine and 'cliptrase-tiny (random), torch.float32' in machine
    rows = [[cell.strip() for cell in line.strip('|').split('|')] for line in table[2:]]
    assert len(rows) == 2 * 7 and {row[0] for row in rows} == {'32 x 48', '64 x 80'}
    for _, _, p50, p95, ratio in rows:
        assert 0 < float(p50) <= float(p95) and float(ratio) >= 0
    assert [row[4] for row in rows if row[1] == 'forward (clip)'] == ['1.00', '1.00']


def test_the_benchmark_of_the_world_prints_both_stages():
    pytest.importorskip('pybullet', reason='the extra [demo] is not installed')
    size = ['--width', '80', '--height', '60', '--scenes', '2', '--views', '1']
    done = subprocess.run(
        [sys.executable, 'bench/world.py', *size], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ['new_scene', 'render']
