"""Method, regions, refinement and what else of the engine changes while images flow."""

import threading

import numpy as np
import pytest
from processes import TINY, wait_for
from rclpy.parameter import Parameter
from robot import PIXELS, WORDS, array, node

import cliptrase_ros as ct
from cliptrase_ros.errors import OutOfMemory
from cliptrase_ros.ros import live_words
from cliptrase_ros.ros.live_words import LiveWords
from cliptrase_ros.segmenter import Segmenter


@pytest.fixture(scope='module')
def engine():
    """(the segmenter that the node of these tests has, its words)."""
    given = dict(entry.split(':=') for entry in TINY)
    settings = ct.Settings(**{**given, 'input_size': int(given['input_size'])})
    segmenter = ct.load(settings)
    return segmenter, segmenter.vocabulary(['floor', '9:mug=mug;cup', 'door'])


CHANGES = [
    {'method': 'gclip'},
    {'method': 'naclip', 'naclip.sigma': 'none'},
    {'regions': 'none'},
    {'refine': 'pamr'},
    {'refine': 'guided', 'refine_words': 2},
    {'regions': 'mean', 'cluster.eps': 2.5, 'cluster.min_samples': 3},
    {'cluster.eps': 'auto', 'region.median': 1},
    {'sliding.window_px': 64},
    {'sliding.stride_px': 48},
    {'sliding.window_px': 'none', 'input_size': 64},
    {'present.threshold': 0.5, 'present.method': 'tagclip'},
    {'present.method': 'none', 'protocol': 'sliding'},
    {'protocol': 'cliptrase', 'method': 'cliptrase', 'regions': 'vote', 'refine': 'none'},
    {'protocol': 'native', 'logit_scale': 30, 'cls_weighting': True},
    {'cls_weighting': False, 'method': 'resclip', 'resclip.feedback.enabled': True},
]


def test_the_engine_changes_while_images_flow(running, engine):
    """After each change the masks are those of the engine with the same settings."""
    robot, process = running
    segmenter, words = engine
    live = {}
    for changes in CHANGES:
        for name, value in changes.items():
            [result] = robot.set(**{name: value})
            assert result.successful, (name, result.reason)
        live |= changes
        expected = segmenter.replace(**live)(PIXELS, words).labels

        def there(expected=expected):
            mask = array(robot.masks[-1])
            return mask.shape == expected.shape and np.array_equal(mask, expected)

        wait_for(there, what=f'masks with {live}', process=process)
        count = len(robot.masks)
        wait_for(lambda c=count: len(robot.masks) > c + 1, what='more masks', process=process)
        assert there()
        # Two settings can give the same masks. The next change must not overtake this one.
        method = live.get('method', 'cliptrase')
        wait_for(lambda m=method: robot.value('method', 'model') == m, what=method, process=process)
    assert 'images are labelled with method gclip' in process.output
    # No word changed, and no id.
    assert [message.version for message in robot.vocabularies] == [1]
    assert {c.name: c.id for c in robot.vocabularies[-1].classes} == dict(words.ids)
    assert robot.value('dropped: error') is None


REFUSED = [
    ({'method': 'cliptrace'}, "Did you mean 'cliptrase'"),
    ({'sliding.window_px': 50}, 'sliding.window_px: 50 is no multiple of the patch size'),
    ({'sliding.window_px': 9000}, 'range'),
    ({'input_size': 1}, 'range'),
    ({'cluster.eps': 'big'}, "cluster.eps: expected a number or auto, got str 'big'"),
    ({'cluster.eps': 'none'}, "cluster.eps: expected a number or auto, got str 'none'"),
    ({'cluster.min_samples': 2.5}, 'cluster.min_samples: expected an integer or auto, got float'),
    ({'refine': False}, 'refine: expected one of none, guided, pamr, got bool False'),
    ({'output_size': '64x64'}, 'read-only'),
    ({'precision': 'fp16'}, 'read-only'),
    ({'naclip_sigma': 3.0}, 'unknown setting naclip_sigma: did you mean naclip.sigma?'),
    ({'cluster': 3.0}, 'cluster: is a group, not a value. Set one of cluster.eps'),
]


