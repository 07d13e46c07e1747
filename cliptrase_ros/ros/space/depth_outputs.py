"""Outputs of one camera in space: clouds, depth of targets, objects. They are made only while
somebody listens, and only for images with depth."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from visualization_msgs.msg import MarkerArray

from ...media import encodings
from ...msg import ObjectArray
from ...space import clouds, objects
from ...space.geometry import Pinhole, after, inverse, looked_up, resized
from ...space.groups import Group
from ...space.objects import Found
from ...words.vocabulary import UNLABELED
from .. import messages
from ..outputs import LabelledFrame
from ..parameters import NodeOptions
from ..publishers import Publishers
from . import cloud_messages, object_messages
from .depth import Depth

POINTS = 'points'
# Labels end up to this share of a patch off the edge of a thing.
EDGE_PATCHES = 0.5


@dataclass(frozen=True)
class Scene:
    """A labelled image with its depth. Values that several outputs need are computed once."""

    it: LabelledFrame
    depth: Depth

    @cached_property
    def _to_labels(self) -> np.ndarray:
        """[2, 3]: pixels of the depth image -> pixels of the labels."""
        size = self.it.image.shape[:2]
        _, move = self.it.live.segmenter.view_geometry(size)
        return after(move, resized(self.depth.metres.shape, size))

    @cached_property
    def camera(self) -> Pinhole:
        """The camera of the labels' pixels."""
        return self.depth.camera.moved(self._to_labels)

    @cached_property
    def metres(self) -> np.ndarray:
        """The depth of each label pixel, [H, W] float32. NaN if it is not valid, or just behind an
        edge, where the label may be that of the thing in front."""
        metres, labels = self.depth.metres, self.it.result.labels
        sure = np.where(self._behind_edges, np.float32(np.nan), metres)
        return looked_up(sure, self._to_labels, labels.shape, np.nan)

    @cached_property
    def _behind_edges(self) -> np.ndarray:
        """True for pixels of the depth image just behind an edge, by `depth.edge_margin_px`."""
        return clouds.behind_edges(self.depth.metres, self._edge_margin)

    @property
    def _edge_margin(self) -> int:
        """`depth.edge_margin_px` as a number."""
        margin = self.it.options.depth.edge_margin_px
        if margin == 'none':
            return 0
        if margin == 'auto':
            patch = self.it.live.segmenter.patch_size(self.it.image.shape[:2])
            labels_per_depth = float(self._to_labels[0, 0])
            return round(EDGE_PATCHES * patch / labels_per_depth)
        return margin

    @cached_property
    def labels_of_depth(self) -> np.ndarray:
        """The label of each pixel of the depth image."""
        back, size = inverse(self._to_labels), self.depth.metres.shape
        return looked_up(self.it.result.labels, back, size, UNLABELED)

    @cached_property
    def points(self) -> np.ndarray:
        """The points, [H, W] of a `clouds.point_type`, including the unlabelled ones."""
        points = np.empty(self.metres.shape, clouds.point_type(self._labels.dtype))
        self._fill(points, self.metres)
        return points

    @cached_property
    def found(self) -> list[Found]:
        """The objects in the scene."""
        it, options = self.it, self.it.options
        return objects.find(
            it.result.labels,
            it.result.confidence,
            self.metres,
            self.camera,
            [c.id for c in it.live.words.classes if options.has_objects(c.name)],
            options.objects.depth_jump,
            options.objects.min_pixels,
        )

    @cached_property
    def _labels(self) -> np.ndarray:
        options = self.it.options
        return messages.published_labels(
            self.it.result, options.label_encoding, options.unlabeled_id
        )

    def _fill(self, points: np.ndarray, metres: np.ndarray) -> None:
        it = self.it
        clouds.fill(points, metres, self.camera, it.seen, self._labels, it.result.confidence)

    # Messages

    def cloud(self) -> PointCloud2:
        """Return a point for every pixel of the label mask, in the same rows and columns."""
        labels, metres = self._labels, self.metres
        if not self.it.options.points.unlabeled:
            metres = np.where(self.it.result.labels == UNLABELED, np.float32(np.nan), metres)
        message, points = cloud_messages.empty(labels.shape, labels.dtype, self.it.header)
        self._fill(points, metres)
        return message

    def group_cloud(self, group: Group) -> PointCloud2:
        """Return the points of a group of classes."""
        chosen = self._table(group).take(self.it.result.labels)
        return cloud_messages.cloud(clouds.selected(self.points, chosen), self.it.header)

    def target_depth(self) -> Image:
        """Return the depth image with only the target classes, without pixels behind an edge."""
        return self._depth_image(~self._target | self._behind_edges)

    def rest_depth(self) -> Image:
        """Return the depth image without the target classes and a margin around them."""
        depth, margin_m = self.depth, self.it.options.target.margin_m
        return self._depth_image(
            clouds.grown(depth.metres, self._target, depth.camera.fx, margin_m)
        )

    def depth_info(self) -> CameraInfo:
        """Return the intrinsics of the two depth images."""
        camera = self.depth.camera
        matrix = np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]])
        return messages.camera_info(self.depth.metres.shape, matrix, self.it.header)

    def objects(self) -> ObjectArray:
        """Return the objects in the scene."""
        version = self.it.live.version
        return object_messages.objects(self.found, self._names, version, self.it.header)

    def markers(self) -> MarkerArray:
        """Return the objects in the scene, for RViz."""
        return object_messages.markers(self.found, self.it.live.words.classes, self.it.header)

    def detections(self) -> Any:
        """Return the objects in the scene, as messages of vision_msgs."""
        return object_messages.detections(self.found, self._names, self.it.header)

    @property
    def _names(self) -> dict[int, str]:
        return {c.id: c.name for c in self.it.live.words.classes}

    @cached_property
    def _target(self) -> np.ndarray:
        """True for pixels of the depth image that belong to the target classes."""
        targets = Group('targets', self.it.options.target_classes)
        return self._table(targets).take(self.labels_of_depth)

    def _table(self, group: Group) -> np.ndarray:
        largest = np.iinfo(self.it.result.labels.dtype).max
        return group.table(self.it.live.words.classes, int(largest))

    def _depth_image(self, emptied: np.ndarray) -> Image:
        """Return the depth image as received, but empty at the `emptied` pixels [H, W] bool and at
        the invalid ones."""
        pixels = self.depth.pixels.copy()
        whole = pixels.dtype == np.uint16
        pixels[emptied | np.isnan(self.depth.metres)] = 0 if whole else np.nan
        return encodings.fill_image(Image(), pixels, '16UC1' if whole else '32FC1', self.it.header)


