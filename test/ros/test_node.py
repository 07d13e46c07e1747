"""The life of the segmentation node: starts, transitions, errors, ends."""

import dataclasses
import signal
import subprocess
import sys
import threading
import time

import pytest
import rclpy
import torch
from builtin_interfaces.msg import Time
from cliptrase_ros.srv import SetVocabulary
from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from processes import ROOT, wait_for
from rcl_interfaces.msg import Log
from rcl_interfaces.srv import DescribeParameters
from rclpy.qos import DurabilityPolicy, QoSProfile
from robot import Failing, image, node
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image

from cliptrase_ros import draw
from cliptrase_ros.errors import Cancelled


def test_lifecycle_transitions(robot, start):
    process = node(start, 'autostart:=false')

    def state():
        return robot.call(GetState, 'get_state').current_state.label

    def go(transition, expected):
        assert robot.call(ChangeState, 'change_state', transition=Transition(id=transition)).success
        assert state() == expected, process.output

    def silent():
        count = len(robot.masks)
        for _ in range(3):
            robot.send()
        wait_for(lambda: robot.diagnosed(DiagnosticStatus.OK, 'not active'), what='rest')
        return len(robot.masks) == count

    assert state() == 'unconfigured'
    assert not robot.set(vocabulary=['a', 'a'])[0].successful
    assert robot.set(vocabulary=['lamp'])[0].successful
    for _ in range(2):
        go(Transition.TRANSITION_CONFIGURE, 'inactive')
        assert silent()
        for _ in range(2):
            go(Transition.TRANSITION_ACTIVATE, 'active')
            count = len(robot.masks)
            robot.stream()
            wait_for(lambda c=count: len(robot.masks) > c, what='masks', process=process)
            robot.stop()
            go(Transition.TRANSITION_DEACTIVATE, 'inactive')
        go(Transition.TRANSITION_CLEANUP, 'unconfigured')
        assert silent()
    go(Transition.TRANSITION_CONFIGURE, 'inactive')
    assert [c.name for c in robot.vocabularies[-1].classes] == ['lamp']
    assert robot.set(vocabulary=['door'])[0].successful
    # Three times configured, then changed: a version is never used twice.
    wait_for(lambda: robot.value('vocabulary version', 'model') == '4', what='words while inactive')
    go(Transition.TRANSITION_ACTIVATE, 'active')
    wait_for(lambda: robot.vocabularies[-1].classes[0].name == 'door', what='the new words')
    go(Transition.TRANSITION_ACTIVE_SHUTDOWN, 'finalized')


@pytest.mark.parametrize('how', [signal.SIGINT, signal.SIGTERM])
def test_it_ends_cleanly_in_the_middle_of_an_image(robot, start, how):
    process = node(start, 'input_size:=672')
    robot.stream(rate_hz=30.0)
    wait_for(lambda: robot.masks, what='a mask', process=process)
    assert process.end(how) == 0, process.output
    assert 'Traceback' not in process.output


def test_an_impatient_user_gets_no_traceback(robot, start):
    process = node(start, 'input_size:=672')
    robot.stream(rate_hz=30.0)
    wait_for(lambda: robot.masks, what='a mask', process=process)
    for pause_s in (0.01, 0.02, 0.05):
        process.send(signal.SIGINT)
        time.sleep(pause_s)
    assert process.end() == 0, process.output
    assert 'Traceback' not in process.output


@pytest.mark.parametrize('how', [signal.SIGINT, signal.SIGTERM])
def test_a_script_that_is_interrupted_while_it_imports_says_nothing(how):
    process = subprocess.Popen(
        [sys.executable, 'scripts/segmentation_node'],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
    )
    time.sleep(0.5)  # importing torch takes longer
    process.send_signal(how)
    output, _ = process.communicate(timeout=30)
    assert (process.returncode, output) == (0, '')


@pytest.mark.parametrize(
    'parameters, reason',
    [
        (['model:=ViT-B-16-quickgel'], "Did you mean 'ViT-B-16-quickgelu'"),
        (['weights:=/nowhere/clip.pt'], 'no file /nowhere/clip.pt'),
        (['method:=cliptrace'], "'cliptrace' is not one of"),
        (['vocabulary:=["a", "a"]'], "name 'a' stands twice"),
        (['input_size:=1'], 'input_size'),
        (['confidence_threshold:=1'], 'confidence_threshold'),
        (['max_rate_hz:=.nan'], 'max_rate_hz'),
        (['output_size:=640x'], "'640x' is neither 'input' nor WIDTHxHEIGHT"),
        (['cameras:=["front", "front"]'], 'need different names'),
        (['cameras:=["front", ""]'], 'need different names'),
        (['cameras:=["front camera"]'], "'front camera' cannot be part of a topic"),
        (['unlabeled_id:=300'], "does not fit into label_encoding 'mono8'"),
        (['colors:=["floor=red"]'], 'write name=#rrggbb'),
    ],
)
def test_a_wrong_start_is_explained_and_ends_with_1(start, parameters, reason):
    process = node(start, *parameters)
    assert process.wait() == 1
    assert reason in process.output and 'Traceback' not in process.output


