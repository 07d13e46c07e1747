import logging
import subprocess
import sys

import pytest
import rclpy
from processes import ROOT
from rclpy.executors import ExternalShutdownException

from cliptrase_ros.ros.shutdown import SIGNALS, until_shutdown


def test_a_shutdown_is_no_error():
    with until_shutdown():
        raise ExternalShutdownException()


SIGNALLED = """
import atexit, gc, signal, sys, time
atexit.register(lambda: print(gc.get_freeze_count() > 1000))  # after what init registers
import rclpy
from cliptrase_ros.ros.shutdown import end, init

number, early = int(sys.argv[1]), sys.argv[2] == 'early'
if early:
    start = rclpy.init
    rclpy.init = lambda **k: (signal.raise_signal(number), start(**k))
init()
if not early:
    assert rclpy.ok()
    for _ in range(2):
        signal.raise_signal(number)
deadline = time.monotonic() + 5
while rclpy.ok() and time.monotonic() < deadline:
    time.sleep(0.01)
assert not rclpy.ok()
end()
signal.raise_signal(number)
print('well')
"""


@pytest.mark.parametrize('when', ['early', 'late'])
@pytest.mark.parametrize('number', SIGNALS)
def test_a_signal_ends_the_context_and_raises_nothing(number, when):
    """This includes a signal before ROS is up, and another one at the end. Python's garbage
    collector also ignores the objects that are left (they are frozen)."""
    done = subprocess.run(
        [sys.executable, '-c', SIGNALLED, str(int(number)), when],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert (done.returncode, done.stdout) == (0, 'well\nTrue\n'), done.stderr


def test_an_error_is_one_only_while_ros_is_up(caplog):
    caplog.set_level(logging.DEBUG, 'cliptrase_ros')
    rclpy.init()
    with pytest.raises(ValueError, match='real'), until_shutdown():
        raise ValueError('real')
    rclpy.shutdown()
    with until_shutdown():
        raise ValueError('published while the context was closed')
    assert 'after the shutdown, ValueError: published while' in caplog.text
