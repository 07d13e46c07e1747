"""Follows the parameters: which words and settings are live, and the ids and topics of names."""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass

from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.task import Future
from std_msgs.msg import Header

from ..errors import Cancelled, SettingError
from ..msg import Vocabulary as VocabularyMessage
from ..segmenter import Segmenter
from ..settings import IMAGE, LABELS, WORDS, Settings, scope_names
from ..words.check import not_english
from ..words.vocabulary import Ids, Vocabulary, WordClass, parse_vocabulary
from . import diagnostics, messages, parameters
from .configured import configured
from .jobs import Jobs
from .label_info import LabelInfoTopic
from .outputs import Live
from .parameters import NodeOptions
from .qos import LATCHED
from .statistics import Statistics
from .stream import Stream
from .topic_names import topic_names
from .wanted import Wanted, applied, missing_names, prepared, ready, wanted


@dataclass
class Opened:
    """What exists from `open` to `close`.

    Attributes:
        base: has the model that encodes new words: the live one, or the one that replaces it soon.
    """

    jobs: Jobs
    base: Segmenter
    vocabulary: Publisher
    label_info: LabelInfoTopic | None = None


# Each word has two topics for each camera, and making one takes up to a millisecond. Between
# groups of this many words the executor takes images.
TOPICS_AT_ONCE = 5
# (H, W) to prepare for if no image has come yet.
TYPICAL_SIZE = (480, 640)


