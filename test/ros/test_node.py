"""The segmentation node over real DDS, in a process of its own."""

import signal
import threading

import numpy as np
import pytest
import rclpy
import torch
from cliptrase_ros.msg import Vocabulary
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from processes import TINY, call, spun, wait_for
from rcl_interfaces.msg import Log
from rcl_interfaces.srv import DescribeParameters, SetParameters
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from towers import picture

from cliptrase_ros.errors import Cancelled
from cliptrase_ros.ros import images
from cliptrase_ros.ros.node import SegmentationNode

VOCABULARY = 'vocabulary:=["floor", "9:mug=mug;cup", "door"]'
# One fragment of 64 kB a message: nothing is lost on default transport.
PIXELS = picture(120, 160)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Robot:
    """A camera and the consumers of what the node publishes."""

    def __init__(self, tester, reliability=ReliabilityPolicy.BEST_EFFORT):
        self.node = tester
        self.masks, self.vocabularies, self.statuses = [], [], []
        qos = QoSProfile(depth=1, reliability=reliability)
        self.camera = tester.create_publisher(Image, '/camera/image_raw', qos)
        self.listen('label_mask', Image, self.masks)
        tester.create_subscription(
            Vocabulary, '/segmentation/vocabulary', self.vocabularies.append, LATCHED
        )
        tester.create_subscription(
            DiagnosticArray, '/diagnostics', lambda m: self.statuses.extend(m.status), 10
        )
        self.sent = 0
        self._timer = None

    def listen(self, topic, kind, into):
        self.node.create_subscription(kind, f'/segmentation/{topic}', into.append, 10)

    def send(self, message=None, **changes):
        """Publish PIXELS, or a message, with a stamp of its own."""
        message = message or image()
        self.sent += 1
        message.header.frame_id = 'eye'
        message.header.stamp.sec, message.header.stamp.nanosec = 1000 + self.sent, 123456789
        for name, value in changes.items():
            setattr(message, name, value)
        self.camera.publish(message)
        return message

    def stream(self, rate_hz=10.0):
        self._timer = self.node.create_timer(1 / rate_hz, self.send)

    def stop(self):
        self.node.destroy_timer(self._timer)

    def set(self, **values):
        """Set parameters as `ros2 param set` does; the result of each."""
        client = self.node.create_client(SetParameters, '/segmentation/set_parameters')
        messages = [Parameter(k, value=v).to_parameter_msg() for k, v in values.items()]
        return call(client, SetParameters.Request(parameters=messages)).results

    def diagnosed(self, level, text):
        """Whether the newest status has this level and text."""
        status = self.statuses[-1] if self.statuses else None
        return status and status.level == level and text in status.message

    def value(self, key):
        return {v.key: v.value for s in self.statuses[-1:] for v in s.values}.get(key)


def image(pixels=PIXELS, encoding='rgb8'):
    return images.fill(Image(), pixels, encoding, Image().header)


def array(message):
    return np.frombuffer(message.data, np.uint8).reshape(message.height, message.width)


def node(start, *parameters, **options):
    return start('node', [*TINY, *parameters], ['image:=/camera/image_raw'], **options)


@pytest.fixture
def robot(tester):
    return Robot(tester)


@pytest.fixture
def running(robot, start):
    """(robot, process) with images streaming and masks coming."""
    process = node(start, VOCABULARY, 'diagnostics_period_s:=0.2')
    robot.stream()
    wait_for(lambda: robot.masks, what='a first mask', process=process)
    return robot, process


