"""Words that change while images flow, over real DDS."""

import os
import threading

import numpy as np
import pytest
from cliptrase_ros.msg import Vocabulary
from cliptrase_ros.srv import SetVocabulary
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from processes import wait_for
from rcl_interfaces.srv import GetParameters
from rclpy.qos import QoSProfile
from robot import LATCHED, PIXELS, WORDS, array, image, node
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger
from towers import picture

from cliptrase_ros.errors import CliptraseError
from cliptrase_ros.ros.services import with_ids
from cliptrase_ros.words.distractors import distractors_for


def test_words_change_while_images_flow(running):
    robot, process = running
    [result] = robot.set(background=['sky', ''])
    assert result.successful, result.reason
    wait_for(lambda: robot.vocabularies[-1].version == 2, what='distractors', process=process)
    [result] = robot.set(vocabulary=['door', 'window', '20:lamp'])
    assert result.successful, result.reason
    wait_for(lambda: robot.vocabularies[-1].version == 3, what='new words', process=process)
    words = robot.vocabularies[-1]
    # door keeps its id, and no other word gets the ids of floor and mug.
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


def test_words_that_are_not_english_are_told_once(running):
    robot, process = running
    for version, word in enumerate(['floor', '9:mug'], 2):
        assert robot.set(vocabulary=[word, '\u0441\u0442\u0443\u043b'])[0].successful
        wait_for(
            lambda wanted=version: robot.vocabularies[-1].version == wanted,
            what='new words',
            process=process,
        )
    assert process.output.count('CLIP reads English') == 1


