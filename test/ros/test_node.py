"""The life of the segmentation node: starts, transitions, errors, ends."""

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import rclpy
import torch
from builtin_interfaces.msg import Time
from cliptrase_ros.srv import Segment, SetVocabulary
from diagnostic_msgs.msg import DiagnosticStatus
from forks import TIED
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from processes import ROOT, TINY, ask, wait_for
from rcl_interfaces.msg import Log
from rcl_interfaces.srv import DescribeParameters, GetParameters
from rclpy.parameter import parameter_value_to_python
from rclpy.qos import DurabilityPolicy, QoSProfile
from robot import CAMERA, Failing, array, image, node
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from std_srvs.srv import SetBool, Trigger

import cliptrase_ros as ct
from cliptrase_ros.errors import Cancelled
from cliptrase_ros.media import drawing
from cliptrase_ros.ros import messages
from cliptrase_ros.ros import wanted as words_module
from cliptrase_ros.ros.node import SegmentationNode


def test_lifecycle_transitions(robot, start):
    process = node(start, 'autostart:=false')

    def state():
        return robot.call(GetState, 'get_state').current_state.label

    # An answer can be lost while the processes still discover each other: ask until one comes.
    client = robot.node.create_client(GetState, '/segmentation/get_state')
    wait_for(lambda: ask(client, GetState.Request(), 5), what='an answer', process=process)

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
    # The node was configured three times, then the words changed. No version is used twice.
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


def script(*python):
    """Start the installed script in a new interpreter."""
    command = [sys.executable, *python, 'scripts/segmentation_node', '--ros-args']
    return subprocess.Popen(
        [*TIED, *command, *(x for p in TINY for x in ('-p', p))],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env={**os.environ, 'PYTHONPATH': f'{ROOT}:{os.environ.get("PYTHONPATH", "")}'},
    )


@pytest.mark.slow
@pytest.mark.parametrize('after_s', [0.5, 2.0, 2.5, 3.0, 3.5, 4.0])
@pytest.mark.parametrize('how', [signal.SIGINT, signal.SIGTERM])
def test_a_script_ends_well_whenever_it_is_asked_to(how, after_s):
    """The signal comes while the script imports, loads, configures or runs."""
    process = script()
    time.sleep(after_s)
    process.send_signal(how)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0 and 'Traceback' not in output, output


# Prints a text only if the process ends in good order.
SCRIPT = """
import atexit, runpy, sys
sys.argv = sys.argv[1:]
atexit.register(print, 'ended in good order')
runpy.run_path(sys.argv[0], run_name='__main__')
"""


@pytest.mark.parametrize('how', [signal.SIGINT, signal.SIGTERM])
def test_a_script_ends_in_good_order_once_it_runs(robot, how):
    process = script('-c', SCRIPT)
    wait_for(lambda: robot.vocabularies, what='words')
    process.send_signal(how)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0 and output.endswith('ended in good order\n'), output
    assert 'Traceback' not in output


def test_transitions_that_do_not_exist_are_refused(running):
    robot, process = running
    for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE, 200):
        transition = Transition(id=transition)
        assert not robot.call(ChangeState, 'change_state', transition=transition).success
    assert robot.call(GetState, 'get_state').current_state.label == 'active'
    # From Kilted on, rclpy itself refuses.
    told = 'state not changed', 'Unable to start transition'
    assert any(sentence in process.output for sentence in told)


BAD_QOS = 'qos_overrides./camera/image_raw.subscription.reliability:=of_course'


def test_a_failed_activation_leaves_nothing_behind(robot, start):
    process = node(start, 'autostart:=false', BAD_QOS)
    for transition, success in (
        (Transition.TRANSITION_CONFIGURE, True),
        (Transition.TRANSITION_ACTIVATE, False),
        (Transition.TRANSITION_ACTIVATE, False),
        (Transition.TRANSITION_CLEANUP, True),
    ):
        answer = robot.call(ChangeState, 'change_state', transition=Transition(id=transition))
        assert answer.success is success
    assert 'of_course' in process.output
    wait_for(lambda: robot.node.count_publishers('/segmentation/label_mask') == 0, what='nothing')


