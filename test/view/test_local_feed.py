"""The feeder of the page without ROS, driven without a browser, on the tiny model."""

import contextlib
import http.server
import threading
import time
from dataclasses import replace
from functools import partial
from itertools import repeat

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image
from towers import picture

import cliptrase_ros as ct
from cliptrase_ros.media.videos import Writer
from cliptrase_ros.options import options_of
from cliptrase_ros.space.geometry import Pinhole
from cliptrase_ros.view import shots
from cliptrase_ros.view.chosen import Chosen
from cliptrase_ros.view.local_feed import LocalFeed
from cliptrase_ros.view.shots import DepthFolder, LiveAddress, Replay, Shot, find_source
from cliptrase_ros.words.stream_options import StreamOptions

SETTINGS = ct.Settings(
    model='cliptrase-tiny',
    weights='random',
    device='cpu',
    precision='fp32',
    input_size=48,
    prompt_templates='none',
    regions='none',
)
WORDS = StreamOptions(vocabulary=('floor', '7:mug=mug;cup'), background=('sky',))
# Far more than any wait here takes.
LONG_S = 60


class Screen:
    """Stands for the page: keeps everything that the feeder shows."""

    def __init__(self):
        self.changed = threading.Condition()
        self.shown, self.told, self.set = [], [], []

    def _add(self, to, value):
        with self.changed:
            to.append(value)
            self.changed.notify_all()

    def show(self, shown):
        self._add(self.shown, shown)

    def status(self, status):
        self._add(self.told, status)

    def controls(self, controls):
        self._add(self.set, controls)

    def cameras(self, names, chosen):
        raise AssertionError('there is one camera')

    def wait(self, condition):
        with self.changed:
            assert self.changed.wait_for(condition, LONG_S), (len(self.shown), self.told[-3:])

    def pictures(self, count):
        """Wait until there are so many pictures more. Return the last one."""
        goal = len(self.shown) + count
        self.wait(lambda: len(self.shown) >= goal)
        return self.shown[-1]

    def labelled_with(self, *names):
        """Wait until a picture is shown with these classes, and return it."""
        self.wait(lambda: self.shown and [e.name for e in self.shown[-1].legend] == [*names])
        return self.shown[-1]

    def says(self, text, what='problem'):
        self.wait(lambda: any(text in getattr(one, what) for one in self.told))


@pytest.fixture(scope='module')
def segmenter():
    return ct.load(SETTINGS)


@pytest.fixture
def running(segmenter):
    """Return a function that starts a feed on a source and returns it with its screen."""
    with contextlib.ExitStack() as ends:

        def run(source, stream=WORDS, watched=True):
            feed, screen = LocalFeed(source, segmenter, Chosen(SETTINGS, stream)), Screen()
            ends.callback(feed.close)
            feed.start(screen)
            if watched:
                feed.watched(True)
            return feed, screen

        yield run


def still(*images, **options):
    """Return a source that plays images at once."""
    made = images or (picture(48, 64),)
    return Replay('stills', lambda: map(Shot, made), **options)


def endless():
    """Return a source of different pictures without end."""
    return Replay('endless', lambda: (Shot(picture(48, 64, n), n / 50) for n in range(10**6)))


def test_the_labels_are_those_of_the_segmenter(running, segmenter):
    image = picture(48, 64)
    _, screen = running(still(image))
    shown = screen.labelled_with('floor', 'mug')
    words = segmenter.vocabulary(WORDS.vocabulary, WORDS.background)
    expected = segmenter(image, words)
    assert (shown.labels == expected.labels).all()
    np.testing.assert_allclose(shown.confidence, expected.confidence, atol=1e-5)
    assert (shown.image == image).all()
    assert [(e.id, e.name, e.color) for e in shown.legend] == [
        (c.id, c.name, c.color) for c in words.classes
    ]
    assert shown.cloud is None and shown.things == ()
    screen.says('stills has ended', 'note')
    screen.says('cliptrase-tiny', 'model')


def test_the_controls_are_the_settings_and_the_words(running):
    _, screen = running(still())
    (controls,) = screen.set
    assert controls.values['class_names'] == 'floor, 7:mug=mug;cup'
    assert controls.values['background_names'] == 'sky'
    assert controls.values['method'] == 'cliptrase' and 'gclip' in controls.choices['method']
    assert controls.values['confidence_threshold'] == 0.0


