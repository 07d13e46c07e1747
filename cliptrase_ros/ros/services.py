"""The services of the node. Slow ones are coroutines: the executor goes on while they wait."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.exceptions import ParameterException
from rclpy.node import Node
from rclpy.parameter import Parameter
from std_srvs.srv import SetBool, Trigger

from ..errors import CliptraseError, did_you_mean
from ..media.encodings import ImageError
from ..model.preprocessing import check_image
from ..space.groups import Group
from ..srv import Segment, SetVocabulary
from ..words.vocabulary import WordClass, parse_entry
from . import messages, parameters
from .jobs import Jobs
from .live_words import LiveWords
from .outputs import LabelledFrame, Live
from .parameters import NodeOptions
from .space.depth import calibrated, depth_of
from .space.depth_outputs import Scene


class Services:
    """~/enable, ~/reload, ~/set_vocabulary and ~/segment.

    Every error becomes an answer. An error that leaves a callback would end the executor, and so
    the node. Errors that are not the caller's fault are also logged.

    Args:
        group: a reentrant group, so that other callbacks run while a service waits.
        enable: called with True to take images, with False to take none.
        to_rgb: image message -> [H, W, 3] uint8 RGB.
    """

    def __init__(
        self,
        node: Node,
        group: ReentrantCallbackGroup,
        words: LiveWords,
        enable: Callable[[bool], None],
        to_rgb: Callable[[Any], np.ndarray],
    ):
        self._node = node
        self._words = words
        self._enable_images = enable
        self._to_rgb = to_rgb
        for kind, name, handle in (
            (SetBool, 'enable', self._enable),
            (Trigger, 'reload', self._reload),
            (SetVocabulary, 'set_vocabulary', self._set_vocabulary),
            (Segment, 'segment', self._segment),
        ):
            node.create_service(kind, f'~/{name}', handle, callback_group=group)

    def _enable(self, request: SetBool.Request, response: SetBool.Response):
        try:
            self._enable_images(request.data)
        except Exception as error:  # see the class
            response.success, response.message = False, str(error)
            self._node.get_logger().error(f'cannot subscribe: {error}')
        else:
            response.success, response.message = True, 'enabled' if request.data else 'disabled'
        return response

    async def _reload(self, request: Trigger.Request, response: Trigger.Response):
        try:
            reason = await self._words.reload()
        except Exception as error:  # see the class
            reason = f'model not loaded: {error}'
            self._node.get_logger().error(reason)
        response.success, response.message = not reason, reason or 'loaded'
        return response

    async def _set_vocabulary(
        self, request: SetVocabulary.Request, response: SetVocabulary.Response
    ):
        try:
            entries = with_ids(request.prompts, request.class_ids)
            [result] = self._node.set_parameters([Parameter('vocabulary', value=entries)])
            reason = await self._words.follow() if result.successful else result.reason
        except Exception as error:  # see the class
            reason = self._told('vocabulary not changed', error)
        live = self._words.live
        response.success = not reason
        response.message = reason or (
            f'vocabulary {live.version}: {live.words.ids}'
            if live
            else 'accepted; used once the node is configured'
        )
        return response

    async def _segment(self, request: Segment.Request, response: Segment.Response):
        try:
            live, jobs = self._words.current, self._words.jobs
            return await jobs.run(self._answer, request, response, live, jobs)
        except Exception as error:  # see the class
            response.success = False
            response.message = self._told('image not segmented', error)
            return response

    def _told(self, outcome: str, error: Exception) -> str:
        """Return the answer for an error. Log errors that are not the caller's fault."""
        if not isinstance(error, (CliptraseError, ImageError, ParameterException)):
            self._node.get_logger().error(f'{outcome}: {type(error).__name__}: {error}')
        return str(error)

    def _answer(self, request: Segment.Request, response: Segment.Response, live: Live, jobs: Jobs):
        """Segment one image, on the thread of the jobs."""
        options = parameters.read_options(self._node, NodeOptions)
        header = request.image.header
        image = self._to_rgb(request.image)
        check_image(image)
        depth = None
        if request.depth.width or request.depth.data:
            if not calibrated(request.depth_info):
                raise CliptraseError(
                    'depth without intrinsics: fill in width, height and K or P of depth_info'
                )
            size = image.shape[:2]
            depth = depth_of(request.depth, request.depth_info, None, size, options)
        elif request.clouds:
            raise CliptraseError('clouds: points need depth; send a depth image with the image')
        if request.vocabulary:
            parsed = live.segmenter.check_vocabulary(
                request.vocabulary, request.background, self._words.ids(options)
            )
            words = live.segmenter.encode_words(*parsed, jobs.stopping)
            live = Live(live.segmenter, words, 0)
        groups = _asked_groups(request.clouds, live.words.classes, options)
        if depth and live.segmenter.settings.output_size == 'depth':
            live = live.sized(depth.metres.shape)
        result = live.segmenter(image, live.words)
        it = LabelledFrame(image, header, result, live, options, None)
        unlabeled, classes = options.unlabeled_id, live.words.classes
        response.label_mask = messages.label_mask(result, header, options.label_encoding, unlabeled)
        response.confidence = messages.confidence(result, header)
        response.masks = messages.class_masks(result, classes, live.version, header)
        response.vocabulary = messages.vocabulary(
            classes, live.words.background, live.version, header, unlabeled
        )
        if depth:
            scene = Scene(it, depth)
            response.points, response.objects = scene.cloud(), scene.objects()
            response.clouds = [scene.group_cloud(group) for group in groups]
        response.success = True
        return response


def _asked_groups(
    names: Sequence[str], classes: Sequence[WordClass], options: NodeOptions
) -> list[Group]:
    """Return the groups whose clouds are asked for. A class counts as a group of one class.

    Raises:
        CliptraseError: a name is neither a class nor a group, or a group names a class that is not
            in the vocabulary.
    """
    words = [c.name for c in classes]
    known = {name: Group(name, (name,)) for name in words}
    known |= {group.name: group for group in options.groups_by_topic.values()}
    for name in names:
        if name not in known:
            raise CliptraseError(
                f'clouds: {name!r} is neither a class nor a group.{did_you_mean(name, known)}'
            )
        missing = [one for one in known[name].classes if one not in words]
        if missing:
            raise CliptraseError(
                f'clouds: group {name!r} names class {missing[0]!r}, which is not in the vocabulary'
            )
    return [known[name] for name in names]


def with_ids(prompts: Sequence[str], class_ids: Sequence[int]) -> list[str]:
    """Return vocabulary entries with ids. For id 0 the entry gets no id; the node chooses one.

    Raises:
        CliptraseError: there are ids, but not one for each prompt, or a prompt has two.
    """
    if not class_ids:
        return list(prompts)
    if len(prompts) != len(class_ids):
        raise CliptraseError(
            f'{len(prompts)} prompts, but {len(class_ids)} class_ids: give one for each, or none'
        )
    pairs = list(zip(prompts, class_ids, strict=True))
    twice = [text for text, number in pairs if number and parse_entry(text)[0] is not None]
    if twice:
        raise CliptraseError(f'{twice[0]!r} has an id, and another in class_ids: give only one')
    return [f'{number}:{text}' if number else text for text, number in pairs]
