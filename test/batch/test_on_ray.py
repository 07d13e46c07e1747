"""Archives labelled by real Ray workers, on a cluster on this machine."""

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys

import archives
import pytest
import torch
from archives import FLAGS, WORDS, contents, job, tree
from interpreters import run_without

ray = pytest.importorskip('ray')

import cliptrase_ros as ct  # noqa: E402
from cliptrase_ros.batch import archive, on_ray  # noqa: E402
from cliptrase_ros.batch.archive import ArchiveItem  # noqa: E402
from cliptrase_ros.batch.local import Labeller  # noqa: E402
from cliptrase_ros.batch.on_ray import Pool, label  # noqa: E402
from cliptrase_ros.errors import SettingError, WorkerError  # noqa: E402
from cliptrase_ros.words.embeddings import EmbeddingCache  # noqa: E402
from cliptrase_ros.words.templates import TEMPLATES  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group('ray')]

ALL = [*FLAGS, '--words', *WORDS, '--background', 'sky']
TWO = Pool(workers=2, gpus=0, cpus=1)


@pytest.fixture(scope='module')
def cluster():
    """Return the address of a cluster with room for two workers."""
    context = ray.init(
        address='local',
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=100_000_000,
        log_to_driver=False,
        # One thread, as for the labels of `expected`.
        runtime_env={'env_vars': {'OMP_NUM_THREADS': '1'}},
    )
    yield context.address_info['gcs_address']
    ray.shutdown()


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    return tree(tmp_path_factory.mktemp('in'), 24)


@pytest.fixture(scope='module')
def expected(photos, tmp_path_factory):
    """Return the labels of the local engine, with as many threads as a worker has."""
    threads, out = torch.get_num_threads(), tmp_path_factory.mktemp('local') / 'out'
    torch.set_num_threads(1)
    assert all(
        not outcome.error for outcome in Labeller(job())(archive.list_items([photos], out)[0])
    )
    torch.set_num_threads(threads)
    return contents(out)


def pid_of(outcome):
    return int(outcome.worker.rpartition(':')[2])


def test_two_workers_label_as_one_process_does(cluster, photos, expected, tmp_path):
    items, _ = archive.list_items([photos], tmp_path)
    outcomes = list(label(items, job(), TWO))
    assert sorted(outcome.item for outcome in outcomes) == sorted(items)
    assert not any(outcome.error for outcome in outcomes)
    assert contents(tmp_path) == expected and len(expected) == 48
    workers = {pid_of(outcome) for outcome in outcomes}
    assert 1 <= len(workers) <= 2 and os.getpid() not in workers


def test_what_a_killed_worker_had_is_done_by_others(cluster, photos, expected, tmp_path):
    items, _ = archive.list_items([photos], tmp_path)
    outcomes = []
    for outcome in label(items, job(), TWO):
        if not outcomes:
            # The worker has its next pictures by now.
            os.kill(pid_of(outcome), signal.SIGKILL)
            killed = pid_of(outcome)
        outcomes.append(outcome)
    assert sorted(outcome.item for outcome in outcomes) == sorted(items)
    assert not any(outcome.error for outcome in outcomes)
    assert contents(tmp_path) == expected
    assert any(outcome.worker and pid_of(outcome) != killed for outcome in outcomes)


KILLER = """
import os, signal, sys, time
from contextlib import suppress
from pathlib import Path

pipe, times = Path(sys.argv[1]), int(sys.argv[2])

def reader():
    for link in Path('/proc').glob('[0-9]*/fd/*'):
        with suppress(OSError):
            pid = int(link.parts[2])
            if pid != os.getpid() and os.readlink(link) == str(pipe):
                return pid

signal.alarm(300)
for _ in range(times):
    # Wait until a process opens the pipe to read. /proc may show it a moment later.
    writer = os.open(pipe, os.O_WRONLY)
    while not (pid := reader()):
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    with suppress(BrokenPipeError):
        # Write until that process is gone.
        while True:
            os.write(writer, b' ' * 4096)
    os.close(writer)
"""


@contextlib.contextmanager
def killer(pipe, times):
    """Make a pipe, and kill each process that reads it."""
    os.mkfifo(pipe)
    process = subprocess.Popen([sys.executable, '-c', KILLER, str(pipe), str(times)])
    try:
        yield
        assert process.wait() == 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize('pool', [TWO, Pool(workers=1, gpus=0, cpus=1)], ids=['two', 'one'])