class SpaceOutputs:
    """The publishers of one camera that need depth."""

    def __init__(self, node: Node, prefix: str, options: NodeOptions):
        self._publishers = Publishers(node, prefix, options)
        kinds: dict[str, tuple[type, Callable[[Scene], Any]]] = {
            POINTS: (PointCloud2, Scene.cloud),
            'depth/target': (Image, Scene.target_depth),
            'depth/rest': (Image, Scene.rest_depth),
            'depth/camera_info': (CameraInfo, Scene.depth_info),
            'objects': (ObjectArray, Scene.objects),
            'objects/markers': (MarkerArray, Scene.markers),
        }
        if object_messages.Detection3DArray:
            kinds['detections'] = (object_messages.Detection3DArray, Scene.detections)
        for topic, (kind, _) in kinds.items():
            self._publishers.make(kind, topic)
        self._makers = {topic: make for topic, (_, make) in kinds.items()}
        self._groups: dict[str, Group] = {}

    def add_topics(self, topics: Iterable[str]) -> None:
        """Make a topic ~/points/TOPIC for each. Nothing is published on it yet."""
        for topic in topics:
            self._publishers.add(PointCloud2, f'points/{topic}')

    def switch(self, groups: Mapping[str, Group]) -> None:
        """Publish these clouds from now on: topic (already made) -> group of classes."""
        self._groups = {f'points/{topic}': group for topic, group in groups.items()}

    def drop_topics(self) -> None:
        """Destroy the topics of clouds that are no longer used."""
        self._publishers.keep(self._groups)

    def wanted(self) -> dict[str, Callable[[Scene], Any]]:
        """Return topic -> function that makes its message, for each topic that somebody listens
        to."""
        makers = self._makers | {
            topic: lambda scene, group=group: scene.group_cloud(group)
            for topic, group in self._groups.items()
        }
        return self._publishers.wanted(makers)

    def publish(self, messages: Mapping[str, Any]) -> dict[str, Exception]:
        """Publish messages by topic. Drop messages whose topic no longer exists. Return the errors
        by topic."""
        used = self._makers.keys() | self._groups.keys()
        return self._publishers.publish({t: messages[t] for t in messages if t in used})

    def destroy(self) -> None:
        """Destroy the publishers."""
        self._publishers.destroy()
