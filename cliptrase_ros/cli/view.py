"""Show what a camera sees, with labels, in a page in the browser. There you can change the words
and the settings. SOURCE is the number of a webcam, a picture, a folder of pictures, a video, an
address such as rtsp://..., or demo: the demo world, which needs no camera and no download."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cliptrase_ros as ct

from ..demo import SETTINGS
from ..errors import SettingError
from ..settings import Settings
from . import arguments
from .console import Console

if TYPE_CHECKING:
    from ..demo.world import World
    from ..view.chosen import Chosen
    from ..view.shots import DepthFolder, LiveAddress, Replay, Shot

USAGE = 'SOURCE [--words WORD... | --vocabulary FILE] [options]'
EXAMPLES = """\
examples:
  cliptrase view demo
  cliptrase view 0 --words person cup 'fire extinguisher'
  cliptrase view drive.mp4 --vocabulary outdoor --loop
  cliptrase view rtsp://10.0.0.7/main --method gclip --device cuda
  cliptrase view rgb/ --depth depth/ --intrinsics 525,525,319.5,239.5 --words floor table mug

It prints the address of the page. Ctrl-C ends it. Only this machine can open the page, unless
--host is given; then the printed address holds a token that a browser must have.
"""
DEMO = 'demo'
DEMO_SEED, DEMO_SCENE_S = 500000, 12.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('source', metavar='SOURCE')
    arguments.add_words(parser, required=False)
    page = parser.add_argument_group('page')
    page.add_argument('--port', type=_port, default=8765, metavar='N', help='default: 8765')
    page.add_argument(
        '--host',
        default='127.0.0.1',
        metavar='ADDRESS',
        help='address to listen on, such as 0.0.0.0 to let other machines in (default: 127.0.0.1)',
    )
    source = parser.add_argument_group('source')
    source.add_argument(
        '--rate', type=_rate, metavar='HZ', help='pictures a second of a folder (1) or demo (5)'
    )
    source.add_argument('--loop', action='store_true', help='start files again at the end')
    source.add_argument(
        '--depth',
        type=Path,
        metavar='DIR',
        help='folder of depth pictures, one for each picture in the order of names: 16 bits, or '
        '32-bit float in metres; registered to the pictures',
    )
    source.add_argument(
        '--intrinsics',
        metavar='FX,FY,CX,CY|FILE',
        help='camera of the pictures in pixels, or a file with its matrix (YAML of a calibration)',
    )
    source.add_argument(
        '--depth-unit',
        type=_unit,
        default=0.001,
        metavar='M',
        help='metres per step of 16-bit depth (default: 0.001)',
    )
    arguments.add_smoothing(parser)
    arguments.add_json(parser)
    arguments.add_settings(parser)


def _port(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 65535:
        raise argparse.ArgumentTypeError(f'expected 1 to 65535, got {text}')
    return number


def _rate(text: str) -> float:
    return _between(text, 0.001, 1000)


def _unit(text: str) -> float:
    return _between(text, 1e-6, 1)


def _between(text: str, low: float, high: float) -> float:
    number = float(text)
    if not low <= number <= high:
        raise argparse.ArgumentTypeError(f'expected {low:g} to {high:g}, got {text}')
    return number


def run(options: argparse.Namespace) -> None:
    from ..view.local_feed import LocalFeed
    from ..view.page import Page, require_viser

    require_viser()
    with contextlib.ExitStack() as ends:
        source, chosen = _source(options, ends), _chosen(options)
        feed = LocalFeed(source, ct.load(chosen.settings), chosen)
        page = Page(feed, options.host, options.port)
        ends.callback(page.close)
        Console(options.json).result(
            f'{page.address} shows {source.title}. Ctrl-C ends it', address=page.address
        )
        with contextlib.suppress(KeyboardInterrupt):
            # A service manager ends it like a person does, and a shell that started it in the
            # background has made it deaf to Ctrl-C.
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.default_int_handler)
            threading.Event().wait()


def _source(options: argparse.Namespace, ends: contextlib.ExitStack) -> Replay | LiveAddress:
    from ..view.shots import Replay, find_source

    depth = _depth(options)
    if options.source != DEMO:
        return find_source(options.source, options.rate or 1.0, options.loop, depth)
    if depth:
        raise SettingError('--depth: the demo world has its own depth')
    from ..demo.world import World

    world, rate_hz = ends.enter_context(World(DEMO_SEED)), options.rate or 5.0
    return Replay('the demo world', lambda: _views(world, rate_hz))


def _depth(options: argparse.Namespace) -> DepthFolder | None:
    from ..view.shots import DepthFolder, read_intrinsics

    if not options.depth:
        if options.intrinsics:
            raise SettingError('--intrinsics: only depth needs them. Give --depth, too')
        return None
    if not options.intrinsics:
        raise SettingError('--depth: needs --intrinsics FX,FY,CX,CY of the pictures, in pixels')
    return DepthFolder(options.depth, read_intrinsics(options.intrinsics), options.depth_unit)


def _views(world: World, rate_hz: float) -> Iterator[Shot]:
    """Yield what a robot sees that drives through one scene after the other."""
    from ..view.shots import timed

    def driven() -> Iterator[tuple]:
        while True:
            tour = world.tour('drive', 1 / rate_hz)
            for camera in itertools.islice(tour, max(1, round(DEMO_SCENE_S * rate_hz))):
                view = world.render(camera)
                yield view.image, view.depth, view.camera_matrix
            world.new_scene()

    return timed(driven(), rate_hz)


def _chosen(options: argparse.Namespace) -> Chosen:
    """Return the words and the settings at the start."""
    from ..demo import palette
    from ..demo.things import CLASSES
    from ..view.chosen import Chosen
    from ..words.stream_options import StreamOptions

    demo = options.source == DEMO
    base = Settings.from_mapping(SETTINGS) if demo else Settings()
    stream: dict[str, Any] = {'smoothing': options.smoothing}
    if demo:
        stream |= {'vocabulary': CLASSES, 'colors': palette.ENTRIES}
    if options.words or options.vocabulary:
        stream['vocabulary'], stream['background'] = arguments.words_of(options)
    elif options.background:
        stream['background'] = options.background
    return Chosen(base.replace(**arguments.settings_given(options)), StreamOptions(**stream))