def test_a_failed_configuration_can_be_seen_and_leaves_the_node_alive(robot, start):
    process = node(start, 'autostart:=false', 'weights:=/nowhere/clip.pt')
    transition = Transition(id=Transition.TRANSITION_CONFIGURE)
    for _ in range(2):
        assert not robot.call(ChangeState, 'change_state', transition=transition).success
        assert robot.call(GetState, 'get_state').current_state.label == 'unconfigured'
    assert process.output.count('no file /nowhere/clip.pt') == 2


@pytest.mark.parametrize(
    'parameter, reason',
    [
        ('weights:=' + 'x' * 5000 + '/a.pt', 'File name too long'),
        ('qos_overrides./segmentation/label_mask.publisher.reliability:=of_course', 'of_course'),
    ],
)
def test_any_error_while_configuring_is_shown(start, parameter, reason):
    process = node(start, parameter)
    assert process.wait() == 1
    assert 'cannot configure' in process.output and reason in process.output


def test_parameters_from_a_file_and_a_misspelt_one(robot, start, tmp_path):
    file = tmp_path / 'parameters.yaml'
    file.write_text("/**:\n  ros__parameters:\n    vocabulary: ['lamp']\n    vocabluary: ['x']\n")
    process = node(start, files=[file])
    wait_for(lambda: robot.vocabularies, what='words', process=process)
    assert [c.name for c in robot.vocabularies[-1].classes] == ['lamp']
    assert (
        "'vocabluary' is not known and has no effect. Did you mean 'vocabulary'" in process.output
    )


def test_what_the_library_logs_is_in_the_nodes_log(robot, start):
    logged = []
    # The warning may come before this subscriber is known to the node.
    qos = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    robot.node.create_subscription(Log, '/rosout', logged.append, qos)
    node(start)
    wait_for(lambda: any('random weights' in m.msg for m in logged), what='the warning')
    [message] = [m for m in logged if 'random weights' in m.msg]
    assert message.name == 'segmentation' and message.level == 30


def test_every_parameter_is_described(robot, start):
    node(start)
    names = ['vocabulary', 'model', 'method', 'input_size', 'confidence_threshold', 'max_rate_hz']
    answers = robot.call(DescribeParameters, 'describe_parameters', names=names).descriptors
    method, size, threshold, rate = answers[2:]
    assert all(d.description for d in answers)
    assert [d.read_only for d in answers] == [False, True, True, True, False, False]
    assert method.additional_constraints == 'one of: cliptrase, clip'
    assert (size.integer_range[0].from_value, size.integer_range[0].to_value) == (32, 2048)
    assert threshold.floating_point_range[0].to_value == 1.0
    assert rate.floating_point_range[0].to_value == 1000.0


def test_time_of_a_simulation_that_stands_still(robot, start):
    process = node(start, 'use_sim_time:=true')
    robot.stream()
    wait_for(lambda: robot.masks and robot.vocabularies, what='a mask', process=process)
    wait_for(lambda: robot.value('published'), what='diagnostics')
    assert robot.vocabularies[-1].header.stamp.sec == 0


def test_ages_are_of_the_simulations_time(robot, start):
    process = node(start, 'use_sim_time:=true', 'max_age_s:=5.0')
    clock = robot.node.create_publisher(Clock, '/clock', 10)
    now = Time(sec=5000)

    def tick():
        clock.publish(Clock(clock=now))
        message = image()
        message.header.stamp = Time(sec=now.sec - late_s)
        robot.camera.publish(message)

    late_s = 2
    robot.node.create_timer(0.1, tick)
    wait_for(lambda: robot.masks, what='a mask', process=process)
    wait_for(lambda: robot.value('stamp to publish p50 ms') == '2000.0', what='its age')
    late_s = 60
    wait_for(lambda: robot.diagnosed(DiagnosticStatus.WARN, 'is 60.000 s old'), what='a warning')
    assert robot.set(vocabulary=['lamp'])[0].successful
    wait_for(lambda: len(robot.vocabularies) > 1, what='words', process=process)
    assert robot.vocabularies[-1].header.stamp.sec == 5000


def make_fail(words, error):
    live = words.live
    words.live = dataclasses.replace(live, segmenter=Failing(live.segmenter, error))


