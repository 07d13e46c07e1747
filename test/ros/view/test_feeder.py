"""The feeder of the live page: real nodes, and a page that only writes down what it gets."""

import threading

import numpy as np
import pytest
from processes import wait_for
from rgbd import Depth, start_node
from robot import CAMERA, PIXELS, WORDS, Robot, image, node
from sensor_msgs.msg import Image

from cliptrase_ros.ros.view.feeder import NodeFeed

NAME = '/segmentation'


class Written:
    """A page that keeps what it is told."""

    def __init__(self):
        self.pictures, self.statuses, self.settings, self.named = [], [], [], []
        self.show, self.status = self.pictures.append, self.statuses.append
        self.controls = self.settings.append

    def cameras(self, names, chosen):
        self.named.append((names, chosen))

    @property
    def values(self):
        return self.settings[-1].values if self.settings else {}

    @property
    def names(self):
        return [entry.name for entry in self.pictures[-1].legend] if self.pictures else []

    def problem(self, text):
        return self.statuses and text in self.statuses[-1].problem


@pytest.fixture
def page():
    return Written()


@pytest.fixture
def feed(tester, page):
    made = NodeFeed(tester, NAME)
    made.start(page)
    yield made
    made.close()


def count(robot, *topics):
    return [robot.node.count_subscribers(f'{NAME}/{topic}') for topic in topics]


def test_a_picture_with_its_labels(running, feed, page):
    _, process = running
    feed.watched(True)
    wait_for(lambda: page.pictures and page.values, what='a picture', process=process)
    shown = page.pictures[-1]
    assert np.array_equal(shown.image, PIXELS)
    assert shown.labels.shape == shown.confidence.shape == PIXELS.shape[:2]
    assert {e.id: e.name for e in shown.legend} == {1: 'floor', 9: 'mug', 2: 'door'}
    assert set(np.unique(shown.labels)) <= {0, 1, 2, 9}
    assert 0 < shown.confidence.max() <= 1
    assert page.values['class_names'] == 'floor, 9:mug=mug;cup, door'
    assert 'cliptrase' in page.settings[-1].choices['method']
    wait_for(
        lambda: page.statuses[-1].latency_ms > 0 and page.statuses[-1].rate_hz > 0,
        what='numbers',
        process=process,
    )
    status = page.statuses[-1]
    assert status.problem == '' and 'tiny' in status.model and status.device == 'cpu'
    assert dict(feed.parameters())['vocabulary'] == ['floor', '9:mug=mug;cup', 'door']


def test_an_unwatched_page_subscribes_to_nothing(running, feed, page):
    robot, process = running
    topics = 'label_mask', 'confidence', 'vocabulary', 'points', 'objects', 'overlay'
    before = count(robot, *topics)
    feed.watched(True)
    wait_for(lambda: page.pictures, what='a picture', process=process)
    assert count(robot, 'label_mask', 'confidence') == [before[0] + 1, before[1] + 1]
    assert count(robot, 'overlay') == [0]
    feed.watched(False)
    wait_for(lambda: count(robot, *topics) == before, what='no subscriptions', process=process)
    assert robot.node.count_subscribers(CAMERA) == 1  # the node's own
    number = len(page.pictures)
    feed.watched(True)
    wait_for(lambda: len(page.pictures) > number, what='another picture', process=process)


def test_words_from_the_page(running, feed, page):
    _, process = running
    feed.watched(True)
    wait_for(lambda: page.pictures and page.values, what='a picture', process=process)
    assert feed.apply({'class_names': 'floor, 9:mug, lamp', 'background_names': 'sky'}) == ''
    wait_for(lambda: page.names == ['floor', 'mug', 'lamp'], what='new words', process=process)
    wait_for(lambda: page.values['background_names'] == 'sky', what='controls', process=process)
    assert feed.apply({'background_names': '', 'overlay_alpha': 1}) == ''
    wait_for(lambda: page.values['background_names'] == '', what='controls', process=process)
    wait_for(lambda: page.values['overlay_alpha'] == 1.0, what='controls', process=process)


@pytest.mark.parametrize(
    'changes, reason',
    [
        ({'class_names': 'floor, floor'}, 'floor'),
        ({'class_names': ''}, ''),
        ({'class_names': 'lamp', 'method': 'magic'}, "method: 'magic' is not one of"),
        ({'confidence_threshold': 7.0}, 'confidence_threshold out of range'),
        ({'confidence_treshold': 0.5}, 'did you mean confidence_threshold'),
    ],
)
def test_what_the_node_refuses(running, feed, page, changes, reason):
    _, process = running
    refused = feed.apply(changes)
    assert refused and reason in refused
    feed.watched(True)
    wait_for(lambda: page.values, what='controls', process=process)
    assert page.values['class_names'] == 'floor, 9:mug=mug;cup, door'


def test_what_others_change(running, feed, page):
    robot, process = running
    feed.watched(True)
    wait_for(lambda: page.values, what='controls', process=process)
    assert robot.set(confidence_threshold=0.25)[0].successful
    wait_for(
        lambda: page.values['confidence_threshold'] == 0.25, what='a threshold', process=process
    )
    assert robot.set(vocabulary=['lamp'])[0].successful
    wait_for(lambda: page.names == ['lamp'], what='the words', process=process)
    wait_for(lambda: page.values['class_names'] == 'lamp', what='the words', process=process)


