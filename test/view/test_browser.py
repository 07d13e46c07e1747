"""The page in a real Chromium: with a small feed, and by `cliptrase view demo`."""

import io
import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from contextlib import contextmanager

import cv2
import numpy as np
import pytest
import yaml

from cliptrase_ros.view.feed import Controls, LegendEntry, Shown, ShownCloud, ShownThing, Status

pytest.importorskip('viser', reason='viser is not installed')
sync_api = pytest.importorskip('playwright.sync_api', reason='playwright is not installed')

from cliptrase_ros.view.page import Page  # noqa: E402  (after the reasons to skip)

CHROMIUM = shutil.which('chromium')
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason='chromium is not installed'),
    pytest.mark.xdist_group('browser'),
]
# Far more than any wait here takes.
LONG_S = 60
SCRIPT = '<script>document.title="taken"</script>'
LEGEND = (LegendEntry(1, 'floor', (255, 0, 0)), LegendEntry(2, SCRIPT, (0, 255, 0)))


@pytest.fixture(scope='module')
def chromium():
    with sync_api.sync_playwright() as playwright:
        software = ['--use-angle=swiftshader', '--enable-unsafe-swiftshader']
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=['--no-sandbox', *software]
        )
        yield browser
        browser.close()


@contextmanager
def tab(chromium, address, width=900, height=700):
    """Open the page in a window of its own."""
    context = chromium.new_context(viewport={'width': width, 'height': height})
    context.set_default_timeout(LONG_S * 1000)
    page = context.new_page()
    try:
        page.goto(address)
        page.get_by_role('button', name='Apply').wait_for()
        yield page
    finally:
        context.close()


def until(condition, what):
    end = time.monotonic() + LONG_S
    while not condition():
        assert time.monotonic() < end, f'waited in vain: {what}'
        threading.Event().wait(0.1)


def seen(page):
    """Return what the window shows [H, W, 3] RGB, without the controls on the right."""
    data = np.frombuffer(page.screenshot(), np.uint8)
    return cv2.imdecode(data, cv2.IMREAD_COLOR)[:, :500, ::-1]


def share(page, color):
    """Return the share of the pixels that are near a colour."""
    return (np.abs(seen(page).astype(int) - color).max(-1) < 40).mean()


def reddish(page):
    """Return the share of the pixels that have more red than green."""
    picture = seen(page).astype(int)
    return (picture[..., 0] - picture[..., 1] > 60).mean()


def choose(page, mode):
    page.get_by_role('combobox', name='Show', exact=True).click()
    page.get_by_role('option', name=mode, exact=True).click()


def apply(page, words):
    page.locator('textarea').first.fill(words)
    page.get_by_role('button', name='Apply').click()


class Two:
    """A feed of one picture: the left half is floor, the right half is a class with a bad name."""

    can_pause = True

    def __init__(self):
        self.calls, self.watchers = [], []

    def start(self, sink):
        self.sink = sink
        self.put(Controls({'class_names': 'floor', 'method': 'gclip'}, {'method': ('gclip', 'x')}))

    def put(self, controls):
        self.sink.controls(controls)
        self.sink.cameras(('front', 'rear'), 'front')

    def watched(self, watched):
        self.watchers.append(watched)
        if watched:
            self.sink.status(Status('tiny', 'cpu', problem=f'no depth: {SCRIPT}'))
            self.sink.show(two())

    def apply(self, changes):
        self.calls.append(changes)
        return f'{SCRIPT} appears twice' if 'bad' in str(changes) else ''

    def choose(self, camera):
        self.calls.append(camera)

    def pause(self, paused):
        self.calls.append(paused)

    def step(self):
        self.calls.append('step')

    def parameters(self):
        return {'vocabulary': ['floor', SCRIPT]}

    def close(self):
        pass


def two():
    labels = np.repeat(np.array([[1, 2]], np.uint8), 32, axis=1).repeat(48, axis=0)
    y, x = np.mgrid[-1:1:48j, -1:1:64j]
    points = np.stack([x, y, np.full_like(x, 2)], -1).reshape(-1, 3).astype(np.float32)
    cloud = ShownCloud(points, labels.ravel(), np.full((len(points), 3), 128, np.uint8))
    things = (ShownThing(1, 'the floor', (-0.5, 0, 2), (-0.5, 0, 2), (1, 2, 0.1)),)
    image = np.full((*labels.shape, 3), 128, np.uint8)
    return Shown(image, labels, LEGEND, np.full(labels.shape, 0.5, np.float32), 0, cloud, things)


@pytest.fixture
def feed():
    return Two()


@pytest.fixture
def served(feed):
    page = Page(feed, port=free_port())
    yield page.address
    page.close()


def free_port():
    with socket.socket() as one:
        one.bind(('127.0.0.1', 0))
        return one.getsockname()[1]


RED, GREEN = (255, 0, 0), (0, 255, 0)


