"""Publishing the topics that somebody listens to, when some of them fail."""

import pytest
from processes import wait_for
from std_msgs.msg import String

from cliptrase_ros.errors import OutOfMemory, SettingError
from cliptrase_ros.ros.parameters import NodeOptions
from cliptrase_ros.ros.publishers import OutputError, Publishers, each


def test_what_fails_keeps_nothing_else_from_its_turn():
    def full():
        raise MemoryError

    results, errors = each({'a': lambda: 1 / 0, 'b': lambda: 2, 'c': full})
    assert results == {'b': 2} and list(errors) == ['a', 'c']
    assert isinstance(errors['a'], ZeroDivisionError) and isinstance(errors['c'], OutOfMemory)


def test_every_output_that_failed_is_named():
    error = OutputError({'overlay': ValueError('too dark'), 'masks': SettingError('no such size')})
    assert str(error) == 'overlay: ValueError: too dark; masks: no such size'


@pytest.fixture
def publishers(tester):
    made = Publishers(tester, 'eye/', NodeOptions())
    yield made
    made.destroy()


def test_messages_go_out_by_topic(publishers, tester):
    publishers.make(String, 'one')
    publishers.add(String, 'two')
    publishers.add(String, 'two')  # it exists already
    heard = []
    for topic in ('one', 'two'):
        tester.create_subscription(String, f'/tester/eye/{topic}', heard.append, 10)
    makers = {'one': len, 'two': len}
    wait_for(lambda: publishers.wanted(makers) == makers, what='both to be wanted')
    errors = publishers.publish({'one': 3, 'two': String(data='two')})
    assert list(errors) == ['one'] and isinstance(errors['one'], TypeError)
    assert publishers.publish({'one': None, 'two': None}) == {}
    wait_for(lambda: heard, what='a message')
    assert [message.data for message in heard] == ['two']
    publishers.keep(())
    assert publishers.wanted({'one': len}) == {'one': len}
    wait_for(lambda: not tester.count_publishers('/tester/eye/two'), what='the end of two')
