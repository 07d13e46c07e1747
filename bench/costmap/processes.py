"""The processes of bench/costmap (demo world, segmentation node, costmap) and their messages."""

import contextlib
import itertools
import signal
import subprocess
import sys
import time
from collections import OrderedDict
from functools import partial
from pathlib import Path

import numpy as np
import yaml
from cells import Grid, costmap_parameters, demo_layer
from geometry_msgs.msg import PoseStamped
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from nav2_msgs.msg import Costmap as CostmapMessage
from nav2_msgs.srv import ClearEntireCostmap
from rclpy.time import Time
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from cliptrase_ros.demo import SETTINGS
from cliptrase_ros.demo.things import CLASSES
from cliptrase_ros.options import flattened
from cliptrase_ros.ros.demo.collector import CAMERA, DEPTH, TRUTH
from cliptrase_ros.ros.demo.runner import TOPICS
from cliptrase_ros.ros.qos import LATCHED, newest
from cliptrase_ros.settings import Settings

ROOT = Path(__file__).parents[2]
LAYER_FILE = ROOT / 'config' / 'nav2_semantic_layer.yaml'
# Parameters of the node and of its camera. The fast one labels at the rate of the camera; its
# labels are random.
TINY = {'model': 'cliptrase-tiny', 'weights': 'random', 'input_size': 96}
NODES = {
    'demo': (flattened(Settings, SETTINGS), {'width': 320, 'height': 240, 'rate_hz': 5.0}),
    'fast': (TINY, {'width': 160, 'height': 120, 'rate_hz': 30.0}),
}
OUTPUTS = '/segmentation/'
INFO, POSE = '/camera/camera_info', '/pose'
FRAME = {CAMERA: Image, DEPTH: Image, TRUTH: Image, INFO: CameraInfo, POSE: PoseStamped}
# Limits of waiting in seconds: a process starts, a call is answered, a process ends.
START_S, ANSWER_S, END_S = 300, 10, 10
TRIES = 3
GOALS = {
    'configure': State.PRIMARY_STATE_INACTIVE,
    'activate': State.PRIMARY_STATE_ACTIVE,
    'deactivate': State.PRIMARY_STATE_INACTIVE,
    'cleanup': State.PRIMARY_STATE_UNCONFIGURED,
}
RECENT = 50
UNKNOWN = 255


class Trouble(Exception):
    """A process does not do what it should."""


class Died(Trouble):
    """A process ended by itself."""


