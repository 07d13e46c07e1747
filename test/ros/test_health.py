"""What /diagnostics says when nothing comes, and when everything works, over real DDS."""

import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticStatus
from processes import wait_for
from robot import CAMERA, IMPATIENT, Robot, node
from sensor_msgs.msg import CompressedImage

from cliptrase_ros.ros import diagnostics
from cliptrase_ros.ros.statistics import Statistics


def silent(robot, process, sentence):
    wait_for(
        lambda: robot.diagnosed(DiagnosticStatus.STALE, sentence),
        what=sentence,
        process=process,
    )
    wait_for(lambda: sentence in process.output, what=f'in the log: {sentence}', process=process)


def test_silence_names_where_images_are(robot, start):
    process = node(start, remaps=['image:=/nowhere'], constants=IMPATIENT)
    silent(
        robot,
        process,
        f'no image on /nowhere for 1 s: nobody publishes it; sensor_msgs/msg/Image is on {CAMERA}.',
    )
    robot.node.destroy_publisher(robot.camera)
    silent(robot, process, 'sensor_msgs/msg/Image is on no topic')


def test_silence_names_the_publisher_whose_qos_does_not_fit(robot, start):
    process = node(start, 'qos.input_reliability:=reliable')
    robot.stream()
    silent(
        robot,
        process,
        f'no image on {CAMERA} for 5 s: /tester is best_effort, which does not fit '
        'qos.input_reliability reliable (',
    )
    assert not robot.masks


def test_silence_names_publishers_that_fit_and_those_of_another_type(tester, start):
    robot = Robot(tester, 'reliable')
    process = node(start, constants=IMPATIENT)
    silent(robot, process, '/tester is reliable, which fits; does it publish?')
    robot.node.destroy_publisher(robot.camera)
    # DDS allows two types for a topic, but not in one participant.
    context = rclpy.Context()
    rclpy.init(context=context)
    other = rclpy.create_node('webcam', context=context)
    other.create_publisher(CompressedImage, CAMERA, 1)
    silent(
        robot,
        process,
        '/webcam publishes sensor_msgs/msg/CompressedImage there, not sensor_msgs/msg/Image',
    )
    other.destroy_node()
    rclpy.shutdown(context=context)


def test_a_silence_that_ends(robot, start):
    process = node(start, constants=IMPATIENT)
    silent(robot, process, 'does it publish?')
    robot.stream()
    wait_for(lambda: robot.value('published Hz') not in (None, '0.0'), what='a rate')
    assert robot.diagnosed(DiagnosticStatus.OK, 'ready', 'model')
    for key in ('inference p50 ms', 'receipt to publish p95 ms', 'stamp to publish max ms'):
        assert float(robot.value(key)) > 0
    assert robot.value('topic') == CAMERA and robot.value('image') == '160 x 120 rgb8'
    model = {v.key: v.value for v in robot.statuses['model'].values}
    assert (model['vocabulary version'], model['device']) == ('1', 'cpu')
    assert model['model'] == 'cliptrase-tiny (random)' and model['images by'] in (
        'numpy',
        'cv_bridge',
    )
    assert float(model['peak memory MB']) > 100 and model['peak GPU memory MB'] == '0'


NAMESAKES = '2 nodes are named /segmentation: parameters and services reach any of them'


def test_two_nodes_of_one_name_are_told_by_both(robot, start):
    first, second = (node(start) for _ in range(2))
    for process in (first, second):
        wait_for(lambda p=process: NAMESAKES in p.output, what='in the log', process=process)
    wait_for(lambda: robot.diagnosed(DiagnosticStatus.WARN, NAMESAKES, 'model'), what='a warning')
    assert second.end() == 0
    wait_for(lambda: robot.diagnosed(DiagnosticStatus.OK, 'ready', 'model'), what='well again')
    assert first.output.count(NAMESAKES) == 1
    third = node(start)
    wait_for(lambda: NAMESAKES in third.output, what='in the log', process=third)
    wait_for(lambda: first.output.count(NAMESAKES) == 2, what='again', process=first)


@pytest.mark.parametrize('remap', ['__node:=segmentation_2', '__ns:=/robot2'])
def test_another_name_or_namespace_is_no_reason_for_a_warning(robot, start, remap):
    first, second = node(start), node(start, remaps=[remap])
    wait_for(lambda: robot.diagnosed(DiagnosticStatus.OK, 'ready', 'model'), what='the first')
    wait_for(lambda: 'listening' in second.output, what='the second', process=second)
    assert 'nodes are named' not in first.output + second.output


