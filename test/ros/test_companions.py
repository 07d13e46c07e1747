"""The node takes images only while the lifecycle nodes in `wait_for` are active."""

import threading

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.srv import GetState
from processes import wait_for
from rclpy.lifecycle import LifecycleNode
from robot import CAMERA, WORDS, node
from std_srvs.srv import SetBool

from cliptrase_ros.ros.shutdown import spun

WAIT = 'wait_for:=["costmaps/costmap", ""]'
PATIENT = {'companions.LOOK_S': 0.1, 'companions.PATIENCE_S': 0.5}
WAITING = 'waiting until costmaps/costmap is active (wait_for)'


@pytest.fixture
def costmap(tester):
    """A lifecycle node that is not configured yet."""
    made = LifecycleNode('costmap', namespace='costmaps', context=tester.context)
    with spun(made):
        yield made


def listens(robot):
    return robot.node.count_subscribers(CAMERA) == 1


def test_images_are_taken_while_it_is_active(robot, start, costmap):
    process = node(start, WORDS, WAIT, constants=PATIENT)
    robot.stream()
    wait_for(lambda: robot.diagnosed(DiagnosticStatus.WARN, WAITING), what='it', process=process)
    costmap.trigger_configure()
    wait_for(lambda: robot.vocabularies, what='words', process=process)
    assert not listens(robot) and not robot.masks
    for _ in range(3):
        costmap.trigger_activate()
        wait_for(lambda: listens(robot), what='the subscription', process=process)
        count = len(robot.masks)
        wait_for(lambda c=count: len(robot.masks) > c, what='masks', process=process)
        wait_for(lambda: robot.diagnosed(DiagnosticStatus.OK, 'segmenting'), what='no complaint')
        costmap.trigger_deactivate()
        wait_for(lambda: not listens(robot), what='no subscription', process=process)
    wait_for(lambda: process.output.count(WAITING) == 4, what='what it waits for', process=process)
    assert process.output.count('the nodes in wait_for are active') == 3


def test_enable_holds_too(robot, start, costmap):
    process = node(start, WORDS, WAIT, 'start_enabled:=false', constants=PATIENT)
    costmap.trigger_configure()
    costmap.trigger_activate()
    wait_for(lambda: 'wait_for are active' in process.output, what='it is active', process=process)
    assert not listens(robot)
    assert robot.call(SetBool, 'enable', data=True).success
    wait_for(lambda: listens(robot), what='the subscription', process=process)
    costmap.trigger_deactivate()
    wait_for(lambda: not listens(robot), what='no subscription', process=process)
    assert robot.call(SetBool, 'enable', data=False).success
    costmap.trigger_activate()
    wait_for(
        lambda: process.output.count('wait_for are active') == 2, what='again', process=process
    )
    assert not listens(robot)


@pytest.mark.parametrize('how', ['gone', 'silent'])
def test_it_ends_without_a_word(robot, start, tester, how):
    """A node that is gone, or that does not answer any more, is not active."""
    process = node(start, WORDS, WAIT, constants=PATIENT)
    answers, freed = [], threading.Event()

    def state(_, response):
        if answers and how == 'silent':
            freed.wait(10)
        answers.append(response)
        response.current_state.id = 3
        return response

    service = tester.create_service(GetState, '/costmaps/costmap/get_state', state)
    wait_for(lambda: listens(robot), what='the subscription', process=process)
    if how == 'gone':
        tester.destroy_service(service)
    wait_for(lambda: not listens(robot), what='no subscription', process=process)
    freed.set()
    if how == 'silent':
        wait_for(lambda: listens(robot), what='the subscription again', process=process)


def test_a_name_that_no_node_can_have(start):
    process = node(start, WORDS, 'wait_for:=["local costmap"]')
    assert process.wait() == 1
    assert "wait_for: 'local costmap' cannot be the name of a node" in process.output
