"""Archives to label, and runs that a signal ends."""

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
    """Pictures in two folders, one below the other."""
    for n in range(count):
        folder = root / 'deep' / 'er' if n % 2 else root
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(32, 40, n)).save(folder / f'p{n}.png')
    return root


def bag(path, count=2):
    """A recording of one camera."""
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
    """{path below out: pixels} of all labels."""
    return {
        str(path.relative_to(out)): np.asarray(Image.open(path)).tobytes()
        for path in out.rglob('*.png')
    }


def run(*arguments):
    """The command `cliptrase label` in a process of its own."""
    return forks.run('cli', 'label', *arguments)


def interrupted(*arguments, after=1):
    """Ctrl-C after so many items: (exit code, what they were, the last thing it said)."""
    process = Fork('cli', 'label', *arguments, '--json', first=unbuffered)
    said = [json.loads(process.stdout.readline()) for _ in range(after)]
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    return process.returncode, said, errors


def alive(pid):
    """Whether a process runs; one that nobody has waited for yet does not."""
    try:
        return Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()[0] != 'Z'
    except FileNotFoundError:
        return False
