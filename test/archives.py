"""Archives for tests, and runs of `cliptrase label`."""

import json
import signal
from pathlib import Path

import forks
import numpy as np
from forks import Fork, unbuffered
from PIL import Image
from rosbags.rosbag2 import Writer
from rosbags.typesys import Stores, get_typestore
from towers import picture

from cliptrase_ros.batch.archive import Job
from cliptrase_ros.settings import Settings

WORDS = ('floor', '9:mug=mug;cup')
FAST = {'model': 'cliptrase-tiny', 'weights': 'random', 'device': 'cpu', 'input_size': 64}
FAST |= {'prompt_templates': 'none', 'precision': 'fp32'}
FLAGS = [x for k, v in FAST.items() for x in ('--' + k.replace('_', '-'), str(v))]


def job(**changes):
    return Job(
        **{'settings': Settings(**FAST), 'entries': WORDS, 'background': ('sky',), **changes}
    )


def tree(root, count=4):
    """Write pictures in two folders, one inside the other; return the outer folder."""
    for n in range(count):
        folder = root / 'deep' / 'er' if n % 2 else root
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(32, 40, n)).save(folder / f'p{n}.png')
    return root


def bag(path, count=2):
    """Write a recording of one camera; return its path."""
    store = get_typestore(Stores.ROS2_HUMBLE)
    image, header, stamp = (
        store.types[name]
        for name in ('sensor_msgs/msg/Image', 'std_msgs/msg/Header', 'builtin_interfaces/msg/Time')
    )
    with Writer(path, version=9) as writer:
        topic = writer.add_connection('/image', image.__msgtype__, typestore=store)
        for n in range(count):
            made = image(
                header(stamp(n, 0), 'cam'), 32, 40, 'rgb8', 0, 120, picture(32, 40, n).ravel()
            )
            writer.write(topic, n * 10**9, store.serialize_cdr(made, image.__msgtype__))
    return path


def contents(out):
    """Return {path relative to out: pixels} of all label files."""
    return {
        str(path.relative_to(out)): np.asarray(Image.open(path)).tobytes()
        for path in out.rglob('*.png')
    }


def run(*arguments):
    """Run the command `cliptrase label` in its own process."""
    return forks.run('cli', 'label', *arguments)


def interrupted(*arguments, after=1):
    """Send Ctrl-C after some items; return (exit code, lines of these items, standard error)."""
    process = Fork('cli', 'label', *arguments, '--json', first=unbuffered)
    said = [json.loads(process.stdout.readline()) for _ in range(after)]
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    return process.returncode, said, errors


def alive(pid):
    """Return whether a process runs. A zombie does not count."""
    try:
        return Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()[0] != 'Z'
    except FileNotFoundError:
        return False
