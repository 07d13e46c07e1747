"""The feeder of the live page without ROS: a source of pictures, labelled on a thread."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..encoder import EncodedImage, Encoder
from ..errors import CliptraseError
from ..segmenter import Segmenter
from ..settings import IMAGE, LABELS, WORDS
from ..video.steady import Steady
from ..words.vocabulary import Ids, Vocabulary
from .chosen import Chosen
from .feed import LegendEntry, Shown, Sink, Status, Value
from .lifted import lift
from .new_words import NewWords
from .players import player_of
from .shots import LiveAddress, Replay, Shot
from .stage import Stage

log = logging.getLogger(__name__)

# Between pictures, the page hears this often how it stands.
TELL_S = 0.5
# The rate is that of the pictures in this time.
RATE_OVER_S = 4.0


@dataclass(frozen=True, eq=False)
class InUse:
    """What pictures are labelled with now."""

    segmenter: Segmenter
    words: Vocabulary
    legend: tuple[LegendEntry, ...]
    smoothing: float
    # Another number for other words.
    version: int


class LocalFeed:
    """Labels the pictures of a source for the page. Its methods may be called from any thread.

    Of a live source and of a video, the newest picture is labelled; of a folder, each. Nothing is
    read or labelled while nobody watches, except that a live stream is kept up to date.

    Args:
        source: see `find_source`.
        segmenter: the model.
        chosen: words and settings at the start, checked here.

    Raises:
        CliptraseError: a word or a setting does not fit the model.
    """

    can_pause = True

    def __init__(self, source: Replay | LiveAddress, segmenter: Segmenter, chosen: Chosen):
        self._segmenter, self._chosen = segmenter, chosen
        self._stage = Stage()
        self._player = player_of(source, self._stage)
        self._words = NewWords(self._words_ready, self._words_failed)
        self._lock = threading.RLock()
        self._known_ids: dict[str, int] = {}
        self._live: InUse | None = None
        # The words that are live or being encoded.
        self._asked: tuple | None = None
        self._sink: Sink | None = None
        self._thread = threading.Thread(target=self._run, name='labels', daemon=True)
        self._steady = Steady()
        self._encoded: tuple[Shot, Encoder, EncodedImage] | None = None
        self._times: deque[float] = deque(maxlen=100)
        self._latency_s = 0.0
        self._told: Status | None = None
        # What was wrong with the last words, and with the last picture.
        self._refused = self._failed = ''
        self._checked = self._check(chosen)

    def start(self, sink: Sink) -> None:
        """Begin to feed the page."""
        self._sink = sink
        sink.controls(self._chosen.controls)
        self._use(self._chosen, *self._checked)
        self._player.start()
        self._thread.start()
        self._tell()

    def apply(self, changes: Mapping[str, Value]) -> str:
        """Make changes to `Controls.values`. Return '' or what is wrong, in a sentence.

        New words become live once they are encoded; until then the old ones go on.
        """
        with self._lock:
            try:
                chosen = self._chosen.changed(changes)
                checked = self._check(chosen)
                self._use(chosen, *checked)
            except CliptraseError as error:
                return str(error)
            self._chosen, self._refused = chosen, ''
        if self._sink:
            self._sink.controls(chosen.controls)
        self._tell()
        return ''

    def pause(self, paused: bool) -> None:
        """Stop at this picture, or go on."""
        self._stage.pause(paused)

    def step(self) -> None:
        """Go on by one picture while paused."""
        self._stage.step()

    def choose(self, camera: str) -> None:
        """Do nothing: there is one camera."""

    def watched(self, watched: bool) -> None:
        """Hear that the first browser came, or the last one left."""
        self._stage.watch(watched)

    def parameters(self) -> Mapping[str, object]:
        """Return the node's parameters that make these settings and words."""
        return self._chosen.parameters

    def close(self) -> None:
        """End all threads. One that waits for a camera ends on its own."""
        self._stage.close()
        self._words.close()
        if self._sink:
            self._thread.join()
            self._player.join(self._player.end_s)

    def _check(self, chosen: Chosen) -> tuple:
        """Return the segmenter for the settings, the classes and the background words.

        Raises:
            CliptraseError: they do not fit the model.
        """
        changes = chosen.settings.of_scope(IMAGE, WORDS, LABELS)
        segmenter = self._segmenter.replace(**changes)
        ids = Ids(self._known_ids)
        stream = chosen.stream
        return segmenter, *segmenter.check_vocabulary(
            stream.vocabulary, stream.background_words, ids
        )

    def _use(self, chosen: Chosen, segmenter: Segmenter, classes: tuple, background: tuple) -> None:
        """Label with these from now on. If words are new, the old ones go on until then."""
        with self._lock:
            self._segmenter, self._chosen = segmenter, chosen
            self._known_ids |= {c.name: c.id for c in classes}
            asked = classes, background, chosen.settings.of_scope(WORDS)
            new = segmenter.word_encoder.unknown(classes, background)
            other, self._asked = asked != self._asked, asked
            if new and other:
                self._words.encode(segmenter, classes, background, new)
            elif not new:
                self._words.give_up()
                self._go_live(segmenter.encode_words(classes, background))
            if new and self._live:
                self._go_live(self._live.words)

    def _words_ready(self, words: Vocabulary) -> None:
        with self._lock:
            self._go_live(words)

    def _words_failed(self, reason: str) -> None:
        with self._lock:
            self._refused, self._asked = f'the new words are not used: {reason}', None
        self._tell()

    def _go_live(self, words: Vocabulary) -> None:
        stream = self._chosen.stream
        words = words.recolored(stream.colors_by_name)
        legend = tuple(LegendEntry(c.id, c.name, c.color) for c in words.classes)
        version = self._live.version if self._live else 0
        version += not self._live or self._live.words.embeddings is not words.embeddings
        self._live = InUse(self._segmenter, words, legend, stream.smoothing, version)
        self._stage.again()

    def _run(self) -> None:
        """Label pictures until the stage is closed."""
        while not self._stage.closed:
            shot, live = self._stage.take(TELL_S), self._live
            try:
                if shot is not None:
                    self._show(shot, live)
            except Exception as error:  # of any kind: the next picture must still be labelled
                if not isinstance(error, CliptraseError):
                    log.exception('a picture could not be labelled')
                self._failed = f'a picture could not be labelled: {error}'
            self._tell()

    def _show(self, shot: Shot, live: InUse | None) -> None:
        began = time.monotonic()
        shown = self._labelled(shot, live) if live else self._plain(shot)
        now = time.monotonic()
        self._latency_s, self._failed = now - began, ''
        self._times.append(now)
        if self._sink:
            self._sink.show(shown)

    def _plain(self, shot: Shot) -> Shown:
        """Return a picture without labels, for the time before the first words are encoded."""
        picture = self._segmenter.view(shot.image)
        return Shown(picture, np.zeros(picture.shape[:2], np.uint8), (), stamp=time.time())

    def _labelled(self, shot: Shot, live: InUse) -> Shown:
        segmenter, words = live.segmenter, live.words
        encoded = self._encode(shot, segmenter)
        subject = live.version, segmenter.kind_of_scores
        scores, present = self._steady(segmenter, encoded, words, live.smoothing, subject)
        result = segmenter.label(encoded, words, scores, present)
        picture = segmenter.view(shot.image)
        cloud, things, matrix = lift(shot, picture, result, segmenter, words) or (None, (), None)
        return Shown(
            image=picture,
            labels=result.labels,
            legend=live.legend,
            confidence=result.confidence,
            stamp=time.time(),
            cloud=cloud,
            things=things,
            camera_matrix=matrix,
        )

    def _encode(self, shot: Shot, segmenter: Segmenter) -> EncodedImage:
        """Return the features of a picture. Those of the last one are kept for new words."""
        if self._encoded:
            last, encoder, encoded = self._encoded
            if last is shot:
                # The same picture must not count twice in a mean.
                self._steady.forget()
                if encoder is segmenter.encoder:
                    return encoded
        encoded = segmenter.encode(shot.image)
        self._encoded = shot, segmenter.encoder, encoded
        return encoded

    def _tell(self) -> None:
        if self._sink is None or self._stage.closed:
            return
        settings, since = self._segmenter.settings, time.monotonic() - RATE_OVER_S
        lately = [stamp for stamp in self._times.copy() if stamp >= since]
        rate = (len(lately) - 1) / (lately[-1] - lately[0]) if len(lately) > 1 else 0.0
        status = Status(
            model=f'{settings.model} ({settings.weights})',
            device=str(self._segmenter.backbone.device),
            method=settings.method,
            rate_hz=rate,
            latency_ms=1000 * self._latency_s,
            note=self._words.note or self._player.note,
            problem=self._refused or self._failed or self._player.problem,
        )
        if status != self._told:
            self._told = status
            self._sink.status(status)
