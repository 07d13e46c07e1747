"""Labelled sets in their official folders: the files found, and the truth of each pixel."""

import hashlib
import io
import re
import struct
from pathlib import Path

import numpy as np
import pytest
import yaml
from layouts import PATHS, build, save, save_indices, stripes
from PIL import Image
from towers import picture

from cliptrase_ros.errors import PictureError, SettingError, VocabularyError
from cliptrase_ros.evaluation import datasets
from cliptrase_ros.evaluation.datasets import LabelError, open_set
from cliptrase_ros.evaluation.layouts import LAYOUTS, classes
from cliptrase_ros.words.distractors import DISTRACTORS
from cliptrase_ros.words.vocabulary import parse_entry, parse_vocabulary

X = 255

# Values in the files, their ids in `sliding`, and their ids in `cliptrase`.
TRUTHS = {
    'voc20': ([0, 1, 20, X], [X, 1, 20, X], [X, 1, 20, X]),
    'voc21': ([0, 1, 20, X], [0, 1, 20, X], [0, 1, 20, 0]),
    'pc59': ([0, 1, 59, X], [X, 1, 59, X], [X, 1, 59, X]),
    'pc60': ([0, 1, 59, X], [0, 1, 59, X], [0, 1, 59, 0]),
    'coco_object': ([0, 1, 80], [0, 1, 80], [0, 1, 80]),
    'coco_stuff': ([0, 80, 170, X], [1, 81, 171, X], [1, 81, 171, X]),
    'ade150': ([0, 1, 150], [X, 1, 150], [X, 1, 150]),
    'cityscapes': ([0, 18, X], [1, 19, X], [1, 19, X]),
    'nyuv2': ([0, 1, 40], [X, 1, 40], [X, 1, 40]),
    'camvid': ([0, 10, 11, X], [1, 11, X, X], [1, 11, X, X]),
    'folder': ([0, 1, 2, X], [0, 1, 2, X], [0, 1, 2, 0]),
}
COUNTS = {
    'voc20': 20,
    'voc21': 20,
    'pc59': 59,
    'pc60': 59,
    'coco_object': 80,
    'coco_stuff': 171,
    'ade150': 150,
    'cityscapes': 19,
    'nyuv2': 40,
    'camvid': 11,
    'folder': 2,
}


def truths(found):
    return [found.truth(found.values(example)) for example in found.examples]


def test_every_set_is_tried():
    assert set(TRUTHS) == set(COUNTS) == set(PATHS) == set(datasets.NAMES)


@pytest.mark.parametrize('name', TRUTHS)
@pytest.mark.parametrize('protocol', ['sliding', 'cliptrase', 'native'])
def test_the_official_layout(tmp_path, name, protocol):
    values, sliding, own = TRUTHS[name]
    names = build(tmp_path, name, [stripes(values), stripes(values[:1])])
    found = open_set(name, tmp_path, protocol=protocol)
    assert [example.name for example in found.examples] == names
    assert all(example.picture.is_file() for example in found.examples)
    assert len(found.entries) == COUNTS[name] and found.usual
    expected = own if protocol == 'cliptrase' else sliding
    np.testing.assert_array_equal(truths(found)[0], stripes(expected))
    # The words make a valid vocabulary with the ids of the truth.
    kinds, _ = parse_vocabulary(found.entries, found.background or ())
    assert [kind.id for kind in kinds] == list(range(1, COUNTS[name] + 1))


def test_what_has_nothing_but_unlabelled_pixels_does_not_count_in_the_own_protocol(tmp_path):
    labels = [stripes([0, X]), stripes([X]), stripes([0, 1])]
    build(tmp_path, 'voc21', labels)
    own = truths(open_set('voc21', tmp_path, protocol='cliptrase'))
    assert [np.unique(truth).tolist() for truth in own] == [[X], [X], [0, 1]]
    sliding = truths(open_set('voc21', tmp_path))
    assert [np.unique(truth).tolist() for truth in sliding] == [[0, X], [X], [0, 1]]