def test_a_node_that_cannot_subscribe_says_so_when_enabled(robot, start):
    process = node(start, 'start_enabled:=false', BAD_QOS)
    for _ in range(2):
        answer = robot.call(SetBool, 'enable', data=True)
        assert not answer.success and 'of_course' in answer.message
    assert robot.call(SetBool, 'enable', data=False).success and process.running


@pytest.mark.parametrize(
    'parameters, reason',
    [
        (['model:=ViT-B-16-quickgel'], "Did you mean 'ViT-B-16-quickgelu'"),
        (['weights:=/nowhere/clip.pt'], 'no file /nowhere/clip.pt'),
        (['method:=cliptrace'], "'cliptrace' is not one of"),
        (['vocabulary:=["a", "a"]'], "name 'a' appears twice"),
        (['input_size:=1'], 'input_size'),
        (['confidence_threshold:=high'], 'confidence_threshold: expected a number'),
        (['max_rate_hz:=.nan'], 'max_rate_hz'),
        (
            ['output_size:=640x'],
            "expected input, depth, or WIDTHxHEIGHT in pixels such as 320x240, got '640x'",
        ),
        (['cameras:=["front", "front"]'], 'need different names'),
        (['cameras:=["front", ""]'], 'need different names'),
        (['cameras:=["front camera"]'], "'front camera' cannot be part of a topic"),
        (['unlabeled_id:=300'], 'does not fit into label_encoding mono8'),
        (['colors:=["floor=red"]'], 'write name=#rrggbb'),
        (['points.groups:=["things"]'], 'write group=class;class'),
        (['depth.min_m:=2.0', 'depth.max_m:=1.0'], 'is not above depth.min_m'),
        (['naclip_sigma:=3.0'], 'unknown setting naclip_sigma: did you mean naclip.sigma?'),
        (['cluster:=0.7'], 'cluster: is a group, not a value. Set one of cluster.eps'),
        (['method.name:=clip'], 'method.name: method is a value, not a group'),
        (['max_rate_hz:=0.0'], 'max_rate_hz'),
        (['cache_dir:=null'], 'cache_dir: expected text or auto, got nothing (null)'),
        (['refine:=off'], 'refine: expected one of none, guided, pamr, got bool False'),
    ],
)
def test_a_wrong_start_is_explained_and_ends_with_1(start, parameters, reason):
    process = node(start, *parameters)
    assert process.wait() == 1
    assert reason in process.output and 'Traceback' not in process.output


@pytest.mark.parametrize(
    'parameters',
    [
        ['method:=gclip', 'regions:=mean', 'refine:=guided', 'margin_threshold:=0.01'],
        ['method:=sc_clip', 'regions:=none', 'refine:=pamr', 'present.method:=tagclip'],
        [
            'method:=resclip',
            'resclip.feedback.enabled:=true',
            'present.method:=denoise',
            'sliding.window_px:=32',
        ],
    ],
)
def test_other_methods_run_in_the_node(robot, start, parameters):
    process = node(start, *parameters, 'sliding.stride_px:=16', 'smoothing:=0.5')
    robot.stream()
    wait_for(lambda: len(robot.masks) > 2, what='masks', process=process)
    assert robot.set(**{'margin_threshold': 0.02, 'present.threshold': 0.1})[0].successful
    count = len(robot.masks)
    wait_for(lambda: len(robot.masks) > count + 2, what='masks', process=process)
    wait_for(lambda: robot.value('published'), what='counters')
    assert robot.value('dropped: error') is None  # a counter exists only after its first event
    assert robot.value('method', 'model') == parameters[0].removeprefix('method:=')


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
        (BAD_QOS, 'of_course'),
    ],
)
def test_any_error_while_configuring_is_shown(start, parameter, reason):
    process = node(start, parameter)
    assert process.wait() == 1
    assert reason in process.output


