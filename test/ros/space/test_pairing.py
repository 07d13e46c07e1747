import queue
import threading
import weakref
from types import SimpleNamespace

import pytest

from cliptrase_ros.ros.space import pairing
from cliptrase_ros.ros.space.pairing import RECENT, SILENCE_S, Pairing

# No test waits for PATIENCE_S. A wait that should end but takes longer than STUCK_S is stuck.
PATIENCE_S = 600.0
STUCK_S = 60.0


class Picture:
    """A depth image. The set `alive` shows if something still refers to it."""

    def __init__(self, alive):
        alive.add(self)


@pytest.fixture
def now(monkeypatch):
    """The clock of the module, [seconds]. It stands still."""
    seconds = [1000.0]
    monkeypatch.setattr(pairing, 'time', SimpleNamespace(monotonic=lambda: seconds[0]))
    return seconds


def waiting(pair, expected, patience_s=PATIENCE_S):
    """Wait in another thread. Return the queue that gets the result."""
    results = queue.SimpleQueue()
    run = threading.Thread(target=lambda: results.put(pair.wait(expected, patience_s)), daemon=True)
    run.start()
    return results


def at_once(pair, expected, patience_s=PATIENCE_S):
    """Return the result of a wait that must not block."""
    return waiting(pair, expected, patience_s).get(timeout=STUCK_S)


def blocks(results):
    """Return True if a wait still goes on a moment later. Fail if it has ended."""
    with pytest.raises(queue.Empty):
        results.get(timeout=0.1)
    return True


@pytest.mark.parametrize(
    'stamps, best',
    [
        ([100], 100),
        ([90, 110, 100], 100),
        ([100, 101, 102], 100),
        ([100, 99, 120], 100),
        ([90, 130], 90),
        ([60, 130], 130),
        ([90, 95, 97, 140], 97),
        ([103, 105], 103),
    ],
)
@pytest.mark.parametrize('before', [0, 1, 2, 4])
def test_the_exact_one_else_the_nearest(stamps, best, before):
    """It may come before or after the image. The exact one wins over those that come later."""
    pair = Pairing()
    for stamp in stamps[:before]:
        pair.put(stamp, f'depth {stamp}')
    expected = pair.expect(100)
    for stamp in stamps[before:]:
        pair.put(stamp, f'depth {stamp}')
    assert at_once(pair, expected) == (best, f'depth {best}')


@pytest.mark.parametrize('before', [0, 1, 2])
def test_of_two_as_near_the_one_that_came_later(before):
    pair = Pairing()
    depths = [(90, 'first'), (110, 'second')]
    for stamped in depths[:before]:
        pair.put(*stamped)
    expected = pair.expect(100)
    for stamped in depths[before:]:
        pair.put(*stamped)
    assert at_once(pair, expected) == (110, 'second')


def test_of_one_stamp_twice_the_one_that_came_later():
    pair = Pairing()
    expected = pair.expect(100)
    pair.put(100, 'first')
    pair.put(100, 'second')
    assert at_once(pair, expected) == (100, 'second')


def test_images_keep_their_own_depth():
    pair = Pairing()
    expected = [pair.expect(stamp) for stamp in (100, 200, 300)]
    for stamp in (101, 199, 300, 400):
        pair.put(stamp, stamp)
    assert [at_once(pair, one)[0] for one in expected] == [101, 199, 300]


def test_stamps_as_long_as_those_of_today():
    pair = Pairing()
    stamp = 1_800_000_000_123_456_789
    expected = pair.expect(stamp)
    pair.put(stamp - 1, 'before')
    pair.put(stamp + 1, 'after')
    pair.put(stamp, 'exact')
    assert at_once(pair, expected) == (stamp, 'exact')


def test_an_exact_one_ends_the_wait():
    pair = Pairing()
    pair.put(80, 'old')
    results = waiting(pair, pair.expect(100))
    assert blocks(results)
    pair.put(90, 'nearer')
    assert blocks(results)
    pair.put(100, 'exact')
    assert results.get(timeout=STUCK_S) == (100, 'exact')


def test_a_later_one_ends_the_wait():
    pair = Pairing()
    pair.put(80, 'old')
    results = waiting(pair, pair.expect(100))
    assert blocks(results)
    pair.put(150, 'later')
    assert results.get(timeout=STUCK_S) == (80, 'old')


def test_every_waiting_image_is_woken():
    pair = Pairing()
    pair.put(0, 'old')
    expected = [pair.expect(stamp) for stamp in (10, 20, 30)]
    results = [waiting(pair, one) for one in expected]
    pair.put(20, 'second')
    assert results[0].get(timeout=STUCK_S) == (20, 'second')
    assert results[1].get(timeout=STUCK_S) == (20, 'second')
    assert blocks(results[2])
    pair.put(30, 'third')
    assert results[2].get(timeout=STUCK_S) == (30, 'third')


def test_without_any_depth_nothing_is_waited_for():
    pair = Pairing()
    assert at_once(pair, pair.expect(100)) is None


