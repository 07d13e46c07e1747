"""Input of the node: layouts, damaged images, rates, ages, several cameras, over real DDS."""

import time

import cv2
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from processes import wait_for
from robot import PIXELS, WORDS, Failing, Robot, array, image, node, stamp
from sensor_msgs.msg import CompressedImage, Image
from std_srvs.srv import SetBool
from towers import picture

from cliptrase_ros.errors import CliptraseError
from cliptrase_ros.ros import stream as stream_module
from cliptrase_ros.ros.parameters import NodeOptions
from cliptrase_ros.ros.stream import Frame, Stream


def layouts():
    padded = image()
    padded.step += 8
    rows = np.pad(PIXELS.reshape(120, -1), ((0, 0), (0, 8)))
    padded.data = rows.astype(np.uint8).tobytes()
    gray = cv2.cvtColor(PIXELS, cv2.COLOR_RGB2GRAY)
    # Gray 0..255 in the limited range of Y, and no colours.
    luma = np.rint(gray * (219 / 255) + 16).astype(np.uint8)
    planes = image(luma, 'nv12')
    planes.data = np.vstack([luma, np.full((60, 160), 128, np.uint8)]).tobytes()
    big = image(gray.astype('>u2') * 257, 'mono16')
    big.is_bigendian = 1
    return {
        'rgb8': image(),
        'bgr8': image(PIXELS[..., ::-1], 'bgr8'),
        'padded': padded,
        'mono8': image(gray, 'mono8'),
        'mono16 big-endian': big,
        'nv12': planes,
    }


def compressed(pixels=PIXELS, suffix='.png', format='rgb8; png compressed bgr8'):
    data = cv2.imencode(suffix, pixels[..., ::-1])[1].tobytes()
    return CompressedImage(format=format, data=data)


def labels_of(robot, process, message):
    robot.masks.clear()
    robot.stream(make=lambda: message)
    # A mask of an earlier message may still arrive. The third mask belongs to this message.
    wait_for(lambda: len(robot.masks) > 2, what='masks', process=process)
    robot.stop()
    return array(robot.masks[-1])


@pytest.mark.parametrize('reliability', ['best_effort', 'reliable'])
def test_both_kinds_of_cameras_and_every_layout_give_the_same_labels(tester, start, reliability):
    robot = Robot(tester, reliability)
    process = node(start, WORDS, f'qos.input_reliability:={reliability}')
    labels = {name: labels_of(robot, process, message) for name, message in layouts().items()}
    assert (labels['rgb8'] == labels['bgr8']).all() and (labels['rgb8'] == labels['padded']).all()
    assert (labels['mono8'] == labels['mono16 big-endian']).all()
    assert (labels['mono8'] == labels['nv12']).mean() > 0.9  # Y has fewer steps


def test_compressed_images_give_the_same_labels(tester, start):
    robot = Robot(tester)
    process = node(start, WORDS, 'image_transport:=compressed')
    wait_for(lambda: 'listening' in process.output, what='the start', process=process)
    assert 'listening to /camera/image_raw/compressed' in process.output
    robot = Robot(tester, camera='/camera/image_raw/compressed', kind=CompressedImage)
    png = labels_of(robot, process, compressed())
    jpeg = labels_of(robot, process, compressed(suffix='.jpg', format='jpeg'))
    assert (png == jpeg).mean() > 0.8  # a JPEG is not quite the same picture
    webp = labels_of(robot, process, compressed(suffix='.webp', format=''))
    assert (png == webp).mean() > 0.8
    robot.send(CompressedImage(format='h264', data=b'\0\0\0\1\x67'))
    wait_for(lambda: robot.diagnosed(DiagnosticStatus.WARN, 'H.264'), what='a video')
    broken = compressed()
    broken.data = broken.data[:100]
    robot.send(broken)
    wait_for(lambda: robot.value('dropped: bad image') == '2', what='a broken picture')
    count = len(robot.masks)
    robot.stream(make=compressed)
    wait_for(lambda: len(robot.masks) > count, what='masks again', process=process)
    wait_for(lambda: robot.value('image') == '160 x 120 rgb8; png compressed bgr8', what='its kind')


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
    for count, (changes, reason) in enumerate(DAMAGED, 1):
        robot.send(**changes)
        wait_for(
            lambda n=count: robot.value('dropped: bad image') == str(n),
            what=str(changes),
            process=process,
        )
        assert robot.diagnosed(DiagnosticStatus.WARN, reason)
    # The log has at most one line in five seconds.
    assert DAMAGED[0][1] in process.output
    count = len(robot.masks)
    robot.stream()
    wait_for(lambda: len(robot.masks) > count, what='the next mask', process=process)
    wait_for(lambda: robot.diagnosed(DiagnosticStatus.OK, 'segmenting'), what='all well again')