FILE = """
/**:
  ros__parameters:
    vocabulary: ['lamp']
    background: []
    regions: none
    refine: null
    max_rate_hz: none
    confidence_threshold: 0
    cluster:
      eps: 1
      min_samples: auto
    resclip: {feedback: {tau: 2.2}}
    objects.min_pixels: 7
"""


def test_parameters_from_a_file(robot, start, tmp_path):
    file = tmp_path / 'parameters.yaml'
    file.write_text(FILE)
    process = node(start, files=[file])
    wait_for(lambda: robot.vocabularies, what='words', process=process)
    words = robot.vocabularies[-1]
    assert [c.name for c in words.classes] == ['lamp'] and not list(words.background)
    names = ['cluster.eps', 'resclip.feedback.tau', 'objects.min_pixels', 'max_rate_hz']
    values = robot.call(GetParameters, 'get_parameters', names=names).values
    eps, tau, pixels, rate = (parameter_value_to_python(value) for value in values)
    assert (eps, tau, pixels, rate) == (1, 2.2, 7, 'none')


@pytest.mark.parametrize(
    'line, reason',
    [
        ("vocabluary: ['x']", 'unknown setting vocabluary: did you mean vocabulary?'),
        ('window_px: 224', 'unknown setting window_px: did you mean sliding.window_px?'),
        ('cluster: 0.7', 'cluster: is a group, not a value'),
        ('method: {name: clip}', 'method.name: method is a value, not a group'),
        ('cluster: {eps: null}', 'cluster.eps: expected a number or auto, got nothing (null)'),
        ('vocabulary: [1, 2]', 'vocabulary: expected a list of texts, got int 1'),
    ],
)
def test_a_file_that_says_something_else_than_parameters(start, tmp_path, line, reason):
    """A node never starts with other values than its file says."""
    file = tmp_path / 'parameters.yaml'
    file.write_text(f'/**:\n  ros__parameters:\n    {line}\n')
    process = node(start, files=[file])
    assert process.wait() == 1
    assert reason in process.output and 'Traceback' not in process.output


def test_what_the_library_logs_is_in_the_nodes_log(robot, start):
    logged = []
    # The warning may come before the node knows this subscriber.
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
    assert [d.read_only for d in answers] == [False, True, False, False, False, False]
    assert method.additional_constraints == f'one of {", ".join(ct.METHODS)}'
    assert rate.additional_constraints == 'a number or none'
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
        patch.delattr(drawing, 'colorize')
        robot.hear('color_mask', Image)
        wait_for(lambda: robot.diagnosed(DiagnosticStatus.ERROR, 'AttributeError'), what='error')
    count = len(robot.heard['color_mask'])
    wait_for(lambda: len(robot.heard['color_mask']) > count, what='colours again')


def test_one_output_that_fails_takes_no_other_with_it(robot, inside, monkeypatch):
    robot.stream()
    wait_for(lambda: robot.masks, what='masks')
    monkeypatch.delattr(drawing, 'colorize')
    robot.hear('color_mask', Image)
    floor = robot.hear('mask/floor', Image)
    wait_for(lambda: robot.diagnosed(DiagnosticStatus.ERROR, 'AttributeError'), what='an error')
    wait_for(lambda: len(floor) > 2, what='the mask of a class')
    assert robot.value('outputs: failed') and robot.value('dropped: error') is None


def test_an_image_whose_label_mask_fails_is_not_counted_as_published(robot, inside, monkeypatch):
    """The other outputs are published, and all failed outputs are reported."""
    wait_for(lambda: robot.vocabularies, what='words')
    monkeypatch.delattr(messages, 'label_mask')
    monkeypatch.delattr(drawing, 'colorize')
    robot.hear('color_mask', Image)
    floor = robot.hear('mask/floor', Image)
    robot.stream()
    for text in ("'label_mask'", '; color_mask: AttributeError: module'):
        wait_for(lambda t=text: robot.diagnosed(DiagnosticStatus.ERROR, t), what=text)
    assert robot.diagnosed(DiagnosticStatus.ERROR, 'an output failed: label_mask: Attrib')
    wait_for(lambda: len(floor) > 2, what='the mask of a class')
    assert not robot.masks
    assert 'published' not in inside._streams[0].statistics.counts()