def test_masks_have_the_cameras_header_and_the_published_ids(running):
    robot, process = running
    confidences, overlays = [], []
    robot.listen('confidence', Image, confidences)
    robot.listen('overlay', Image, overlays)
    wait_for(lambda: confidences and overlays, what='optional outputs', process=process)
    robot.stop()

    late = []
    robot.node.create_subscription(Vocabulary, '/segmentation/vocabulary', late.append, LATCHED)
    wait_for(lambda: late, what='the vocabulary for a late joiner', process=process)
    [words] = late
    assert [(c.id, c.name, list(c.prompts)) for c in words.classes] == [
        (1, 'floor', ['floor']),
        (9, 'mug', ['mug', 'cup']),
        (2, 'door', ['door']),
    ]
    assert words.version == 1 and words.unlabeled_id == 0
    assert all(0 <= c.color.r <= 1 and c.color.a == 1 for c in words.classes)

    stamps = {m.header.stamp.sec: m for m in robot.masks}
    for other in (confidences[-1], overlays[-1]):
        mask = stamps[other.header.stamp.sec]
        assert other.header == mask.header
        assert (other.height, other.width) == (120, 160)
    mask = robot.masks[-1]
    assert mask.header.frame_id == 'eye' and mask.header.stamp.nanosec == 123456789
    assert (mask.encoding, mask.step, len(mask.data)) == ('mono8', 160, 120 * 160)
    assert set(np.unique(array(mask))) <= {0, 1, 2, 9}
    assert confidences[-1].encoding == 'mono8' and array(confidences[-1]).max() > 0
    assert overlays[-1].encoding == 'rgb8'


@pytest.mark.parametrize('reliability', ['best_effort', 'reliable'])
def test_both_kinds_of_cameras_and_every_layout_give_the_same_labels(tester, start, reliability):
    robot = Robot(tester, ReliabilityPolicy[reliability.upper()])
    process = node(start, VOCABULARY, f'input_reliability:={reliability}')
    padded = image()
    padded.step += 8
    rows = np.pad(PIXELS.reshape(120, -1), ((0, 0), (0, 8)))
    padded.data = rows.astype(np.uint8).tobytes()
    layouts = {
        'rgb8': image(),
        'bgr8': image(PIXELS[..., ::-1], 'bgr8'),
        'padded': padded,
    }
    labels = {}
    for name, message in layouts.items():
        robot.masks.clear()
        timer = robot.node.create_timer(0.1, lambda m=message: robot.send(m))
        wait_for(lambda: len(robot.masks) > 1, what=name, process=process)
        robot.node.destroy_timer(timer)
        # The mask of an earlier layout may still have been on its way; the second is this one's.
        labels[name] = array(robot.masks[-1])
    assert (labels['rgb8'] == labels['bgr8']).all()
    assert (labels['rgb8'] == labels['padded']).all()


def test_words_change_while_images_flow(running):
    robot, process = running
    [result] = robot.set(background=['sky', ''])
    assert result.successful, result.reason
    wait_for(lambda: robot.vocabularies[-1].version == 2, what='distractors', process=process)
    [result] = robot.set(vocabulary=['door', 'window', '20:lamp'])
    assert result.successful, result.reason
    wait_for(lambda: robot.vocabularies[-1].version == 3, what='new words', process=process)
    words = robot.vocabularies[-1]
    # door keeps its id, and the ids of floor and mug are not given away.
    assert {c.name: c.id for c in words.classes} == {'door': 2, 'window': 3, 'lamp': 20}
    assert list(words.background) == ['sky']
    count = len(robot.masks)
    wait_for(lambda: len(robot.masks) > count + 2, what='new masks', process=process)
    assert set(np.unique(array(robot.masks[-1]))) <= {0, 2, 3, 20}

    [result] = robot.set(vocabulary=['floor', '9:mug', 'cup'])
    assert result.successful, result.reason
    wait_for(lambda: robot.vocabularies[-1].version == 4, what='old words', process=process)
    names = {c.name: c.id for c in robot.vocabularies[-1].classes}
    assert names == {'floor': 1, 'mug': 9, 'cup': 4}