def test_a_picture_that_kills_two_workers_is_named(cluster, photos, expected, tmp_path, pool):
    """The picture is a pipe. A worker that reads it waits until it is killed."""
    items, _ = archive.list_items([photos], tmp_path)
    pipe = tmp_path / 'deadly.png'
    deadly = ArchiveItem(str(pipe), str(tmp_path / 'deadly'))
    items.insert(1, deadly)
    with killer(pipe, 2):
        outcomes = list(label(items, job(), pool))
    assert sorted(outcome.item for outcome in outcomes) == sorted(items)
    failed = [outcome for outcome in outcomes if outcome.error]
    assert [outcome.item for outcome in failed] == [deadly]
    assert 'two workers died while labelling it' in failed[0].error
    pipe.unlink()
    assert contents(tmp_path) == expected


def test_workers_end_when_nobody_wants_more(cluster, photos, tmp_path):
    items, _ = archive.list_items([photos], tmp_path)
    outcomes = label(items, job(), TWO)
    first = next(outcomes)
    assert archives.alive(pid_of(first))
    outcomes.close()
    # The same cluster accepts the next run.
    left = [item for item in items if not job().done(item)]
    assert {o.item for o in label(left, job(), TWO)} == set(left)


def test_a_broken_picture_is_named(cluster, tmp_path):
    (tmp_path / 'broken.jpg').write_bytes(b'no')
    items = [ArchiveItem(str(tmp_path / 'broken.jpg'), str(tmp_path / 'broken'))]
    (outcome,) = label(items, job(), TWO)
    assert 'is no picture' in outcome.error and outcome.worker


def test_bags_are_handed_out_one_by_one(cluster, tmp_path):
    bags = [archives.bag(tmp_path / f'b{n}') for n in range(3)]
    items, _ = archive.list_items(bags, tmp_path / 'out')
    outcomes = list(label(items, job(bags=True), TWO))
    assert [outcome.images for outcome in outcomes] == [2, 2, 2]
    assert all(job(bags=True).done(item) for item in items)


def test_models_that_cannot_be_loaded_and_places_that_cannot_be_written(cluster, tmp_path):
    items = archive.list_items([tree(tmp_path / 'in')], tmp_path / 'out')[0]
    with pytest.raises(WorkerError, match='too long'):
        list(label(items, job(entries=('mug ' * 99,)), TWO))
    (tmp_path / 'out').write_bytes(b'a file')
    with pytest.raises(WorkerError, match='out'):
        list(label(items, job(), TWO))


def test_a_mistake_of_ours_is_no_death(cluster):
    with pytest.raises(AttributeError):
        list(label([None], job(), TWO))


def test_more_than_there_is(cluster, photos):
    with pytest.raises(SettingError, match=r'3 workers with 1 CPU each: Ray has 2 in total'):
        list(label([], job(), Pool(workers=3, gpus=0, cpus=1)))
    with pytest.raises(SettingError, match=r'1 workers with 99.5 GPU each'):
        list(label([], job(), Pool(workers=1, gpus=99.5)))


def test_a_cluster_that_is_busy_is_told_of(cluster, photos, tmp_path, monkeypatch):
    """Another actor holds all CPUs until the warning is logged."""

    class Holder:
        def here(self):
            return True

    other = ray.remote(num_cpus=2)(Holder).remote()
    ray.get(other.here.remote())
    said = []

    class Heard(logging.Handler):
        def emit(self, record):
            said.append(record.getMessage())
            ray.kill(other)

    handler = Heard()
    on_ray.log.addHandler(handler)
    monkeypatch.setattr(on_ray, '_PATIENCE', 0.1)
    try:
        outcomes = list(label(archive.list_items([photos], tmp_path)[0][:2], job(), TWO))
    finally:
        on_ray.log.removeHandler(handler)
    assert len(outcomes) == 2 and not any(outcome.error for outcome in outcomes)
    assert said and 'no worker has started after 0.1 s: Ray is busy' in said[0]