def test_the_newest_image_comes_out_when_the_model_is_slow(robot, start):
    process = node(start, 'input_size:=480')
    robot.stream(rate_hz=30.0)
    wait_for(lambda: len(robot.masks) > 5, what='masks', process=process)
    wait_for(
        lambda: robot.diagnosed(DiagnosticStatus.WARN, 'slower than the camera'), what='a warning'
    )
    robot.stop()
    wait_for(
        lambda: stamp(robot.masks[-1]) == robot.last,
        what='the mask of the newest image',
        process=process,
    )
    stamps = [stamp(m) for m in robot.masks]
    assert stamps == sorted(set(stamps))
    assert int(robot.value('dropped: a newer image came')) > 0
    # An image waits at most for the current image, then it is segmented itself.
    inference_ms = float(robot.value('inference max ms'))
    assert float(robot.value('receipt to publish max ms')) < 3 * inference_ms + 100


def test_images_that_are_too_old_are_dropped(robot, start):
    process = node(start, 'max_age_s:=5.0')
    robot.stream()
    wait_for(lambda: len(robot.masks) > 3, what='masks', process=process)
    wait_for(lambda: robot.diagnosed(DiagnosticStatus.OK, 'segmenting'), what='all well')
    assert 0 < float(robot.value('stamp to publish p50 ms')) < 5000
    robot.stop()

    robot.late_s = 3600.0
    robot.stream()
    wait_for(
        lambda: robot.diagnosed(DiagnosticStatus.WARN, 'more than max_age_s 5'), what='a warning'
    )
    assert 'use_sim_time' in process.output
    assert int(robot.value('dropped: older than max_age_s')) > 0
    robot.masks.clear()
    assert robot.set(max_age_s='none')[0].successful
    wait_for(lambda: robot.masks, what='masks', process=process)
    assert stamp(robot.masks[0])[0] < robot.node.get_clock().now().nanoseconds * 1e-9 - 3000


def test_old_results_are_told(robot, start):
    process = node(start)
    robot.late_s = 3600.0
    robot.stream()
    wait_for(
        lambda: robot.diagnosed(DiagnosticStatus.WARN, 'results are 3600'),
        what='a warning',
        process=process,
    )


def test_a_stamp_that_goes_back_is_told_and_its_image_segmented(running):
    robot, process = running
    wait_for(lambda: len(robot.masks) > 3, what='masks')
    robot.late_s = 500.0
    wait_for(lambda: robot.diagnosed(DiagnosticStatus.WARN, 'went back by'), what='a warning')
    assert robot.value('stamps that went back') == '1'
    assert 'a bag started again' in process.output
    wait_for(lambda: stamp(robot.masks[-1]) < stamp(robot.masks[0]), what='masks', process=process)


def told_after(robot, masks):
    """Return the number of images above the rate, from a status after `masks` more masks."""
    count, received = len(robot.masks), int(robot.value('received'))
    wait_for(lambda: len(robot.masks) >= count + masks, what='masks')
    wait_for(lambda: int(robot.value('received')) >= received + masks, what='a status')
    return int(robot.value('dropped: above max_rate_hz'))


def test_the_rate_is_limited_as_long_as_asked(robot, start):
    process = node(start, 'max_rate_hz:=5.0')
    robot.stream(rate_hz=20.0)
    wait_for(lambda: robot.value('dropped: above max_rate_hz'), what='drops', process=process)
    start_s, count = time.monotonic(), len(robot.masks)
    wait_for(lambda: len(robot.masks) >= count + 30, what='masks', process=process)
    # `due` allows two after a pause, and two may still arrive: a busy machine sends in bursts.
    assert len(robot.masks) - count <= 5.0 * (time.monotonic() - start_s) + 4
    assert robot.diagnosed(DiagnosticStatus.OK, 'segmenting')
    assert robot.set(max_rate_hz='none')[0].successful
    assert told_after(robot, masks=3) == told_after(robot, masks=15)


def test_a_limited_rate_is_the_mean_rate(tester, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, 'monotonic', lambda: now[0])
    stream = Stream(tester, '', lambda: None)
    taken = 0
    for n in range(301):
        now[0] = 100 + n / 30
        taken += stream.due(20.0)
    assert taken == pytest.approx(200, abs=2)
    now[0] += 60  # a pause gives no credit
    assert [stream.due(20.0) for _ in range(3)] == [True, True, False]


def test_a_camera_that_was_opened_by_half_is_closed(tester, monkeypatch):
    monkeypatch.setattr(stream_module, 'SpaceOutputs', lambda *a: 1 / 0)
    stream = Stream(tester, '', lambda: None)
    with pytest.raises(ZeroDivisionError):
        stream.open(NodeOptions())
    mask = '/tester/label_mask'
    assert mask in [publisher.topic_name for publisher in tester.publishers]
    stream.close()
    assert mask not in [publisher.topic_name for publisher in tester.publishers]
    with pytest.raises(CliptraseError, match='not configured'):
        stream.add_topics(['floor'])