def test_warnings_and_errors_of_one_camera_are_both_told(robot, inside):
    robot.send(encoding='rgb32')
    wait_for(lambda: robot.diagnosed(DiagnosticStatus.WARN, 'rgb32'), what='a warning')
    make_fail(inside._words, RuntimeError('the engine broke'))
    robot.send()
    wait_for(lambda: robot.diagnosed(DiagnosticStatus.ERROR, 'the engine broke'), what='an error')
    robot.send(encoding='rgb32')
    wait_for(lambda: robot.value('dropped: bad image') == '2', what='one more warning')


def test_stamps_before_1970_are_stamps(robot, inside):
    message = image()
    message.header.stamp.sec = -5
    wait_for(lambda: inside.count_publishers(CAMERA), what='the camera')
    robot.camera.publish(message)
    wait_for(lambda: robot.masks, what='a mask')
    assert robot.masks[-1].header.stamp.sec == -5


def test_smoothing_begins_anew_with_each_subscription(robot, inside, monkeypatch):
    stream, subjects = inside._streams[0], []
    smooth = stream.steady.smooth
    monkeypatch.setattr(
        stream.steady, 'smooth', lambda *a: (subjects.append(a[2][:2]), smooth(*a))[1]
    )
    robot.stream()
    wait_for(lambda: robot.masks, what='masks')
    assert robot.call(SetBool, 'enable', data=False).success
    assert robot.call(SetBool, 'enable', data=True).success
    wait_for(lambda: (1, 2) in subjects, what='a second beginning')
    assert subjects == sorted(subjects) and set(subjects) == {(1, 1), (1, 2)}


def test_live_settings_work_after_words_that_failed(robot, inside):
    robot.stream()
    wait_for(lambda: robot.masks, what='masks')
    words = inside._words
    words._opened.base = Failing(words._opened.base, RuntimeError('disk full'))
    assert robot.set(vocabulary=['lamp'])[0].successful
    wait_for(lambda: robot.diagnosed(DiagnosticStatus.ERROR, 'disk full', 'model'), what='error')
    encoded_by(words, lambda *a: (_ for _ in ()).throw(RuntimeError('still full')))
    assert robot.set(confidence_threshold=1.0)[0].successful
    wait_for(lambda: not array(robot.masks[-1]).any(), what='unlabelled masks')


def test_an_error_while_going_live_does_not_end_the_node(robot, inside, monkeypatch):
    wait_for(lambda: robot.vocabularies, what='words')
    outputs = inside._streams[0].outputs
    with monkeypatch.context() as patch:
        patch.setattr(outputs, 'add_topics', lambda *a: 1 / 0)
        answer = robot.call(SetVocabulary, 'set_vocabulary', prompts=['lamp'])
        assert not answer.success and 'division by zero' in answer.message
        patch.setattr(outputs, 'switch', lambda *a: 1 / 0)
        assert robot.set(confidence_threshold=0.5)[0].successful
    answer = robot.call(SetVocabulary, 'set_vocabulary', prompts=['lamp'])
    assert answer.success, answer.message
    assert robot.call(SetVocabulary, 'set_vocabulary', prompts=['vase']).success


def test_a_setting_that_changes_while_topics_are_made(robot, inside, monkeypatch):
    wait_for(lambda: robot.vocabularies, what='words')
    words = inside._words
    run, live = words.jobs.run, words.live

    def run_and_go_live(work, *args):
        if not args:  # between two groups of topics
            words._go_live(live.segmenter, live.words)
        return run(work, *args)

    monkeypatch.setattr(words.jobs, 'run', run_and_go_live)
    names = [f'thing {n}' for n in range(25)]
    answer = robot.call(SetVocabulary, 'set_vocabulary', prompts=names)
    assert answer.success, answer.message
    stream, topics = inside._streams[0], {f'thing_{n}' for n in range(25)}
    assert set(stream.outputs._publishers._added) == {f'mask/{topic}' for topic in topics}
    assert set(stream.space._publishers._added) == {f'points/{topic}' for topic in topics}


