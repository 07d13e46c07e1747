#!/usr/bin/env python3
"""segmentation_node with the demo world's true labels in place of its own.

bench/costmap/truth.py PATCH_PX [--ros-args ...]

Everything after the labels is the node's own code: clouds, confidence (1.0), LabelInfo. Labels come
from ground_truth/label_mask, by the stamp of the image. PATCH_PX makes them those of a perfect
model that sees patches of this size: it knows the share of each class in each patch. So its labels
end some pixels beside the edges. 1: the labels are true.
"""

import dataclasses
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
from rclpy.time import Time
from sensor_msgs.msg import Image

sys.path.insert(0, str(Path(__file__).parents[2]))

from cells import coarse

from cliptrase_ros.demo.things import THINGS
from cliptrase_ros.ros import node
from cliptrase_ros.ros.frames import FrameWorker
from cliptrase_ros.segmenter import Segmentation
from cliptrase_ros.words.vocabulary import parse_vocabulary

TRUTH = '/ground_truth/label_mask'
PATIENCE_S, KEPT = 2.0, 20

truths: dict[int, np.ndarray] = {}
came = threading.Condition()


class TrueLabels(node.SegmentationNode):
    """The node, with a subscription to the true labels."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.create_subscription(Image, TRUTH, self._take_truth, KEPT)

    def _take_truth(self, message):
        pixels = np.frombuffer(message.data, np.uint8).reshape(message.height, message.width)
        with came:
            truths[stamp_of(message)] = pixels
            while len(truths) > KEPT:
                del truths[min(truths)]
            came.notify_all()


def stamp_of(message):
    """Return the stamp in nanoseconds."""
    return Time.from_msg(message.header.stamp).nanoseconds


def labelled(self, taken, encoded, live):
    """Replace the labels of FrameWorker._labelled by the true ones."""
    it, stamp = original(self, taken, encoded, live), stamp_of(taken.frame.message)
    with came:
        if not came.wait_for(lambda: stamp in truths, PATIENCE_S):
            raise RuntimeError(f'no {TRUTH} of the stamp {stamp} came within {PATIENCE_S} s')
        truth = truths[stamp]
    titles, _ = parse_vocabulary([thing.title for thing in THINGS])
    ids = np.zeros(256, np.uint8)
    for true, thing in zip(titles, THINGS, strict=True):
        ids[true.id] = thing.id_in(live.words.ids)
    labels = coarse(ids[truth], int(sys.argv[1]))
    height, width = it.result.labels.shape
    labels = cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST)
    return dataclasses.replace(it, result=Segmentation(labels, (labels > 0).astype(np.float32)))


original = FrameWorker._labelled

if __name__ == '__main__':
    FrameWorker._labelled, node.SegmentationNode = labelled, TrueLabels
    sys.exit(node.main())
