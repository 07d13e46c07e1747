"""Words that change while an image is segmented: what waits, and what is published."""

import threading

import numpy as np
import pytest
from cliptrase_ros.srv import SetVocabulary
from processes import wait_for
from robot import array, stamp
from sensor_msgs.msg import CompressedImage, Image
from std_srvs.srv import Trigger

from cliptrase_ros.media import drawing
from cliptrase_ros.ros import messages
from cliptrase_ros.ros.frames import FREE_TRIES
from cliptrase_ros.segmenter import Segmenter


def listeners(node, topic):
    """Return the number of subscribers that the node's publisher knows."""
    [publisher] = [p for p in node.publishers if p.topic_name == f'/segmentation/{topic}']
    return publisher.get_subscription_count()


def free(lock):
    """Return True if another thread could take the lock now."""
    took = []

    def take():
        took.append(lock.acquire(blocking=False))
        if took[0]:
            lock.release()

    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    return took[0]


def ready(robot, inside, **topics):
    """Listen to these topics, and wait until all publishers and subscribers know each other."""
    wait_for(lambda: robot.vocabularies, what='words')
    for topic, kind in topics.items():
        robot.hear(topic, kind)
    for topic in ('label_mask', *topics):
        wait_for(lambda t=topic: listeners(inside, t), what='subscribers')
    wait_for(lambda: inside.count_publishers('/camera/image_raw'), what='the camera')


def during(monkeypatch, owner, name, hook):
    """Call `hook` before each call of a function or method."""
    function = getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *a, **k: (hook(), function(*a, **k))[1])


def held_up(monkeypatch, owner, name, inside):
    """Make each call of a function or method wait.

    Returns:
        (event that is set when the first call begins, event that lets the calls go on, for each
        call True if the lock was free)
    """
    begun, go, calls = threading.Event(), threading.Event(), []

    def block():
        calls.append(free(inside._words.switch))
        begun.set()
        assert go.wait(30)

    during(monkeypatch, owner, name, block)
    return begun, go, calls


def ids(message):
    return set(np.unique(array(message))) - {0}


SLOW = [(Segmenter, 'label'), (messages, 'label_mask')]


@pytest.mark.parametrize('owner, name', SLOW, ids=[case[1] for case in SLOW])
def test_words_go_live_while_an_image_is_labelled(robot, inside, monkeypatch, owner, name):
    """The image is labelled with the new words."""
    ready(robot, inside)
    begun, go, calls = held_up(monkeypatch, owner, name, inside)
    encoded = []
    during(monkeypatch, Segmenter, 'encode_batch', lambda: encoded.append(1))
    robot.send()
    assert begun.wait(20)
    answer = robot.call(SetVocabulary, 'set_vocabulary', prompts=['lamp'])
    assert answer.success and inside._words.live.version == 2, answer.message
    wait_for(lambda: robot.vocabularies[-1].version == 2, what='the new words')
    assert not robot.masks
    go.set()
    wait_for(lambda: robot.masks, what='what is made of the image')
    [lamp] = robot.vocabularies[-1].classes
    assert [ids(mask) for mask in robot.masks] == [{lamp.id}]
    assert calls == [True, True] and encoded == [1]
    assert inside._streams[0].statistics.counts()['published'] == 1


DRAWN = [
    (drawing, 'overlay', 'overlay', Image),
    (messages, 'jpeg', 'overlay/compressed', CompressedImage),
]


@pytest.mark.parametrize('owner, name, topic, kind', DRAWN, ids=[case[1] for case in DRAWN])
def test_the_mask_and_new_words_do_not_wait_for_what_is_drawn(
    robot, inside, monkeypatch, owner, name, topic, kind
):
    """Pictures drawn with the old words are not published."""
    ready(robot, inside, **{topic: kind})
    begun, go, calls = held_up(monkeypatch, owner, name, inside)
    robot.send()
    assert begun.wait(20)
    wait_for(lambda: robot.masks, what='the mask')
    answer = robot.call(SetVocabulary, 'set_vocabulary', prompts=['lamp'])
    assert answer.success and inside._words.live.version == 2, answer.message
    go.set()
    robot.send()
    wait_for(lambda: robot.heard[topic], what='what is drawn of the next image')
    assert calls == [True, True]
    assert [stamp(m) for m in robot.heard[topic]] == [stamp(robot.masks[1])]