def test_masks_of_new_classes_come_with_the_words(robot, inside):
    """They do not come with the image that is being segmented when the words change."""
    lamp, floor = robot.hear('mask/lamp', Image), robot.hear('mask/floor', Image)
    robot.stream()
    wait_for(lambda: floor, what='masks')
    robot.stop()
    words, stream = inside._words, inside._streams[0]
    stream.add_topics(['lamp'])
    wait_for(lambda: robot.node.count_publishers('/segmentation/mask/lamp'), what='the topic')
    count = len(floor)
    robot.send()
    wait_for(lambda: len(floor) > count, what='the mask of floor')
    assert not lamp and words.live.version == 1


def test_a_node_that_is_destroyed_offers_no_services(tester):
    """Something may still refer to the node. Remaining services would hide new ones."""
    node = SegmentationNode(context=tester.context)
    names = [name for name, _ in node.get_service_names_and_types_by_node('segmentation', '/')]
    assert '/segmentation/change_state' in names and '/segmentation/reload' in names
    node.destroy_node()
    left = {name for name in names if tester.count_services(name)}
    assert left <= {'/segmentation/get_type_description'}  # rclpy keeps this one


def test_a_model_that_is_loaded_during_a_cleanup_is_let_go(robot, inside, monkeypatch):
    wait_for(lambda: robot.vocabularies, what='words')
    begun, load = threading.Event(), words_module.load

    def load_during_the_cleanup(settings):
        begun.set()
        wait_for(lambda: inside._jobs is None, what='the cleanup')
        return load(settings)

    monkeypatch.setattr(words_module, 'load', load_during_the_cleanup)
    answers = []
    thread = threading.Thread(target=lambda: answers.append(robot.call(Trigger, 'reload')))
    thread.start()
    assert begun.wait(20)
    for transition in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP):
        transition = Transition(id=transition)
        assert robot.call(ChangeState, 'change_state', transition=transition).success
    thread.join(20)
    assert not answers[0].success and inside._words._opened is None


def test_words_asked_for_during_a_reload_are_taken(robot, inside, monkeypatch):
    robot.stream()
    wait_for(lambda: robot.vocabularies and robot.masks, what='words and masks')
    begun, go = threading.Event(), threading.Event()
    load = words_module.load
    monkeypatch.setattr(words_module, 'load', lambda s: (begun.set(), go.wait(20), load(s))[2])
    old, answers = inside._words.live.segmenter.backbone, {}

    def ask(name, *request, **fields):
        answers[name] = robot.call(*request, **fields)

    threads = [threading.Thread(target=ask, args=('reload', Trigger, 'reload'))]
    threads[0].start()
    assert begun.wait(20)
    request = ('words', SetVocabulary, 'set_vocabulary')
    threads.append(threading.Thread(target=ask, args=request, kwargs={'prompts': ['vase']}))
    threads[1].start()
    wait_for(lambda: 'vase' in inside._words._known_ids, what='the words')
    count = len(robot.masks)
    wait_for(lambda: len(robot.masks) > count + 2, what='masks with the old model')
    go.set()
    for thread in threads:
        thread.join(20)
    assert answers['reload'].success and answers['words'].success, answers
    live = inside._words.live
    assert live.words.classes[0].name == 'vase' and live.segmenter.backbone is not old


def test_a_reload_that_cannot_encode_leaves_the_old_model(robot, inside, monkeypatch):
    wait_for(lambda: robot.vocabularies, what='words')
    words, load = inside._words, words_module.load
    old = words.live.segmenter.backbone
    monkeypatch.setattr(
        words_module, 'load', lambda s: Failing(load(s), RuntimeError('no text encoder'))
    )
    answer = robot.call(Trigger, 'reload')
    assert not answer.success and 'no text encoder' in answer.message
    assert robot.call(SetVocabulary, 'set_vocabulary', prompts=['vase']).success
    assert words.live.segmenter.backbone is old