class Process:
    """A child process whose output goes to a file. It ends with the block.

    Args:
        keep: folder to which the file is copied if the process dies by itself.
    """

    def __init__(self, command, log, keep):
        self.log, self._keep, self._ending = log, keep, False
        with open(log, 'w') as file:
            self._process = subprocess.Popen(
                command, stdout=file, stderr=subprocess.STDOUT, cwd=ROOT
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    @property
    def died(self):
        """How it ended by itself, such as 'SIGSEGV' or 'exit code 1'; '' if it did not."""
        code = self._process.poll()
        if self._ending or code is None:
            return ''
        return signal.Signals(-code).name if code < 0 else f'exit code {code}'

    def end(self, number=signal.SIGINT):
        """End it; kill it if it does not end in time. Keep the log if it has died."""
        if self.died:
            self.keep()
        self._ending = True
        if self._process.poll() is None:
            self._process.send_signal(number)
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def keep(self):
        """Copy the log, which is deleted at the end of the script, to the folder for logs."""
        (self._keep / self.log.name).write_bytes(self.log.read_bytes())

    def kill(self):
        """End it at once, without its own shutdown."""
        self.end(signal.SIGKILL)

    def check(self):
        """Raise Died if it died."""
        if self.died:
            raise Died(self.died)


class Labels:
    """Counts the label masks of the node, in `times` (monotonic clock).

    Args:
        beside: also listen to what the layer pairs, as RViz would. Then the node makes these
            outputs already before the layer listens, and the layer gets its first ones earlier.
    """

    def __init__(self, node, beside):
        self.times = []
        node.create_subscription(Image, f'{OUTPUTS}label_mask', self._take, newest(), raw=True)
        for topic, kind in {'confidence': Image, 'points': PointCloud2}.items() if beside else ():
            node.create_subscription(kind, OUTPUTS + topic, lambda _: None, newest(), raw=True)

    def _take(self, _):
        self.times.append(time.monotonic())


def hear_frames(node, take, *more):
    """Call take({topic: message}) when all messages of one stamp have come: the topics FRAME of the
    demo world, and more topics with images."""
    frames = OrderedDict()
    kinds = FRAME | dict.fromkeys(more, Image)

    def add(topic, message):
        stamp = stamp_of(message)
        frames.setdefault(stamp, {})[topic] = message
        if len(frames[stamp]) == len(kinds):
            take(frames.pop(stamp))
        if len(frames) > RECENT:
            frames.popitem(last=False)

    for topic, kind in kinds.items():
        node.create_subscription(kind, topic, partial(add, topic), newest(depth=RECENT))


def stamp_of(message):
    """Return the stamp in nanoseconds."""
    return Time.from_msg(message.header.stamp).nanoseconds


class Costmap:
    """A process nav2_costmap_2d and the newest costmap that it published.

    Args:
        name: name of its namespace, different for each process, so that late messages of another
            one are not taken for its own.
    """

    def __init__(self, node, executable, name, parameters, folder, keep):
        file = folder / f'{name}.yaml'
        file.write_text(yaml.safe_dump(parameters))
        self.costs, self.stamp_ns = None, 0
        space = f'/{name}'
        command = [executable, '--ros-args', '--params-file', str(file), '-r', f'__ns:={space}']
        with contextlib.ExitStack() as stack:
            self.process = stack.enter_context(Process(command, folder / f'{name}.log', keep))
            made = node.create_subscription(
                CostmapMessage, f'{space}/costmap_raw', self._take, LATCHED
            )
            stack.callback(node.destroy_subscription, made)

            def client(kind, service):
                made = node.create_client(kind, f'{space}/{service}')
                stack.callback(node.destroy_client, made)
                return made

            self._changes = client(ChangeState, 'costmap/change_state')
            self._states = client(GetState, 'costmap/get_state')
            self._clears = client(ClearEntireCostmap, 'clear_entirely_costmap')
            self._stack = stack.pop_all()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind and issubclass(kind, Trouble):
            self.process.keep()
        self._stack.close()

    def _take(self, message):
        size = message.metadata.size_y, message.metadata.size_x
        self.stamp_ns = stamp_of(message)
        costs = np.array(message.data, np.uint8).reshape(size)
        self.costs = np.where(costs == UNKNOWN, 0, costs)

    @property
    def has_cells(self):
        """Whether the newest costmap has a cell with a cost."""
        return self.costs is not None and bool((self.costs > 0).any())

    def change(self, *transitions):
        """Make transitions such as 'configure'. Raise Trouble if one fails, Died if it dies."""
        for name in transitions:
            number = getattr(Transition, f'TRANSITION_{name.upper()}')
            request = ChangeState.Request(transition=Transition(id=number))
            # An answer is lost if the service has not yet discovered its client.
            if not any(self._changed(request, GOALS[name]) for _ in range(TRIES)):
                raise Trouble(f'{name} failed')

    def _changed(self, request, goal):
        answer = self._call(self._changes, request)
        if answer and answer.success:
            return True
        answer = self._call(self._states, GetState.Request())
        return bool(answer) and answer.current_state.id == goal

    def clear(self):
        """Clear the costmap; forget what it published before."""
        if not any(self._call(self._clears, ClearEntireCostmap.Request()) for _ in range(TRIES)):
            raise Trouble('clear failed')
        self.costs = None

    def _call(self, client, request):
        """Return the answer, or None if none comes in time. Raise Died if the costmap dies."""

        def ready():
            self.process.check()
            return client.service_is_ready()

        if not wait(ready, ANSWER_S):
            return None
        future = client.call_async(request)

        def answered():
            self.process.check()
            return future.done()

        return future.result() if wait(answered, ANSWER_S) else None


def wait(condition, seconds):
    """Return True as soon as the condition is true; False if it is not within this time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


class Setup:
    """The demo world, the node, and costmaps, one after another.

    Attributes:
        node: the rclpy node of this script.
        shipped: the shipped configuration of the layer.
        layer: the layer's parameters for the words of the demo world.
        cells_s: how long a costmap may take until it has cells, in seconds.
    """

    def __init__(self, node, executable, folder, options):
        self.node = node
        self._executable, self._folder, self._keep = executable, folder, options.logs
        self._set = dict(options.set)
        self.shipped = yaml.safe_load(LAYER_FILE.read_text())
        self.layer = demo_layer(self.shipped, dict(options.layer))
        self._numbers, self._processes = itertools.count(1), {}
        self.labels, self.cells_s = None, 0.0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self._processes.values():
            process.end()

    def listen(self, beside):
        """Hear the node's labels; see Labels."""
        self.labels = Labels(self.node, beside)

    def start_world(self, **parameters):
        """Start the demo world, in place of the one that runs."""
        self._start('world', ('-m', 'cliptrase_ros.ros.demo.demo_world'), parameters)

    def start_node(self, program=('-m', 'cliptrase_ros.ros.node'), **parameters):
        """Start the node and wait for its first labels."""
        words = '[' + ', '.join(f'"{name}"' for name in CLASSES) + ']'
        self._node = program, {'vocabulary': words} | parameters | self._set
        self.restart_node()

    def restart_node(self):
        """Start the node again and wait for its first labels."""
        heard = len(self.labels.times)
        self._start('segmentation', *self._node)

        def labelled():
            self.check()
            return len(self.labels.times) > heard

        if not wait(labelled, START_S):
            raise SystemExit(f'no label mask came within {START_S} s')

    def stop_node(self):
        """End the node."""
        self._processes['segmentation'].end()

    def rate_hz(self, seconds):
        """Measure the rate of the label masks in this time."""
        before = len(self.labels.times)
        time.sleep(seconds)
        return (len(self.labels.times) - before) / seconds

    def costmap(self, layer=None, grid=None):
        """Start a costmap, not yet configured."""
        name, parameters = f'costmap{next(self._numbers)}', layer or self.layer
        parameters = costmap_parameters(parameters, grid or Grid())
        return Costmap(self.node, self._executable, name, parameters, self._folder, self._keep)

    def check(self):
        """End the script if the world or the node died."""
        for name, process in self._processes.items():
            if reason := process.died:
                process.end()
                log = self._keep / process.log.name
                raise SystemExit(f'{name} died ({reason}): see {log}')

    def has_cells(self, costmap):
        """Return whether the costmap has a cell with a cost, after a check of all processes."""
        self.check()
        costmap.process.check()
        return costmap.has_cells

    def _start(self, name, program, parameters):
        if name in self._processes:
            self._processes[name].end()
        command = [sys.executable, *program, '--ros-args']
        for parameter, value in parameters.items():
            command += ['-p', f'{parameter}:={value}']
        for remap in TOPICS:
            command += ['-r', remap]
        log = self._folder / f'{name}.log'
        self._processes[name] = Process(command, log, self._keep)