def test_enable_stops_and_starts_the_subscription(running):
    robot, process = running

    def listens():
        return robot.node.count_subscribers('/camera/image_raw')

    assert robot.call(SetBool, 'enable', data=False).message == 'disabled'
    assert robot.call(SetBool, 'enable', data=False).success
    wait_for(lambda: not listens(), what='no subscription', process=process)
    wait_for(lambda: robot.diagnosed(DiagnosticStatus.OK, 'not active'), what='rest')
    robot.masks.clear()
    assert robot.call(SetBool, 'enable', data=True).message == 'enabled'
    wait_for(lambda: robot.masks, what='masks again', process=process)


def test_a_node_that_starts_disabled(robot, start):
    process = node(start, 'start_enabled:=false')
    wait_for(lambda: robot.vocabularies, what='words', process=process)
    assert not robot.node.count_subscribers('/camera/image_raw')
    assert robot.call(SetBool, 'enable', data=True).success
    robot.stream()
    wait_for(lambda: robot.masks, what='masks', process=process)


class Rig:
    """Cameras with several names, and the masks of each."""

    def __init__(self, tester, names):
        self.robots = {name: Robot(tester, camera=f'/{name}/image') for name in names}
        self.masks = {n: r.hear(f'{n}/label_mask', Image) for n, r in self.robots.items()}


def test_several_cameras_share_a_model(tester, start):
    rig = Rig(tester, ['front', 'left', 'rear'])
    process = node(start, WORDS, 'cameras:=["front", "left", "rear"]')
    pictures = {
        'front': image(),
        'left': image(PIXELS[::-1]),
        'rear': image(picture(100, 90)),
    }
    for name, robot in rig.robots.items():
        robot.stream(rate_hz=15.0, make=lambda m=pictures[name]: m)
    wait_for(
        lambda: all(len(masks) > 5 for masks in rig.masks.values()), what='masks', process=process
    )
    assert process.output.count('loading cliptrase-tiny') == 1
    alone = {}
    front = rig.robots['front']
    for name, robot in rig.robots.items():
        robot.stop()
        assert (rig.masks[name][-1].width, rig.masks[name][-1].height) == (
            pictures[name].width,
            pictures[name].height,
        )
        assert front.value('topic', name) == f'/{name}/image'
    for name, robot in rig.robots.items():
        count = len(rig.masks[name])
        robot.send(pictures[name])
        wait_for(lambda n=name, c=count: len(rig.masks[n]) > c, what=name, process=process)
        alone[name] = array(rig.masks[name][-1])
        assert (array(rig.masks[name][-2]) == alone[name]).mean() > 0.99
    assert {n for n, _ in tester.get_topic_names_and_types() if n.endswith('mask/floor')} == {
        f'/segmentation/{name}/mask/floor' for name in rig.robots
    }


def test_a_fast_camera_does_not_starve_a_slow_one(tester, start):
    rig = Rig(tester, ['fast', 'slow'])
    process = node(start, 'cameras:=["fast", "slow"]', 'input_size:=320')
    rig.robots['fast'].stream(rate_hz=60.0)
    wait_for(lambda: len(rig.masks['fast']) > 3, what='masks', process=process)
    slow = rig.robots['slow']
    for n in range(5):
        slow.send()
        wait_for(lambda c=n: len(rig.masks['slow']) > c, what='its mask', process=process)


def test_one_bad_image_of_a_batch_takes_no_other_with_it(robot, inside, monkeypatch):
    """The engine of this test has memory for only one image at a time."""
    wait_for(lambda: robot.vocabularies, what='words')
    frames, words = inside._frames, inside._words
    streams = [Stream(inside, name, lambda: None) for name in ('a', 'b', 'c')]
    for stream in streams:
        stream.open(inside._options)
    segmenter = words.live.segmenter
    batches = []

    def encode_batch(images):
        batches.append(len(images))
        if len(images) > 1:
            raise RuntimeError("can't allocate memory")
        if images[0].shape[0] == 60:
            raise RuntimeError('no')
        return segmenter.encode_batch(images)

    narrow = Failing(segmenter, None)
    narrow.encode_batch = encode_batch
    monkeypatch.setattr(words, 'live', type(words.live)(narrow, words.live.words, 1))
    sent = [image(), image(picture(60, 80)), image()]
    frames._segment([Frame(s, m, time.monotonic(), 1) for s, m in zip(streams, sent, strict=True)])
    assert batches == [3, 1, 1, 1]
    counts = [stream.statistics.counts() for stream in streams]
    assert [c.get('published') for c in counts] == [1, None, 1]
    assert counts[1] == {'dropped: error': 1}
    for stream in streams:
        stream.close()
