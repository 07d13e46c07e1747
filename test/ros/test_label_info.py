"""~/label_info reaches each subscriber before the first cloud, as Nav2's semantic layer needs it.

A String replaces the message of vision_msgs, which may not be installed.
"""

import time
from contextlib import ExitStack, contextmanager

import pytest
import rclpy
from processes import wait_for
from rclpy.qos import qos_profile_sensor_data
from rgbd import Depth, ramp, start_node
from robot import LATCHED, WORDS
from sensor_msgs.msg import Image, PointCloud2
from std_msgs.msg import String

from cliptrase_ros.ros import label_info, messages, rclpy_compat
from cliptrase_ros.ros.label_info import LabelInfoTopic
from cliptrase_ros.ros.shutdown import spun

# In the order in which the layer subscribes.
TOPICS = {
    'label_mask': (Image, qos_profile_sensor_data),
    'confidence': (Image, qos_profile_sensor_data),
    'label_info': (String, LATCHED),
    'points': (PointCloud2, qos_profile_sensor_data),
}


def text(classes, threshold, header):
    return String(data=f'{[(c.id, c.name) for c in classes]} {threshold}')


STAND_IN = {'messages.LabelInfo': String, 'messages.label_info': text}


@contextmanager
def costmap():
    """Yield the list of topics in the order in which their messages reach a new participant."""
    context = rclpy.Context()
    rclpy.init(context=context)
    node, came = rclpy.create_node('costmap', context=context), []
    for topic, (kind, qos) in TOPICS.items():
        node.create_subscription(
            kind, f'/segmentation/{topic}', lambda _, t=topic: came.append(t), qos, raw=True
        )
    with spun(node):
        yield came
    rclpy.try_shutdown(context=context)


@pytest.fixture
def made(tester, monkeypatch):
    monkeypatch.setattr(messages, 'LabelInfo', String)
    monkeypatch.setattr(messages, 'label_info', text)
    topic = LabelInfoTopic(tester)
    yield topic
    topic.destroy()


def listen(tester):
    """Subscribe in another participant, so that both have to find each other."""
    return tester.create_subscription(String, '/tester/label_info', lambda _: None, LATCHED)


def test_late_subscribers_get_it_before_any_cloud(robot, start):
    process = start_node(start, WORDS, 'points.label_info_lead_s:=0.4', constants=STAND_IN)
    Depth(robot).stream(30.0)
    came = 0
    for _ in range(10):
        with ExitStack() as stack:
            starting = [stack.enter_context(costmap()) for _ in range(5)]
            for topics in starting:
                wait_for(lambda t=topics: 'points' in t, what='clouds', process=process)
                assert 'label_info' in topics[: topics.index('points')], topics
                came += 1
    assert came == 50
    held = robot.value('outputs in space: ~/points held for ~/label_info')
    assert int(held) > 10


def test_clouds_wait_for_the_first_message_and_for_each_subscriber(made, tester, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(label_info.time, 'monotonic', lambda: now[0])
    assert made.has_led(1.0), 'nobody can take a cloud for something else'
    made.publish([], 0.0)
    assert not made.has_led(1.0) and made.has_led(0.0)
    now[0] += 1
    assert made.has_led(1.0)
    made.publish([], 0.5)
    assert made.has_led(1.0), 'only the first message is waited for'
    subscription = listen(tester)
    wait_for(lambda: not made.has_led(1.0), what='the subscriber')
    now[0] += 1
    wait_for(lambda: made.has_led(1.0), what='the end of its event')
    tester.destroy_subscription(subscription)
    wait_for(lambda: made._publisher.get_subscription_count() == 0, what='no subscriber')
    assert made.has_led(1.0), 'a subscriber that leaves changes nothing'


def test_clouds_wait_until_every_subscriber_has_confirmed(made, tester, monkeypatch):
    """On a busy machine a latched message can need seconds."""
    now, confirmed = [100.0], [False]
    monkeypatch.setattr(label_info.time, 'monotonic', lambda: now[0])
    monkeypatch.setattr(made._publisher, 'wait_for_all_acked', lambda _: confirmed[0])
    made.publish([], 0.0)
    now[0] += 5
    assert not made.has_led(1.0)
    confirmed[0] = True
    now[0] += 0.9
    assert not made.has_led(1.0), 'the program may not have read it yet'
    now[0] += 0.1
    assert made.has_led(1.0)
    confirmed[0] = False
    assert not made.has_led(1.0)
    now[0] += 5
    assert made.has_led(1.0), 'it may have been killed'


@pytest.mark.parametrize('events', [True, False])
def test_a_subscriber_that_replaces_another(made, tester, monkeypatch, events):
    """The count is the same at both looks. Without the event (Humble) it is not noticed."""
    now = [100.0]
    monkeypatch.setattr(label_info.time, 'monotonic', lambda: now[0])
    if not events:
        made.destroy()
        monkeypatch.setattr(rclpy_compat, 'PublisherEventCallbacks', lambda: None)
        made.__init__(tester)
    first = listen(tester)
    wait_for(lambda: not made.has_led(1.0), what='the subscriber')
    now[0] += 1
    wait_for(lambda: made.has_led(1.0), what='the end of its event')
    count = made._publisher.get_subscription_count
    second = listen(tester)
    wait_for(lambda: count() == 2, what='the second subscriber')
    tester.destroy_subscription(first)
    wait_for(lambda: count() == 1, what='one subscriber')
    time.sleep(0.1)  # the event of the second
    assert made.has_led(1.0) != events
    tester.destroy_subscription(second)


def test_a_subscriber_that_never_reads(robot, start):
    """It is matched but not spun. The clouds of the others go on."""
    process = start_node(start, WORDS, 'points.label_info_lead_s:=0.2', constants=STAND_IN)
    Depth(robot).stream(20.0)
    robot.hear('points', PointCloud2)
    wait_for(lambda: robot.heard['points'], what='clouds', process=process)
    context = rclpy.Context()
    rclpy.init(context=context)
    deaf = rclpy.create_node('deaf', context=context)
    deaf.create_subscription(String, '/segmentation/label_info', lambda _: None, LATCHED)
    wait_for(lambda: robot.node.count_subscribers('/segmentation/label_info'), what='the deaf one')
    for number in range(3):
        count = len(robot.heard['points'])
        assert robot.set(vocabulary=['lamp', f'thing {number}'])[0].successful
        wait_for(lambda c=count: len(robot.heard['points']) > c + 3, what='clouds', process=process)
    rclpy.try_shutdown(context=context)


def test_other_outputs_do_not_wait(robot, start):
    """Label masks and clouds of classes go on while ~/points waits."""
    process = start_node(start, WORDS, 'points.label_info_lead_s:=60.0', constants=STAND_IN)
    Depth(robot, pixels=ramp()).stream()
    robot.hear('points', PointCloud2)
    floor = robot.hear('points/floor', PointCloud2)
    wait_for(lambda: len(floor) > 2 and len(robot.masks) > 2, what='clouds', process=process)
    assert not robot.heard['points']
    assert robot.set(**{'points.label_info_lead_s': 0.0})[0].successful
    wait_for(lambda: robot.heard['points'], what='the cloud', process=process)