def test_coco_object_in_the_own_protocol_reads_the_labels_of_coco_stuff(tmp_path):
    build(tmp_path, 'coco_object', [stripes([0, 1, 80])])
    own = open_set('coco_object', tmp_path, protocol='cliptrase')
    assert 'labelTrainIds' in own.coding.remark
    build(tmp_path, 'coco_stuff', [stripes([0, 79, 80, 81, 170, X])])
    own = open_set('coco_object', tmp_path, protocol='cliptrase')
    assert not own.coding.remark
    # In the official code, the first kind of stuff has the number of background.
    np.testing.assert_array_equal(truths(own)[0], stripes([1, 80, 0, X, X, 0]))
    build(tmp_path, 'coco_stuff', [stripes([80])])
    assert np.unique(truths(own)[0]).tolist() == [0]
    build(tmp_path, 'coco_stuff', [stripes([X])])
    assert np.unique(truths(own)[0]).tolist() == [X]


def test_cityscapes_with_the_ids_of_all_kinds(tmp_path):
    build(tmp_path, 'cityscapes', [stripes([0, 7, 10, 33, 14, 23])])
    for path in (tmp_path / 'gtFine').rglob('*_labelTrainIds.png'):
        path.rename(path.with_name(path.name.replace('labelTrainIds', 'labelIds')))
    found = open_set('cityscapes', tmp_path)
    np.testing.assert_array_equal(truths(found)[0], stripes([X, 1, X, 19, X, 11]))
    assert 'labelIds' in found.coding.path


def test_another_split(tmp_path):
    build(tmp_path, 'camvid', [stripes([0])])
    (tmp_path / 'test').rename(tmp_path / 'val')
    (tmp_path / 'testannot').rename(tmp_path / 'valannot')
    found = open_set('camvid', tmp_path, split='val')
    assert found.split == 'val' and not found.usual and len(found.examples) == 1


@pytest.mark.parametrize('name', LAYOUTS)
def test_the_official_number_of_pictures(tmp_path, name):
    """The disk may hold only a part. The numbers are those of the table in doc/evaluation.md."""
    build(tmp_path, name, [stripes([1])] * 2)
    found = open_set(name, tmp_path)
    document = (Path(__file__).parents[2] / 'doc' / 'evaluation.md').read_text()
    (line,) = re.findall(f'^\\|.*`{name}`.*', document, re.MULTILINE)
    official = int(re.search(rf'\| `{found.split}`, (\d+) \|', line)[1])
    assert found.incomplete(2) == f'2 of {official} pictures'
    assert found.incomplete(official) == ''
    more = f'{official + 1} pictures, the official set has {official}'
    assert found.incomplete(official + 1) == more


def test_another_split_or_a_folder_of_ones_own(tmp_path):
    build(tmp_path / 'voc', 'voc20', [stripes([1])])
    lists = tmp_path / 'voc' / 'ImageSets' / 'Segmentation'
    (lists / 'val.txt').rename(lists / 'train.txt')
    assert open_set('voc20', tmp_path / 'voc', 'train').incomplete(1) == 'the split is train'
    build(tmp_path / 'own', 'folder', [stripes([1])] * 2)
    own = open_set('folder', tmp_path / 'own')
    assert (own.incomplete(2), own.incomplete(1)) == ('', '1 of 2 pictures')


def test_the_hash_is_of_the_names_in_order(tmp_path):
    build(tmp_path, 'voc20', [stripes([1]), stripes([1])])
    one = open_set('voc20', tmp_path).sha256
    assert one == open_set('voc21', tmp_path).sha256
    listing = tmp_path / 'ImageSets/Segmentation/val.txt'
    listing.write_text('\n'.join(reversed(listing.read_text().split())))
    assert open_set('voc20', tmp_path).sha256 != one


@pytest.mark.parametrize('name', [name for name in PATHS if name != 'folder'])
def test_what_is_missing_is_said(tmp_path, name):
    image, label, listing, (first, *_) = PATHS[name]
    with pytest.raises(PictureError, match=f'no folder .*; {name} expects '):
        open_set(name, tmp_path)
    build(tmp_path, name, [stripes([1])])
    (tmp_path / label.format(first)).unlink()
    with pytest.raises(PictureError, match=f'no label .*; {name} expects .*doc/evaluation.md'):
        open_set(name, tmp_path)
    if listing:
        (tmp_path / listing).write_text('')
        with pytest.raises(PictureError, match=r'no picture in .* expects .*val.txt'):
            open_set(name, tmp_path)
        (tmp_path / listing).unlink()
        with pytest.raises(PictureError, match=r'no list .*val.txt; .* expects'):
            open_set(name, tmp_path)
    else:
        (tmp_path / image.format(first)).unlink()
        with pytest.raises(PictureError, match='no picture in'):
            open_set(name, tmp_path)