def test_new_words_label_the_picture_that_stands(running):
    feed, screen = running(still())
    screen.labelled_with('floor', 'mug')
    assert feed.apply({'class_names': 'wall,\nduck, mug', 'background_names': ''}) == ''
    shown = screen.labelled_with('wall', 'duck', 'mug')
    # Names keep their ids, and no id is given twice.
    assert [e.id for e in shown.legend] == [2, 3, 7]
    assert set(np.unique(shown.labels)) <= {2, 3, 7}
    assert screen.set[-1].values['class_names'] == 'wall, duck, mug'


def test_the_old_words_go_on_while_new_ones_are_encoded(running, segmenter, monkeypatch):
    text, may = segmenter.backbone.text, threading.Event()
    encode = text.encode

    def slow(sentences):
        assert may.wait(LONG_S)
        return encode(sentences)

    feed, screen = running(endless())
    screen.labelled_with('floor', 'mug')
    monkeypatch.setattr(type(text), 'encode', lambda self, sentences: slow(sentences))
    assert feed.apply({'class_names': 'fire extinguisher, floor, hydrant'}) == ''
    screen.says("encoding 'fire extinguisher' and 1 more ...", 'note')
    assert [e.name for e in screen.pictures(3).legend] == ['floor', 'mug']
    # A setting does not wait for the words.
    assert feed.apply({'confidence_threshold': 1.0}) == ''
    screen.wait(lambda: not screen.shown[-1].labels.any())
    assert feed.apply({'confidence_threshold': 0.0}) == ''
    # Known words are live at once, and what was not ready is given up.
    assert feed.apply({'class_names': 'mug'}) == ''
    screen.labelled_with('mug')
    screen.wait(lambda: screen.told[-1].note == '')
    assert feed.apply({'class_names': 'fire extinguisher, floor'}) == ''
    may.set()
    screen.labelled_with('fire extinguisher', 'floor')
    screen.wait(lambda: screen.told[-1].note == '')


def test_words_that_cannot_be_encoded_are_told(running, segmenter, monkeypatch):
    feed, screen = running(endless())
    screen.labelled_with('floor', 'mug')

    def fails(self, sentences):
        raise RuntimeError('no more space')

    with monkeypatch.context() as patch:
        patch.setattr(type(segmenter.backbone.text), 'encode', fails)
        assert feed.apply({'class_names': 'unheard of'}) == ''
        screen.says('the new words are not used: RuntimeError: no more space')
    assert [e.name for e in screen.pictures(2).legend] == ['floor', 'mug']
    # The same words can be tried again.
    assert feed.apply({'class_names': 'unheard of'}) == ''
    screen.labelled_with('unheard of')
    screen.wait(lambda: screen.told[-1].problem == '')


@pytest.mark.parametrize(
    'changes, reason',
    [
        ({'class_names': 'mug, mug'}, "name 'mug' appears twice"),
        ({'class_names': ' , '}, 'the vocabulary is empty'),
        ({'class_names': '1:duck'}, "id 1 belongs to 'floor'"),
        ({'class_names': 'word ' * 2000}, 'too long for the text encoder'),
        ({'background_names': 'floor'}, "prompt 'floor' appears twice"),
        ({'method': 'magic'}, "method: 'magic' is not one of"),
        ({'confidence_threshold': 2.0}, 'confidence_threshold: 2.0 is outside'),
        ({'confidence_threshold': 'much'}, 'confidence_threshold: expected a number'),
        ({'overlay_alpha': -1.0}, 'overlay_alpha: -1.0 is outside'),
        ({'weights': '/etc/passwd'}, "no control 'weights'"),
        ({'metod': 'clip'}, "Did you mean 'method'"),
    ],
)
def test_what_cannot_be_used_is_a_sentence_and_changes_nothing(running, changes, reason):
    feed, screen = running(still())
    before = screen.labelled_with('floor', 'mug')
    assert reason in feed.apply(changes)
    assert len(screen.set) == 1 and feed.parameters()['vocabulary'] == ['floor', '7:mug=mug;cup']
    assert feed.apply({'overlay_alpha': 0.25}) == ''
    after = screen.pictures(0)
    assert after.legend == before.legend