def test_settings_that_do_not_fit_are_refused(running):
    robot, process = running
    for values, reason in REFUSED:
        [result] = robot.set(**values)
        assert not result.successful and reason in result.reason, (values, result.reason)
    # Each alone is good; the second does not fit the first.
    assert robot.set(**{'gclip.block': 200})[0].successful
    [result] = robot.set(method='gclip')
    assert not result.successful and 'gclip.block: 200 leaves no block' in result.reason
    assert robot.set(regions='mean')[0].successful
    [result] = robot.set(area_threshold=0.5)
    assert not result.successful and 'needs regions none or vote' in result.reason
    count = len(robot.masks)
    wait_for(lambda: len(robot.masks) > count + 2, what='more masks', process=process)


def test_words_and_numbers_as_tools_send_them(robot, inside, engine):
    """rqt sends text where a word stood; YAML's null is text in ROS."""
    for text, value in (('0.7', 0.7), ('auto', 'auto'), ('3', 3.0)):
        assert robot.set(**{'cluster.eps': text})[0].successful
        wait_for(lambda v=value: inside._words.live.segmenter.settings.cluster.eps == v, what='eps')
    assert robot.set(refine='pamr')[0].successful
    wait_for(lambda: inside._words.live.segmenter.settings.refine == 'pamr', what='pamr')
    assert robot.set(refine='null')[0].successful
    wait_for(lambda: inside._words.live.segmenter.settings.refine == 'none', what='none')


def test_no_parameter_can_be_deleted(robot, inside):
    for name in ('refine', 'vocabulary', 'cluster.eps'):
        [result] = inside.set_parameters([Parameter(name)])
        assert not result.successful and f'{name}: a parameter of this node cannot' in result.reason
        assert inside.has_parameter(name)


def prepared(monkeypatch, outcome):
    """Have `outcome` run before each preparation of an encoder."""
    prepare = live_words.prepared

    def run(*arguments):
        outcome()
        return prepare(*arguments)

    monkeypatch.setattr(live_words, 'prepared', run)


def test_images_go_on_with_the_old_method_until_the_new_one_is_ready(
    robot, inside, engine, monkeypatch
):
    segmenter, words = engine[0], inside._words.live.words
    begun, go = threading.Event(), threading.Event()
    prepared(monkeypatch, lambda: (begun.set(), go.wait(30)))
    robot.stream()
    assert robot.set(regions='none')[0].successful
    assert begun.wait(20)
    robot.masks.clear()
    wait_for(lambda: len(robot.masks) > 2, what='masks meanwhile')
    assert np.array_equal(array(robot.masks[-1]), segmenter(PIXELS, words).labels)
    # Thresholds do not wait.
    assert robot.set(confidence_threshold=1.0)[0].successful
    wait_for(lambda: not array(robot.masks[-1]).any(), what='the threshold')
    assert robot.set(confidence_threshold=0.0)[0].successful
    go.set()
    expected = segmenter.replace(regions='none')(PIXELS, words).labels
    wait_for(lambda: np.array_equal(array(robot.masks[-1]), expected), what='the new masks')
    assert inside._words.live.version == 1


def test_a_threshold_that_fits_the_coming_method_only_comes_with_it(robot, inside, monkeypatch):
    assert robot.set(regions='mean')[0].successful
    wait_for(lambda: inside._words.live.segmenter.settings.regions == 'mean', what='mean')
    begun, go = threading.Event(), threading.Event()
    prepared(monkeypatch, lambda: (begun.set(), go.wait(30)))
    assert robot.set(regions='vote')[0].successful
    assert begun.wait(20)
    tried, go_live = [], LiveWords._go_live
    monkeypatch.setattr(LiveWords, '_go_live', lambda *a: (tried.append(1), go_live(*a)))
    assert robot.set(area_threshold=0.25)[0].successful
    wait_for(lambda: tried, what='a try')
    assert inside._words.live.segmenter.settings.area_threshold == 0.0
    go.set()
    wait_for(lambda: inside._words.live.segmenter.settings.area_threshold == 0.25, what='both')
    assert inside._words.live.segmenter.settings.regions == 'vote'