def test_no_such_set():
    with pytest.raises(SettingError, match=r"'voc' is not one of .* Did you mean 'voc2"):
        open_set('voc', Path('.'))


@pytest.mark.parametrize(
    'name, value', [('voc20', 21), ('ade150', 151), ('camvid', 12), ('coco_object', 81)]
)
def test_a_value_outside_the_classes(tmp_path, name, value):
    build(tmp_path, name, [stripes([1, value])])
    found = open_set(name, tmp_path)
    reason = f'{found.examples[0].label} holds the value {value}; expected values of the'
    with pytest.raises(LabelError, match=re.escape(reason)):
        truths(found)


def test_labels_of_other_kinds(tmp_path):
    build(tmp_path, 'camvid', [stripes([0, 1])])
    found = open_set('camvid', tmp_path)
    path = found.examples[0].label
    Image.fromarray(stripes([0, 1, 300]).astype(np.uint16)).save(path)
    with pytest.raises(LabelError, match='holds the value 300'):
        truths(found)
    Image.fromarray(stripes([0, 1, 5]).astype(np.uint16)).save(path)
    assert np.unique(truths(found)[0]).tolist() == [1, 2, 6]
    Image.fromarray(stripes([0, 1]).astype(bool)).save(path)
    assert np.unique(truths(found)[0]).tolist() == [1, 2]
    save(path, picture(48, 64))
    with pytest.raises(LabelError, match='holds colours, mode RGB; expected one class index'):
        truths(found)
    for content, reason in ((b'text', 'is no picture'), (b'\x89PNG\r\n\x1a\n', 'is no picture')):
        path.write_bytes(content)
        with pytest.raises(PictureError, match=reason) as caught:
            truths(found)
        assert not isinstance(caught.value, LabelError)
    save_indices(path, np.random.default_rng(0).integers(0, 11, (200, 200)))
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(PictureError, match='cannot be read'):
        truths(found)


@pytest.mark.parametrize(
    'tag, kind, value, raised',
    [
        # A height of 2^32 - 1 pixels, and an offset in the file that is text.
        (257, 4, 2**32 - 1, Image.DecompressionBombError),
        (273, 2, 8, TypeError),
    ],
)
def test_a_damaged_label_of_any_kind_is_skipped(tmp_path, tag, kind, value, raised):
    build(tmp_path, 'camvid', [stripes([0, 1])])
    found = open_set('camvid', tmp_path)
    stored = io.BytesIO()
    Image.fromarray(stripes([0, 1]).astype(np.uint8)).save(stored, 'TIFF')
    content = bytearray(stored.getvalue())
    (entries,) = struct.unpack_from('<I', content, 4)
    (count,) = struct.unpack_from('<H', content, entries)
    places = [entries + 2 + 12 * n for n in range(count)]
    (place,) = [x for x in places if struct.unpack_from('<H', content, x)[0] == tag]
    struct.pack_into('<HII', content, place + 2, kind, 1, value)
    with pytest.raises(raised), Image.open(io.BytesIO(content)) as file:
        file.load()
    found.examples[0].label.write_bytes(content)
    with pytest.raises(PictureError, match='cannot be read') as caught:
        truths(found)
    assert not isinstance(caught.value, LabelError)


def test_a_list_that_is_no_text(tmp_path):
    build(tmp_path, 'voc20', [stripes([1])])
    listing = tmp_path / PATHS['voc20'][2]
    listing.write_bytes('caf\xe9\n'.encode('latin-1'))
    with pytest.raises(PictureError, match=r'val.txt is not UTF-8 text'):
        open_set('voc20', tmp_path)


def test_a_file_name_that_is_no_utf_8(tmp_path):
    build(tmp_path, 'camvid', [stripes([0, 1])])
    name = 'caf\udce9'
    for folder in ('test', 'testannot'):
        (path,) = (tmp_path / folder).iterdir()
        path.rename(path.with_name(f'{name}.png'))
    found = open_set('camvid', tmp_path)
    assert [example.name for example in found.examples] == [name]
    assert found.sha256 == hashlib.sha256(b'caf\xe9\n').hexdigest()


def test_a_folder_without_background(tmp_path):
    build(tmp_path, 'folder', [stripes([0, 1, X])], classes=('# mine', 'floor', 'mug|cup'))
    found = open_set('folder', tmp_path)
    assert found.background is None and found.entries == ('1:floor=floor', '2:mug=mug;cup')
    np.testing.assert_array_equal(truths(found)[0], stripes([1, 2, X]))


