"""Label a video. The new video shows the colours of the labels, and a legend below."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Iterator
from itertools import count, islice, repeat
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import files
from ..errors import PictureError
from ..media import drawing, videos
from ..media.videos import Video
from ..overlap import WriteBehind, prefetched
from ..video.steady import Steady
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

Ctrl-C stops and keeps the frames that are labelled so far. Frames keep their times. Browsers play
the new .mp4 (H.264). It has no sound.
"""
SHOWN = ('overlay', 'side', 'labels')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('video', type=Path, metavar='IN')
    arguments.add_words(parser)
    arguments.add_out(parser, None, 'new video file: ' + ', '.join(videos.CODECS))
    parser.add_argument(
        '--show',
        choices=SHOWN,
        default='overlay',
        help='what a frame shows; side: the frame and its overlay',
    )
    parser.add_argument(
        '--legend', action=argparse.BooleanOptionalAction, default=True, help='draw a legend below'
    )
    arguments.add_every(parser, 'label only every Nth frame')
    parser.add_argument('--limit', type=arguments.positive, metavar='N', help='stop after N frames')
    arguments.add_smoothing(parser)
    arguments.add_json(parser)
    arguments.add_settings(parser)


def run(options: argparse.Namespace) -> bool:
    videos.check_writable(options.out)
    video = Video(options.video)
    if options.out.exists() and options.out.samefile(options.video):
        raise PictureError(f'{options.out} is the input video; choose another name for the output')
    segmenter, words = arguments.load_with_words(options)
    console, begun = Console(options.json), time.monotonic()
    frames = islice(video, 0, None, options.every)
    total = options.limit or len(range(0, video.count, options.every)) or None
    with files.whole(options.out) as part:
        writer = videos.Writer(part, video.rate_hz / options.every)
        picture = Picture(words, options.show, options.legend)
        labelled = label(islice(frames, options.limit), segmenter, words, options.smoothing)
        times = (video.times[n] for n in count(0, options.every))
        interrupted = write(console.progress(labelled, 'frames', total), picture, writer, times)
        if not writer.count:
            if interrupted:
                raise KeyboardInterrupt
            raise PictureError(f'no frame of {options.video} was labelled')
        writer.close()
    seconds = time.monotonic() - begun
    loss = '' if options.limit or interrupted else video.loss
    console.result(
        f'{options.out}: {writer.count} frames in {seconds:.0f} s',
        video=str(options.out),
        frames=writer.count,
        seconds=round(seconds, 3),
        complete=not (loss or interrupted),
    )
    if interrupted:
        raise KeyboardInterrupt
    if loss:
        warn(f'{options.video} {loss}')
    return not loss


def label(
    frames: Iterable[np.ndarray], segmenter: Segmenter, words: Vocabulary, smoothing: float = 0.0
) -> Iterator[tuple[np.ndarray, Segmentation]]:
    """Yield (the picture that the labels are for, labels) of each frame. A thread reads ahead."""
    steady = Steady()
    for frame in prefetched(frames):
        encoded = segmenter.encode(frame)
        scores, present = steady(segmenter, encoded, words, smoothing, words)
        yield segmenter.view(frame), segmenter.label(encoded, words, scores, present)


def write(
    labelled: Iterable[tuple[np.ndarray, Segmentation]],
    picture: Picture,
    writer: videos.Writer,
    times: Iterable[float | None] = repeat(None),
) -> bool:
    """Draw and write the frames on a thread. Return True if Ctrl-C stopped it.

    Args:
        times: the time of each frame in seconds, read after the frame is labelled.
    """
    with WriteBehind() as behind:
        try:
            for (image, result), time_s in zip(labelled, times, strict=False):
                behind(lambda *pair: writer(picture(*pair[:2]), pair[2]), image, result, time_s)
        except KeyboardInterrupt:
            return True
    return False


class Picture:
    """Draws a labelled frame. `show` is one of SHOWN."""

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
