"""What a segmentation node publishes about one camera, as pictures for the page."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
from sensor_msgs.msg import PointCloud2

from ...msg import ObjectArray, Vocabulary
from ...view.feed import LegendEntry, Shown, ShownCloud, ShownThing
from ..messages import nanoseconds
from .arrays import colors_of, confidence_of, labels_of, picture_of, points_of_cloud
from .joined import Joined

# Points of a cloud that a browser gets: more look the same on a page, and cost time.
POINTS = 40_000
# A cloud that is older than its picture by more than this is not shown with it.
CLOUD_AGE_NS = 2 * 10**9


class Words:
    """Names and colours of ids. While a node runs, an id is never given to another name, so the
    names of earlier vocabularies stay valid. Safe between threads."""

    def __init__(self):
        self._lock = threading.Lock()
        self._version = 0
        self._legend: dict[int, LegendEntry] = {}
        self._live: set[int] = set()
        self.unlabeled = 0

    def take(self, message: Vocabulary) -> None:
        """Add a vocabulary. A version that is not newer is from a node that started again."""
        with self._lock:
            if message.version <= self._version:
                self._legend = {}
            self._version, self.unlabeled = message.version, message.unlabeled_id
            self._legend |= {c.id: _entry(c) for c in message.classes}
            self._live = {c.id for c in message.classes}

    def legend(self, ids: set[int]) -> tuple[LegendEntry, ...] | None:
        """Return the words in use and those of `ids`, or None if one of them has no name yet: a
        label image can come before its vocabulary."""
        with self._lock:
            wanted = self._live | ids
            if not wanted <= self._legend.keys():
                return None
            return tuple(entry for number, entry in self._legend.items() if number in wanted)


def _entry(one: Any) -> LegendEntry:
    red, green, blue = (round(255 * part) for part in (one.color.r, one.color.g, one.color.b))
    return LegendEntry(one.id, one.name, (red, green, blue))


class Pictures:
    """Joins the messages of a camera. Its methods may be called from different threads, each from
    one."""

    def __init__(self, words: Words):
        self._words = words
        # The labels show the square in the middle of the image (`protocol: cliptrase`).
        self.cropped = False
        self._joined = Joined(('image', 'label_mask', 'confidence'))
        self._cloud: tuple[int, PointCloud2] | None = None
        self._objects: ObjectArray | None = None
        self._arrivals: deque[float] = deque(maxlen=30)
        # Label images since the last one that had its image.
        self.blind = 0

    def take(self, name: str, message: Any) -> dict[str, Any] | None:
        """Take a message; return all parts of a picture if they are there now."""
        if name == 'points':
            self._cloud = nanoseconds(message.header), message
            return None
        if name == 'objects':
            self._objects = message
            return None
        self.blind += name == 'label_mask'
        parts = self._joined.add(name, nanoseconds(message.header), message)
        if parts:
            self.blind = 0
            self._arrivals.append(time.monotonic())
        return parts

    @property
    def rate_hz(self) -> float:
        """Pictures per second of the last 30, or 0 before there are two."""
        recent = [at for at in tuple(self._arrivals) if time.monotonic() - at < 5.0]
        return (len(recent) - 1) / (recent[-1] - recent[0]) if len(recent) > 1 else 0.0

    def shown(self, parts: Mapping[str, Any]) -> Shown | None:
        """Return what the page shows of a picture; None if its words have not come yet.

        Raises:
            ImageError, UnknownOutput: a message cannot be read.
        """
        mask = parts['label_mask']
        labels = labels_of(mask, self._words.unlabeled)
        present = np.flatnonzero(np.bincount(labels.ravel()))
        legend = self._words.legend(set(present.tolist()) - {0})
        if legend is None:
            return None
        stamp_ns = nanoseconds(mask.header)
        return Shown(
            image=picture_of(parts['image'], labels.shape, self.cropped),
            labels=labels,
            confidence=confidence_of(parts['confidence']),
            stamp=1e-9 * stamp_ns,
            legend=legend,
            cloud=self._recent_cloud(stamp_ns),
            things=self._recent_things(stamp_ns),
        )

    def _recent_cloud(self, stamp_ns: int) -> ShownCloud | None:
        cloud = self._cloud
        if cloud is None or abs(stamp_ns - cloud[0]) > CLOUD_AGE_NS:
            return None
        points = points_of_cloud(cloud[1], POINTS)
        places = np.stack([points[axis] for axis in 'xyz'], axis=1)
        return ShownCloud(points=places, colors=colors_of(points), labels=points['label'])

    def _recent_things(self, stamp_ns: int) -> tuple[ShownThing, ...]:
        objects = self._objects
        if objects is None or abs(stamp_ns - nanoseconds(objects.header)) > CLOUD_AGE_NS:
            return ()
        return tuple(map(_thing, objects.objects))


def _thing(one: Any) -> ShownThing:
    turn = one.pose.orientation
    return ShownThing(
        class_id=one.id,
        name=one.name,
        centroid=_vector(one.centroid),
        center=_vector(one.pose.position),
        size=_vector(one.size),
        orientation=(turn.w, turn.x, turn.y, turn.z),
        confidence=one.confidence,
    )


def _vector(point: Any) -> tuple[float, float, float]:
    return point.x, point.y, point.z