@pytest.mark.parametrize(
    'line, words', [('background', ('background',)), ('background=sky;wall', ('sky', 'wall'))]
)
def test_a_folder_with_background(tmp_path, line, words):
    build(tmp_path, 'folder', [stripes([0, 1])], classes=(line, 'floor'))
    found = open_set('folder', tmp_path)
    assert found.background == words and found.entries == ('1:floor=floor',)


@pytest.mark.parametrize(
    'lines, error, reason',
    [
        (('3:floor',), PictureError, "'floor' has an id"),
        (('background',), PictureError, 'expected 1 .. 254 classes, got 0'),
        ([f'class {n}' for n in range(255)], PictureError, 'got 255'),
        (('# nothing',), VocabularyError, 'holds no words'),
    ],
)
def test_classes_that_cannot_be(tmp_path, lines, error, reason):
    build(tmp_path, 'folder', [stripes([0])], classes=lines)
    with pytest.raises(error, match=reason):
        open_set('folder', tmp_path)


def test_a_folder_that_lacks_something(tmp_path):
    with pytest.raises(PictureError, match=r'no file .*classes.txt; folder expects images/'):
        open_set('folder', tmp_path)
    build(tmp_path, 'folder', [stripes([0])])
    with pytest.raises(SettingError, match="split: the layout folder has no splits, got 'val'"):
        open_set('folder', tmp_path, split='val')
    save(tmp_path / 'images' / 'a.jpg', picture(48, 64))
    with pytest.raises(PictureError, match="several pictures are called 'a'"):
        open_set('folder', tmp_path)
    (tmp_path / 'images').rename(tmp_path / 'photos')
    with pytest.raises(PictureError, match=r'no folder .*images'):
        open_set('folder', tmp_path)


def words(name, protocol, tmp_path):
    build(tmp_path, name, [stripes([1])])
    found = open_set(name, tmp_path, protocol=protocol)
    return {parse_entry(entry)[1]: parse_entry(entry)[2] for entry in found.entries}, found


def test_words_of_the_sliding_protocol(tmp_path):
    voc, found = words('voc21', 'sliding', tmp_path)
    assert found.background == DISTRACTORS['stuff']
    assert voc['boat'] == ('ship',) and voc['diningtable'] == ('table',)
    assert voc['person'][:2] == ('person', 'person in shirt') and len(voc['person']) == 7
    assert len(voc['tv']) == 5 and voc['sofa'] == ('sofa',)
    objects, found = words('coco_object', 'sliding', tmp_path)
    assert objects['person'][-1] == 'body'
    # 'bed' is a class there, so it cannot be background too.
    assert set(DISTRACTORS['stuff']) - set(found.background) == {'bed'}
    assert words('pc60', 'sliding', tmp_path)[1].background == ('background',)


def test_words_of_the_own_protocol(tmp_path):
    voc, found = words('voc21', 'cliptrase', tmp_path)
    assert all(prompts == (name,) for name, prompts in voc.items())
    assert len(found.background) == 32 and 'beachhill' in found.background
    _, found = words('coco_object', 'cliptrase', tmp_path)
    assert len(found.background) == 107 and found.background[-1] == 'wood'
    assert words('nyuv2', 'cliptrase', tmp_path)[0]['sofa'] == ('sofa', 'couch')


def test_orders_that_belong_together():
    listed = {
        n: [parse_entry(e)[1] for e in classes(n)] for n in {x.words for x in LAYOUTS.values()}
    }
    assert listed['coco_stuff'][:80] == listed['coco_object']
    for names in (listed['pascal_context'], listed['coco_stuff'][80:], listed['voc'][:19]):
        alphabetical = [name for name in names if name != 'diningtable']  # filed as 'table'
        assert alphabetical == sorted(alphabetical)
    assert listed['cityscapes'][:2] + listed['cityscapes'][-1:] == ['road', 'sidewalk', 'bicycle']


def test_the_classes_of_ade_are_those_of_the_vocabulary():
    """Both lists are those of the benchmark, but two names have another spelling."""
    file = Path(__file__).parents[2] / 'config' / 'vocabularies' / 'ade150.yaml'
    entries = yaml.safe_load(file.read_text())['/**']['ros__parameters']['vocabulary']
    other = {'window': 'windowpane', 'television': 'television receiver'}
    names = [parse_entry(entry)[1] for entry in entries]
    assert [other.get(name, name) for name in names] == [
        parse_entry(entry)[1] for entry in classes('ade150')
    ]
