"""The image topics of a recording: which exist, which are labelled, and how the outputs are named
(as the node would name them)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from rosbags.serde import SerdeError

from ..errors import PictureError, ShapeError, did_you_mean
from ..media import encodings
from ..model.preprocessing import check_image
from ..video.roster import Roster
from ..video.smoothing import Smoother
from . import output_messages
from .channel import Channel, Data, Message
from .reader import Recording

DECODERS: dict[str, Callable[[Any], np.ndarray]] = {
    output_messages.IMAGE: encodings.to_rgb,
    output_messages.COMPRESSED_IMAGE: encodings.compressed_to_rgb,
}
# Encodings of depth images and other images without colour.
GREY = {'8UC1', *encodings.DEPTH_ENCODINGS, 'mono8'}


class ImageTopic(NamedTuple):
    """An image topic.

    Attributes:
        encoding: of its first message; '' if that message cannot be read.
        messages: how many it has.
    """

    channel: Channel
    encoding: str
    messages: int

    @property
    def colour(self) -> bool:
        """Whether its images are in colour; such a topic is the default choice."""
        if self.channel.type == output_messages.IMAGE:
            return self.encoding in encodings.ENCODINGS and self.encoding not in GREY
        first, _, packing = self.encoding.rpartition(';')
        kinds = ('jpeg', 'jpg', 'png')
        return (
            first not in GREY
            and packing.strip().lower().startswith(kinds)
            and ('compresseddepth' not in packing.lower())
        )

    def __str__(self) -> str:
        what = f', {self.encoding}' if self.encoding else ''
        return f'{self.channel.topic} ({self.channel.type}{what}, {self.messages} messages)'


def image_topics(recording: Recording) -> list[ImageTopic]:
    """Return the image topics that have messages."""
    found = []
    for channel, count in recording.counts.items():
        first = next(recording.of(channel), None) if channel.type in DECODERS else None
        if first is not None:
            found.append(ImageTopic(channel, _encoding(first.data, channel.type), count))
    return found


def _encoding(data: Data, kind: str) -> str:
    try:
        message = output_messages.deserialize(data, kind)
    except SerdeError:
        return ''
    return message.encoding if kind == output_messages.IMAGE else message.format


def chosen(recording: Recording, topics: Sequence[str]) -> list[Channel]:
    """Return the channels of these topics. If none are given, return the only one in colour.

    Raises:
        PictureError: a topic does not exist; or none is given and the recording has no colour
            topic, or several.
    """
    found = image_topics(recording)
    listed = 'its image topics are ' + '; '.join(map(str, found)) if found else 'it has no images'
    if not topics:
        colours = [it.channel for it in found if it.colour]
        if len(colours) == 1:
            return colours
        what = 'several topics' if colours else 'no topic'
        raise PictureError(
            f'{recording.path} has {what} of colour images: {listed}. Choose one with --topic'
            if found
            else f'{recording.path}: {listed}'
        )
    named = {it.channel.topic: it.channel for it in found}
    for topic in topics:
        if topic not in named:
            hint = did_you_mean(topic, named)
            raise PictureError(f'{recording.path} has no image topic {topic!r}: {listed}.{hint}')
    return [named[topic] for topic in dict.fromkeys(topics)]


def beside(topic: str, name: str) -> str:
    """Return the topic `name` in the namespace of an image topic, raw or compressed."""
    return str(PurePosixPath(topic.removesuffix('/compressed')).parent / name)


def camera_names(topics: Sequence[str]) -> list[str]:
    """Return the name of each camera that the node uses in its topics.

    A single camera has no name. For several, the name is the topic without its last part:
    /front/image_raw gives 'front/'. If two of these names are equal or one is empty, the whole
    topics are used; if these are equal or empty too, numbers.
    """
    if len(topics) == 1:
        return ['']
    short = [_name(beside(topic, '')) for topic in topics]
    whole = [_name(topic) for topic in topics]
    numbered = [f'camera_{n}' for n in range(1, len(topics) + 1)]
    tried = (short, whole, numbered)
    found = next(them for them in tried if all(them) and len(set(them)) == len(them))
    return [f'{name}/' for name in found]


def _name(topic: str) -> str:
    name = re.sub('[^A-Za-z0-9_]+', '_', topic).strip('_')
    return f'camera_{name}' if name[:1].isdigit() else name


class CameraMessage(NamedTuple):
    """A message of the recording, with its image if that must be labelled.

    Attributes:
        stream: of an image to label; None for other messages.
        content: the deserialised image message.
        image: [H, W, 3] uint8 RGB; None if it cannot be read.
        reason: why the image cannot be read, or ''.
    """

    message: Message
    stream: ImageStream | None = None
    content: Any = None
    image: np.ndarray | None = None
    reason: str = ''


class ImageStream:
    """An image topic, and the names of its outputs."""

    def __init__(self, recording: Recording, channel: Channel, prefix: str, every: int):
        self.channel = channel
        self.prefix = prefix
        self.smooth, self.roster = Smoother(), Roster()
        self.info: Any = None
        self.info_topic = beside(channel.topic, 'camera_info')
        self._every = every
        self._seen = 0
        for other in recording.counts:
            # The first valid calibration also counts for the images before it: drivers send empty
            # ones until they have read theirs.
            if other.topic == self.info_topic and other.type == output_messages.CAMERA_INFO:
                found = recording.of(other)
                while self.info is None and (message := next(found, None)):
                    self.take_info(message)

    def take_info(self, message: Message) -> None:
        """Keep the calibration of a message if it is valid."""
        try:
            info = output_messages.deserialize(message.data, output_messages.CAMERA_INFO)
        except SerdeError:
            return
        if info.width and info.height:
            self.info = info

    def read(self, message: Message) -> CameraMessage:
        """Return a message of this topic, with its image if that must be labelled."""
        self._seen += 1
        if (self._seen - 1) % self._every:
            return CameraMessage(message)
        kind = self.channel.type
        try:
            content = output_messages.deserialize(message.data, kind)
            image = DECODERS[kind](content)
            check_image(image)
        except (SerdeError, encodings.ImageError, ShapeError) as error:
            return CameraMessage(message, self, reason=str(error))
        return CameraMessage(message, self, content, image)
