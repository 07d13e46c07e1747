import itertools
import threading

import pytest

from cliptrase_ros.overlap import WriteBehind, prefetched


def test_items_come_in_order_and_are_made_on_another_thread():
    makers = set()

    def make():
        for n in range(10):
            makers.add(threading.get_ident())
            yield n

    assert list(prefetched(make())) == list(range(10))
    assert len(makers) == 1 and threading.get_ident() not in makers


def test_no_more_are_made_ahead_than_asked_for():
    made = []
    items = prefetched((made.append(n) or n for n in itertools.count()), count=3)
    assert next(items) == 0
    items.close()
    assert len(made) <= 4


def test_an_error_comes_where_its_item_would():
    def make():
        yield 1
        raise ValueError('no second')

    items = prefetched(make())
    assert next(items) == 1
    with pytest.raises(ValueError, match='no second'):
        next(items)


def test_calls_are_made_in_order():
    done = []
    with WriteBehind(count=1) as behind:
        for n in range(20):
            behind(done.append, n)
    assert done == list(range(20))


def test_an_error_of_a_call_arises_and_no_call_follows_it():
    done = []

    def fail():
        raise OSError('disk full')

    with pytest.raises(OSError, match='disk full'), WriteBehind(count=1) as behind:
        behind(fail)
        for n in range(5):
            behind(done.append, n)
    assert not done
    with pytest.raises(OSError, match='disk full'), WriteBehind() as behind:
        behind(fail)


def test_an_error_beside_the_calls_is_not_hidden_by_theirs():
    def fail():
        raise OSError('disk full')

    with pytest.raises(KeyError), WriteBehind() as behind:
        behind(fail)
        raise KeyError