def test_depth_gives_a_cloud_and_things(robot, start, feed, page):
    process = start_node(start, WORDS, 'points.unlabeled:=true', 'objects.min_pixels:=1')
    Depth(robot).stream()
    feed.watched(True)
    wait_for(
        lambda: page.pictures and page.pictures[-1].cloud is not None and page.pictures[-1].things,
        what='a cloud',
        process=process,
    )
    shown = page.pictures[-1]
    cloud, names = shown.cloud, {entry.id: entry.name for entry in shown.legend}
    assert cloud.points.shape == cloud.colors.shape == (len(cloud.labels), 3)
    assert 0 < len(cloud.points) <= PIXELS.shape[0] * PIXELS.shape[1]
    assert 0.9 < cloud.points[:, 2].min() <= cloud.points[:, 2].max() < 2.1
    assert set(np.unique(cloud.labels).tolist()) <= {0, *names}
    thing = shown.things[0]
    assert names[thing.class_id] == thing.name and min(thing.size) >= 0
    assert np.linalg.norm(thing.orientation) == pytest.approx(1)


def test_without_depth_the_node_does_not_wait_for_it(running, feed, page):
    robot, process = running
    feed.watched(True)
    wait_for(lambda: page.pictures, what='a picture', process=process)
    wait_for(lambda: count(robot, 'points', 'objects') == [0, 0], what='no cloud', process=process)


def test_the_node_comes_later_and_comes_back(robot, start, feed, page):
    feed.watched(True)
    wait_for(lambda: page.problem('/segmentation is not running'), what='a sentence')
    assert 'does not answer' in feed.apply({'class_names': 'lamp'})
    process = node(start, WORDS)
    robot.stream()
    wait_for(lambda: page.pictures, what='a picture', process=process)
    process.end()
    wait_for(lambda: page.problem('is not running'), what='a sentence')
    page.pictures.clear()
    process = node(start, 'vocabulary:=["lamp", "cup"]')
    wait_for(lambda: page.names == ['lamp', 'cup'], what='a picture', process=process)
    wait_for(lambda: page.values['class_names'] == 'lamp, cup', what='words', process=process)
    wait_for(lambda: page.statuses[-1].problem == '', what='no problem', process=process)


def test_several_cameras(tester, start, feed, page):
    remaps = [f'{side}/image:=/{side}/image_raw' for side in ('left', 'right')]
    process = node(start, WORDS, 'cameras:=["left", "right"]', remaps=remaps)
    left, right = (Robot(tester, camera=f'/{side}/image_raw') for side in ('left', 'right'))
    left.stream()
    right.stream(make=lambda: image(np.ascontiguousarray(PIXELS[:, ::-1])))
    feed.watched(True)
    wait_for(lambda: page.pictures, what='a picture', process=process)
    assert page.named[-1] == (('left', 'right'), 'left')
    assert np.array_equal(page.pictures[-1].image, PIXELS)
    feed.choose('right')
    wait_for(
        lambda: np.array_equal(page.pictures[-1].image, PIXELS[:, ::-1]),
        what='the other camera',
        process=process,
    )
    assert count(left, 'left/label_mask') == [0]


@pytest.mark.parametrize(
    'parameters',
    [
        ['label_encoding:=16UC1', 'unlabeled_id:=999'],
        ['protocol:=cliptrase'],
        ['output_size:=80x60', 'qos.output_reliability:=best_effort'],
    ],
)
def test_other_outputs(robot, start, feed, page, parameters):
    process = node(start, WORDS, 'confidence_threshold:=0.34', *parameters)
    robot.stream()
    feed.watched(True)
    wait_for(lambda: page.pictures, what='a picture', process=process)
    shown = page.pictures[-1]
    assert shown.image.shape[:2] == shown.labels.shape
    assert set(np.unique(shown.labels)) <= {0, 1, 2, 9}


def test_pictures_that_are_lost_are_told(running, feed, page):
    robot, process = running
    feed.watched(True)
    wait_for(lambda: page.pictures, what='a picture', process=process)
    robot.stop()
    for topic in ('label_mask', 'confidence'):
        robot.heard[topic].clear()
    publishers = [
        robot.node.create_publisher(Image, f'{NAME}/{topic}', 1)
        for topic in ('label_mask', 'confidence')
    ]

    def blind():
        for publisher in publishers:
            publisher.publish(robot.masks[-1] if robot.masks else Image())
        return page.problem('images on /camera/image_raw do not')

    wait_for(blind, what='a sentence', process=process)


def test_it_ends_while_a_call_waits(tester, page):
    made = NodeFeed(tester, '/nobody')
    made.start(page)
    made.watched(True)
    answers = []
    caller = threading.Thread(target=lambda: answers.append(made.apply({'class_names': 'lamp'})))
    caller.start()
    made.close()
    caller.join(5)
    assert answers == ['/nobody does not answer']