@pytest.mark.parametrize('silence_s', [SILENCE_S + 0.001, 3600.0])
def test_depth_that_fell_silent_is_not_waited_for(now, silence_s):
    pair = Pairing()
    pair.put(80, 'old')
    now[0] += silence_s
    assert at_once(pair, pair.expect(100)) is None
    assert at_once(pair, pair.expect(80)) == (80, 'old'), 'one that came long before its image'


@pytest.mark.parametrize('silence_s', [0.0, SILENCE_S])
def test_slow_depth_is_waited_for(now, silence_s):
    """This holds even if the depth image before came long ago."""
    pair = Pairing()
    pair.put(80, 'old')
    now[0] += silence_s
    results = waiting(pair, pair.expect(100), patience_s=PATIENCE_S)
    assert blocks(results)
    pair.put(100, 'exact')
    assert results.get(timeout=STUCK_S) == (100, 'exact')


def test_depth_slower_than_the_patience(now, monkeypatch):
    monkeypatch.setattr(pairing, 'SILENCE_S', 10 * PATIENCE_S)
    pair = Pairing()
    pair.put(80, 'old')
    now[0] += 2 * PATIENCE_S
    results = waiting(pair, pair.expect(100))
    assert blocks(results)
    pair.put(100, 'exact')
    assert results.get(timeout=STUCK_S) == (100, 'exact')


def test_patience_counts_from_when_the_image_came(now):
    pair = Pairing()
    expected = pair.expect(100)
    now[0] += PATIENCE_S
    pair.put(80, 'old')
    assert at_once(pair, expected) == (80, 'old')


def test_patience_ends():
    pair = Pairing()
    pair.put(80, 'old')
    assert at_once(pair, pair.expect(100), patience_s=0.01) == (80, 'old')


def test_depth_that_came_first_is_kept_for_a_while():
    pair = Pairing()
    for stamp in range(RECENT + 1):
        pair.put(stamp, stamp)
    assert at_once(pair, pair.expect(0)) == (1, 1)
    assert at_once(pair, pair.expect(1)) == (1, 1)


def test_few_depth_images_are_held_however_long_an_image_waits():
    pair, alive = Pairing(), weakref.WeakSet()
    expected = pair.expect(0)
    for stamp in range(10, 500):
        pair.put(stamp, Picture(alive))
        assert len(alive) <= RECENT + 1
    assert len(alive) == RECENT + 1 and expected.best[0] == 10
    expected = None
    assert len(alive) == RECENT


def test_an_image_that_is_dropped_is_forgotten():
    pair = Pairing()
    expected = [pair.expect(stamp) for stamp in range(100)]
    watched = [weakref.ref(one) for one in expected]
    pair.put(0, 'depth')
    kept = expected[7]
    expected = None
    assert [ref() for ref in watched if ref()] == [kept]
    pair.put(7, 'exact')
    assert kept.best == (7, 'exact')


def test_depth_of_a_bag_that_begins_again():
    pair = Pairing()
    for stamp in (1000, 1010, 1020):
        pair.put(stamp, stamp)
    pair.put(0, 0)
    expected = pair.expect(10)
    results = waiting(pair, expected)
    assert blocks(results), 'stamps from before the restart do not count as later'
    pair.put(10, 10)
    assert results.get(timeout=STUCK_S) == (10, 10)


def test_an_image_of_a_bag_that_begins_again_before_its_depth():
    """Depth from the end of the bag does not count as later."""
    pair, hour = Pairing(), 3600 * 10**9
    for stamp in (hour, hour + 10):
        pair.put(stamp, stamp)
    results = waiting(pair, pair.expect(0))
    assert blocks(results)
    pair.put(0, 0)
    assert results.get(timeout=STUCK_S) == (0, 0)


def test_forgetting():
    pair, alive = Pairing(), weakref.WeakSet()
    pair.put(90, Picture(alive))
    before = pair.expect(100)
    pair.forget()
    assert before.best[0] == 90, 'an image keeps what it has'
    assert at_once(pair, pair.expect(100)) is None
    pair.put(100, Picture(alive))
    assert before.best[0] == 90
    before = None
    assert len(alive) == 1


@pytest.mark.parametrize('stamp', [95, 105])
def test_an_image_from_before_forgetting_gets_nothing_more(now, stamp):
    pair = Pairing()
    expected = pair.expect(100)
    pair.forget()
    pair.put(stamp, 'new')
    now[0] += 1.0
    assert at_once(pair, expected, patience_s=0.5) is None


def test_threads():
    """Each image comes before its depth, and finds it."""
    pair, images, found = Pairing(), queue.SimpleQueue(), []

    def depth_camera():
        for _ in range(300):
            stamp = images.get(timeout=STUCK_S)
            pair.put(stamp, str(stamp))

    camera = threading.Thread(target=depth_camera, daemon=True)
    camera.start()
    pair.put(-1, 'old')
    for stamp in range(300):
        expected = pair.expect(stamp)
        images.put(stamp)
        found.append(at_once(pair, expected))
    camera.join(STUCK_S)
    assert found == [(stamp, str(stamp)) for stamp in range(300)]
