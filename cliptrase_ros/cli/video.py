"""Label a video: the picture with the colours of its labels, and a legend below."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import files
from ..errors import PictureError
from ..media import drawing, videos
from ..media.videos import Video
from ..overlap import WriteBehind, prefetched
from ..video.smoothing import Smoother
from ..words.vocabulary import Vocabulary
from . import arguments
from .console import Console, warn

if TYPE_CHECKING:
    from ..segmenter import Segmentation, Segmenter

USAGE = 'IN (--words WORD... | --vocabulary FILE) -o OUT [options]'
EXAMPLES = """\
examples:
  cliptrase video drive.mp4 --words road car person --background sky -o labelled.mp4
  cliptrase video room.mp4 --vocabulary indoor --show side --every 3 --smoothing 0.5 -o out.mp4

Ctrl-C keeps what is labelled until then. The video is MPEG-4 part 2, which players show and
browsers do not: ffmpeg -i out.mp4 web.mp4 makes one for them.
"""
SHOWN = ('overlay', 'side', 'labels')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('video', type=Path, metavar='IN')
    arguments.add_words(parser)
    arguments.add_out(parser, None, 'the new video, ' + ', '.join(videos.CODECS))
    parser.add_argument(
        '--show', choices=SHOWN, default='overlay', help='side: the picture beside its overlay'
    )
    parser.add_argument(
        '--legend', action=argparse.BooleanOptionalAction, default=True, help='below the picture'
    )
    arguments.add_every(parser, 'only each Nth frame')
    parser.add_argument('--limit', type=arguments.positive, metavar='N', help='only N frames')
    arguments.add_smoothing(parser)
    arguments.add_json(parser)
    arguments.add_settings(parser)


def run(options: argparse.Namespace) -> bool:
    videos.check_writable(options.out)
    video = Video(options.video)
    if options.out.exists() and options.out.samefile(options.video):
        raise PictureError(f'{options.out} is the video itself; give the new one another name')
    segmenter, words = arguments.load_with_words(options)
    console, begun = Console(options.json), time.monotonic()
    frames = islice(video, 0, None, options.every)
    total = options.limit or len(range(0, video.count, options.every)) or None
    with files.whole(options.out) as part:
        writer = videos.Writer(part, video.rate_hz / options.every)
        picture = Picture(words, options.show, options.legend)
        labelled = label(islice(frames, options.limit), segmenter, words, options.smoothing)
        interrupted = write(console.progress(labelled, 'frames', total), picture, writer)
        if not writer.count:
            if interrupted:
                raise KeyboardInterrupt
            raise PictureError(f'no frame of {options.video} was labelled')
        writer.close()
    seconds = time.monotonic() - begun
    cut = video.cut and not options.limit
    console.result(
        f'{options.out}: {writer.count} frames in {seconds:.0f} s',
        video=str(options.out),
        frames=writer.count,
        seconds=round(seconds, 3),
        complete=not (cut or interrupted),
    )
    if interrupted:
        raise KeyboardInterrupt
    if cut:
        warn(f'{options.video} ends after {video.read} of {video.count} frames; those are kept')
    return not cut


def label(
    frames: Iterable[np.ndarray], segmenter: Segmenter, words: Vocabulary, smoothing: float = 0.0
) -> Iterator[tuple[np.ndarray, Segmentation]]:
    """(what the labels are for, labels) of each frame; frames are read on a thread."""
    smooth = Smoother()
    for frame in prefetched(frames):
        encoded = segmenter.encode(frame)
        scores = smooth(segmenter.scores(encoded, words), smoothing, words)
        yield segmenter.view(frame), segmenter.label(encoded, words, scores)


def write(
    labelled: Iterable[tuple[np.ndarray, Segmentation]], picture: Picture, writer: videos.Writer
) -> bool:
    """Draw and write on a thread; whether Ctrl-C ended it."""
    with WriteBehind() as behind:
        try:
            for image, result in labelled:
                behind(lambda *pair: writer(picture(*pair)), image, result)
        except KeyboardInterrupt:
            return True
    return False


class Picture:
    """What is shown of a frame; `show` is one of SHOWN."""

    def __init__(self, words: Vocabulary, show: str, legend: bool):
        self._words, self._show, self._legend = words, show, legend
        self._strip: np.ndarray | None = None

    def __call__(self, image: np.ndarray, result: Segmentation) -> np.ndarray:
        if self._show == 'labels':
            picture = drawing.colorize(result.labels, self._words)
        else:
            picture = drawing.overlay(image, result.labels, self._words)
        if self._show == 'side':
            picture = np.hstack([image, picture])
        if not self._legend:
            return picture
        if self._strip is None:
            entries = [(c.name, c.color) for c in self._words.classes]
            self._strip = drawing.legend(entries, picture.shape[1])
        return np.vstack([picture, self._strip])
