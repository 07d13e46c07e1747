"""Folder layouts of the labelled sets, the meaning of their label values, and their words."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..words import lists
from ..words.distractors import DISTRACTORS
from ..words.vocabulary import parse_entry
from .metrics import IGNORED

LISTS = Path(__file__).parent / 'class_lists'
# Marks a value in `Coding.ids` that label files must not hold.
NONE = -1

# Background words of CLIPtrase's own evaluation. Its list for VOC21 has two mistakes. It has 'bed'
# twice, which changes nothing. A comma is missing between 'beach' and 'hill', which is kept here.
_CLIPTRASE_VOC = (
    'background sky wall white tree wood grass road trail sea river water box signboard mountain '
    'sands bed building cloud lamp door window wardrobe ceiling shelf curtain stair floor ground '
    'beachhill rail fence'
)
# Words that it adds in front of the stuff classes of COCO-Stuff.
_CLIPTRASE_COCO = (
    'textile building furniture structural floor ceiling sky ground water food solid wall window '
    'desk lamp wardrobe'
)


class Coding(NamedTuple):
    """How the labels of a set are stored.

    Attributes:
        path: path of a label below the root, with {split} and {name}.
        ids: [256] the id of each value in the files: 1 .. K, 0 background, IGNORED, or NONE.
        void: values of unlabelled pixels, if background is a class.
        remark: a warning about scores that use this coding; empty: none.
    """

    path: str
    ids: np.ndarray
    void: tuple[int, ...] = (0, 255)
    remark: str = ''


@dataclass(frozen=True, eq=False)
class Layout:
    """A kind of data set.

    Attributes:
        words: name of the list of classes.
        pictures: folder of the pictures below the root, with {split}.
        ending: end of the picture file names.
        codings: how labels may be stored; the first that exists on disk is used.
        count: number of pictures in the usual split; published numbers use all of them.
        background: words for background; None if background is no class.
        split: the default split.
        listing: file with one name per line, with {split}; empty: use all pictures of the folder.
        cliptrase: background words and codings of the cliptrase protocol, if they differ.
        ours: True if the words are ours and the same in every protocol. Otherwise the cliptrase
            protocol uses the class names alone.
    """

    words: str
    pictures: str
    ending: str
    codings: tuple[Coding, ...]
    count: int
    background: tuple[str, ...] | None = None
    split: str = 'val'
    listing: str = ''
    cliptrase: tuple[tuple[str, ...], tuple[Coding, ...]] | None = None
    ours: bool = False


def coding(path: str, first: int, count: int, other: dict[int, int]) -> Coding:
    """Return a Coding: values from `first` on are the ids 1 .. count, and 255 is IGNORED.

    `other` maps further values to ids.
    """
    ids = np.full(256, NONE)
    ids[first : first + count] = np.arange(1, count + 1)
    ids[255] = IGNORED
    for value, number in other.items():
        ids[value] = number
    return Coding(path, ids)


# Background words of SCLIP for VOC21 and COCO-Object.
_SCLIP = DISTRACTORS['stuff']

# The evaluated ones of Cityscapes' 34 kinds, in the order of the classes.
_CITYSCAPES = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)


def _cityscapes_ids() -> dict[int, int]:
    return dict.fromkeys(range(34), IGNORED) | {
        kind: number for number, kind in enumerate(_CITYSCAPES, 1)
    }


_VOC = coding('SegmentationClass/{name}.png', 1, 20, {0: 0})
_CONTEXT = coding('SegmentationClassContext/{name}.png', 1, 59, {0: 0})
_voc = partial(
    Layout,
    pictures='JPEGImages',
    ending='.jpg',
    listing='ImageSets/Segmentation/{split}.txt',
    count=1449,
)
_context = partial(
    Layout,
    pictures='JPEGImages',
    ending='.jpg',
    listing='ImageSets/SegmentationContext/{split}.txt',
    count=5105,
)
_coco = partial(Layout, pictures='images/{split}', ending='.jpg', split='val2017', count=5000)
_OBJECTS = 'annotations/{split}/{name}_instanceTrainIds.png'
_STUFF = 'annotations/{split}/{name}_labelTrainIds.png'


def _coco_background() -> tuple[str, ...]:
    names = [parse_entry(entry)[1] for entry in classes('coco_stuff')]
    return (*_CLIPTRASE_COCO.split(), *names[80:])


def classes(words: str) -> list[str]:
    """Return the entries of one of the lists in class_lists/."""
    return lists.read_words(str(LISTS / f'{words}.txt'))[0]


def _coco_object() -> Layout:
    objects = coding(_OBJECTS, 1, 80, {0: 0})
    # In the official code, the first kind of stuff (value 80) has the number of background. The
    # other kinds do not count.
    stuff = dict.fromkeys(range(81, 171), IGNORED) | {80: 0}
    remark = (
        'labels are *_instanceTrainIds.png, in which all stuff is background; the official code '
        'reads the labels of COCO-Stuff (*_labelTrainIds.png), in which most stuff does not count'
    )
    own = (
        coding(_STUFF, 0, 80, stuff)._replace(void=(255,)),
        objects._replace(remark=remark),
    )
    cliptrase = (_coco_background(), own)
    return _coco('coco_object', codings=(objects,), background=_SCLIP, cliptrase=cliptrase)


LAYOUTS = {
    'voc20': _voc('voc', codings=(_VOC,)),
    'voc21': _voc(
        'voc',
        codings=(_VOC,),
        background=_SCLIP,
        cliptrase=(tuple(_CLIPTRASE_VOC.split()), (_VOC,)),
    ),
    'pc59': _context('pascal_context', codings=(_CONTEXT,)),
    'pc60': _context('pascal_context', codings=(_CONTEXT,), background=('background',)),
    'coco_object': _coco_object(),
    'coco_stuff': _coco('coco_stuff', codings=(coding(_STUFF, 0, 171, {}),)),
    'ade150': Layout(
        'ade150',
        pictures='images/{split}',
        ending='.jpg',
        codings=(coding('annotations/{split}/{name}.png', 1, 150, {0: 0}),),
        split='validation',
        count=2000,
    ),
    'cityscapes': Layout(
        'cityscapes',
        pictures='leftImg8bit/{split}',
        ending='_leftImg8bit.png',
        codings=(
            coding('gtFine/{split}/{name}_gtFine_labelTrainIds.png', 0, 19, {}),
            coding('gtFine/{split}/{name}_gtFine_labelIds.png', 0, 0, _cityscapes_ids()),
        ),
        count=500,
    ),
    'nyuv2': Layout(
        'nyuv2',
        pictures='{split}/rgb',
        ending='.png',
        codings=(coding('{split}/labels_40/{name}.png', 1, 40, {0: 0}),),
        split='test',
        count=654,
        ours=True,
    ),
    'camvid': Layout(
        'camvid',
        pictures='{split}',
        ending='.png',
        codings=(coding('{split}annot/{name}.png', 0, 11, {11: IGNORED}),),
        split='test',
        count=233,
        ours=True,
    ),
}
# The name of a user's own set, and the names of all sets.
FOLDER = 'folder'
NAMES = (*LAYOUTS, FOLDER)
