"""The words of the node: those asked for, those that are live, and what names have for good."""

from __future__ import annotations

import threading

from rclpy.node import Node
from rclpy.task import Future
from std_msgs.msg import Header

from ..errors import CliptraseError
from ..msg import Vocabulary as VocabularyMessage
from ..segmenter import Segmenter, load
from ..settings import Settings
from ..vocabulary import Ids, Vocabulary, parse, parse_colors
from . import diagnostics, messages, parameters
from .jobs import Jobs
from .outputs import Live, topic_names
from .parameters import NodeOptions
from .qos import LATCHED
from .stream import Stream
from .worker import Statistics


class Words:
    """Follows the parameters. For the executor's thread; others may read `live`, and hold `switch`
    while they label and publish: then a mask never follows a vocabulary that does not describe it.
    """

    def __init__(self, node: Node, streams: list[Stream], statistics: Statistics):
        self.live: Live | None = None
        self.switch = threading.Lock()
        self.last_error = ''
        self._node = node
        self._streams = streams
        self._statistics = statistics
        # Of every word that there ever was: they never move.
        self._known_ids: dict[str, int] = {}
        self._topics: dict[str, str] = {}
        self._version = 0
        # What new words are encoded with, and the newest that were asked for.
        self._base: Segmenter | None = None
        self._wanted: tuple | None = None
        # The outcome of taking these over.
        self._change = Future()
        self._change.set_result('')
        self._jobs: Jobs | None = None
        self._announcing = False
        self._vocabulary = self._label_info = None

    def open(self, jobs: Jobs) -> None:
        """Load the model, encode the words, make the topics.

        Raises:
            CliptraseError: one of these fails.
        """
        node, self._jobs = self._node, jobs
        options, settings = self._parameters()
        self._base, self._wanted = load(settings), _words_of(options, settings)
        words = self._base.encode_words(*self._reserve(self._base, options), jobs.stopping)
        self._vocabulary = node.create_publisher(VocabularyMessage, '~/vocabulary', LATCHED)
        self._label_info = messages.LabelInfo and node.create_publisher(
            messages.LabelInfo, '~/label_info', LATCHED
        )
        self._go_live(self._base, words)

    def close(self) -> None:
        """Free the model, drop the topics."""
        for publisher in filter(None, (self._vocabulary, self._label_info)):
            self._node.destroy_publisher(publisher)
        self._vocabulary = self._label_info = None
        self._base = self._wanted = self._jobs = self.live = None

    def announce(self, yes: bool = True) -> None:
        """Publish the words now and with each change, or stop doing so."""
        self._announcing = yes
        if yes:
            self._publish(self.live)

    def ids(self, options: NodeOptions) -> Ids:
        """Which ids new words may have."""
        return Ids(self._known_ids, options.largest_id, options.unlabeled_id)

    def check(self, options: NodeOptions, settings: Settings) -> None:
        """Raise VocabularyError if the words of these parameters cannot be taken over."""
        self._parse(self._base and self._base.replace(**settings.live()), options)

    async def follow(self) -> str:
        """Do as the parameters say; '' once that is live, or why it is not."""
        if not self.live:
            return ''  # the next configuration will
        options, settings = self._parameters()
        wanted = _words_of(options, settings)
        if wanted == self._wanted:
            self._go_live(self.live.segmenter, self.live.words)
            return await self._change
        self._wanted, change = wanted, Future(executor=self._node.executor)
        self._change = change
        change.add_done_callback(lambda _: None)  # only with a callback does it wake the executor
        change.set_result(await self._take_over(wanted, options, settings))
        return change.result()

    async def _take_over(self, wanted: tuple, options: NodeOptions, settings: Settings) -> str:
        try:
            base = self._base.replace(**settings.live())
            parsed = self._reserve(base, options)
            words = await self._jobs.run(base.encode_words, *parsed, self._jobs.stopping)
        except Exception as error:
            return self._failed(wanted, error)
        if self._wanted is not wanted:
            return 'newer words came before these were live'
        self._go_live(base, words)
        names = ', '.join(c.name for c in words.classes)
        self._node.get_logger().info(f'vocabulary {self._version}: {names}')
        return ''

    async def reload(self) -> str:
        """Load the model anew, while images go on with the old one; '' or why that failed."""
        if not self.live:
            raise CliptraseError('the node is not configured')
        self._base = await self._jobs.run(load, self._parameters()[1])
        self._wanted = None
        return await self.follow()

    def _parameters(self) -> tuple[NodeOptions, Settings]:
        return parameters.read(self._node, NodeOptions), parameters.read(self._node, Settings)

    def _parse(self, segmenter: Segmenter | None, options: NodeOptions) -> tuple:
        """(classes, background words) of the parameters."""
        check = segmenter.check_vocabulary if segmenter else parse
        return check(options.vocabulary, options.background_words, self.ids(options))

    def _reserve(self, segmenter: Segmenter, options: NodeOptions) -> tuple:
        """As _parse; the ids are now taken for good."""
        classes, background = self._parse(segmenter, options)
        self._known_ids.update((c.name, c.id) for c in classes)
        return classes, background

    def _failed(self, wanted: tuple, error: Exception) -> str:
        reason = f'new words not taken over: {error}'
        if self._wanted is wanted:
            self._wanted = None  # so that setting the same words again tries again
        if self._jobs and not self._jobs.stopping():
            self.last_error = reason
            self._statistics.count(diagnostics.VOCABULARY_ERRORS)
            self._node.get_logger().error(reason)
        return reason

    def _go_live(self, segmenter: Segmenter, words: Vocabulary) -> None:
        """Label images with this from now on, and with what else the parameters say."""
        options, settings = self._parameters()
        segmenter = segmenter.replace(**settings.live())
        words = words.recolored(parse_colors(options.color_entries))
        old = self.live
        new = not old or old.words.embeddings is not words.embeddings
        new = new or old.words.classes != words.classes
        self._version += new
        self._topics = topic_names(words.classes, self._topics)
        left = [stream.outputs.follow(words.classes, self._topics) for stream in self._streams]
        with self.switch:
            self.live = Live(segmenter, words, self._version)
            if new and self._announcing:
                self._publish(self.live)
        for publisher in (p for publishers in left for p in publishers):
            self._node.destroy_publisher(publisher)  # no frame uses it any more

    def _publish(self, live: Live) -> None:
        header = Header(stamp=self._node.get_clock().now().to_msg())
        classes, background = live.words.classes, live.words.background
        unlabeled = self._node.get_parameter('unlabeled_id').value
        self._vocabulary.publish(
            messages.vocabulary(classes, background, live.version, header, unlabeled)
        )
        if self._label_info:
            threshold = live.segmenter.settings.confidence_threshold
            self._label_info.publish(messages.label_info(classes, threshold, header))


def _words_of(options: NodeOptions, settings: Settings) -> tuple:
    """What decides which words there are and how they are encoded."""
    return options.vocabulary, options.background, settings.prompt_templates