def test_a_method_that_cannot_be_prepared_leaves_the_old_one(robot, inside, monkeypatch):
    robot.stream()
    wait_for(lambda: robot.masks, what='a mask')

    def fail():
        raise OutOfMemory

    prepared(monkeypatch, fail)
    assert robot.set(method='sc_clip')[0].successful
    wait_for(lambda: 'out of memory' in inside._words.last_error, what='the error')
    assert inside._words.live.segmenter.settings.method == 'cliptrase'
    robot.masks.clear()
    wait_for(lambda: len(robot.masks) > 2, what='masks as before')
    monkeypatch.undo()
    assert robot.set(method='gclip')[0].successful
    wait_for(lambda: inside._words.live.segmenter.settings.method == 'gclip', what='the next one')


def test_an_image_that_was_encoded_before_the_change_is_encoded_again(
    robot, inside, engine, monkeypatch
):
    begun, go = threading.Event(), threading.Event()
    encode, encoded_with = Segmenter.encode_batch, []

    def slow(self, images):
        encoded_with.append(self.settings.regions)
        if images[0].any() and not go.is_set():  # not a warm-up
            begun.set()
            assert go.wait(30)
        return encode(self, images)

    monkeypatch.setattr(Segmenter, 'encode_batch', slow)
    wait_for(lambda: robot.vocabularies, what='words')
    wait_for(lambda: inside.count_publishers('/camera/image_raw'), what='the camera')
    robot.send()
    assert begun.wait(20)
    assert robot.set(regions='none')[0].successful
    wait_for(lambda: inside._words.live.segmenter.settings.regions == 'none', what='the change')
    go.set()
    wait_for(lambda: robot.masks, what='the mask')
    assert encoded_with[0] == 'vote' and encoded_with[-1] == 'none'
    live = inside._words.live
    expected = live.segmenter(PIXELS, live.words).labels
    assert np.array_equal(array(robot.masks[-1]), expected)


def test_an_id_is_taken_while_an_encoder_is_prepared(robot, inside, monkeypatch):
    begun, go = threading.Event(), threading.Event()
    prepared(monkeypatch, lambda: (begun.set(), go.wait(30)))
    assert robot.set(vocabulary=['50:mug'])[0].successful
    assert begun.wait(20)
    [result] = robot.set(vocabulary=['50:cup'])
    assert not result.successful and "id 50 belongs to 'mug'" in result.reason
    go.set()
    wait_for(lambda: inside._words.live.words.ids == {'mug': 50}, what='the word')


def test_a_change_of_words_and_method_at_once(robot, inside, engine):
    """Both are live in the end, whichever takes longer."""
    assert robot.set(method='maskclip')[0].successful
    assert robot.set(vocabulary=['lamp', 'floor'])[0].successful
    assert robot.set(regions='none')[0].successful

    def live():
        settings = inside._words.live.segmenter.settings
        names = [c.name for c in inside._words.live.words.classes]
        return (settings.method, settings.regions, names)

    wait_for(lambda: live() == ('maskclip', 'none', ['lamp', 'floor']), what='all of it')
    assert inside._words.live.version == 2


def test_settings_of_the_engine_before_the_node_is_configured(robot, start):
    process = node(start, WORDS, 'autostart:=false')
    [result] = robot.set(method='clip')
    assert result.successful
    [result] = robot.set(**{'sliding.window_px': 2000})
    assert not result.successful and 'larger than input_size' in result.reason
    assert process.running
