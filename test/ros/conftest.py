"""Fixtures of the ROS tests: a DDS domain for each process, real nodes in real processes."""

import os

import pytest

rclpy = pytest.importorskip('rclpy', reason='ROS 2 is not installed')

from processes import TINY, Process, wait_for  # noqa: E402
from robot import CAMERA, WORDS, Robot, node  # noqa: E402

from cliptrase_ros.ros.demo import domain  # noqa: E402
from cliptrase_ros.ros.node import SegmentationNode  # noqa: E402
from cliptrase_ros.ros.shutdown import spun  # noqa: E402


def pytest_collection_modifyitems(items):
    for item in items:
        if {'start', 'tester'} & set(getattr(item, 'fixturenames', ())):
            item.add_marker('slow')


@pytest.fixture(scope='session', autouse=True)
def _own_domain(tmp_path_factory):
    lock = domain.claim()
    os.environ['ROS_LOG_DIR'] = str(tmp_path_factory.mktemp('roslog'))
    yield
    lock.close()


@pytest.fixture
def tester(_own_domain):
    """A node for the test, spun in the background."""
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node('tester', context=context)
    with spun(node):
        yield node
    rclpy.try_shutdown(context=context)


@pytest.fixture
def start():
    """Function that starts nodes. At the end, each running node must end with 0 on Ctrl-C."""
    started = []

    def run(*args, **options):
        started.append(Process(*args, **options))
        return started[-1]

    yield run
    left = [process for process in started if process.running]
    codes = [process.end() for process in left]
    assert not any(codes), [p.output for p in left]


@pytest.fixture
def robot(tester):
    return Robot(tester)


@pytest.fixture
def running(robot, start):
    """(robot, process) with images streaming and masks coming."""
    process = node(start, WORDS)
    robot.stream()
    wait_for(lambda: robot.masks and robot.vocabularies, what='a first mask', process=process)
    return robot, process


@pytest.fixture
def inside(tester):
    """A node in this process, so that a test can make its engine fail.

    It shares the context, and so the DDS participant, with the tester: each knows the other's
    topics and services as soon as they are made.
    """
    arguments = [x for p in (*TINY, 'diagnostics_period_s:=0.2') for x in ('-p', p)]
    arguments = ['--ros-args', *arguments, '-r', f'image:={CAMERA}']
    made = SegmentationNode(context=tester.context, cli_args=arguments)
    made.trigger_configure()
    made.trigger_activate()
    with spun(made):
        yield made
        made.stop()
