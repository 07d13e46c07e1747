"""Label the images of a recording of ROS 1 or ROS 2: a .bag, a folder of ros2 bag, an .mcap or a
.db3 file. The new recording is a folder of ROS 2 with all messages of the old one, and beside each
image what the node publishes: label mask, confidence, overlay, calibration, and the words."""

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
    parser.add_argument('recording', type=Path, metavar='RECORDING', help='a file or a folder')
    arguments.add_words(parser)
    arguments.add_out(parser, None, 'the new recording, a folder that is not there yet')
    parser.add_argument('--force', action='store_true', help='replace a recording that is there')
    parser.add_argument(
        '--topic',
        action='append',
        default=[],
        metavar='TOPIC',
        help='of images; may be given several times (default: the only one in colour)',
    )
    arguments.add_every(parser, 'label each Nth image of a topic')
    parser.add_argument(
        '--limit',
        type=arguments.positive,
        default=0,
        metavar='N',
        help='end the new recording with the Nth labelled image, to try things out',
    )
    parser.add_argument(
        '--overlay', choices=OVERLAYS, default='compressed', help='default: compressed (JPEG)'
    )
    parser.add_argument(
        '--prefix', default='/segmentation', metavar='/NAME', help='what the new topics begin with'
    )
    arguments.add_smoothing(parser)
    arguments.add_json(parser)
    arguments.add_settings(parser)


def run(options: argparse.Namespace) -> bool:
    from ..batch import bags

    # Before the model is loaded, which takes its time.
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
        warn(f'and {len(report.skipped) - TOLD} more like these')
    topics = ', '.join(f'{topic} ({count})' for topic, count in report.topics.items())
    console.result(
        f'{options.out}: {report.images} images labelled, {report.messages} messages copied; new '
        f'topics {topics}',
        recording=str(options.out),
        images=report.images,
        messages=report.messages,
        topics=report.topics,
        skipped=report.skipped,
        complete=report.complete,
    )
    return report.complete
