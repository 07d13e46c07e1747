"""The cost of `cliptrase video` in addition to reading and labelling: python bench/video.py VIDEO

Three things are measured in turn on the same frames: reading alone, labelling frames that are
already read, and the loop of the command, which reads and writes in background threads. With
--opencv also writing alone, and reading and writing (MPEG-4 part 2) with OpenCV.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from cliptrase_ros.cli import arguments, video
from cliptrase_ros.evaluation import speed, timing
from cliptrase_ros.media import videos


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('video', type=Path)
    arguments.add_model(parser)
    parser.add_argument('--frames', type=arguments.positive, default=10)
    parser.add_argument('--words', type=arguments.positive, default=20)
    parser.add_argument('--repeats', type=arguments.positive, default=5)
    parser.add_argument('--opencv', action='store_true', help='compare with OpenCV')
    options = parser.parse_args()
    segmenter = speed.load_printed(options)
    frames = list(islice(videos.Video(options.video), options.frames))
    words = speed.random_words(options.words, segmenter.encode(frames[0]).features.shape[-1])

    def label() -> None:
        for frame in frames:
            segmenter(frame, words)

    def whole() -> None:
        with writer_of_one_file() as writer:
            read = islice(videos.Video(options.video), options.frames)
            picture = video.Picture(words, 'overlay', True)
            video.write(video.label(read, segmenter, words), picture, writer)

    work = {
        'labelling': label,
        'reading': lambda: list(islice(videos.Video(options.video), options.frames)),
        'cliptrase video': whole,
    }
    if options.opencv:
        work |= {
            'reading, OpenCV': lambda: list(islice(read_by_opencv(options.video), options.frames)),
            'writing': lambda: write(frames),
            'writing, OpenCV': lambda: write_by_opencv(frames),
        }
    times = timing.timed(work, options.repeats, torch.device(segmenter.backbone.device))
    per_frame = {name: [t / len(frames) for t in values] for name, values in times.items()}
    sums = [sum(pair) for pair in zip(per_frame['labelling'], per_frame['reading'], strict=True)]
    height, width = frames[0].shape[:2]
    timing.print_header(f'{width} x {height}', 'a frame', 'p50 ms', 'p95 ms', 'of both')
    timing.print_rows('-', {**per_frame, 'labelling + reading': sums}, sums)


@contextlib.contextmanager
def writer_of_one_file() -> Iterator[videos.Writer]:
    with tempfile.TemporaryDirectory() as folder:
        writer = videos.Writer(Path(folder, 'out.mp4'), 30.0)
        yield writer
        writer.close()


def write(frames: Sequence[np.ndarray]) -> None:
    with writer_of_one_file() as writer:
        for frame in frames:
            writer(frame)


def read_by_opencv(path: Path) -> Iterator[np.ndarray]:
    capture = cv2.VideoCapture(str(path))
    while (frame := capture.read()[1]) is not None:
        yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)


def write_by_opencv(frames: Sequence[np.ndarray]) -> None:
    codec, size = cv2.VideoWriter.fourcc(*'mp4v'), frames[0].shape[1::-1]
    with tempfile.TemporaryDirectory() as folder:
        writer = cv2.VideoWriter(str(Path(folder, 'out.mp4')), codec, 30.0, size)
        for frame in frames:
            writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        writer.release()


if __name__ == '__main__':
    main()
