import threading
import time

import pytest

from cliptrase_ros.ros.worker import LatestSlot, Statistics, Worker


def test_the_newest_item_replaces_the_one_that_waits():
    slot = LatestSlot()
    assert [slot.put(n) for n in range(3)] == [False, True, True]
    assert slot.get() == 2
    assert slot.put(3) is False and slot.get() == 3


def test_closing_ends_those_who_wait_and_those_who_come():
    slot, got = LatestSlot(), []
    thread = threading.Thread(target=lambda: got.append(slot.get()))
    thread.start()
    slot.close()
    thread.join(5)
    slot.put(1)
    assert got == [None] and slot.get() is None


def test_a_worker_survives_errors_and_finishes_what_it_has():
    done, failed = [], []
    begun, go = threading.Event(), threading.Event()

    def work(item):
        if item == 'bad':
            raise RuntimeError('no')
        begun.set()
        go.wait(5)
        done.append(item)

    worker = Worker('test', work, lambda item, error: failed.append((item, str(error))))
    worker.put('bad')
    deadline = time.monotonic() + 5
    while not failed and time.monotonic() < deadline:
        time.sleep(0.001)
    worker.put('good')
    assert begun.wait(5)
    assert worker.put('waiting') is False and worker.put('newer') is True
    threading.Timer(0.05, go.set).start()
    worker.stop()
    assert failed == [('bad', 'no')] and done == ['good']


def test_a_worker_survives_a_report_that_fails(caplog):
    done = threading.Event()

    def work(item):
        if item == 'bad':
            raise RuntimeError('no')
        done.set()

    def failed(item, error):
        raise ValueError('cannot even say so')

    worker = Worker('test', work, failed)
    worker.put('bad')
    deadline = time.monotonic() + 5
    while 'cannot even say so' not in caplog.text and time.monotonic() < deadline:
        time.sleep(0.001)
    worker.put('good')
    assert done.wait(5) and 'cannot report an error' in caplog.text
    assert not worker.stopping()
    worker.stop()
    assert worker.stopping()


def test_statistics(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, 'monotonic', lambda: now[0])
    statistics = Statistics(window=10)
    assert statistics.age('in') == float('inf') and statistics.rate('in') == 0.0
    assert statistics.quantiles_ms('t') is None
    for _ in range(20):
        statistics.count('in')
        now[0] += 0.1
    assert statistics.counts() == {'in': 20}
    assert statistics.rate('in') == pytest.approx(10.0)
    assert statistics.age('in') == pytest.approx(0.1)
    now[0] += 100
    assert statistics.rate('in') == 0.0
    for n in range(1, 21):
        statistics.record('t', n / 1000)
    p50, p95, worst = statistics.quantiles_ms('t')
    assert (p50, worst) == (pytest.approx(15.5), pytest.approx(20.0)) and 19 < p95 < 20
