"""The services that segment single images and reload the model, over real DDS."""

import numpy as np
import pytest
import torch
from cliptrase_ros.srv import Segment, SetVocabulary
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from processes import wait_for
from robot import PIXELS, array, image, node
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger
from towers import picture

from cliptrase_ros.model import weights
from cliptrase_ros.ros import messages


def test_one_image_with_the_live_words_and_with_others(running):
    robot, process = running
    streamed = array(robot.masks[-1])
    request = image()
    request.header.frame_id = 'hand'
    answer = robot.call(Segment, 'segment', image=request)
    assert answer.success and not answer.message
    assert answer.label_mask.header == answer.confidence.header == request.header
    assert (array(answer.label_mask) == streamed).all()
    assert array(answer.confidence).shape == (120, 160)
    assert answer.vocabulary.version == 1
    assert [c.name for c in answer.vocabulary.classes] == ['floor', 'mug', 'door']

    answer = robot.call(
        Segment,
        'segment',
        image=image(picture(60, 50)),
        vocabulary=['lamp', 'mug'],
        background=['x'],
    )
    assert answer.success and answer.vocabulary.version == 0
    ids = {c.name: c.id for c in answer.vocabulary.classes}
    assert ids['mug'] == 9 and ids['lamp'] not in (1, 2, 9)
    assert list(answer.vocabulary.background) == ['x']
    assert array(answer.label_mask).shape == (60, 50)
    assert set(np.unique(array(answer.label_mask))) <= {0, *ids.values()}
    # The words of the stream and the free ids have not changed.
    count = len(robot.masks)
    wait_for(lambda: len(robot.masks) > count + 1, what='masks', process=process)
    assert (array(robot.masks[-1]) == streamed).all() and len(robot.vocabularies) == 1


@pytest.mark.parametrize(
    'fields, reason',
    [
        ({'image': Image()}, 'encoding'),
        ({'image': image(PIXELS[:9, :1])}, 'more than 8 times'),
        ({'image': image(), 'vocabulary': ['a', 'a']}, "name 'a' appears twice"),
        ({'image': image(), 'vocabulary': ['mug ' * 100]}, 'too long'),
    ],
)
def test_a_bad_request_is_answered_with_the_reason(running, fields, reason):
    robot, process = running
    answer = robot.call(Segment, 'segment', **fields)
    assert not answer.success and reason in answer.message
    count = len(robot.masks)
    wait_for(lambda: len(robot.masks) > count, what='masks', process=process)


def test_a_fault_of_the_node_is_answered_and_logged(robot, inside, monkeypatch, capfd):
    """A mistake of the caller is answered, but not logged."""
    wait_for(lambda: robot.vocabularies, what='words')
    for fields in ({'image': Image()}, {'image': image(), 'vocabulary': ['a', 'a']}):
        assert not robot.call(Segment, 'segment', **fields).success
    answer = robot.call(SetVocabulary, 'set_vocabulary', prompts=['a', 'a'])
    assert not answer.success
    assert 'not segmented' not in capfd.readouterr().err
    with monkeypatch.context() as patch:
        patch.delattr(messages, 'confidence')
        answer = robot.call(Segment, 'segment', image=image())
        assert not answer.success and "no attribute 'confidence'" in answer.message
        patch.setattr(inside._words, 'follow', lambda: 1 / 0)
        answer = robot.call(SetVocabulary, 'set_vocabulary', prompts=['lamp'])
        assert not answer.success and answer.message == 'division by zero'
    logged = capfd.readouterr().err
    assert 'image not segmented: AttributeError: module' in logged
    assert 'vocabulary not changed: ZeroDivisionError: division by zero' in logged
    assert robot.call(Segment, 'segment', image=image()).success


def test_a_node_that_is_not_configured_says_so(robot, start):
    node(start, 'autostart:=false')
    answer = robot.call(Segment, 'segment', image=image())
    assert not answer.success and 'not configured' in answer.message
    transition = Transition(id=Transition.TRANSITION_CONFIGURE)
    assert robot.call(ChangeState, 'change_state', transition=transition).success
    assert robot.call(Segment, 'segment', image=image()).success  # active or not


def test_reload_takes_a_file_that_was_replaced(robot, start, tmp_path):
    model, _ = weights.load_model('cliptrase-tiny', 'random')
    state, file = model.state_dict(), tmp_path / 'tiny.safetensors'

    def write(seed):
        noise = torch.Generator().manual_seed(seed)
        changed = {
            key: value + 0.02 * torch.randn(value.shape, generator=noise)
            for key, value in state.items()
            if value.is_floating_point()
        }
        weights.save_weights({**state, **changed}, file, 'cliptrase-tiny')

    write(1)
    process = node(start, f'weights:={file}')
    robot.stream()
    wait_for(lambda: robot.masks, what='masks', process=process)
    before = array(robot.masks[-1])
    write(2)
    answer = robot.call(Trigger, 'reload')
    assert answer.success and answer.message == 'loaded'
    wait_for(lambda: (array(robot.masks[-1]) != before).any(), what='other labels')
    assert robot.vocabularies[-1].version == 2

    file.write_bytes(b'no weights')
    answer = robot.call(Trigger, 'reload')
    assert not answer.success and answer.message.startswith('model not loaded')
    count = len(robot.masks)
    wait_for(lambda: len(robot.masks) > count, what='masks with the old model', process=process)
    assert robot.set(vocabulary=['lamp'])[0].successful
    wait_for(lambda: robot.vocabularies[-1].version == 3, what='words with the old model')
