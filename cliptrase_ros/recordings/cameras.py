"""Which topics of a recording are images, which of them to label, and how the node would name their
outputs."""

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
from ..video.smoothing import Smoother
from . import output_messages
from .channel import Channel, Data, Message
from .reader import Recording

DECODERS: dict[str, Callable[[Any], np.ndarray]] = {
    output_messages.IMAGE: encodings.to_rgb,
    output_messages.COMPRESSED_IMAGE: encodings.compressed_to_rgb,
}
# Depth, and what shows no colours.
GREY = {'8UC1', *encodings.DEPTH_ENCODINGS, 'mono8'}


class ImageTopic(NamedTuple):
    """A topic of images; encoding: of its first message, '' if that cannot be read."""

    channel: Channel
    encoding: str
    messages: int

    @property
    def colour(self) -> bool:
        """Whether it is labelled unless others are."""
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
    """The topics of images that have any."""
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
    """The channels of these topics; without any, of the only one in colour.

    Raises:
        PictureError: there is no such topic, or not one only.
    """
    found = image_topics(recording)
    listed = 'its image topics are ' + '; '.join(map(str, found)) if found else 'it has no images'
    if not topics:
        colours = [it.channel for it in found if it.colour]
        if len(colours) == 1:
            return colours
        what = 'several topics' if colours else 'no topic'
        raise PictureError(
            f'{recording.path} has {what} of colour images: {listed}. Say which one, by --topic'
            if found
            else f'{recording.path}: {listed}'
        )
    named = {it.channel.topic: it.channel for it in found}
    for topic in topics:
        if topic not in named:
            hint = did_you_mean(topic, named)
            raise PictureError(f'{recording.path} has no images on {topic!r}: {listed}.{hint}')
    return [named[topic] for topic in dict.fromkeys(topics)]


def beside(topic: str, name: str) -> str:
    """A topic next to that of an image, raw or compressed."""
    return str(PurePosixPath(topic.removesuffix('/compressed')).parent / name)


def camera_names(topics: Sequence[str]) -> list[str]:
    """The node's name of each camera as part of topics: none of a single one; of several what
    stands before the last part, /front/image_raw being front; all of it where two would be alike;
    and numbers where even these are."""
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
    """A message; of an image to be labelled also what was read of it, or why it cannot be."""

    message: Message
    stream: ImageStream | None = None
    content: Any = None
    image: np.ndarray | None = None
    reason: str = ''


class ImageStream:
    """A topic of images, and the names of its outputs."""

    def __init__(self, recording: Recording, channel: Channel, prefix: str, every: int):
        self.channel = channel
        self.prefix = prefix
        self.smooth = Smoother()
        self.info: Any = None
        self.info_topic = beside(channel.topic, 'camera_info')
        self._every = every
        self._seen = 0
        for other in recording.counts:
            # One that comes after the first image is that of the first image, too; drivers send
            # empty ones until they have read theirs.
            if other.topic == self.info_topic and other.type == output_messages.CAMERA_INFO:
                found = recording.of(other)
                while self.info is None and (message := next(found, None)):
                    self.take_info(message)

    def take_info(self, message: Message) -> None:
        """Keep a calibration, if that is what it is."""
        try:
            info = output_messages.deserialize(message.data, output_messages.CAMERA_INFO)
        except SerdeError:
            return
        if info.width and info.height:
            self.info = info

    def read(self, message: Message) -> CameraMessage:
        """A message of this topic, with its image if that is to be labelled."""
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
