"""The image topics of a recording: which exist, which are labelled, and how the outputs are named
(as the node would name them)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from rosbags.serde import SerdeError

from ..errors import ImageError, PictureError, did_you_mean
from ..media import compressed, encodings
from ..video.steady import Steady
from . import output_messages
from .channel import Channel, Message
from .image_types import DECODERS, RAW_TYPES, image_message, pixels
from .reader import Recording

# Encodings of depth images and other images without colour.
GREY = {'8UC1', *encodings.DEPTH_ENCODINGS, 'mono8'}
# How many messages of a topic are tried before its images count as unreadable.
TRIED = 20
# How many topics without images an error lists.
LISTED = 20


class ImageTopic(NamedTuple):
    """An image topic.

    Attributes:
        encoding: encoding or format of its first readable message; '' if there is none.
        messages: how many it has.
        problem: why its images cannot be read; '' if one can be read.
    """

    channel: Channel
    encoding: str
    messages: int
    problem: str = ''

    @property
    def grey(self) -> bool:
        """Whether it says that its images are depth, video or without colour."""
        if self._raw:
            return encodings.name_of(self.encoding) in GREY
        depth = self.channel.topic.endswith('/compressedDepth')
        return depth or not compressed.may_have_colour(self.encoding)

    @property
    def _raw(self) -> bool:
        return self.channel.type in RAW_TYPES

    @property
    def colour(self) -> bool:
        """Whether its images are in colour and can be read; such a topic is the default choice."""
        return not (self.problem or self.grey)

    def __str__(self) -> str:
        what = f', {self.encoding}' if self.encoding else ''
        text = _described(self.channel, what, self.messages)
        if not self.problem or (self._raw and self.grey):
            return text
        tried = f'its first {TRIED} images' if self.messages > TRIED else 'its images'
        return f'{text}: cannot read {tried}: {self.problem}'


def _described(channel: Channel, what: str, count: int) -> str:
    return f'{channel.topic} ({channel.type}{what}, {count} messages)'


def image_topics(recording: Recording) -> list[ImageTopic]:
    """Return the image topics that have messages."""
    return [
        _image_topic(recording, channel, count)
        for channel, count in recording.counts.items()
        if channel.type in DECODERS and next(recording.of(channel), None)
    ]


def _image_topic(recording: Recording, channel: Channel, count: int) -> ImageTopic:
    encoding, problem = '', ''
    for message in islice(recording.of(channel), TRIED):
        try:
            content = image_message(message.data, channel)
            found = content.encoding if hasattr(content, 'encoding') else content.format
            encoding = encoding or found
            pixels(content, channel)
        except ImageError as error:
            problem = problem or str(error)
        else:
            return ImageTopic(channel, found, count)
    return ImageTopic(channel, encoding, count, problem)


def chosen(recording: Recording, topics: Sequence[str]) -> list[Channel]:
    """Return the channels of these topics. If none are given, return the only one in colour.

    Raises:
        PictureError: a topic does not exist; or none is given and the recording has no colour
            topic that can be read, or several.
    """
    found = image_topics(recording)
    if not topics:
        colours = [it.channel for it in found if it.colour]
        if len(colours) == 1:
            return colours
        what = 'several topics of colour images' if colours else 'no topic of colour images'
        readable = any(not it.problem or it.messages > TRIED for it in found)
        choose = '. Choose one with --topic' if readable else ''
        raise PictureError(f'{recording.path} has {what}{_listing(recording, found)}{choose}')
    named = {it.channel.topic: it.channel for it in found}
    for topic in topics:
        if topic not in named:
            kinds = {channel.type for channel in recording.counts if channel.topic == topic}
            what = f': its type is {", ".join(kinds)}' if kinds else ''
            raise PictureError(
                f'{recording.path} has no image topic {topic!r}{what}{_listing(recording, found)}.'
                f'{did_you_mean(topic, named)}'
            )
    return [named[topic] for topic in dict.fromkeys(topics)]


def _listing(recording: Recording, found: Sequence[ImageTopic]) -> str:
    """Return what an error tells of the topics: those with images; all if none can be read."""
    told = f': its image topics are {"; ".join(map(str, found))}'
    if not found:
        told = f': images are read from {", ".join(DECODERS)}'
    if any(not it.problem for it in found):
        return told
    images = {it.channel for it in found}
    others = [_described(c, '', n) for c, n in recording.counts.items() if c not in images]
    if len(others) > LISTED:
        others[LISTED:] = [f'{len(others) - LISTED} more']
    kind = 'Its other topics' if found else 'Its topics'
    listed = f'{kind} are {"; ".join(others) or "none"}'
    return '. '.join([told, listed, *recording.problems[:LISTED]])


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
        self.steady = Steady()
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
        try:
            content = image_message(message.data, self.channel)
            image = pixels(content, self.channel)
        except ImageError as error:
            return CameraMessage(message, self, reason=str(error))
        return CameraMessage(message, self, content, image)
