"""The page without a browser: what it draws and saves, and what stops it."""

import importlib.util
import io
import socket
import zipfile

import cv2
import numpy as np
import pytest
import yaml

from cliptrase_ros.view import drawn
from cliptrase_ros.view.feed import LegendEntry, Shown, ShownCloud
from cliptrase_ros.view.gate import PageError
from cliptrase_ros.view.page import Page

LEGEND = (LegendEntry(1, 'floor', (200, 0, 0)), LegendEntry(300, 'mug', (0, 0, 100)))


def shown(confidence=True, cloud=None):
    labels = np.array([[0, 1, 1], [300, 300, 300]], np.uint16)
    values = np.array([[0, 0.5, 1], [0.25, 0.25, 0.25]], np.float32) if confidence else None
    return Shown(np.full((2, 3, 3), 100, np.uint8), labels, LEGEND, values, cloud=cloud)


def test_overlay_mixes_picture_and_colours_where_there_is_a_class():
    mixed = drawn.picture(shown(), 'overlay', 0.5, frozenset())
    assert mixed.tolist()[0] == [[100] * 3, [150, 50, 50], [150, 50, 50]]
    assert mixed.tolist()[1] == [[50, 50, 100]] * 3
    assert (drawn.picture(shown(), 'overlay', 0, frozenset()) == 100).all()


def test_a_hidden_class_is_not_drawn():
    mixed = drawn.picture(shown(), 'overlay', 0.5, {300})
    assert mixed.tolist()[1] == [[100] * 3] * 3 and mixed[0, 1].tolist() == [150, 50, 50]
    assert not drawn.picture(shown(), 'labels', 0.5, {1, 300}).any()


def test_labels_confidence_and_side_by_side():
    assert drawn.picture(shown(), 'labels', 0, frozenset())[1, 0].tolist() == [0, 0, 100]
    bright = drawn.picture(shown(), 'confidence', 0, frozenset()).astype(int).sum(-1)
    assert bright[0, 0] < bright[1, 0] < bright[0, 1] < bright[0, 2]
    assert not drawn.picture(shown(confidence=False), 'confidence', 0, frozenset()).any()
    both = drawn.picture(shown(), 'side by side', 0.5, frozenset())
    assert (both[:, :3] == 100).all() and both[0, 4].tolist() == [150, 50, 50]


def test_shares_and_mean_confidence():
    assert drawn.shares(shown()) == {0: (1 / 6, 0), 1: (2 / 6, 0.75), 300: (3 / 6, 0.25)}
    assert drawn.shares(shown(confidence=False))[300] == (3 / 6, None)


@pytest.mark.parametrize(
    ('aspect', 'size', 'corner'),
    [(3, (2, 6), (0, 1)), (1.5, (2, 3), (0, 0)), (0.5, (6, 3), (0, 0))],
)
def test_a_picture_keeps_its_aspect_and_is_at_the_top_of_a_high_window(aspect, size, corner):
    fitted = drawn.fitted(shown().image, aspect)
    assert fitted.shape[:2] == size
    top, left = corner
    assert (fitted[top : top + 2, left : left + 3] == 100).all()
    assert (fitted == 100).all(-1).sum() == 6


def test_a_high_picture_in_a_wide_window_is_in_the_middle():
    fitted = drawn.fitted(np.full((4, 2, 3), 100, np.uint8), 2)
    assert fitted.shape[:2] == (4, 8) and (fitted[:, 3:5] == 100).all()


def test_points_are_coloured_thinned_and_hidden():
    many = 3 * drawn.MOST_POINTS
    labels = np.tile([0, 1, 300], many // 3)
    cloud = ShownCloud(
        np.arange(3 * many, dtype=np.float32).reshape(-1, 3),
        labels,
        np.full((many, 3), 100, np.uint8),
    )
    points, colors = drawn.points(cloud, LEGEND, 0.5, frozenset())
    assert 0.9 * drawn.MOST_POINTS < len(points) == len(colors) <= drawn.MOST_POINTS
    few = ShownCloud(cloud.points[:3], labels[:3], cloud.colors[:3])
    points, colors = drawn.points(few, LEGEND, 0.5, {300})
    assert points.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert colors.tolist() == [[100] * 3, [150, 50, 50]]
    assert len(drawn.points(few, LEGEND, 0.5, {0, 1, 300})[0]) == 0


def test_what_is_saved():
    parameters = {'vocabulary': ['floor', 'mug=mug;<b>'], 'method': 'gclip'}
    with zipfile.ZipFile(io.BytesIO(drawn.archive(shown(), 0.5, parameters))) as file:
        read = {name: file.read(name) for name in file.namelist()}
    assert yaml.safe_load(read.pop('parameters.yaml')) == {'/**': {'ros__parameters': parameters}}
    images = {n: cv2.imdecode(np.frombuffer(d, np.uint8), -1) for n, d in read.items()}
    assert (images['labels.png'] == shown().labels).all()
    assert images['confidence.png'].tolist() == [[0, 128, 255], [64] * 3]
    assert images['overlay.png'][0, 1].tolist() == [50, 50, 150]  # BGR
    assert set(images) == {'picture.png', 'labels.png', 'confidence.png', 'overlay.png'}
    with zipfile.ZipFile(io.BytesIO(drawn.archive(shown(False), 0.5, {}))) as file:
        assert 'confidence.png' not in file.namelist()


class Still:
    """A feed that only counts."""

    can_pause = False

    def __init__(self):
        self.closed = self.started = 0

    def start(self, sink):
        self.started += 1

    def close(self):
        self.closed += 1


def test_without_viser_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(PageError, match='pip install viser'):
        Page(Still())


def test_a_port_in_use_is_said_before_the_feed_starts():
    pytest.importorskip('viser', reason='viser is not installed')
    with socket.create_server(('127.0.0.1', 0)) as taken:
        feed = Still()
        with pytest.raises(PageError, match='choose another port'):
            Page(feed, port=taken.getsockname()[1])
    assert not feed.started


def test_it_prints_nothing_and_is_closed_once(capfd):
    pytest.importorskip('viser', reason='viser is not installed')
    with socket.create_server(('127.0.0.1', 0)) as taken:
        port = taken.getsockname()[1]
    feed = Still()
    page = Page(feed, port=port)
    assert page.address == f'http://127.0.0.1:{port}/'
    page.show(shown())  # nobody looks
    page.close()
    page.close()
    assert (feed.started, feed.closed) == (1, 1)
    assert capfd.readouterr().out == ''
