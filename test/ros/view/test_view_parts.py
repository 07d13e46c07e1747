"""Parts of the feeder on a node that need no node."""

from types import SimpleNamespace

import numpy as np
import pytest
from cliptrase_ros.msg import Vocabulary, VocabularyClass
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from robot import PIXELS, image
from sensor_msgs.msg import Image
from std_msgs.msg import ColorRGBA, Header

from cliptrase_ros.media import encodings
from cliptrase_ros.ros.space import cloud_messages
from cliptrase_ros.ros.view import arrays, node_settings
from cliptrase_ros.ros.view.health import Health, absence
from cliptrase_ros.ros.view.joined import Joined
from cliptrase_ros.ros.view.node_pictures import Words
from cliptrase_ros.space import clouds


def message(size=10):
    return SimpleNamespace(data=bytes(size))


def test_an_image_is_complete_when_all_parts_are_there():
    joined, image_, mask = Joined(('image', 'mask')), message(), message()
    assert joined.add('image', 1, image_) is None
    assert joined.add('image', 2, message()) is None
    assert joined.add('mask', 1, mask) == {'image': image_, 'mask': mask}
    assert joined.add('mask', 1, mask) is None  # it is given once
    assert joined.add('mask', 2, mask)['mask'] is mask


def test_a_complete_image_drops_those_before_it():
    joined = Joined(('image', 'mask'))
    for stamp in (1, 2, 3):
        joined.add('image', stamp, message())
    assert joined.add('mask', 2, message())
    assert joined.add('mask', 1, message()) is None
    assert joined.add('mask', 3, message())


def test_images_without_labels_do_not_fill_the_memory():
    joined = Joined(('image', 'mask'), limit_bytes=100)
    for stamp in range(1000):
        joined.add('image', stamp, message(30))
    assert [s for s in range(1000) if joined.add('mask', s, message(0))] == [997, 998, 999]
    assert joined.add('image', 2000, message(500)) is None  # one is kept, whatever its size
    assert joined.add('mask', 2000, message())


def test_a_message_that_comes_twice_replaces_the_first():
    joined, second = Joined(('image', 'mask'), limit_bytes=100), message(90)
    joined.add('image', 1, message(90))
    joined.add('image', 1, second)
    assert joined.add('mask', 1, message(5))['image'] is second


def test_labels_of_both_encodings():
    labels = np.array([[0, 3, 999], [7, 0, 65534]], np.uint16)
    wide = encodings.fill_image(Image(), labels, '16UC1', Header())
    assert np.array_equal(arrays.labels_of(wide, 0), labels)
    marked = arrays.labels_of(wide, 999)
    assert marked.dtype == np.uint16 and marked.tolist() == [[0, 3, 0], [7, 0, 65534]]
    narrow = encodings.fill_image(Image(), labels.astype(np.uint8), 'mono8', Header())
    assert np.array_equal(arrays.labels_of(narrow, 0), labels.astype(np.uint8))


def test_an_image_is_no_label_mask():
    with pytest.raises(arrays.UnknownOutput, match='expected mono8 or 16UC1, got rgb8'):
        arrays.labels_of(image(), 0)


def test_the_picture_has_the_size_of_the_labels():
    assert np.array_equal(arrays.picture_of(image(), (120, 160), False), PIXELS)
    assert arrays.picture_of(image(), (60, 80), False).shape == (60, 80, 3)
    assert np.array_equal(arrays.picture_of(image(), (120, 120), True), PIXELS[:, 20:140])


@pytest.mark.parametrize('kind', [np.uint8, np.uint16])
def test_points_of_a_cloud(kind):
    cloud, points = cloud_messages.empty((6, 8), np.dtype(kind), Header())
    points['z'] = np.nan
    points['z'][1::2] = 2.0
    points['x'], points['label'] = np.arange(8), 5
    points['rgb'] = 0x112233
    found = arrays.points_of_cloud(cloud, 1000)
    assert len(found) == 24 and set(found['x']) == set(range(8)) and set(found['label']) == {5}
    assert arrays.colors_of(found)[0].tolist() == [0x11, 0x22, 0x33]
    points['z'] = 1.0
    assert len(arrays.points_of_cloud(cloud, 12)) == 12
    assert len(arrays.points_of_cloud(cloud, 11)) <= 11


def test_a_cloud_of_others_is_refused():
    cloud, _ = cloud_messages.empty((6, 8), np.dtype(np.uint8), Header())
    cloud.fields.pop(1)
    with pytest.raises(arrays.UnknownOutput, match='fields'):
        arrays.points_of_cloud(cloud, 10)
    assert clouds.point_type(np.dtype(np.uint8)).itemsize == cloud.point_step


def vocabulary(version, **ids):
    color = ColorRGBA(r=1.0, g=0.5, b=0.0, a=1.0)
    classes = [VocabularyClass(id=i, name=name, color=color) for name, i in ids.items()]
    return Vocabulary(version=version, classes=classes)


def names(legend):
    return legend and {entry.name: entry.id for entry in legend}


def test_ids_keep_their_names_while_the_node_runs():
    words = Words()
    assert words.legend({1}) is None  # the vocabulary has not come
    words.take(vocabulary(1, floor=1, door=2))
    assert names(words.legend({1})) == {'floor': 1, 'door': 2}
    assert words.legend(set())[0].color == (255, 128, 0)
    assert words.legend({3}) is None
    words.take(vocabulary(2, lamp=3))
    assert names(words.legend(set())) == {'lamp': 3}
    assert names(words.legend({2})) == {'lamp': 3, 'door': 2}  # a label image of before
    words.take(vocabulary(1, cup=2))  # the node was started again
    assert names(words.legend({2})) == {'cup': 2} and words.legend({3}) is None


def diagnosed(name, level=DiagnosticStatus.OK, text='', **values):
    pairs = [KeyValue(key=key, value=value) for key, value in values.items()]
    status = DiagnosticStatus(name=name, level=level, message=text, values=pairs)
    return DiagnosticArray(status=[status])


def test_health_is_that_of_one_node():
    health = Health('/segmentation')
    assert health.updated(diagnosed('/other: model')) is health and health.problem('camera') == ''
    assert health.latency_ms('camera') == 0 and health.images == set()
    said = diagnosed('/segmentation: camera', DiagnosticStatus.STALE, 'no image', topic='/eye')
    heard = health.updated(said)
    assert heard.problem('camera') == 'no image' and heard.images == {'/eye'}
    idle = health.updated(diagnosed('/segmentation: camera', text='not active'))
    assert idle.problem('camera') == '/segmentation: not active' and idle.images == set()


def test_a_node_is_absent_or_silent():
    assert absence('/segmentation', True, 2.0, 1.0) == ''
    assert absence('/segmentation', True, 100.0, 60.0) == ''
    assert '/segmentation has said nothing for 4 s' in absence('/segmentation', True, 4.0, 0.2)
    assert 'segmentation_node' in absence('/segmentation', False, 0.0, 1.0)


def test_controls_and_parameters():
    values = {'vocabulary': ['7:mug=mug;cup', 'door'], 'background': [''], 'method': 'clip'}
    controls = node_settings.controls_of({**values, 'protocol': 'native'})
    assert controls.values == {
        'class_names': '7:mug=mug;cup, door',
        'background_names': '',
        'method': 'clip',
    }
    assert set(controls.choices) == {'method'} and 'gclip' in controls.choices['method']
    back = node_settings.parameters_of(controls.values)
    assert back == {'vocabulary': values['vocabulary'], 'background': [], 'method': 'clip'}
    assert node_settings.entries(' a,b ,\n c;d ,, ') == ['a', 'b', 'c;d']
