"""Label the images of a ROS 1 or ROS 2 recording: a .bag file, a ros2 bag folder, an .mcap file or
a .db3 file. The new recording is a ros2 bag folder with all messages of the old one. For each image
it adds what the node publishes: label mask, confidence, overlay and calibration. It also holds the
vocabulary."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..recordings import OVERLAYS
from . import arguments
from .console import Console, warn

USAGE = 'RECORDING (--words WORD... | --vocabulary FILE) -o OUT [options]'
EXAMPLES = """\
examples:
  cliptrase bag recording/ --vocabulary indoor -o labelled/
  cliptrase bag drive.bag --topic /front/image_raw/compressed --words road car person -o labelled/
  cliptrase bag long.mcap --words floor door --limit 20 --method gclip -o trial/
"""
TOLD = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        'recording', type=Path, metavar='RECORDING', help='the recording: a file or a folder'
    )
    arguments.add_words(parser)
    arguments.add_out(parser, None, 'folder of the new recording; it must not exist yet')
    parser.add_argument('--force', action='store_true', help='replace an existing recording')
    parser.add_argument(
        '--topic',
        action='append',
        default=[],
        metavar='TOPIC',
        help='image topic to label; repeat for several (default: the only colour image topic)',
    )
    arguments.add_every(parser, 'label only every Nth image of a topic')
    parser.add_argument(
        '--limit',
        type=arguments.positive,
        metavar='N',
        help='stop after the Nth labelled image, for a quick trial',
    )
    parser.add_argument(
        '--overlay',
        choices=OVERLAYS,
        default='compressed',
        help='overlay images (default: compressed, which is JPEG)',
    )
    parser.add_argument(
        '--prefix', default='/segmentation', metavar='/NAME', help='prefix of the new topics'
    )
    arguments.add_smoothing(parser)
    arguments.add_json(parser)
    arguments.add_settings(parser)


def run(options: argparse.Namespace) -> bool:
    from ..batch import bags

    # Check before the model is loaded: loading takes long.
    bags.check_paths(options.recording, options.out, options.force)
    segmenter, words = arguments.load_with_words(options)
    console = Console(options.json)
    report = bags.label_bag(
        options.recording,
        options.out,
        segmenter,
        words,
        topics=options.topic,
        every=options.every,
        limit=options.limit,
        overlay=options.overlay,
        prefix=options.prefix,
        smoothing=options.smoothing,
        force=options.force,
        progress=lambda messages, total: console.progress(messages, 'messages', total),
    )
    for sentence in report.skipped[:TOLD]:
        warn(sentence)
    if len(report.skipped) > TOLD:
        warn(f'{len(report.skipped) - TOLD} more warnings are not shown')
    topics = ', '.join(f'{topic} ({count})' for topic, count in report.topics.items())
    console.result(
        f'{options.out}: {report.images} images labelled, {report.messages} messages copied; new '
        f'topics: {topics}',
        recording=str(options.out),
        images=report.images,
        messages=report.messages,
        topics=report.topics,
        skipped=report.skipped,
        complete=report.complete,
    )
    return report.complete
