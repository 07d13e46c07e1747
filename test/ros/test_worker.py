import threading
import time

import pytest

from cliptrase_ros.ros.statistics import Statistics
from cliptrase_ros.ros.worker import LatestSlots, Worker


def test_the_newest_item_of_each_key_is_kept():
    slots = LatestSlots()
    assert [slots.put(*pair) for pair in (('a', 1), ('b', 2), ('a', 3))] == [False, False, True]
    # Key a came first, so its item comes first, although a newer one replaced it.
    assert slots.get() == [3, 2]
    assert slots.put('a', 4) is False and slots.get() == [4]


def test_closing_ends_those_who_wait_and_those_who_come():
    slots, got = LatestSlots(), []
    thread = threading.Thread(target=lambda: got.append(slots.get()))
    thread.start()
    slots.close()
    thread.join(5)
    slots.put('a', 1)
    assert got == [[]] and slots.get() == []


def test_a_worker_survives_errors_and_finishes_what_it_has(caplog):
    done = []
    begun, go = threading.Event(), threading.Event()

    def work(items):
        if 'bad' in items:
            raise RuntimeError('no')
        begun.set()
        go.wait(5)
        done.append(items)

    worker = Worker('test', work)
    worker.put('a', 'bad')
    deadline = time.monotonic() + 5
    while 'unhandled error' not in caplog.text and time.monotonic() < deadline:
        time.sleep(0.001)
    worker.put('a', 'good')
    assert begun.wait(5)
    assert worker.put('a', 'waiting') is False and worker.put('a', 'newer') is True
    threading.Timer(0.05, go.set).start()
    worker.stop()
    assert done == [['good']] and 'RuntimeError: no' in caplog.text


def test_statistics(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, 'monotonic', lambda: now[0])
    statistics = Statistics(times=10, events=30)
    assert statistics.age('in') == float('inf') and statistics.rate('in') == 0.0
    assert statistics.quantiles_ms('t') is None
    for _ in range(20):
        statistics.count('in')
        now[0] += 0.1
    assert statistics.counts() == {'in': 20}
    assert statistics.rate('in') == pytest.approx(10.0)
    assert statistics.age('in') == pytest.approx(0.1)
    assert [statistics.recent('in', s) for s in (0.55, 10.0)] == [5, 20]
    now[0] += 100
    assert statistics.rate('in') == 0.0
    statistics.count('in')
    assert statistics.rate('in') == pytest.approx(0.01, rel=0.01)  # rare event: the last two count
    for n in range(1, 21):
        statistics.record('t', n / 1000)
    now[0] += 7
    assert statistics.quantiles_ms('t', over_s=5.0) is None
    p50, p95, worst = statistics.quantiles_ms('t')
    assert (p50, worst) == (pytest.approx(15.5), pytest.approx(20.0)) and 19 < p95 < 20