@pytest.fixture
def statistics(monkeypatch):
    """Statistics with `happen`, which counts events some seconds ago."""
    made, clock = Statistics(), [1000.0]
    monkeypatch.setattr('time.monotonic', lambda: clock[0])

    def happen(event, ago_s=0.0, times=1, every_s=0.1):
        clock[0] = 1000.0 - ago_s - every_s * (times - 1)
        for _ in range(times):
            made.count(event)
            clock[0] += every_s
        clock[0] = 1000.0

    made.happen = happen
    return made


REASONS = dict.fromkeys(
    (diagnostics.DROPPED_ERROR, diagnostics.DROPPED_BAD_IMAGE, diagnostics.DROPPED_OLD), 'reason'
)
OK, WARN, ERROR, STALE = (
    getattr(DiagnosticStatus, name) for name in ('OK', 'WARN', 'ERROR', 'STALE')
)


def health(statistics, listening=True, silence='', waiting=''):
    return diagnostics.of_camera(statistics, listening, silence, REASONS, '', waiting)


def test_how_long_a_costmap_must_remember(statistics):
    assert diagnostics.decay(statistics) == {}
    for _ in range(20):
        statistics.record(diagnostics.FROM_STAMP, 0.4)
    assert diagnostics.decay(statistics) == {}, 'the rate is not known yet'
    statistics.happen(diagnostics.PUBLISHED, times=11, every_s=0.2)
    assert diagnostics.decay(statistics) == {'three images in s': '1.00'}  # 0.4 + 3 / 5


def test_errors_are_shown_for_a_while_and_before_all_else(statistics):
    statistics.happen(diagnostics.DROPPED_ERROR, ago_s=9)
    assert health(statistics, silence='nothing') == (ERROR, 'reason')
    statistics.happen(diagnostics.DROPPED_ERROR, ago_s=11)
    assert health(statistics, silence='nothing') == (STALE, 'nothing')
    assert health(statistics, listening=False) == (OK, 'not active')


def test_bad_and_old_images_are_a_warning_for_a_while(statistics):
    statistics.happen(diagnostics.DROPPED_BAD_IMAGE, ago_s=4)
    assert health(statistics) == (WARN, 'reason')
    statistics.happen(diagnostics.DROPPED_BAD_IMAGE, ago_s=6)
    assert health(statistics) == (OK, 'segmenting')


def test_dropping_most_images_is_a_warning(statistics):
    statistics.happen(diagnostics.DROPPED_FOR_NEWER, ago_s=15, times=50)  # long ago
    statistics.happen(diagnostics.DROPPED_FOR_NEWER, ago_s=1, times=2, every_s=0.03)
    statistics.happen(diagnostics.PUBLISHED, times=20, every_s=0.2)
    assert health(statistics) == (OK, 'segmenting')
    statistics.happen(diagnostics.DROPPED_FOR_NEWER, times=30, every_s=0.1)
    level, sentence = health(statistics)
    assert level == WARN
    assert sentence.startswith('slower than the camera: 20 of 52 images of the last 10 s')


def test_old_results_are_a_warning(statistics, monkeypatch):
    statistics.record(diagnostics.FROM_STAMP, 0.9)
    assert health(statistics)[0] == OK
    for _ in range(3):
        statistics.record(diagnostics.FROM_STAMP, 2.5)
    assert health(statistics)[0] == WARN and 'results are 2.5 s old' in health(statistics)[1]
    monkeypatch.setattr('time.monotonic', lambda: 1011.0)  # 11 s later, the old times do not count
    statistics.record(diagnostics.FROM_STAMP, 0.1)
    assert health(statistics) == (OK, 'segmenting')


def test_the_model(statistics):
    assert diagnostics.of_model(statistics, False, '') == (OK, 'not loaded')
    assert diagnostics.of_model(statistics, True, '') == (OK, 'ready')
    assert diagnostics.of_model(statistics, True, '', 'two') == (WARN, 'two')
    statistics.happen(diagnostics.VOCABULARY_ERRORS, ago_s=5)
    assert diagnostics.of_model(statistics, True, 'no', 'two') == (ERROR, 'no')
    assert diagnostics.of_model(statistics, True, 'no') == (ERROR, 'no')


def test_silence_begins_with_the_subscription(statistics):
    statistics.happen(diagnostics.LISTENING, ago_s=4)
    assert not diagnostics.silent(statistics)
    statistics.happen(diagnostics.LISTENING, ago_s=6)
    assert diagnostics.silent(statistics)
    statistics.happen(diagnostics.RECEIVED, ago_s=1)
    assert not diagnostics.silent(statistics)