def test_words_that_change_again_and_again_wait_for_the_image(robot, inside, monkeypatch):
    ready(robot, inside)
    could_change = []

    def change():
        could_change.append(free(inside._words.switch))
        if could_change[-1]:
            prompts = [f'thing {len(could_change)}']
            assert robot.call(SetVocabulary, 'set_vocabulary', prompts=prompts).success

    during(monkeypatch, messages, 'label_mask', change)
    robot.send()
    wait_for(lambda: robot.masks, what='the image at last')
    assert could_change == [*[True] * FREE_TRIES, False]
    assert robot.vocabularies[-1].version == 1 + FREE_TRIES
    assert ids(robot.masks[0]) == {robot.vocabularies[-1].classes[0].id}
    assert inside._streams[0].statistics.counts()['published'] == 1
    assert free(inside._words.switch)


def test_no_mask_of_old_words_follows_the_new_ones(robot, inside, monkeypatch):
    """The words change at any time. The test records messages while the node holds the lock."""
    ready(robot, inside)
    published, labels = [], inside._streams[0].outputs
    publish, announce = labels.publish, inside._words._publish_vocabulary

    def noted(made):
        assert not free(inside._words.switch)
        for mask in made.values():
            published.append(('mask', ids(mask)))
        return publish(made)

    def announced(live):
        assert not free(inside._words.switch)
        published.append(('words', set(live.words.ids.values())))
        announce(live)

    monkeypatch.setattr(labels, 'publish', noted)
    monkeypatch.setattr(inside._words, '_publish_vocabulary', announced)
    published.append(('words', {c.id for c in robot.vocabularies[-1].classes}))
    robot.stream(rate_hz=50.0)
    for number in range(20):
        answer = robot.call(SetVocabulary, 'set_vocabulary', prompts=[f'thing {number}'])
        assert answer.success, answer.message
    count = len(robot.masks)
    wait_for(lambda: len(robot.masks) > count, what='masks of the last words')
    robot.stop()
    allowed = set()
    for what, numbers in list(published):
        allowed = numbers if what == 'words' else allowed
        assert numbers <= allowed
    assert [what for what, _ in published].count('words') == 21


def test_a_setting_that_changes_under_an_image_does_not_label_it_again(robot, inside, monkeypatch):
    """Masks still fit their vocabulary, and smoothing over frames sees each frame only once."""
    ready(robot, inside)
    begun, go, calls = threading.Event(), threading.Event(), []
    during(monkeypatch, messages, 'label_mask', lambda: (begun.set(), go.wait(20)))
    during(monkeypatch, Segmenter, 'label', lambda: calls.append(1))
    robot.send()
    assert begun.wait(20)
    live = inside._words.live
    assert robot.set(confidence_threshold=1.0)[0].successful
    wait_for(lambda: inside._words.live is not live, what='the threshold')
    go.set()
    wait_for(lambda: robot.masks, what='a mask')
    assert ids(robot.masks[0]) and calls == [1]
    robot.send()
    wait_for(lambda: len(robot.masks) > 1, what='a mask with the threshold')
    assert not ids(robot.masks[1])


def test_a_model_that_is_loaded_under_an_image_encodes_it_once_more(robot, inside, monkeypatch):
    ready(robot, inside)
    made, encoded = [], []

    def reload_once():
        made.append(1)
        if len(made) == 1:
            assert robot.call(Trigger, 'reload').success
        elif len(made) == 2:
            assert robot.call(SetVocabulary, 'set_vocabulary', prompts=['lamp']).success

    during(monkeypatch, messages, 'label_mask', reload_once)
    during(monkeypatch, Segmenter, 'encode', lambda: encoded.append(1))
    robot.send()
    wait_for(lambda: robot.masks, what='the image at last')
    assert len(made) == 3 and robot.vocabularies[-1].version == 3
    assert len(encoded) == 2  # one of them when the model warms up
