"""Groups of classes: whose points go together into one cloud.

An entry reads ``group=class;class``, or ``group=!class;class`` for whatever is none of these
classes, the unlabelled included: what is not known to be floor is an obstacle.
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
        name: what it is called.
        classes: names of classes.
        others: whether it is these classes (False), or all that is none of them (True).
    """

    name: str
    classes: tuple[str, ...]
    others: bool = False

    def table(self, words: Iterable[WordClass], largest: int) -> np.ndarray:
        """[largest + 1] bool: which labels belong to it, by id; classes that are not among the
        words count for nothing."""
        ids = [c.id for c in words if c.name in self.classes]
        table = np.full(largest + 1, self.others)
        table[ids] = not self.others
        return table


def parse_groups(entries: Sequence[str]) -> tuple[Group, ...]:
    """Groups from entries such as 'seats=chair;sofa' or 'obstacles=!floor'.

    Raises:
        SettingError: an entry is not of this form, or a name stands twice.
    """
    groups: dict[str, Group] = {}
    for entry in entries:
        name, _, listed = entry.partition('=')
        name, listed = name.strip(), listed.strip()
        others = listed.startswith('!')
        classes = tuple(c.strip() for c in listed.removeprefix('!').split(';'))
        if not name or not all(classes) or any(c.startswith('!') for c in classes):
            raise SettingError(
                f"point_groups: {entry!r}: write group=class;class, such as 'seats=chair;sofa', or "
                "group=!class for all but those, such as 'obstacles=!floor'"
            )
        if name in groups:
            raise SettingError(
                f'point_groups: {name!r} stands twice; write all of its classes in one entry'
            )
        groups[name] = Group(name, classes, others)
    return tuple(groups.values())
