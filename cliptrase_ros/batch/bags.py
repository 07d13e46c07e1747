"""Label the images of a ROS recording, without ROS. The new recording has every old message, and
for each image the messages that the node would publish."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.rosbag2 import Writer

from ..errors import PictureError, SettingError
from ..media import drawing
from ..overlap import prefetched
from ..recordings import OVERLAYS, output_messages
from ..recordings.cameras import CameraMessage, ImageStream, camera_names, chosen
from ..recordings.channel import LATCHED, OUTPUT
from ..recordings.reader import Recording, moment
from ..recordings.writer import Output, written
from ..segmenter import Segmentation, Segmenter
from ..space.geometry import calibrated_size, fits
from ..words.vocabulary import Vocabulary

# How many messages are read ahead; the next image is usually among them.
AHEAD = 8
# A file in the new recording with the sentences about what was skipped, if there are any.
SKIPPED = 'skipped.json'

Progress = Callable[[Iterable[Any], int], Iterable[Any]]


@dataclass(frozen=True)
class Report:
    """The result of labelling one recording.

    Attributes:
        images: how many were labelled.
        skipped: sentences about what could not be used.
        messages: how many were copied.
        topics: {new topic: number of its messages}.
    """

    images: int
    skipped: tuple[str, ...]
    messages: int
    topics: dict[str, int]

    @property
    def complete(self) -> bool:
        """Whether nothing was skipped."""
        return not self.skipped


@dataclass(frozen=True)
class BagOptions:
    """How a recording is labelled; see `label_bag`."""

    topics: Sequence[str]
    every: int
    limit: int | None
    overlay: str
    prefix: str
    smoothing: float

    def __post_init__(self):
        if self.overlay not in OVERLAYS:
            raise SettingError(f'overlay: {self.overlay!r} is not one of {", ".join(OVERLAYS)}')
        if self.every < 1 or (self.limit is not None and self.limit < 1):
            raise SettingError('every: expected 1 or more; limit: expected 1 or more, or None')
        if not 0 <= self.smoothing < 1:
            raise SettingError(f'smoothing: expected 0 .. 0.99, got {self.smoothing:g}')
        if not re.fullmatch('(/[A-Za-z_][A-Za-z0-9_]*)+', self.prefix):
            raise SettingError(f'prefix: expected /NAME or /NAME/NAME, got {self.prefix!r}')


def label_bag(
    source: Path,
    target: Path,
    segmenter: Segmenter,
    words: Vocabulary,
    *,
    topics: Sequence[str] = (),
    every: int = 1,
    limit: int | None = None,
    overlay: str = 'compressed',
    prefix: str = '/segmentation',
    smoothing: float = 0.0,
    force: bool = False,
    progress: Progress = lambda items, total: items,
) -> Report:
    """Copy a recording to a new ROS 2 bag folder (MCAP), and label its images.

    The sentences about what was skipped are also written to the file SKIPPED in the folder.

    Args:
        source: a ROS 1 .bag, or a ROS 2 folder, .mcap or .db3 file.
        target: the new folder.
        topics: image topics to label; if empty, the only one in colour.
        every: label the first and then each Nth image of a topic.
        limit: end the new recording with the Nth labelled image; None: copy the whole recording.
        overlay: compressed (JPEG), raw or none.
        prefix: first part of the names of the new topics.
        smoothing: weight of the scores of the images before, 0 .. 0.99.
        force: replace an existing recording.
        progress: gets the messages and their number, and yields the messages one by one.

    Raises:
        PictureError: nothing can be read, the topic is ambiguous or has no image, or the target
            exists.
        SettingError: an option is out of range.
        OSError: the target cannot be written; no partial folder is left.
    """
    options = BagOptions(topics, every, limit, overlay, prefix, smoothing)
    check_paths(source, target, force)
    with Recording(source) as recording, written(target.resolve()) as writer:
        run = _Run(recording, writer, segmenter, words, options)
        total = sum(recording.counts.values())
        with closing(prefetched(run.items(), AHEAD)) as items:
            for item in progress(items, total):
                run.take(item)
                if run.images == limit:
                    break
        report = run.report()
        if report.skipped:
            (writer.path / SKIPPED).write_text(json.dumps(report.skipped, indent=1) + '\n')
        return report


def check_paths(source: Path, target: Path, force: bool) -> None:
    """Check that the source exists and that writing the target destroys nothing.

    Raises:
        PictureError: there is no source; or the target has the suffix of a file, exists already,
            or overlaps with the source.
    """
    if not source.exists():
        raise PictureError(f'no file or folder {source}')
    if target.suffix in ('.bag', '.mcap', '.db3'):
        raise PictureError(
            f'{target}: the new recording is a folder; use a name without {target.suffix}'
        )
    old, new = source.resolve(), target.resolve()
    if old == new or old in new.parents or new in old.parents:
        raise PictureError(
            f'{target} is the recording itself, in it or around it; choose another folder'
        )
    if not (target.exists() or target.is_symlink()):
        return
    if not force:
        raise PictureError(
            f'{target} exists already; choose another folder, or add --force to replace it'
        )
    if not (target / 'metadata.yaml').is_file():
        raise PictureError(
            f'{target} exists already and is not a recording: not replaced; choose another folder'
        )


class _Run:
    """The copying and labelling of one recording."""

    def __init__(
        self,
        recording: Recording,
        writer: Writer,
        segmenter: Segmenter,
        words: Vocabulary,
        options: BagOptions,
    ):
        self._recording, self._options = recording, options
        self._segmenter, self._words = segmenter, words
        self._out = Output(recording, writer)
        channels = chosen(recording, options.topics)
        self._streams = {
            channel: ImageStream(recording, channel, f'{options.prefix}/{name}', options.every)
            for channel, name in zip(
                channels, camera_names([c.topic for c in channels]), strict=True
            )
        }
        self._out.add(f'{options.prefix}/vocabulary', output_messages.VOCABULARY_TYPE, LATCHED)
        for stream in self._streams.values():
            for topic, kind in self._topics(stream):
                self._out.add(topic, kind, OUTPUT)
        self.images = 0
        self._copied = 0
        self._skipped: list[str] = []

    def _topics(self, stream: ImageStream) -> Iterator[tuple[str, str]]:
        yield f'{stream.prefix}label_mask', output_messages.IMAGE
        yield f'{stream.prefix}confidence', output_messages.IMAGE
        if self._options.overlay == 'raw':
            yield f'{stream.prefix}overlay', output_messages.IMAGE
        elif self._options.overlay == 'compressed':
            yield f'{stream.prefix}overlay/compressed', output_messages.COMPRESSED_IMAGE
        if stream.info is not None:
            yield f'{stream.prefix}camera_info', output_messages.CAMERA_INFO

    def items(self) -> Iterator[CameraMessage]:
        """Yield the messages of the recording, with the images to label."""
        for message in self._recording.messages():
            stream = self._streams.get(message.channel)
            yield stream.read(message) if stream else CameraMessage(message)

    def take(self, item: CameraMessage) -> None:
        """Copy a message; label it if it has an image."""
        message = item.message
        if item.image is not None and not self.images:
            vocabulary = output_messages.vocabulary(self._words, item.content.header.stamp)
            self._out.write(f'{self._options.prefix}/vocabulary', message.time, vocabulary)
        self._out.copy(message)
        self._copied += 1
        if item.stream and item.image is not None:
            self._label(item, item.stream, item.image)
            self.images += 1
        elif item.stream:
            self._skipped.append(
                f'{message.channel.topic}: the image of {moment(message.time)} is skipped: '
                f'{item.reason}'
            )
        for stream in self._streams.values():
            topic, kind = stream.info_topic, output_messages.CAMERA_INFO
            # Without a calibration at the start there is no topic for the new one.
            if stream.info and (message.channel.topic, message.channel.type) == (topic, kind):
                stream.take_info(message)

    def _label(self, item: CameraMessage, stream: ImageStream, image: np.ndarray) -> None:
        segmenter = self._segmenter
        encoded = segmenter.encode(image)
        smoothing = self._options.smoothing
        scores, present = stream.steady(segmenter, encoded, self._words, smoothing, None)
        result = segmenter.label(encoded, self._words, scores, present)
        header = item.content.header
        for topic, message in self._outputs(stream, image, result, header):
            self._out.write(topic, item.message.time, message)

    def _outputs(
        self, stream: ImageStream, image: np.ndarray, result: Segmentation, header: Any
    ) -> Iterator[tuple[str, Any]]:
        yield f'{stream.prefix}label_mask', output_messages.label_mask(result, header)
        confidence = output_messages.image(result.confidence_bytes, 'mono8', header)
        yield f'{stream.prefix}confidence', confidence
        if self._options.overlay != 'none':
            pixels = self._segmenter.view(image)
            pixels = drawing.overlay(pixels, result.labels, self._words)
            if self._options.overlay == 'raw':
                yield f'{stream.prefix}overlay', output_messages.image(pixels, 'rgb8', header)
            else:
                yield f'{stream.prefix}overlay/compressed', output_messages.jpeg(pixels, header)
        image_size = image.shape[:2]
        if stream.info is not None and self._fits(stream, image_size):
            size, matrix = self._segmenter.view_geometry(image_size)
            info = output_messages.camera_info(stream.info, image_size, size, matrix, header)
            yield f'{stream.prefix}camera_info', info

    def _fits(self, stream: ImageStream, image_size: tuple[int, int]) -> bool:
        """Return True if the calibration is for these images. If not, note it once for a topic."""
        info = stream.info
        if fits(info, image_size):
            return True
        expected = calibrated_size(info)
        note = (
            f'{stream.info_topic} is for images of {expected[1]} x {expected[0]} px, those on '
            f'{stream.channel.topic} have {image_size[1]} x {image_size[0]} px, which is not the '
            'same view in another size. Their labels have no camera_info'
        )
        if note not in self._skipped:
            self._skipped.append(note)
        return False

    def report(self) -> Report:
        """Return the result.

        Raises:
            PictureError: no image could be labelled.
        """
        skipped = (*self._recording.problems, *self._skipped)
        if not self.images:
            topics = ', '.join(stream.channel.topic for stream in self._streams.values())
            reasons = ''.join(f'; {sentence}' for sentence in skipped[:3])
            raise PictureError(f'no image of {topics} could be labelled{reasons}')
        return Report(self.images, skipped, self._copied, dict(self._out.counts))
