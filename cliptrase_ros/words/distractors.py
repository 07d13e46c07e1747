"""Distractor words: other things in pictures. They keep such things from getting a wrong label.

`stuff` holds the 26 words that SCLIP (arXiv 2312.01597) and many later works use for the background
of VOC21 and COCO-Object. `common` is our own list: ordinary things, indoors and outdoors, that a
robot's camera sees.
"""

from __future__ import annotations

from collections.abc import Iterable

_STUFF = (
    'sky wall tree wood grass road sea river mountain sands desk bed building cloud lamp door '
    'window wardrobe ceiling shelf curtain stair floor hill rail fence'
)

_ROOM = 'wall floor ceiling door window stairs pillar curtain blinds carpet radiator pipe vent'
_FURNITURE = 'table chair sofa bed cabinet shelf drawer mirror lamp clock cushion'
_HOUSEHOLD = (
    'bottle cup plate bowl bag box basket bucket bin towel blanket shoe book paper plant flower '
    'sink toilet refrigerator oven'
)
_DEVICES = 'screen keyboard computer phone cable socket switch fan sign poster'
_WORKPLACE = 'pallet crate barrel cart ladder tool rope hose cardboard'
_OUTDOORS = (
    'sky cloud tree bush grass leaves soil sand gravel rock water snow road sidewalk kerb bridge '
    'building roof fence railing gate pole bench hill'
)
_MOVING = 'person hand car truck bicycle motorcycle wheel dog cat bird'

_COMMON = (_ROOM, _FURNITURE, _HOUSEHOLD, _DEVICES, _WORKPLACE, _OUTDOORS, _MOVING)

DISTRACTORS = {
    'none': (),
    'stuff': tuple(_STUFF.split()),
    'common': tuple(' '.join(_COMMON).split()),
}


def distractors_for(words: Iterable[str], name: str) -> tuple[str, ...]:
    """Return the distractors of a list, except those that are among `words` (case is ignored)."""
    taken = {' '.join(word.split()).casefold() for word in words}
    return tuple(word for word in DISTRACTORS[name] if word not in taken)