def test_names_are_never_read_as_anything_else(running):
    feed, screen = running(still())
    assert feed.apply({'class_names': '<script>alert(1)</script>'}) == ''
    screen.labelled_with('<script>alert(1)</script>')


def test_settings_are_live(running, segmenter):
    image = picture(48, 64)
    feed, screen = running(still(image))
    screen.labelled_with('floor', 'mug')
    assert feed.apply({'method': 'clip', 'refine': 'guided', 'confidence_threshold': '0.5'}) == ''
    words = segmenter.vocabulary(WORDS.vocabulary, WORDS.background)
    changes = {'method': 'clip', 'refine': 'guided', 'confidence_threshold': 0.5}
    expected = segmenter(image, words, **changes).labels
    screen.wait(lambda: (screen.shown[-1].labels == expected).all())
    screen.says('clip', 'method')
    assert screen.set[-1].values['confidence_threshold'] == 0.5


def test_the_parameters_are_those_that_differ_from_the_defaults(running):
    feed, _ = running(still())
    assert feed.apply({'method': 'sclip', 'smoothing': 0.5}) == ''
    made = feed.parameters()
    assert made['vocabulary'] == ['floor', '7:mug=mug;cup'] and made['background'] == ['sky']
    assert made['method'] == 'sclip' and made['smoothing'] == 0.5 and made['input_size'] == 48
    assert 'refine' not in made and 'overlay_alpha' not in made


def test_the_parameters_are_those_of_a_node():
    chosen = Chosen(
        SETTINGS.replace(**{'cluster.eps': 0.9, 'resclip.feedback.tau': 2.0}),
        replace(WORDS, smoothing=0.5, colors=('mug=#010203',), background=()),
    )
    made = yaml.safe_load(yaml.safe_dump(chosen.parameters))
    assert made['cluster'] == {'eps': 0.9} and made['resclip'] == {'feedback': {'tau': 2.0}}
    assert made['background'] == ['']
    parameters = pytest.importorskip('cliptrase_ros.ros.parameters')
    for declared in parameters.OPTIONS:
        known = {one.name.split('.')[0] for one in options_of(declared)}
        mine = {name: value for name, value in made.items() if name in known}
        options = declared.from_mapping(mine)
        made = {name: value for name, value in made.items() if name not in mine}
        if declared is ct.Settings:
            assert options == chosen.settings
        else:
            assert options.background_words == () and options.smoothing == 0.5
            assert options.vocabulary == WORDS.vocabulary
    assert not made


def test_pause_keeps_the_picture_and_step_takes_one_more(running):
    feed, screen = running(endless())
    screen.pictures(2)
    feed.pause(True)
    # A picture that is being labelled still comes.
    assert feed.apply({'overlay_alpha': 0.3}) == ''
    last = screen.pictures(1)
    while (again := relabelled(feed, screen)) is not last:
        same, last = (again.image == last.image).all(), again
        if same:
            break
    number = number_of(last)
    for _ in range(3):
        count = len(screen.shown)
        feed.step()
        screen.wait(lambda count=count: len(screen.shown) > count)
        number += 1
        assert number_of(screen.shown[-1]) == number
    feed.pause(False)
    screen.pictures(3)


def relabelled(feed, screen):
    """Return the present picture, shown again."""
    count = len(screen.shown)
    assert feed.apply({'overlay_alpha': 0.4 + 0.001 * count % 0.5}) == ''
    screen.wait(lambda: len(screen.shown) > count)
    return screen.shown[-1]


def number_of(shown):
    """Return which picture of `endless` it is."""
    return next(n for n in range(10**4) if (picture(48, 64, n) == shown.image).all())


def test_nothing_is_read_while_nobody_watches(running):
    read = []

    def views():
        for n in range(10**6):
            read.append(n)
            yield Shot(picture(48, 64, n), n / 100)

    feed, screen = running(Replay('views', views), watched=False)
    screen.wait(lambda: screen.told)
    assert not screen.shown
    feed.watched(True)
    screen.pictures(3)
    feed.watched(False)
    before = len(read)
    assert feed.apply({'method': 'clip'}) == ''
    screen.wait(lambda: screen.told[-1].rate_hz == 0)
    # The next one, and the one in hand.
    assert len(read) <= before + 2
    feed.watched(True)
    screen.pictures(2)


