"""Fixtures of the ROS tests: an own DDS domain a process, real nodes in real processes."""

import os

import pytest

rclpy = pytest.importorskip('rclpy', reason='ROS 2 is not installed')

from processes import Process, spun  # noqa: E402

from cliptrase_ros.ros import domain  # noqa: E402


@pytest.fixture(scope='session', autouse=True)
def _own_domain(tmp_path_factory):
    lock = domain.claim()
    os.environ['ROS_LOG_DIR'] = str(tmp_path_factory.mktemp('roslog'))
    yield
    lock.close()


@pytest.fixture
def tester(_own_domain):
    """A node of the test's own, spun in the background."""
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node('tester', context=context)
    with spun(node, context):
        yield node
    rclpy.shutdown(context=context)


@pytest.fixture
def start():
    """Starts nodes; at the end each that still runs must end with 0 on Ctrl-C."""
    started = []

    def run(*args, **options):
        started.append(Process(*args, **options))
        return started[-1]

    yield run
    left = [process for process in started if process.running]
    codes = [process.end() for process in left]
    assert not any(codes), [p.output for p in left]