def test_a_class_is_hidden_and_text_is_only_text(chromium, served):
    with tab(chromium, served) as page:
        choose(page, 'labels')
        until(lambda: min(share(page, RED), share(page, GREEN)) > 0.2, 'both classes')
        page.get_by_role('checkbox', name=SCRIPT).uncheck(force=True)
        until(lambda: share(page, GREEN) < 0.01 and share(page, RED) > 0.2, 'one class')
        page.get_by_text('50.0 %').first.wait_for()
        page.get_by_text(f'no depth: {SCRIPT}').wait_for()
        apply(page, 'bad')
        page.get_by_text(f'{SCRIPT} appears twice').wait_for()
        assert page.title() != 'taken'


def test_points_are_in_space(chromium, served):
    with tab(chromium, served) as page:
        choose(page, 'points in 3D')
        until(lambda: reddish(page) > 0.015, 'points of the floor')
        page.get_by_role('checkbox', name='floor').uncheck(force=True)
        until(lambda: reddish(page) < 0.005, 'no points of the floor')


def test_controls_reach_the_feed(chromium, served, feed):
    with tab(chromium, served) as page:
        page.get_by_role('combobox', name='Method').click()
        page.get_by_role('option', name='x', exact=True).click()
        page.get_by_role('combobox', name='Camera').click()
        page.get_by_role('option', name='rear').click()
        page.get_by_role('checkbox', name='Pause').check(force=True)
        page.get_by_role('button', name='Step').click()
        until(lambda: len(feed.calls) == 4, f'four calls, not {feed.calls}')
        assert feed.calls == [{'method': 'x'}, 'rear', True, 'step']
        feed.put(Controls({'class_names': 'mug', 'method': 'gclip'}, {'method': ('gclip', 'x')}))
        until(lambda: page.locator('textarea').first.input_value() == 'mug', "another's words")
        assert len(feed.calls) == 4


def test_ten_thousand_characters_and_more(chromium, served, feed):
    with tab(chromium, served) as page:
        long = ', '.join(f'thing {number}' for number in range(1000))[:10_000]
        apply(page, long)
        until(lambda: feed.calls, 'the words')
        assert feed.calls[0]['class_names'] == long
        apply(page, 'x' * 20_001)
        page.get_by_text('longer than 20000 characters').wait_for()
        assert len(feed.calls) == 1


def test_two_browsers_see_the_same_and_one_goes_away(chromium, served, feed):
    with tab(chromium, served) as first:
        with tab(chromium, served, 390, 844) as second:
            choose(first, 'labels')
            until(lambda: share(first, RED) > 0.2, 'labels in the first')
            until(lambda: share(second, RED) > 0.1, 'labels in the second')
            assert feed.watchers == [True]
        apply(first, 'floor, mug')
        until(lambda: feed.calls, 'words of the first')
    until(lambda: feed.watchers == [True, False], 'nobody watches')
    with tab(chromium, served) as again:
        until(lambda: share(again, RED) > 0.2, 'the picture for one who comes later')


@contextmanager
def demo():
    """Run `cliptrase view demo`; yield the address of its page."""
    command = [sys.executable, '-m', 'cliptrase_ros.cli', 'view', 'demo', '--device', 'cpu']
    process = subprocess.Popen(
        [*command, '--json', '--port', str(free_port())], stdout=subprocess.PIPE, text=True
    )
    try:
        yield json.loads(process.stdout.readline())['address']
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=LONG_S)


def saved(page):
    """Press Save; return the labels and the words."""
    with page.expect_download() as download:
        page.get_by_role('button', name='Save').click()
    with zipfile.ZipFile(download.value.path()) as file:
        labels = cv2.imdecode(np.frombuffer(file.read('labels.png'), np.uint8), -1)
        parameters = yaml.safe_load(io.BytesIO(file.read('parameters.yaml')))
    return labels, parameters['/**']['ros__parameters']['vocabulary']


def test_the_demo_world(chromium):
    pytest.importorskip('pybullet', reason='PyBullet is not installed')
    with demo() as address, tab(chromium, address) as page:
        page.get_by_text('%').first.wait_for()
        before = seen(page)
        until(lambda: (seen(page) != before).mean() > 0.1, 'another picture')
        apply(page, 'floor, floor')
        page.get_by_text('appears twice').wait_for()
        apply(page, '200:carpet')
        page.get_by_role('checkbox', name='carpet').wait_for()
        until(lambda: set(np.unique(saved(page)[0])) - {0} == {200}, 'only carpet in the labels')
        assert saved(page)[1] == ['200:carpet']
        choose(page, 'labels')
        until(lambda: seen(page)[200:400].max() > 60, 'the colour of the carpet')
        page.get_by_role('checkbox', name='carpet').uncheck(force=True)
        until(lambda: seen(page)[200:400].max() < 40, 'no class in the labels')