def test_a_picture_that_cannot_be_read_is_told_and_the_others_go_on(running, tmp_path):
    for n in range(3):
        Image.fromarray(picture(48, 64, n)).save(tmp_path / f'{n}.png')
    (tmp_path / '1.png').write_bytes(b'no picture')
    _, screen = running(find_source(str(tmp_path), rate_hz=100))
    screen.says('1.png is no picture')
    screen.wait(lambda: screen.shown and (screen.shown[-1].image == picture(48, 64, 2)).all())
    screen.says('has ended', 'note')


def test_a_loop_starts_again(running):
    images = [picture(48, 64, n) for n in range(2)]
    _, screen = running(still(*images, loop=True))
    screen.wait(lambda: sum((shown.image == images[0]).all() for shown in screen.shown[-400:]) >= 3)


def test_a_source_without_a_picture_ends(running):
    _, screen = running(Replay('nothing', lambda: (), loop=True))
    screen.says('nothing has ended', 'note')


@pytest.mark.parametrize('error', [ct.PictureError, OSError, RuntimeError])
def test_a_source_that_fails_is_told(running, error):
    def breaks():
        yield Shot(picture(48, 64))
        raise error('the disk is gone')

    feed, screen = running(Replay('disk', breaks))
    screen.says('the disk is gone')
    screen.labelled_with('floor', 'mug')
    # The page goes on with the last picture.
    assert feed.apply({'class_names': 'mug'}) == ''
    screen.labelled_with('mug')


def test_a_closed_feed_has_no_thread(segmenter):
    before = set(threading.enumerate())
    feed, screen = LocalFeed(endless(), segmenter, Chosen(SETTINGS, WORDS)), Screen()
    feed.start(screen)
    feed.watched(True)
    screen.pictures(2)
    feed.close()
    assert set(threading.enumerate()) <= before
    # One that was never started can be closed, too.
    LocalFeed(endless(), segmenter, Chosen(SETTINGS, WORDS)).close()


def test_a_picture_that_cannot_be_labelled_is_told(running):
    _, screen = running(still(np.zeros((9, 100, 3), np.uint8), picture(48, 64)))
    screen.says('a picture could not be labelled')
    screen.labelled_with('floor', 'mug')
    screen.wait(lambda: screen.told[-1].problem == '')


def test_a_video_keeps_its_times(running, tmp_path):
    path = tmp_path / 'a.mp4'
    writer = Writer(path, 20.0)
    for n in range(10):
        writer(picture(48, 64, n))
    writer.close()
    source = find_source(str(path))
    assert [round(shot.time_s, 2) for shot in source.read()] == [n / 20 for n in range(10)]
    begun = time.monotonic()
    _, screen = running(source)
    screen.says('a.mp4 has ended', 'note')
    assert time.monotonic() - begun > 0.4
    assert len(screen.shown) >= 1


def plane(z_m, size=(48, 64)):
    return np.full(size, z_m, np.float32)


def test_depth_makes_points_and_things(running):
    camera, image = Pinhole(60.0, 60.0, 31.5, 23.5), picture(48, 64)
    depth = plane(2.0)
    depth[:, 40:] = np.nan
    source = Replay('room', lambda: [Shot(image, 0.0, depth, camera)])
    _, screen = running(source, StreamOptions(vocabulary=('duck',)))
    shown = screen.labelled_with('duck')
    # One class labels every pixel; the points are those with depth, row by row.
    rows, columns = np.nonzero(np.isfinite(depth))
    expected = np.stack([(columns - 31.5) / 30, (rows - 23.5) / 30, np.full(len(rows), 2.0)], 1)
    np.testing.assert_allclose(shown.cloud.points, expected, atol=1e-5)
    assert (shown.cloud.labels == 1).all()
    assert (shown.cloud.colors == image[rows, columns]).all()
    (thing,) = shown.things
    assert thing.name == 'duck' and thing.class_id == 1
    np.testing.assert_allclose(thing.centroid, expected.mean(0), atol=1e-4)
    assert thing.size == pytest.approx((47 / 30, 39 / 30, 0), abs=0.08)
    np.testing.assert_allclose(
        shown.camera_matrix, [[60, 0, 31.5], [0, 60, 23.5], [0, 0, 1]], atol=1e-9
    )


