#!/usr/bin/env python3
"""Whether Nav2's costmap with the semantic layer can be trusted beside the node: both really run.

bench/costmap starts [--node demo|fast] [--orders a b ...] [--count 40] [--lead S] [--alone]
bench/costmap cells [--labels model|truth] [--scenes 10] [--seconds 12] [--motion drive|pan]
                       [--patch-px 1] [--rate 5] [--picture FILE.jpg]
both: [--seed 0] [--set PARAMETER=VALUE ...] [--layer KEY=VALUE ...] [--logs FOLDER]

starts: how many costmaps die, or live but have no cells, in each order of starts:

  a  the node first, the costmap later
  b  the costmap first, the node later
  c  both are up, the node restarts
  d  both are up, the costmap is deactivated and activated
  e  both are up, the costmap is also cleaned up and configured
  f  a costmap comes and goes; every second one is killed, every tenth must have cells
  g  the words change while the costmap starts
  h  the costmap knows none of the node's words: it must live, and have no cells

cells: precision and recall of the layer's cells at the end of a drive in the demo world, with the
labels of the demo model or of the simulator. Precision: the share of the marked cells that hold
geometry which is not floor, or are next to such a cell. Recall: the share of the cells with true
points within the layer's range that are marked, or next to a marked cell; of the points in images
of the last seconds ("lately"), and of those in all images of the drive.
"""

import argparse
import contextlib
import importlib.util
import os
import signal
import sys
import tempfile
from pathlib import Path

import rclpy
from ament_index_python import PackageNotFoundError, get_package_prefix
from rclpy.signals import SignalHandlerOptions

sys.path.insert(0, str(Path(__file__).parents[2]))

from cliptrase_ros.cli import arguments
from cliptrase_ros.ros.demo import domain
from cliptrase_ros.ros.demo.runner import PROFILE
from cliptrase_ros.ros.shutdown import spun

ROOT = Path(__file__).parents[2]
MODULES = {
    'nav2_msgs': 'ros-$ROS_DISTRO-nav2-msgs',
    'tf2_msgs': 'ros-$ROS_DISTRO-tf2-msgs',
    'vision_msgs': 'ros-$ROS_DISTRO-vision-msgs',
    'pybullet': 'PyBullet (pip install pybullet)',
}
PACKAGES = {
    'nav2_costmap_2d': 'ros-$ROS_DISTRO-nav2-costmap-2d',
    'semantic_segmentation_layer': 'semantic_segmentation_layer from source (doc/navigation.md)',
}


def main():
    options = _parse()
    _require()
    # These need what _require looks for.
    from drive import cells
    from processes import Setup
    from starts import starts

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory() as folder, world(folder) as node:
        options.logs.mkdir(parents=True, exist_ok=True)
        executable = Path(get_package_prefix('nav2_costmap_2d'), 'lib', 'nav2_costmap_2d')
        with Setup(node, executable / 'nav2_costmap_2d', Path(folder), options) as setup:
            {'starts': starts, 'cells': cells}[options.command](setup, options)


def _parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest='command', required=True)
    starts = commands.add_parser('starts')
    starts.add_argument('--node', default='demo', choices=('demo', 'fast'))
    starts.add_argument('--orders', nargs='+', default=list('abcdefgh'), choices=list('abcdefgh'))
    starts.add_argument('--count', type=arguments.positive, default=40, help='starts per order')
    starts.add_argument(
        '--lead', type=float, help='points.label_info_lead_s of the node; 0: no protection'
    )
    starts.add_argument(
        '--alone',
        action='store_true',
        help='nobody else listens to points and confidence (default: this script does, like RViz)',
    )
    cells = commands.add_parser('cells')
    cells.add_argument('--labels', default='model', choices=('model', 'truth'))
    cells.add_argument('--scenes', type=arguments.positive, default=10)
    cells.add_argument('--seconds', type=float, default=12.0, help='length of each drive')
    cells.add_argument('--motion', default='drive', choices=('drive', 'pan'))
    cells.add_argument('--rate', type=float, default=5.0, help='images per second')
    cells.add_argument(
        '--patch-px',
        type=arguments.positive,
        default=1,
        help='true labels as of a model that sees patches of this side in pixels',
    )
    cells.add_argument('--picture', type=Path, help='picture of the first scene')
    for command in (starts, cells):
        command.add_argument('--seed', type=int, default=0)
        command.add_argument(
            '--layer', action='append', default=[], type=_pair, metavar='KEY=VALUE'
        )
        command.add_argument('--set', action='append', default=[], type=_pair, metavar='NAME=VALUE')
        command.add_argument(
            '--logs',
            type=Path,
            default=Path('costmap_logs'),
            help='folder for the logs of processes that died',
        )
    return parser.parse_args()


def _pair(text):
    name, equals, value = text.partition('=')
    if not (name and equals):
        raise argparse.ArgumentTypeError(f'expected NAME=VALUE, got {text!r}')
    return name, value


def _require():
    """End with a message unless everything that is needed is installed."""
    missing = [MODULES[name] for name in MODULES if importlib.util.find_spec(name) is None]
    for name, install in PACKAGES.items():
        try:
            get_package_prefix(name)
        except PackageNotFoundError:
            missing.append(install)
    if missing:
        raise SystemExit('not found; install it and source its setup.bash: ' + ', '.join(missing))


@contextlib.contextmanager
def world(folder):
    """Claim a ROS domain and yield the node of this script."""
    for name in ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE'):
        os.environ[name] = str(ROOT / PROFILE)
    os.environ['ROS_LOG_DIR'] = folder
    lock = domain.claim()
    # Without its signal handlers Ctrl-C raises KeyboardInterrupt, which ends the processes.
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    try:
        with spun(rclpy.create_node('bench')) as node:
            yield node
    finally:
        rclpy.try_shutdown()
        lock.close()


if __name__ == '__main__':
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