REFUSED = [
    ({'vocabulary': ['a', 'a']}, "name 'a' stands twice"),
    ({'vocabulary': ['1:a']}, "id 1 belongs to 'floor'"),
    ({'vocabulary': ['5:floor']}, "'floor' has had id 1"),
    ({'vocabulary': ['255:a']}, 'above the largest id 254'),
    ({'vocabulary': ['mug ' * 100]}, 'too long'),
    ({'vocabulary': ['']}, 'no name'),
    ({'vocabulary': ['9' * 5000 + ':a']}, 'the id must be'),
    ({'background': ['floor']}, "'floor' stands twice"),
    ({'confidence_threshold': 1.5}, 'range'),
    ({'model': 'ViT-B-16'}, 'read-only'),
    ({'nothing': 1}, 'undeclared'),
    ({'vocabulary': 'floor'}, 'type'),
]


def test_wrong_values_are_refused_with_the_reason_and_change_nothing(running):
    robot, process = running
    for values, reason in REFUSED:
        [result] = robot.set(**values)
        assert not result.successful and reason in result.reason, (values, result.reason)
    count = len(robot.masks)
    wait_for(lambda: len(robot.masks) > count + 2, what='masks as before', process=process)
    assert robot.vocabularies[-1].version == 1
    assert set(np.unique(array(robot.masks[-1]))) <= {0, 1, 2, 9}


def test_the_threshold_is_live(running):
    robot, process = running
    assert array(robot.masks[-1]).any()
    assert robot.set(confidence_threshold=1.0)[0].successful
    wait_for(lambda: not array(robot.masks[-1]).any(), what='unlabelled masks', process=process)
    assert robot.set(confidence_threshold=0.0)[0].successful
    wait_for(lambda: array(robot.masks[-1]).any(), what='labels again', process=process)


DAMAGED = [
    ({'encoding': 'rgb32'}, 'not known'),
    ({'data': b'\0' * 100}, '100 bytes of data'),
    ({'height': 0, 'data': b''}, '160 x 0 px'),
    ({'step': 3}, 'rows of 480 bytes'),
    ({'height': 9, 'width': 1, 'step': 3}, 'more than 8 times'),
]


def test_a_damaged_image_is_counted_and_the_next_one_is_segmented(running):
    robot, process = running
    robot.stop()

    def rejected():
        return int(robot.value('dropped: bad image') or 0)

    for changes, _ in DAMAGED:
        before = rejected()
        robot.send(**changes)
        wait_for(lambda b=before: rejected() > b, what=str(changes), process=process)
    assert robot.diagnosed(DiagnosticStatus.WARN, 'cannot be read')
    # The log is limited to a line in five seconds, of the newest kind.
    assert any(reason in process.output for _, reason in DAMAGED)
    count = len(robot.masks)
    robot.stream()
    wait_for(lambda: len(robot.masks) > count, what='the next mask', process=process)
    wait_for(lambda: robot.diagnosed(DiagnosticStatus.OK, 'segmenting'), what='all well again')


def test_the_newest_image_comes_out_when_the_model_is_slow(robot, start):
    process = node(start, 'input_size:=480', 'diagnostics_period_s:=0.2')
    robot.stream(rate_hz=30.0)
    wait_for(lambda: len(robot.masks) > 5, what='masks', process=process)
    robot.stop()
    last = robot.sent
    wait_for(
        lambda: robot.masks[-1].header.stamp.sec == 1000 + last,
        what='the mask of the newest image',
        process=process,
    )
    stamps = [m.header.stamp.sec for m in robot.masks]
    assert stamps == sorted(set(stamps)) and len(stamps) < last
    wait_for(lambda: robot.value('dropped: a newer image came'), what='the count of dropped')


def test_diagnostics_tell_of_silence_and_of_speed(robot, start):
    process = node(start, 'diagnostics_period_s:=0.2')
    wait_for(
        lambda: robot.diagnosed(
            DiagnosticStatus.STALE,
            'no image on /camera/image_raw for 5 s; it has 1 publisher(s)',
        ),
        what='silence',
        process=process,
    )
    robot.stream()
    wait_for(lambda: robot.value('published Hz') not in (None, '0.0'), what='a rate')
    assert robot.diagnosed(DiagnosticStatus.OK, 'segmenting')
    assert robot.statuses[-1].name == '/segmentation: segmentation'
    for key in ('inference p50 ms', 'receipt to publish p95 ms', 'stamp to publish max ms'):
        assert float(robot.value(key)) > 0
    assert (robot.value('vocabulary version'), robot.value('device')) == ('1', 'cpu')