def test_stuff_is_no_thing(running):
    shot = Shot(picture(48, 64), 0.0, plane(2.0), Pinhole(60.0, 60.0, 31.5, 23.5))
    _, screen = running(Replay('room', lambda: [shot]), StreamOptions(vocabulary=('floor',)))
    shown = screen.labelled_with('floor')
    assert shown.things == () and len(shown.cloud.points) == 48 * 64


@pytest.fixture
def recording(tmp_path):
    """Return folders of two pictures and of their depth, at half the size."""
    folders = tmp_path / 'rgb', tmp_path / 'depth'
    for folder in folders:
        folder.mkdir()
    for n in range(2):
        Image.fromarray(picture(48, 64, n)).save(folders[0] / f'{n}.png')
        cv2.imwrite(str(folders[1] / f'{n}.png'), np.full((24, 32), 5000 * (n + 1), np.uint16))
    return folders


def test_a_folder_with_depth(running, recording):
    depth = DepthFolder(recording[1], Pinhole(60.0, 60.0, 31.5, 23.5), unit_m=0.0002)
    source = find_source(str(recording[0]), rate_hz=20, depth=depth)
    assert [float(shot.depth.max()) for shot in source.read()] == pytest.approx([1.0, 2.0])
    _, screen = running(source)
    screen.wait(lambda: screen.shown and (screen.shown[-1].image == picture(48, 64, 1)).all())
    assert screen.shown[-1].cloud.points.shape == (48 * 64, 3)


def test_a_broken_depth_picture_costs_the_depth_alone(running, recording):
    (recording[1] / '0.png').write_bytes(b'no picture')
    depth = DepthFolder(recording[1], Pinhole(60.0, 60.0, 31.5, 23.5))
    _, screen = running(find_source(str(recording[0]), rate_hz=0.5, depth=depth))
    screen.says('0.png cannot be read')
    screen.wait(lambda: screen.shown and screen.shown[-1].cloud is not None)


def test_depth_that_does_not_fit_is_refused(recording, tmp_path):
    camera = Pinhole(60.0, 60.0, 31.5, 23.5)
    with pytest.raises(ct.PictureError, match='1 depth pictures for 2 pictures'):
        find_source(str(recording[0]), depth=DepthFolder(recording[1] / '0.png', camera))
    with pytest.raises(ct.PictureError, match='no depth picture or folder'):
        find_source(str(recording[0]), depth=DepthFolder(tmp_path / 'none', camera))
    with pytest.raises(ct.PictureError, match='depth works only with'):
        find_source('0', depth=DepthFolder(recording[1], camera))


@pytest.mark.parametrize(
    'text',
    [
        '500,510,320,240',
        '500 510 320 240',
        '500 0 320\n0 510 240\n0 0 1\n',
        '500 0 320 0\n0 510 240 0\n0 0 1 0\n0 0 0 1\n',
        'image_width: 640\ncamera_matrix:\n  rows: 3\n  cols: 3\n'
        '  data: [500, 0, 320, 0, 510, 240, 0, 0, 1]\n',
        'k: [500.0, 0.0, 320.0, 0.0, 510.0, 240.0, 0.0, 0.0, 1.0]\n',
    ],
)
def test_intrinsics(text, tmp_path):
    path = tmp_path / 'camera'
    path.write_text(text)
    assert shots.read_intrinsics(str(path)) == Pinhole(500.0, 510.0, 320.0, 240.0)
    if text.count(',') == 3:
        assert shots.read_intrinsics(text) == Pinhole(500.0, 510.0, 320.0, 240.0)


