"""Recordings for tests: real files, written with rosbags, and MCAP written by hand."""

import shutil
import struct
from pathlib import Path

import cv2
import numpy as np
import yaml
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import Reader, StoragePlugin
from rosbags.rosbag2 import Writer as Writer2
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from towers import picture

START = 1_700_000_000 * 10**9
STEP = 100_000_000
BATTERY = 'float64 volts\nstring name\nfloat32[] cells\n'


def types(kind):
    """Return the type store for a kind of file: ros1, db3 or mcap."""
    store = get_typestore(Stores.ROS1_NOETIC if kind == 'ros1' else Stores.ROS2_HUMBLE)
    own = get_types_from_msg(BATTERY, 'robot/msg/Battery')
    if 'tf2_msgs/msg/TFMessage' not in store.fielddefs:
        text = 'geometry_msgs/TransformStamped[] transforms\n'
        own |= get_types_from_msg(text, 'tf2_msgs/msg/TFMessage')
    store.register(own)
    return store


class Robot:
    """Maker of messages for one kind of recording."""

    def __init__(self, kind):
        self.kind, self.store = kind, types(kind)

    def make(self, name, /, **fields):
        return self.store.types[name](**fields)

    def header(self, time, frame='camera'):
        stamp = self.make('builtin_interfaces/msg/Time', sec=time // 10**9, nanosec=time % 10**9)
        count = {'seq': 7} if self.kind == 'ros1' else {}
        return self.make('std_msgs/msg/Header', stamp=stamp, frame_id=frame, **count)

    def image(self, time, pixels, encoding='bgr8', padding=0):
        """Make an image message.

        Args:
            pixels: [H, W, ...] in the channel order of the encoding.
            padding: extra bytes at the end of each row.
        """
        rows = np.ascontiguousarray(pixels).reshape(len(pixels), -1).view(np.uint8)
        rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=171)
        return self.make(
            'sensor_msgs/msg/Image',
            header=self.header(time),
            height=pixels.shape[0],
            width=pixels.shape[1],
            encoding=encoding,
            is_bigendian=0,
            step=rows.shape[1],
            data=rows.ravel(),
        )

    def jpeg(self, time, rgb, format='bgr8; jpeg compressed bgr8'):
        data = cv2.imencode('.jpg', rgb[..., ::-1])[1].ravel()
        header = self.header(time)
        return self.make('sensor_msgs/msg/CompressedImage', header=header, format=format, data=data)

    def camera_info(self, time, size, focal=50.0):
        height, width = size
        k = np.array([focal, 0, width / 2, 0, focal, height / 2, 0, 0, 1.0])
        p = np.insert(k, (3, 6, 9), 0.0)
        roi = dict.fromkeys(('x_offset', 'y_offset', 'height', 'width'), 0)
        names = 'DKRP' if self.kind == 'ros1' else 'dkrp'
        return self.make(
            'sensor_msgs/msg/CameraInfo',
            header=self.header(time),
            height=height,
            width=width,
            distortion_model='plumb_bob',
            binning_x=0,
            binning_y=0,
            roi=self.make('sensor_msgs/msg/RegionOfInterest', **roi, do_rectify=False),
            **dict(zip(names, (np.zeros(5), k, np.eye(3).ravel(), p), strict=True)),
        )

    def transform(self, time):
        vector = self.make('geometry_msgs/msg/Vector3', x=1.0, y=2.0, z=3.0)
        turn = self.make('geometry_msgs/msg/Quaternion', x=0.0, y=0.0, z=0.0, w=1.0)
        step = self.make(
            'geometry_msgs/msg/TransformStamped',
            header=self.header(time, 'map'),
            child_frame_id='camera',
            transform=self.make('geometry_msgs/msg/Transform', translation=vector, rotation=turn),
        )
        return self.make('tf2_msgs/msg/TFMessage', transforms=[step])

    def battery(self, volts):
        cells = np.arange(3, dtype=np.float32)
        return self.make('robot/msg/Battery', volts=volts, name='main', cells=cells)

    def drive(self, count=3, topic='/camera/image_raw', size=(48, 64), compressed=False):
        """Yield (topic, time, message) of a camera and of other topics of a robot."""
        side = topic.removesuffix('/compressed').rpartition('/')[0]
        for n in range(count):
            time, rgb = START + n * STEP, seen(n, size)
            if compressed:
                yield topic, time, self.jpeg(time, rgb)
            else:
                yield topic, time, self.image(time, rgb[..., ::-1], padding=5)
            yield f'{side}/camera_info', time + 10, self.camera_info(time, size)
            yield '/tf', time + 20, self.transform(time)
            yield '/battery', time + 30, self.battery(12.0 + n)

    def serialize(self, message):
        make = self.store.serialize_ros1 if self.kind == 'ros1' else self.store.serialize_cdr
        return bytes(make(message, message.__msgtype__))