def test_words_of_a_single_image_do_not_hold_up_the_end(robot, start):
    process = node(start)
    wait_for(lambda: robot.vocabularies, what='words', process=process)
    words = [f'thing {n}' for n in range(100)]
    client = robot.node.create_client(Segment, '/segmentation/segment')
    assert client.wait_for_service(20)
    client.call_async(Segment.Request(image=image(), vocabulary=words))
    time.sleep(1.0)
    began = time.monotonic()
    assert process.end() == 0 and 'Traceback' not in process.output
    assert time.monotonic() - began < 8.0


def test_words_that_cannot_be_encoded_leave_the_old_ones(robot, inside):
    robot.stream()
    wait_for(lambda: robot.masks and robot.vocabularies, what='masks')
    words = inside._words
    words._opened.base = Failing(words._opened.base, RuntimeError('no memory for words'))
    assert robot.set(vocabulary=['lamp'])[0].successful
    wait_for(
        lambda: robot.diagnosed(DiagnosticStatus.ERROR, 'no memory for words', 'model'),
        what='error',
    )
    assert robot.vocabularies[-1].version == 1
    assert robot.set(vocabulary=['lamp'])[0].successful
    wait_for(lambda: robot.vocabularies[-1].version == 2, what='the same words at last')


def test_words_that_memory_does_not_suffice_for_leave_the_old_ones(robot, inside):
    robot.stream()
    wait_for(lambda: robot.masks and robot.vocabularies, what='masks')
    full = torch.cuda.OutOfMemoryError('full')

    def fail(module, args):
        raise full

    tower = inside._words._opened.base.backbone.text._model.token_embedding
    hook = tower.register_forward_pre_hook(fail)
    words = ['a thing that no other test has']
    assert robot.set(vocabulary=words)[0].successful
    wait_for(
        lambda: robot.diagnosed(DiagnosticStatus.ERROR, 'out of memory: lower input_size', 'model'),
        what='error',
    )
    hook.remove()
    count = len(robot.masks)
    wait_for(lambda: len(robot.masks) > count + 2, what='masks with the old words')
    assert robot.vocabularies[-1].version == 1
    assert robot.set(vocabulary=words)[0].successful
    wait_for(lambda: robot.vocabularies[-1].version == 2, what='the same words at last')


def encoded_by(words, encode_words):
    """Let this function encode new words."""
    slow = Failing(words._opened.base, None)
    slow.encode_words = encode_words
    words._opened.base = slow


def test_ids_are_taken_when_words_are_accepted(robot, inside):
    wait_for(lambda: robot.vocabularies, what='words')
    words, go = inside._words, threading.Event()
    base = words._opened.base
    encoded_by(words, lambda *a: (go.wait(20), base.encode_words(*a))[1])
    assert robot.set(vocabulary=['50:mug'])[0].successful
    wait_for(lambda: 'mug' in words._known_ids, what='the id')
    [result] = robot.set(vocabulary=['50:cup'])
    assert not result.successful and "id 50 belongs to 'mug'" in result.reason
    # If words are set while others are being encoded, only the newest become live.
    assert robot.set(vocabulary=['lamp'])[0].successful
    wait_for(lambda: 'lamp' in words._known_ids, what='the second id')
    go.set()
    wait_for(lambda: robot.vocabularies[-1].classes[0].name == 'lamp', what='lamp')
    assert [v.classes[0].name for v in robot.vocabularies] == ['floor', 'lamp']


def test_the_same_words_asked_for_twice_are_live_at_both_answers(robot, inside):
    wait_for(lambda: robot.vocabularies, what='words')
    base, begun, go = inside._words._opened.base, threading.Event(), threading.Event()
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