@pytest.mark.parametrize(
    'error, text',
    [
        (RuntimeError('the engine broke'), 'RuntimeError: the engine broke'),
        (torch.cuda.OutOfMemoryError('full'), 'out of memory: lower input_size'),
        (MemoryError(), 'out of memory: lower input_size'),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 'out of memory: lower'),
    ],
)
def test_an_error_in_one_image_is_reported_and_the_node_goes_on(robot, inside, error, text):
    robot.stream()
    wait_for(lambda: robot.masks, what='masks')
    make_fail(inside._words, error)
    wait_for(lambda: robot.diagnosed(DiagnosticStatus.ERROR, text), what='an error')
    count = len(robot.masks)
    wait_for(lambda: len(robot.masks) > count, what='masks again')
    assert robot.value('dropped: error') == '1'


def test_an_error_after_the_tower_is_reported_as_well(robot, inside, monkeypatch):
    robot.stream()
    wait_for(lambda: robot.masks, what='masks')
    with monkeypatch.context() as patch:
        patch.delattr(draw, 'colorize')
        robot.hear('color_mask', Image)
        wait_for(lambda: robot.diagnosed(DiagnosticStatus.ERROR, 'AttributeError'), what='error')
    count = len(robot.heard['color_mask'])
    wait_for(lambda: len(robot.heard['color_mask']) > count, what='colours again')


def test_words_that_cannot_be_encoded_leave_the_old_ones(robot, inside):
    robot.stream()
    wait_for(lambda: robot.masks and robot.vocabularies, what='masks')
    words = inside._words
    words._base = Failing(words._base, RuntimeError('no memory for words'))
    assert robot.set(vocabulary=['lamp'])[0].successful
    wait_for(
        lambda: robot.diagnosed(DiagnosticStatus.ERROR, 'no memory for words', 'model'),
        what='error',
    )
    assert robot.vocabularies[-1].version == 1
    assert robot.set(vocabulary=['lamp'])[0].successful
    wait_for(lambda: robot.vocabularies[-1].version == 2, what='the same words at last')


def encoded_by(words, encode_words):
    """Have new words encoded by this function."""
    slow = Failing(words._base, None)
    slow.encode_words = encode_words
    words._base = slow


def test_ids_are_taken_when_words_are_accepted(robot, inside):
    wait_for(lambda: robot.vocabularies, what='words')
    words, go = inside._words, threading.Event()
    base = words._base
    encoded_by(words, lambda *a: (go.wait(20), base.encode_words(*a))[1])
    assert robot.set(vocabulary=['50:mug'])[0].successful
    wait_for(lambda: 'mug' in words._known_ids, what='the id')
    [result] = robot.set(vocabulary=['50:cup'])
    assert not result.successful and "id 50 belongs to 'mug'" in result.reason
    # Of words that are asked for while others are encoded, the newest go live.
    assert robot.set(vocabulary=['lamp'])[0].successful
    wait_for(lambda: 'lamp' in words._known_ids, what='the second id')
    go.set()
    wait_for(lambda: robot.vocabularies[-1].classes[0].name == 'lamp', what='lamp')
    assert [v.classes[0].name for v in robot.vocabularies] == ['floor', 'lamp']


def test_the_same_words_asked_for_twice_are_live_at_both_answers(robot, inside):
    wait_for(lambda: robot.vocabularies, what='words')
    base, begun, go = inside._words._base, threading.Event(), threading.Event()
    encoded_by(inside._words, lambda *a: (begun.set(), go.wait(20), base.encode_words(*a))[2])
    answers = []

    def ask():
        answer = robot.call(SetVocabulary, 'set_vocabulary', prompts=['lamp'])
        answers.append((answer.success, inside._words.live.words.classes[0].name))

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert begun.wait(20)
    time.sleep(0.5)
    assert not answers
    go.set()
    for thread in threads:
        thread.join(20)
    assert answers == [(True, 'lamp')] * 2 and len(robot.vocabularies) == 2


def test_words_that_are_still_encoded_do_not_hold_up_the_end(robot, inside):
    wait_for(lambda: robot.vocabularies, what='words')
    begun = threading.Event()

    def encode_words(classes, background, cancelled):
        begun.set()
        wait_for(cancelled, what='the stop')
        raise Cancelled('given up')

    encoded_by(inside._words, encode_words)
    assert robot.set(vocabulary=['lamp'])[0].successful
    assert begun.wait(20)
    inside.stop()
    assert 'vocabulary errors' not in inside._statistics.counts()


def test_an_image_that_is_ready_after_the_shutdown_is_no_error(robot, inside):
    robot.stream()
    wait_for(lambda: robot.masks, what='masks')
    robot.stop()
    stream, frames, finished = inside._streams[0], inside._frames, threading.Event()
    failed = frames._failed
    frames._failed = lambda *a: (failed(*a), finished.set())
    rclpy.shutdown(context=inside.context)
    frames.take(stream, image())
    assert finished.wait(20)
    assert 'dropped: error' not in stream.statistics.counts()