def seen(number, size=(48, 64)):
    """Return the picture that the camera sees: [H, W, 3] uint8 RGB."""
    return picture(*size, seed=number)


def record(folder, kind, drive=None, name='drive', qos=(), latched=(), prepare=None):
    """Write a recording; return its path.

    Args:
        drive: (topic, time, message), like Robot.drive; None: Robot.drive itself.
        qos: QoS profiles of all topics (ROS 2 only).
        latched: the latched topics (ROS 1 only).
        prepare: called with the ROS 2 writer before it is opened.
    """
    robot = Robot(kind)
    path = Path(folder) / (f'{name}.bag' if kind == 'ros1' else name)
    if kind == 'ros1':
        writer = Writer1(path)
    else:
        plugin = StoragePlugin.SQLITE3 if kind == 'db3' else StoragePlugin.MCAP
        writer = Writer2(path, version=8, storage_plugin=plugin)
        if prepare:
            prepare(writer)
    with writer:
        channels = {}
        for topic, time, message in drive or robot.drive():
            if topic not in channels:
                more = (
                    {'latching': int(topic in latched)}
                    if kind == 'ros1'
                    else {'offered_qos_profiles': qos}
                )
                channels[topic] = writer.add_connection(
                    topic, message.__msgtype__, typestore=robot.store, **more
                )
            writer.write(channels[topic], time, robot.serialize(message))
    return path


def split(folder, kind='mcap', count=3, **options):
    """Write a recording of `count` files with one drive each, all named in metadata.yaml.

    Returns:
        the folder, and its files in order.
    """
    source, files = Path(folder) / 'split', []
    source.mkdir()
    for n in range(count):
        drive = [
            (topic, time + n * 10 * STEP, message)
            for topic, time, message in Robot(kind).drive(2, size=(24, 32))
        ]
        part = record(folder, kind, drive, f'split_{n}', **options)
        files.append(inside(part).rename(source / inside(part).name))
        metadata = (part / 'metadata.yaml').read_text()
        shutil.rmtree(part)
    name_in_metadata(source, [file.name for file in files], 8 * count, metadata)
    return source, files


def name_in_metadata(folder, names, count=None, text=None):
    """Write metadata.yaml with other names of files and another number of messages."""
    path = Path(folder) / 'metadata.yaml'
    told = yaml.safe_load(text or path.read_text())
    information = told['rosbag2_bagfile_information']
    information['relative_file_paths'] = list(names)
    information['message_count'] = information['message_count'] if count is None else count
    path.write_text(yaml.safe_dump(told))


def inside(folder):
    """Return the only message file in a folder."""
    (path,) = [p for p in Path(folder).iterdir() if p.suffix in ('.mcap', '.db3', '.zstd')]
    return path


def messages(path):
    """Read [(topic, type, time, bytes)] with rosbags, in its order."""
    with Reader(path) as reader:
        return [(c.topic, c.msgtype, time, bytes(data)) for c, time, data in reader.messages()]


def connections(path):
    """Return {topic: connection of rosbags}."""
    with Reader(path) as reader:
        return {c.topic: c for c in reader.connections}


def mcap(path, entries, end=True, chunk=None):
    """Write an MCAP file by hand.

    Args:
        entries: (topic, type, encoding of the definition, definition, form, time, bytes).
        end: write a footer, without a summary.
        chunk: (compression, function that compresses): put all messages in one chunk.
    """
    body, known = b'', {}
    for topic, kind, encoding, definition, form, time, data in entries:
        if topic not in known:
            known[topic] = number = len(known) + 1
            schema = struct.pack('<H', number) + b''.join(map(_text, (kind, encoding, definition)))
            channel = struct.pack('<HH', number, number) + _text(topic) + _text(form) + _text('')
            body += _record(3, schema) + _record(4, channel)
        body += _record(5, struct.pack('<HIQQ', known[topic], 0, time, time) + data)
    if chunk:
        compression, pack = chunk
        packed = pack(body)
        head = struct.pack('<QQQI', 0, 0, len(body), 0) + _text(compression)
        body = _record(6, head + struct.pack('<Q', len(packed)) + packed)
    if end:
        body += _record(15, bytes(4)) + _record(2, bytes(20)) + b'\x89MCAP0\r\n'
    path.write_bytes(b'\x89MCAP0\r\n' + _record(1, _text('ros2') + _text('test')) + body)
    return path


def _record(kind, content):
    return struct.pack('<BQ', kind, len(content)) + content


def _text(text):
    return struct.pack('<I', len(text)) + text.encode()