REFUSED = [
    ({'vocabulary': ['a', 'a']}, "name 'a' appears twice"),
    ({'vocabulary': ['1:a']}, "id 1 belongs to 'floor'"),
    ({'vocabulary': ['5:floor']}, "'floor' already has id 1"),
    ({'vocabulary': ['255:a']}, 'label image is 254'),
    ({'vocabulary': [f'w{n}' for n in range(300)]}, "label_encoding '16UC1' holds more"),
    ({'vocabulary': ['mug ' * 100]}, 'too long'),
    ({'vocabulary': ['mug=' + 'mug ' * 200]}, 'too long'),
    ({'vocabulary': ['']}, 'no name'),
    ({'vocabulary': []}, 'at least one'),
    ({'vocabulary': ['9' * 5000 + ':a']}, 'the id must be'),
    ({'vocabulary': 'floor'}, 'expected a list of texts'),
    ({'vocabulary': [1, 2]}, 'expected a list of texts'),
    ({'background': ['floor']}, "'floor' appears twice"),
    ({'colors': ['floor=red']}, 'write name=#rrggbb'),
    ({'prompt_templates': 'photos'}, "'photos' is not one of"),
    ({'distractors': 'thing'}, "'thing' is not one of"),
    ({'confidence_threshold': 1.5}, 'range'),
    ({'max_rate_hz': float('nan')}, 'nan'),
    ({'max_rate_hz': -1.0}, 'range'),
    ({'smoothing': 1.0}, 'range'),
    ({'model': 'ViT-B-16'}, 'read-only'),
    ({'cameras': ['front']}, 'read-only'),
    ({'nothing': 1}, 'unknown setting nothing'),
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


def test_distractors_come_and_go(running):
    robot, process = running
    assert not list(robot.vocabularies[-1].background)
    assert robot.set(distractors='stuff')[0].successful
    wait_for(lambda: robot.vocabularies[-1].version == 2, what='distractors', process=process)
    words = robot.vocabularies[-1]
    assert list(words.background) == list(distractors_for(['floor', 'door'], 'stuff'))
    assert [c.name for c in words.classes] == ['floor', 'mug', 'door']
    wait_for(lambda: robot.value('background words', 'model') == '24', what='their number')
    # A word of the vocabulary is no longer a distractor.
    assert robot.set(vocabulary=['floor', 'Sky'])[0].successful
    wait_for(lambda: robot.vocabularies[-1].version == 3, what='a word', process=process)
    assert list(robot.vocabularies[-1].background) == list(
        distractors_for(['floor', 'sky'], 'stuff')
    )
    assert robot.set(distractors='none')[0].successful
    wait_for(lambda: robot.vocabularies[-1].version == 4, what='no distractors', process=process)
    assert not list(robot.vocabularies[-1].background)


def test_odd_names_are_handled(running):
    robot, process = running
    names = ['fire extinguisher', 'A/B', '🍎=apple', 'Exit Sign', 'exit-sign', '3d printer']
    [result] = robot.set(vocabulary=names)
    assert result.successful, result.reason
    wait_for(lambda: robot.vocabularies[-1].version == 2, what='the words', process=process)
    ids = {c.name: c.id for c in robot.vocabularies[-1].classes}
    assert list(ids) == ['fire extinguisher', 'A/B', '🍎', 'Exit Sign', 'exit-sign', '3d printer']

    def topics():
        names = [n for n, _ in robot.node.get_topic_names_and_types()]
        return {n.removeprefix('/segmentation/mask/') for n in names if '/mask/' in n}

    expected = {
        'fire_extinguisher',
        'a_b',
        f'class_{ids["🍎"]}',
        'exit_sign',
        f'exit_sign_{ids["exit-sign"]}',
        'class_3d_printer',
    }
    wait_for(lambda: topics() == expected, what='their topics', process=process)


def test_threshold_colours_smoothing_and_templates_are_live(running):
    robot, process = running
    assert array(robot.masks[-1]).any()
    assert robot.set(confidence_threshold=1.0)[0].successful
    wait_for(lambda: not array(robot.masks[-1]).any(), what='unlabelled masks', process=process)
    assert robot.set(confidence_threshold=0.0)[0].successful
    wait_for(lambda: array(robot.masks[-1]).any(), what='labels again', process=process)
    assert len(robot.vocabularies) == 1  # neither changes the words

    assert robot.set(colors=['floor=#ff0080'])[0].successful
    wait_for(lambda: robot.vocabularies[-1].version == 2, what='colours', process=process)
    color = robot.vocabularies[-1].classes[0].color
    assert (color.r, color.g, round(255 * color.b)) == (1.0, 0.0, 128)

    assert robot.set(prompt_templates='photo')[0].successful
    wait_for(lambda: robot.vocabularies[-1].version == 3, what='other embeddings', process=process)


def test_smoothing_takes_time_to_change_its_mind(robot, start):
    process = node(start, 'vocabulary:=["floor", "mug", "door"]', 'regions:=none')
    images = [image(), image(picture(120, 160)[::-1].copy())]

    def settled(message):
        robot.masks.clear()
        robot.stream(make=lambda: message)
        wait_for(lambda: len(robot.masks) > 2, what='masks', process=process)
        robot.stop()
        return array(robot.masks[-1])

    one, two = settled(images[0]), settled(images[1])
    assert (one != two).any()
    assert robot.set(smoothing=0.99)[0].successful
    settled(images[1])
    # A few frames change almost nothing of the mean of the earlier frames.
    assert (settled(images[0]) == two).mean() > 0.9
    assert robot.set(smoothing=0.0)[0].successful
    assert (settled(images[0]) == one).all()


def test_words_stay_in_the_picture_for_a_while(robot, start):
    """On PIXELS all words have a high score. On black, floor has more than half of that score, the
    others have less."""
    parameters = 'present.method:=denoise', 'present.threshold:=0.9', 'present.patience:=1000'
    process = node(start, WORDS, *parameters, 'logit_scale:=100.0', 'regions:=none')

    def settled(message, names):
        robot.stream(make=lambda: message)
        wait_for(lambda: robot.value('words in the picture') == names, what=names, process=process)
        robot.masks.clear()
        wait_for(lambda: len(robot.masks) > 3, what='masks', process=process)
        robot.stop()
        assert robot.value('words in the picture') == names
        return set(np.unique(array(robot.masks[-1])))

    black = image(np.zeros_like(PIXELS))
    assert settled(image(), 'floor, mug, door') > {1}
    settled(black, 'floor, mug, door')
    assert robot.set(**{'present.patience': 1})[0].successful
    assert settled(black, 'floor') == {1}
    assert robot.set(**{'present.patience': 0})[0].successful
    assert settled(black, '') == {0}
    assert robot.set(**{'present.threshold': 0.5})[0].successful
    assert settled(black, 'floor') == {1}
    assert len(robot.vocabularies) == 1  # none of this changes the words

    # With other words, or when a bag starts again, earlier frames no longer count.
    assert robot.set(**{'present.threshold': 0.9, 'present.patience': 1000})[0].successful
    settled(image(), 'floor, mug, door')
    assert robot.set(vocabulary=['door', 'floor'])[0].successful
    settled(black, 'floor')
    settled(image(), 'door, floor')
    robot.late_s = 500.0
    settled(black, 'floor')
    assert robot.value('stamps that went back') == '1'
    assert robot.value('dropped: error') is None


def test_the_service_answers_when_the_words_are_live(running):
    robot, process = running
    answer = robot.call(
        SetVocabulary, 'set_vocabulary', prompts=['lamp=lamp;light', 'door'], class_ids=[40, 0]
    )
    assert answer.success, answer.message
    assert "'lamp': 40" in answer.message and "'door': 2" in answer.message
    wait_for(lambda: robot.vocabularies[-1].version == 2, what='the words', process=process)
    assert [list(c.prompts) for c in robot.vocabularies[-1].classes] == [
        ['lamp', 'light'],
        ['door'],
    ]
    [value] = robot.call(GetParameters, 'get_parameters', names=['vocabulary']).values
    assert list(value.string_array_value) == ['40:lamp=lamp;light', 'door']
    answer = robot.call(SetVocabulary, 'set_vocabulary', prompts=['door'])
    assert answer.success and answer.message == "vocabulary 3: {'door': 2}"

    for request, reason in (
        ({'prompts': ['a', 'a']}, "name 'a' appears twice"),
        ({'prompts': ['a', 'b'], 'class_ids': [1]}, '2 prompts, but 1 class_ids'),
        ({'prompts': ['a'], 'class_ids': [40]}, "id 40 belongs to 'lamp'"),
        ({'prompts': ['7:a'], 'class_ids': [9]}, "'7:a' has an id, and another"),
        ({'prompts': []}, 'the vocabulary is empty'),
    ):
        answer = robot.call(SetVocabulary, 'set_vocabulary', **request)
        assert not answer.success and reason in answer.message
    assert robot.vocabularies[-1].version == 3


def test_the_service_before_the_model_is_loaded(robot, start):
    process = node(start, 'autostart:=false')
    answer = robot.call(SetVocabulary, 'set_vocabulary', prompts=['lamp'])
    assert answer.success and 'once the node is configured' in answer.message
    answer = robot.call(Trigger, 'reload')
    assert not answer.success and 'not configured' in answer.message
    for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
        transition = Transition(id=transition)
        assert robot.call(ChangeState, 'change_state', transition=transition).success
    wait_for(lambda: robot.vocabularies, what='words', process=process)
    assert robot.vocabularies[-1].classes[0].name == 'lamp'


def test_ids_of_a_request():
    assert with_ids(['a', 'b=c'], []) == ['a', 'b=c']
    assert with_ids(['a', 'b=c'], [7, 0]) == ['7:a', 'b=c']
    with pytest.raises(CliptraseError, match='1 prompts, but 2 class_ids'):
        with_ids(['a'], [1, 2])


@pytest.mark.skipif(os.environ.get('ROS_DISTRO') == 'humble', reason='its rclpy does not tell when')
def test_fifty_changes_while_images_flow_at_30_hz(robot, start):
    """Each id of a mask is in the vocabulary that was published before the mask."""
    process = node(start)
    masks, words = [], []
    # `info` has the time when the node published the message.
    qos = QoSProfile(depth=100)
    robot.node.create_subscription(
        Image, '/segmentation/label_mask', lambda m, info: masks.append((info, m)), qos
    )
    robot.node.create_subscription(
        Vocabulary, '/segmentation/vocabulary', lambda m, info: words.append((info, m)), LATCHED
    )
    pixels = picture(480, 640)
    big = image(pixels)
    robot.stream(rate_hz=30.0, make=lambda: big)
    wait_for(lambda: len(masks) > 10, what='masks', process=process)
    # Known and new words. Most sets have no word in common with the set before.
    known, fresh = [[f'word {k}'] for k in range(2)], [[f'thing {k}', 'floor'] for k in range(50)]
    sets = [fresh[k] if k % 3 else known[k % 2] for k in range(50)]
    for entries in sets:
        answer = robot.call(SetVocabulary, 'set_vocabulary', prompts=entries)
        assert answer.success, answer.message
    count = len(masks)
    wait_for(lambda: len(masks) > count + 5, what='masks at the end', process=process)
    wait_for(lambda: len(words) == 51, what='every vocabulary', process=process)
    robot.stop()

    assert [m.version for _, m in words] == list(range(1, 52))
    known = {}
    for _, message in words:
        for c in message.classes:
            assert known.setdefault(c.id, c.name) == c.name
    published = [info['source_timestamp'] for info, _ in words]
    for info, mask in masks:
        newest = np.searchsorted(published, info['source_timestamp'], 'right') - 1
        allowed = {0, *(c.id for c in words[newest][1].classes)}
        assert set(np.unique(array(mask))) <= allowed


def test_two_services_at_once_both_answer(running):
    robot, _ = running
    answers = {}

    def ask(name):
        answers[name] = robot.call(SetVocabulary, 'set_vocabulary', prompts=[name])

    threads = [threading.Thread(target=ask, args=(name,)) for name in ('lamp', 'vase')]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(answers) == 2 and any(a.success for a in answers.values())
    for answer in answers.values():
        assert answer.success or answer.message == 'a newer change came before this one was live'