def test_an_error_of_ray_without_a_word():
    """The test runs in a new process, because Ray must not be started yet."""
    program = """
import ray
from archives import job
from cliptrase_ros.batch.on_ray import Pool, label
from cliptrase_ros.errors import SettingError

def init(**_):
    raise RuntimeError()

ray.init = init
try:
    list(label([], job(), Pool()))
except SettingError as error:
    assert str(error) == 'Ray cannot be reached or started (RuntimeError)', error
else:
    raise SystemExit('no error')
"""
    folders = [os.path.dirname(archives.__file__), os.environ.get('PYTHONPATH', '')]
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(folders)}
    done = subprocess.run(
        [sys.executable, '-c', program], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_the_pool_fits_what_is_there(cluster, monkeypatch):
    def sized(there, pool, **changes):
        monkeypatch.setattr(ray, 'cluster_resources', lambda: there)
        return on_ray._sized(pool, job(**changes))

    gpus = {'CPU': 16.0, 'GPU': 4.0}
    auto = job().settings.replace(device='auto')
    assert sized({'CPU': 8.0}, Pool()) == Pool(1, 0.0, 8)
    assert sized({'CPU': 8.0}, Pool(workers=3)) == Pool(3, 0.0, 2)
    assert sized(gpus, Pool(), settings=auto) == Pool(4, 1.0, 4)
    assert sized(gpus, Pool(gpus=0.5), settings=auto) == Pool(8, 0.5, 2)
    assert sized(gpus, Pool()) == Pool(1, 0.0, 16)
    assert sized(gpus, Pool(address='auto'), settings=auto) == Pool(4, 1.0, 1, 'auto')


# Workers that keep dying


def test_workers_that_die_loading_end_the_run(cluster, tmp_path):
    """A word in the cache is a pipe. A worker that reads it waits until it is killed."""
    settings = job().settings.replace(cache_dir=str(tmp_path))
    text = ct.load(settings).backbone.text
    pipe = EmbeddingCache(tmp_path).path(text.fingerprint, TEMPLATES['none'], 'floor')
    items = archive.list_items([tree(tmp_path / 'in')], tmp_path / 'out')[0]
    died = pytest.raises(WorkerError, match=r'1 workers died .* loading the model')
    with killer(pipe, 1), died:
        list(label(items, job(settings=settings), Pool(workers=1, gpus=0, cpus=1)))


def test_so_many_deaths_are_no_accident(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(on_ray, '_DEATHS_IN_A_ROW', 2)
    pipe = tmp_path / 'deadly.png'
    items = [ArchiveItem(str(pipe), str(tmp_path / 'deadly'))]
    with killer(pipe, 2), pytest.raises(WorkerError, match=r'2 workers died .* labelling'):
        list(label(items, job(), Pool(workers=1, gpus=0, cpus=1)))


# The command


def test_the_command_on_a_cluster_that_runs(cluster, photos, expected, tmp_path):
    flags = ['--engine', 'ray', '--workers', '2', '--gpus-per-worker', '0', '--address', cluster]
    done = archives.run(photos, *ALL, '-o', tmp_path, *flags)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith('24 pictures labelled')
    # Ray itself is silent.
    assert not [line for line in done.stderr.splitlines() if 'ray' in line.lower()]
    assert contents(tmp_path) == expected


def test_an_interrupted_run_on_workers_goes_on(photos, expected, tmp_path, monkeypatch):
    ray = ['--engine', 'ray', '--workers', '2', '--cpus-per-worker', '1']
    code, said, errors = archives.interrupted(photos, *ALL, '-o', tmp_path, *ray, after=2)
    assert code == 130 and errors.splitlines()[-1] == 'cliptrase: interrupted'
    workers = {int(line['worker'].rpartition(':')[2]) for line in said}
    assert workers and not any(archives.alive(pid) for pid in workers)
    assert all(os.path.exists(line['labels']) for line in said)
    # The local engine continues the run: a cluster is slow to start, and any engine may continue.
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    done = archives.run(photos, *ALL, '-o', tmp_path, '--json')
    total = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 0 and total['there'] >= 2
    assert total['there'] + total['labelled'] == 24
    assert contents(tmp_path) == expected


@pytest.mark.parametrize('address', ['127.0.0.1:1', 'ray://127.0.0.1:10001', 'nonsense'])
def test_a_cluster_that_is_not_there(photos, tmp_path, address):
    done = archives.run(
        photos, *ALL, '-o', tmp_path / 'out', '--engine', 'ray', '--address', address
    )
    assert done.returncode == 1
    assert done.stderr.startswith('cliptrase: Ray cannot be reached or started (')
    assert len(done.stderr.splitlines()) == 1


def test_without_ray_one_sentence_says_how_to_get_it(photos, tmp_path):
    arguments = ['label', str(photos), *ALL, '-o', str(tmp_path / 'out'), '--engine', 'ray']
    run_without(
        ['ray'],
        f"""
import contextlib, io
from cliptrase_ros import cli
said = io.StringIO()
with contextlib.redirect_stderr(said):
    assert cli.main({arguments!r}) == 1
assert said.getvalue() == "cliptrase: engine ray needs Ray: pip install 'ray>=2.9'\\n"
""",
    )
