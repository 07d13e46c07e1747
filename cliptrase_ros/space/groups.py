"""Groups of classes. The points of one group make one cloud.

An entry reads ``group=class;class``. ``group=!class;class`` means all pixels that are not of these
classes, unlabelled pixels included. Example: everything that is not known to be floor is an
obstacle.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import SettingError
from ..words.vocabulary import WordClass


@dataclass(frozen=True)
class Group:
    """A group of classes.

    Attributes:
        name: name of the group.
        classes: names of classes.
        others: False: these classes; True: everything except these classes.
    """

    name: str
    classes: tuple[str, ...]
    others: bool = False

    def table(self, words: Iterable[WordClass], largest: int) -> np.ndarray:
        """Return which labels belong to the group: [largest + 1] bool, indexed by id.

        Classes that are not among the words are ignored.
        """
        ids = [c.id for c in words if c.name in self.classes]
        table = np.full(largest + 1, self.others)
        table[ids] = not self.others
        return table


def parse_groups(entries: Sequence[str]) -> tuple[Group, ...]:
    """Return the groups from entries such as 'seats=chair;sofa' or 'obstacles=!floor'.

    Raises:
        SettingError: an entry does not have this form, or a name appears twice.
    """
    groups: dict[str, Group] = {}
    for entry in entries:
        name, _, listed = entry.partition('=')
        name, listed = name.strip(), listed.strip()
        others = listed.startswith('!')
        classes = tuple(c.strip() for c in listed.removeprefix('!').split(';'))
        if not name or not all(classes) or any(c.startswith('!') for c in classes):
            raise SettingError(
                f"points.groups: {entry!r}: write group=class;class, such as 'seats=chair;sofa', "
                "or group=!class for everything except a class, such as 'obstacles=!floor'"
            )
        if name in groups:
            raise SettingError(
                f'points.groups: {name!r} appears twice; write all of its classes in one entry'
            )
        groups[name] = Group(name, classes, others)
    return tuple(groups.values())