class LiveWords:
    """Follows the parameters.

    Only the executor's thread may call it. Other threads may read `live` and ask
    `label_info_has_led`. Before they publish a mask they hold `switch` and check that `live` is
    still what they labelled with. So no mask follows a vocabulary that does not describe it.
    """

    def __init__(self, node: Node, streams: list[Stream], statistics: Statistics):
        self.live: Live | None = None
        self.switch = threading.RLock()
        self.last_error = ''
        self._node = node
        self._streams = streams
        self._statistics = statistics
        # Of every word that was ever used: ids and topics never change.
        self._known_ids: dict[str, int] = {}
        self._topics: dict[str, str] = {}
        self._version = 0
        self._opened: Opened | None = None
        # The newest change, and the one that is live.
        self._wanted: Wanted | None = None
        self._taken: Wanted | None = None
        # The parameters that were applied at once.
        self._applied: tuple | None = None
        self._announcing = False
        self._doubts: list[str] = []

    @property
    def current(self) -> Live:
        """`live`; an error if the node is not configured."""
        return configured(self.live)

    @property
    def jobs(self) -> Jobs:
        """The thread for slow work; an error if the node is not configured."""
        return configured(self._opened).jobs

    def open(self, jobs: Jobs) -> None:
        """Load the model, encode the words and make the topics.

        Raises:
            CliptraseError: one of these failed.
        """
        make = self._node.create_publisher
        options, settings = self._parameters()
        base = ready(settings)
        classes, background = self._reserve(base, options)
        words = base.encode_words(classes, background, jobs.stopping)
        opened = Opened(jobs, base, make(VocabularyMessage, '~/vocabulary', LATCHED))
        self._opened = opened
        if messages.LabelInfo:
            opened.label_info = LabelInfoTopic(self._node)
        self._wanted = self._taken = wanted(options, settings, base, Future())
        self._wanted.outcome.set_result('')
        self._go_live(base, words)

    def close(self) -> None:
        """Free the model and destroy the topics."""
        if self._opened:
            self._node.destroy_publisher(self._opened.vocabulary)
            if self._opened.label_info:
                self._opened.label_info.destroy()
        self._opened = self._wanted = self._taken = self.live = None

    def announce(self, yes: bool = True) -> None:
        """Publish the words now and with each change, or stop that."""
        self._announcing = yes
        if yes:
            self._publish_vocabulary(self.current)
            self._publish_label_info(self.current)

    def label_info_has_led(self, lead_s: float) -> bool:
        """Return True if `~/label_info` came to each of its subscribers `lead_s` seconds ago, or if
        there is no such topic."""
        topic = self._opened and self._opened.label_info
        return not topic or topic.has_led(lead_s)

    def ids(self, options: NodeOptions) -> Ids:
        """Return the ids that are taken, and their limits."""
        return Ids(self._known_ids, options.largest_id, options.unlabeled_id)

    def check(self, options: NodeOptions, settings: Settings, changed: Collection[str]) -> None:
        """Raise if these parameters cannot be used.

        Args:
            changed: names of the parameters that are new.

        Raises:
            VocabularyError: a word is bad.
            SettingError, UnsupportedBackbone: a setting does not fit the model.
        """
        base = self._opened.base if self._opened else None
        if base and not set(changed).isdisjoint(scope_names(IMAGE)):
            base.check(settings)
        if not set(changed).isdisjoint({'vocabulary', 'background', *scope_names(WORDS)}):
            self._parse(_of_words(base, settings) if base else None, options)

    async def follow(self) -> str:
        """Apply the parameters. Return '' once they are live, or the reason why they are not."""
        opened, live = self._opened, self.live
        if not opened or not live:
            return ''  # the next configuration reads them
        options, settings = self._parameters()
        if self._applied != applied(options, settings):
            # Thresholds that do not fit the live method are applied together with the new method.
            with suppress(SettingError):
                self._go_live(live.segmenter, live.words)
        outcome = Future(executor=self._node.executor)
        newest, change = self._wanted, wanted(options, settings, opened.base, outcome)
        if newest and newest == change:
            return await newest.outcome
        self._wanted = change
        # Without a callback it does not wake the executor.
        outcome.add_done_callback(lambda _: None)
        try:
            reason = await self._take_over(opened, change, options, settings)
        except Exception as error:  # of any kind: others wait for the outcome too
            reason = self._failed(opened, change, error)
        outcome.set_result(reason)
        return reason

    async def reload(self) -> str:
        """Load the model again while images go on with the old one. Return '' or why it failed."""
        jobs = self.jobs
        base = await jobs.run(ready, self._parameters()[1])
        opened = self._opened
        if not opened or opened.jobs is not jobs:
            raise Cancelled('the node was cleaned up')
        opened.base = base
        return await self.follow()

    async def _take_over(
        self, opened: Opened, change: Wanted, options: NodeOptions, settings: Settings
    ) -> str:
        jobs, taken = opened.jobs, self._taken
        same = taken and (taken.words, taken.backbone) == (change.words, change.backbone)
        # Ids are reserved before the first wait, so that no later change can claim them.
        parsed = None if same else self._reserve(_of_words(opened.base, settings), options)
        sizes = {stream.size for stream in self._streams if stream.size} or {TYPICAL_SIZE}
        base = await jobs.run(prepared, opened.base, settings, sizes)
        words = await self._encoded(jobs, base, change, *parsed) if parsed else self.current.words
        if self._wanted is not change:
            newest = self._wanted
            # The newer change has the same words, with another model or method.
            if newest and newest.words == change.words:
                return await newest.outcome
            return 'a newer change came before this one was live'
        self._taken, opened.base = change, base
        self._go_live(base, words)
        log = self._node.get_logger()
        if not same:
            log.info(f'vocabulary {self._version}: {", ".join(c.name for c in words.classes)}')
        if taken and taken.image != change.image:
            old, new = taken.image.flat(), change.image.flat()
            changed = ', '.join(f'{name} {new[name]}' for name in new if new[name] != old[name])
            log.info(f'images are labelled with {changed}')
        return ''

    async def _encoded(
        self,
        jobs: Jobs,
        base: Segmenter,
        change: Wanted,
        classes: tuple[WordClass, ...],
        background: tuple[str, ...],
    ) -> Vocabulary:
        """Encode the words and make their topics."""
        words = await jobs.run(base.encode_words, classes, background, jobs.stopping)
        for first in range(0, len(classes), TOPICS_AT_ONCE):
            if self._wanted is change:
                self._add_topics(classes[first : first + TOPICS_AT_ONCE])
                await jobs.run(lambda: None)  # lets the executor take images
        return words

    def _failed(self, opened: Opened, change: Wanted, error: Exception) -> str:
        reason = f'the change was not applied: {error}'
        if self._opened is opened and not opened.jobs.stopping():
            if self._wanted is change:
                # The same parameters may be set again; this retries with the live model.
                self._wanted, opened.base = None, self.current.segmenter
            self.last_error = reason
            self._statistics.count(diagnostics.VOCABULARY_ERRORS)
            self._node.get_logger().error(reason)
        return reason

    def _parameters(self) -> tuple[NodeOptions, Settings]:
        return parameters.read_options(self._node, NodeOptions), parameters.read_options(
            self._node, Settings
        )

    def _parse(self, segmenter: Segmenter | None, options: NodeOptions) -> tuple:
        """Return (classes, background words) of the parameters."""
        check = segmenter.check_vocabulary if segmenter else parse_vocabulary
        return check(options.vocabulary, options.background_words, self.ids(options))

    def _reserve(self, segmenter: Segmenter, options: NodeOptions) -> tuple:
        """Do the same as _parse, and reserve the ids for good."""
        classes, background = self._parse(segmenter, options)
        self._known_ids.update((c.name, c.id) for c in classes)
        return classes, background

    def _add_topics(self, classes: Sequence[WordClass]) -> None:
        """Make the topics of classes that have none yet."""
        self._topics = topic_names(classes, self._topics)
        for stream in self._streams:
            stream.add_topics([self._topics[c.name] for c in classes])

    def _go_live(self, segmenter: Segmenter, words: Vocabulary) -> None:
        """Label images with this from now on, with the thresholds and colours of the parameters.

        Raises:
            SettingError: the thresholds do not fit the method.
        """
        options, settings = self._parameters()
        segmenter = segmenter.replace(**settings.of_scope(LABELS))
        words = words.recolored(options.colors_by_name)
        old = self.live
        new = (
            not old
            or old.words.embeddings is not words.embeddings
            or old.words.classes != words.classes
        )
        self._version += new
        self._applied = applied(options, settings)
        live = Live(segmenter, words, self._version)
        self._add_topics(words.classes)
        by_topic = {self._topics[c.name]: c for c in words.classes}
        groups = options.groups_by_topic
        for stream in self._streams:
            stream.add_topics((), groups)
        with self.switch:
            self.live = live
            for stream in self._streams:
                stream.switch(by_topic, groups)
            if new and self._announcing:
                self._publish_vocabulary(live)
        if self._announcing:
            self._publish_label_info(live)
        for stream in self._streams:
            stream.drop_topics()
        self._warn_of_words(segmenter, words.classes, options)

    def _warn_of_words(
        self, segmenter: Segmenter, classes: Sequence[WordClass], options: NodeOptions
    ) -> None:
        """Warn about each new name in `points`, `target` and `objects` that is no class, and about
        words that are not English."""
        prompts = [prompt for c in classes for prompt in c.prompts]
        doubts = missing_names(options, [c.name for c in classes])
        doubts.append(not_english(prompts, segmenter.word_encoder.text))
        for sentence in doubts:
            if sentence and sentence not in self._doubts:
                self._node.get_logger().warning(sentence)
        self._doubts = doubts

    def _publish_vocabulary(self, live: Live) -> None:
        header = Header(stamp=self._node.get_clock().now().to_msg())
        unlabeled = self._node.get_parameter('unlabeled_id').value
        words = live.words
        configured(self._opened).vocabulary.publish(
            messages.vocabulary(words.classes, words.background, live.version, header, unlabeled)
        )

    def _publish_label_info(self, live: Live) -> None:
        """Publish it, also if only the threshold has changed."""
        topic = configured(self._opened).label_info
        if topic:
            topic.publish(live.words.classes, live.segmenter.settings.confidence_threshold)


def _of_words(base: Segmenter, settings: Settings) -> Segmenter:
    """Return the segmenter with these settings of words."""
    return base.replace(**settings.of_scope(WORDS))