def test_the_papers_protocol_has_an_overlay_of_its_crop(robot, start):
    overlays = []
    robot.listen('overlay', Image, overlays)
    process = node(start, 'protocol:=cliptrase', 'input_size:=112')
    robot.stream()
    wait_for(lambda: overlays and robot.masks, what='an overlay', process=process)
    for message in (overlays[-1], robot.masks[-1]):
        assert (message.width, message.height) == (112, 112)


def test_lifecycle_transitions(robot, start):
    process = node(start, 'autostart:=false', 'diagnostics_period_s:=0.2')
    change = robot.node.create_client(ChangeState, '/segmentation/change_state')
    state = robot.node.create_client(GetState, '/segmentation/get_state')

    def go(transition, expected):
        request = ChangeState.Request(transition=Transition(id=transition))
        assert call(change, request).success, process.output
        assert call(state, GetState.Request()).current_state.label == expected

    def silent():
        count = len(robot.masks)
        for _ in range(3):
            robot.send()
        wait_for(lambda: robot.diagnosed(DiagnosticStatus.OK, 'not active'), what='rest')
        return len(robot.masks) == count

    assert call(state, GetState.Request()).current_state.label == 'unconfigured'
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
    wait_for(lambda: robot.value('vocabulary version') == '4', what='words while inactive')
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


@pytest.mark.parametrize(
    'parameters, reason',
    [
        (['model:=ViT-B-16-quickgel'], "Did you mean 'ViT-B-16-quickgelu'"),
        (['weights:=/nowhere/clip.pt'], 'no file /nowhere/clip.pt'),
        (['method:=cliptrace'], "'cliptrace' is not one of"),
        (['vocabulary:=["a", "a"]'], "name 'a' stands twice"),
        (['input_size:=1'], 'input_size'),
        (['confidence_threshold:=1'], 'confidence_threshold'),
    ],
)
def test_a_wrong_start_is_explained_and_ends_with_1(start, parameters, reason):
    process = node(start, *parameters)
    assert process.wait() == 1
    assert reason in process.output and 'Traceback' not in process.output


def test_a_failed_configuration_can_be_seen_and_leaves_the_node_alive(robot, start):
    process = node(start, 'autostart:=false', 'weights:=/nowhere/clip.pt')
    change = robot.node.create_client(ChangeState, '/segmentation/change_state')
    request = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE))
    assert not call(change, request).success
    state = robot.node.create_client(GetState, '/segmentation/get_state')
    assert call(state, GetState.Request()).current_state.label == 'unconfigured'
    assert 'no file /nowhere/clip.pt' in process.output


def test_any_error_while_configuring_is_shown(start):
    process = node(start, 'weights:=' + 'x' * 5000 + '/a.pt')
    assert process.wait() == 1
    assert 'cannot configure' in process.output and 'File name too long' in process.output


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
    client = robot.node.create_client(DescribeParameters, '/segmentation/describe_parameters')
    names = ['vocabulary', 'model', 'method', 'input_size', 'confidence_threshold']
    answers = call(client, DescribeParameters.Request(names=names)).descriptors
    method, size, threshold = answers[2:]
    assert all(d.description for d in answers)
    assert [d.read_only for d in answers] == [False, True, True, True, False]
    assert method.additional_constraints == 'one of: cliptrase, clip'
    assert (size.integer_range[0].from_value, size.integer_range[0].to_value) == (32, 2048)
    assert threshold.floating_point_range[0].to_value == 1.0


@pytest.fixture
def inside():
    """A node in this process, so that its engine can be made to fail."""
    context = rclpy.Context()
    arguments = [x for p in (*TINY, 'diagnostics_period_s:=0.2') for x in ('-p', p)]
    rclpy.init(context=context, args=['--ros-args', *arguments, '-r', 'image:=/camera/image_raw'])
    made = SegmentationNode(context=context)
    made.trigger_configure()
    made.trigger_activate()
    with spun(made, context):
        yield made
        made.stop()
    rclpy.try_shutdown(context=context)


