"""The words of the node: those asked for, those that are live, and what names have for good."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.task import Future
from std_msgs.msg import Header

from ..errors import Cancelled, did_you_mean
from ..model.backbone import Backbone
from ..msg import Vocabulary as VocabularyMessage
from ..segmenter import Segmenter, load
from ..settings import Settings
from ..words.vocabulary import Ids, Vocabulary, WordClass, parse_vocabulary
from . import diagnostics, messages, parameters
from .configured import configured
from .jobs import Jobs
from .outputs import Live
from .parameters import NodeOptions
from .qos import LATCHED
from .statistics import Statistics
from .stream import Stream
from .topic_names import topic_names


@dataclass(frozen=True)
class Wanted:
    """What decides which words there are, the model that encodes them, and what becomes of it."""

    words: tuple
    backbone: Backbone
    outcome: Future = field(compare=False)


@dataclass
class Opened:
    """What there is from `open` to `close`.

    Attributes:
        base: what words are encoded with: the live model, or one that is to take its place.
    """

    jobs: Jobs
    base: Segmenter
    vocabulary: Publisher
    label_info: Publisher | None = None


# Making a topic takes most of a millisecond, and each word has two of each camera.
TOPICS_AT_ONCE = 5


class LiveWords:
    """Follows the parameters. For the executor's thread; others may read `live`, and hold `switch`
    while they see that it is still what they labelled with, and publish: then a mask never follows
    a vocabulary that does not describe it.
    """

    def __init__(self, node: Node, streams: list[Stream], statistics: Statistics):
        self.live: Live | None = None
        self.switch = threading.RLock()
        self.last_error = ''
        self._node = node
        self._streams = streams
        self._statistics = statistics
        # Of every word that there ever was: they never move.
        self._known_ids: dict[str, int] = {}
        self._topics: dict[str, str] = {}
        self._version = 0
        self._opened: Opened | None = None
        # The newest that is asked for.
        self._wanted: Wanted | None = None
        # What else of the parameters is live.
        self._applied: tuple | None = None
        self._announcing = False
        self._missing: list[str] = []

    @property
    def current(self) -> Live:
        """`live`, while the node is configured."""
        return configured(self.live)

    @property
    def jobs(self) -> Jobs:
        """Where slow work goes, while the node is configured."""
        return configured(self._opened).jobs

    def open(self, jobs: Jobs) -> None:
        """Load the model, encode the words, make the topics.

        Raises:
            CliptraseError: one of these fails.
        """
        make = self._node.create_publisher
        options, settings = self._parameters()
        base = _ready(settings)
        classes, background = self._reserve(base, options)
        words = base.encode_words(classes, background, jobs.stopping)
        opened = Opened(jobs, base, make(VocabularyMessage, '~/vocabulary', LATCHED))
        self._opened = opened
        if messages.LabelInfo:
            opened.label_info = make(messages.LabelInfo, '~/label_info', LATCHED)
        self._wanted = _wanted(options, settings, base, Future())
        self._wanted.outcome.set_result('')
        self._go_live(base, words)

    def close(self) -> None:
        """Free the model, drop the topics."""
        if self._opened:
            for publisher in (self._opened.vocabulary, self._opened.label_info):
                if publisher:
                    self._node.destroy_publisher(publisher)
        self._opened = self._wanted = self.live = None

    def announce(self, yes: bool = True) -> None:
        """Publish the words now and with each change, or stop doing so."""
        self._announcing = yes
        if yes:
            self._publish_vocabulary(self.current)
            self._publish_label_info(self.current)

    def ids(self, options: NodeOptions) -> Ids:
        """Which ids new words may have."""
        return Ids(self._known_ids, options.largest_id, options.unlabeled_id)

    def check(self, options: NodeOptions, settings: Settings) -> None:
        """Raise VocabularyError if the words of these parameters cannot be taken over."""
        opened = self._opened
        self._parse(opened.base.replace(**settings.live()) if opened else None, options)

    async def follow(self) -> str:
        """Do as the parameters say; '' once that is live, or why it is not."""
        opened, live = self._opened, self.live
        if not opened or not live:
            return ''  # the next configuration will
        options, settings = self._parameters()
        if self._applied != _applied(options, settings):
            self._go_live(live.segmenter, live.words)
        outcome = Future(executor=self._node.executor)
        newest, wanted = self._wanted, _wanted(options, settings, opened.base, outcome)
        if newest and newest == wanted:
            return await newest.outcome
        self._wanted = wanted
        outcome.add_done_callback(lambda _: None)  # only with a callback does it wake the executor
        try:
            reason = await self._take_over(opened, wanted, options, settings)
        except Exception as error:  # of any kind: others wait for the outcome, too
            reason = self._failed(opened, wanted, error)
        outcome.set_result(reason)
        return reason

    async def reload(self) -> str:
        """Load the model anew, while images go on with the old one; '' or why that failed."""
        jobs = self.jobs
        base = await jobs.run(_ready, self._parameters()[1])
        opened = self._opened
        if not opened or opened.jobs is not jobs:
            raise Cancelled('the node was cleaned up')
        opened.base = base
        return await self.follow()

    async def _take_over(
        self, opened: Opened, wanted: Wanted, options: NodeOptions, settings: Settings
    ) -> str:
        jobs, base = opened.jobs, opened.base.replace(**settings.live())
        classes, background = self._reserve(base, options)
        words = await jobs.run(base.encode_words, classes, background, jobs.stopping)
        for first in range(0, len(classes), TOPICS_AT_ONCE):
            if self._wanted is wanted:
                self._add_topics(classes[first : first + TOPICS_AT_ONCE])
                await jobs.run(lambda: None)  # meanwhile the executor takes images
        if self._wanted is not wanted:
            newest = self._wanted
            if newest and newest.words == wanted.words:  # with a model that was loaded meanwhile
                return await newest.outcome
            return 'newer words came before these were live'
        self._go_live(base, words)
        names = ', '.join(c.name for c in classes)
        self._node.get_logger().info(f'vocabulary {self._version}: {names}')
        return ''

    def _failed(self, opened: Opened, wanted: Wanted, error: Exception) -> str:
        reason = f'new words not taken over: {error}'
        if self._opened is opened and not opened.jobs.stopping():
            if self._wanted is wanted:
                # Setting the same words again tries again, with the model that is live.
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
        """(classes, background words) of the parameters."""
        check = segmenter.check_vocabulary if segmenter else parse_vocabulary
        return check(options.vocabulary, options.background_words, self.ids(options))

    def _reserve(self, segmenter: Segmenter, options: NodeOptions) -> tuple:
        """As _parse; the ids are now taken for good."""
        classes, background = self._parse(segmenter, options)
        self._known_ids.update((c.name, c.id) for c in classes)
        return classes, background

    def _add_topics(self, classes: Sequence[WordClass]) -> None:
        """Make those topics of classes that are not there."""
        self._topics = topic_names(classes, self._topics)
        for stream in self._streams:
            stream.add_topics([self._topics[c.name] for c in classes])

    def _go_live(self, segmenter: Segmenter, words: Vocabulary) -> None:
        """Label images with this from now on, and with what else the parameters say."""
        options, settings = self._parameters()
        segmenter = segmenter.replace(**settings.live())
        words = words.recolored(options.colors_by_name)
        old = self.live
        new = (
            not old
            or old.words.embeddings is not words.embeddings
            or old.words.classes != words.classes
        )
        self._version += new
        self._applied = _applied(options, settings)
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
        self._warn_of_missing(words.classes, options)

    def _warn_of_missing(self, classes: Sequence[WordClass], options: NodeOptions) -> None:
        """Names that outputs in space are to follow, and that are no class (any more)."""
        known = [c.name for c in classes]
        named = {f'point_groups: {g.name}': g.classes for g in options.groups_by_topic.values()}
        named |= {'target_classes': options.targets, 'object_classes': options.objects}
        missing = []
        for where, names in named.items():
            for name in names:
                if name not in known:
                    missing.append(
                        f'{where}: {name!r} is not among the classes.{did_you_mean(name, known)}'
                    )
        for sentence in missing:
            if sentence not in self._missing:
                self._node.get_logger().warning(sentence)
        self._missing = missing

    def _publish_vocabulary(self, live: Live) -> None:
        header = Header(stamp=self._node.get_clock().now().to_msg())
        unlabeled = self._node.get_parameter('unlabeled_id').value
        words = live.words
        configured(self._opened).vocabulary.publish(
            messages.vocabulary(words.classes, words.background, live.version, header, unlabeled)
        )

    def _publish_label_info(self, live: Live) -> None:
        """Again also where only the threshold has changed."""
        publisher = configured(self._opened).label_info
        if publisher:
            header = Header(stamp=self._node.get_clock().now().to_msg())
            threshold = live.segmenter.settings.confidence_threshold
            publisher.publish(messages.label_info(live.words.classes, threshold, header))


def _ready(settings: Settings) -> Segmenter:
    """Load the model, and do what the first images would else wait for."""
    segmenter = load(settings)
    segmenter.warm_up()
    return segmenter


def _wanted(options: NodeOptions, settings: Settings, base: Segmenter, outcome: Future) -> Wanted:
    texts = options.vocabulary, options.background, settings.distractors
    return Wanted((*texts, settings.prompt_templates), base.backbone, outcome)


def _applied(options: NodeOptions, settings: Settings) -> tuple:
    """What needs no encoding."""
    named = options.point_groups, options.target_classes, options.object_classes
    return options.colors, *named, settings.live()
