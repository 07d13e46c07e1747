"""The cost of `cliptrase video` in addition to reading and labelling: python bench/video.py VIDEO

Three things are measured in turn on the same frames: reading alone, labelling frames that are
already read, and the loop of the command, which reads and writes in background threads.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from itertools import islice
from pathlib import Path

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
    options = parser.parse_args()
    segmenter = speed.load_printed(options)
    frames = list(islice(videos.Video(options.video), options.frames))
    words = speed.random_words(options.words, segmenter.encode(frames[0]).features.shape[-1])

    def label() -> None:
        for frame in frames:
            segmenter(frame, words)

    def whole() -> None:
        with tempfile.TemporaryDirectory() as folder:
            writer = videos.Writer(Path(folder, 'out.mp4'), 30.0)
            read = islice(videos.Video(options.video), options.frames)
            picture = video.Picture(words, 'overlay', True)
            video.write(video.label(read, segmenter, words), picture, writer)
            writer.close()

    work = {
        'labelling': label,
        'reading': lambda: list(islice(videos.Video(options.video), options.frames)),
        'cliptrase video': whole,
    }
    times = timing.timed(work, options.repeats, torch.device(segmenter.backbone.device))
    per_frame = {name: [t / len(frames) for t in values] for name, values in times.items()}
    sums = [sum(pair) for pair in zip(per_frame['labelling'], per_frame['reading'], strict=True)]
    height, width = frames[0].shape[:2]
    timing.print_header(f'{width} x {height}', 'a frame', 'p50 ms', 'p95 ms', 'of both')
    timing.print_rows('-', {**per_frame, 'labelling + reading': sums}, sums)


if __name__ == '__main__':
    main()