class Failing:
    """A segmenter that fails on the next image or word, once."""

    def __init__(self, segmenter, error):
        self._segmenter, self._error = segmenter, error

    def __getattr__(self, name):
        if name in ('encode', 'encode_words') and self._error:
            error, self._error = self._error, None
            raise error
        return getattr(self._segmenter, name)


@pytest.mark.parametrize(
    'error, text',
    [
        (RuntimeError('the engine broke'), 'RuntimeError: the engine broke'),
        (torch.cuda.OutOfMemoryError('full'), 'out of memory: lower input_size'),
    ],
)
def test_an_error_in_one_image_is_reported_and_the_node_goes_on(robot, inside, error, text):
    robot.stream()
    wait_for(lambda: robot.masks, what='masks')
    live = inside._live
    inside._live = type(live)(Failing(live.segmenter, error), live.words, live.version)
    wait_for(lambda: robot.diagnosed(DiagnosticStatus.ERROR, text), what='an error')
    count = len(robot.masks)
    wait_for(lambda: len(robot.masks) > count, what='masks again')
    assert robot.value('dropped: error') == '1'


def test_words_that_cannot_be_encoded_leave_the_old_ones(robot, inside):
    robot.stream()
    wait_for(lambda: robot.masks and robot.vocabularies, what='masks')
    live = inside._live
    failing = Failing(live.segmenter, None)
    failing.replace = lambda **changes: failing
    inside._live = type(live)(failing, live.words, live.version)
    failing._error = RuntimeError('no memory for words')
    failing.encode = live.segmenter.encode
    assert robot.set(vocabulary=['lamp'])[0].successful
    wait_for(lambda: robot.diagnosed(DiagnosticStatus.ERROR, 'no memory for words'), what='error')
    assert robot.vocabularies[-1].version == 1
    assert robot.set(vocabulary=['lamp'])[0].successful
    wait_for(lambda: robot.vocabularies[-1].version == 2, what='the same words at last')


def test_ids_are_taken_when_words_are_accepted(robot, inside):
    wait_for(lambda: robot.vocabularies, what='words')
    live, go = inside._live, threading.Event()
    slow = Failing(live.segmenter, None)
    slow.encode_words = lambda *a: (go.wait(20), live.segmenter.encode_words(*a))[1]
    inside._live = type(live)(slow, live.words, live.version)
    assert robot.set(vocabulary=['50:mug'])[0].successful
    wait_for(lambda: 'mug' in inside._known_ids, what='the id')
    [result] = robot.set(vocabulary=['50:cup'])
    assert not result.successful and "id 50 belongs to 'mug'" in result.reason
    go.set()
    wait_for(lambda: robot.vocabularies[-1].classes[0].name == 'mug', what='mug')


def test_words_that_are_still_encoded_do_not_hold_up_the_end(robot, inside):
    wait_for(lambda: robot.vocabularies, what='words')
    live, begun = inside._live, threading.Event()

    def encode_words(classes, background, cancelled):
        begun.set()
        wait_for(cancelled, what='the stop')
        raise Cancelled('given up')

    slow = Failing(live.segmenter, None)
    slow.encode_words = encode_words
    inside._live = type(live)(slow, live.words, live.version)
    assert robot.set(vocabulary=['lamp'])[0].successful
    assert begun.wait(20)
    inside.stop()
    assert 'vocabulary errors' not in inside._statistics.counts()


def test_an_image_that_is_ready_after_the_shutdown_is_no_error(robot, inside):
    robot.stream()
    wait_for(lambda: robot.masks, what='masks')
    robot.stop()
    finished = threading.Event()
    failed = inside._frame_failed
    inside._frame_worker._failed = lambda *a: (failed(*a), finished.set())
    rclpy.shutdown(context=inside.context)
    inside._take(image())
    assert finished.wait(20)
    assert 'dropped: error' not in inside._statistics.counts()