@pytest.mark.parametrize(
    'text, reason',
    [
        ('500,510', 'it holds 2 numbers'),
        ('nowhere.yaml', 'could not convert'),
        ('0,510,320,240', 'focal lengths must be above 0'),
        ('nan,510,320,240', 'focal lengths must be above 0'),
    ],
)
def test_bad_intrinsics_are_refused(text, reason):
    with pytest.raises(ct.SettingError, match=f'intrinsics .*{reason}.* Give fx,fy,cx,cy'):
        shots.read_intrinsics(text)


def test_sources(tmp_path):
    assert find_source('0') == LiveAddress(0) and LiveAddress(0).title == 'webcam 0'
    camera = find_source('rtsp://user:secret@10.0.0.7/main')
    assert camera == LiveAddress('rtsp://user:secret@10.0.0.7/main')
    assert camera.title == 'rtsp://10.0.0.7/main'
    with pytest.raises(ct.PictureError, match='no file or folder nowhere'):
        find_source('nowhere')
    with pytest.raises(ct.PictureError, match='expected an address that begins with rtsp://'):
        find_source('gopher://a')
    with pytest.raises(ct.PictureError, match='no picture in the folder'):
        find_source(str(tmp_path))
    (tmp_path / 'notes.txt').write_text('hello')
    with pytest.raises(ct.PictureError, match=r'notes\.txt'):
        find_source(str(tmp_path / 'notes.txt'))


class Camera(http.server.BaseHTTPRequestHandler):
    """A network camera: pictures without end, until the test ends it or holds it."""

    def do_GET(self):
        server = self.server
        server.asked += 1
        self.send_response(200)
        self.send_header('Content-Type', 'multipart/x-mixed-replace; boundary=frame')
        self.end_headers()
        with contextlib.suppress(OSError):
            for n in repeat(0) if server.going.is_set() else ():
                while not server.going.wait(0.02):
                    if server.ended:
                        return
                data = cv2.imencode('.jpg', picture(48, 64, n))[1].tobytes()
                head = f'--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n'
                self.wfile.write(head.encode() + data + b'\r\n')
                time.sleep(0.02)

    def log_message(self, *_):
        pass


@pytest.fixture
def camera():
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Camera)
    server.asked, server.ended, server.going = 0, False, threading.Event()
    server.going.set()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.ended = True
    server.going.clear()
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_network_camera_that_breaks_off_comes_back(running, camera):
    source = find_source(f'http://127.0.0.1:{camera.server_port}/')
    feed, screen = running(source)
    screen.labelled_with('floor', 'mug')
    screen.pictures(3)
    camera.ended = True
    camera.going.clear()
    screen.says('gives no more pictures; opening it again')
    camera.ended = False
    camera.going.set()
    screen.wait(lambda: screen.told[-1].problem == '')
    screen.pictures(3)
    assert camera.asked > 1
    # Paused, the picture stands; a step takes one more.
    feed.pause(True)
    feed.step()
    screen.pictures(1)


def test_a_camera_that_stands_still_is_told(running, camera):
    _, screen = running(find_source(f'http://127.0.0.1:{camera.server_port}/'))
    screen.labelled_with('floor', 'mug')
    camera.going.clear()
    screen.says(f'no picture from http://127.0.0.1:{camera.server_port}/ for 3 s')
    camera.going.set()
    screen.wait(lambda: screen.told[-1].problem == '')
    screen.pictures(3)


def test_a_video_behind_an_address_ends(running, tmp_path):
    writer = Writer(tmp_path / 'a.mp4', 20.0)
    for n in range(10):
        writer(picture(48, 64, n))
    writer.close()
    serve = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), serve) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        _, screen = running(find_source(f'http://127.0.0.1:{server.server_port}/a.mp4'))
        screen.says('a.mp4 has ended', 'note')
        server.shutdown()
        thread.join()
    assert screen.shown[-1].image.shape == (48, 64, 3)
    assert screen.told[-1].problem == ''


def test_an_address_that_cannot_be_opened_is_told(running):
    feed, screen = running(LiveAddress('http://127.0.0.1:9/'))
    screen.says('http://127.0.0.1:9/ cannot be opened; trying again')
    assert feed.apply({'method': 'clip'}) == ''


def test_a_webcam_that_is_not_there_is_told(running):
    _, screen = running(LiveAddress(97))
    screen.says('webcam 97 cannot be opened; trying again')
