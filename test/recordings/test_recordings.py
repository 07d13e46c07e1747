"""Recordings that are cut off, damaged or not closed, and the conversion from ROS 1 to ROS 2."""

import os
import shutil
import sqlite3
import struct
import subprocess
import sys

import lz4.frame
import numpy as np
import pytest
from bag_files import START, STEP, Robot, connections, inside, mcap, messages, record, seen
from rosbags.rosbag1 import Reader as Reader1
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import Writer as Writer2
from rosbags.rosbag2.enums import CompressionFormat, CompressionMode
from rosbags.typesys import get_types_from_msg

from cliptrase_ros import cli
from cliptrase_ros.errors import PictureError
from cliptrase_ros.recordings.channel import LATCHED, profiles
from cliptrase_ros.recordings.compression import unpacked, zstd
from cliptrase_ros.recordings.reader import Recording, moment
from cliptrase_ros.recordings.scan import taken

COUNT = 40


def drive(kind):
    """Return messages of more than a megabyte: several chunks, many pages."""
    return Robot(kind).drive(COUNT, size=(96, 128))


@pytest.fixture(params=['ros1', 'db3', 'mcap'])
def kind(request):
    return request.param


@pytest.fixture
def source(kind, tmp_path):
    return record(tmp_path, kind, drive(kind))


def read(path):
    """Return ([(topic, time, bytes)], problems) of a recording."""
    with Recording(path) as recording:
        found = [(m.channel.topic, m.time, bytes(m.data)) for m in recording.messages()]
        assert sum(recording.counts.values()) >= len(found)
        return found, recording.problems


def file_of(path):
    return inside(path) if path.is_dir() else path


def cut(path, size):
    with file_of(path).open('r+b') as file:
        file.truncate(size)


def size_of(path):
    return file_of(path).stat().st_size


@pytest.mark.parametrize('share', [0.3, 0.5, 0.9])
@pytest.mark.parametrize('metadata', [True, False])
def test_what_is_before_the_cut_is_read(kind, share, metadata, source):
    whole, problems = read(source)
    assert len(whole) == 4 * COUNT and not problems
    cut(source, int(share * size_of(source)))
    if kind != 'ros1' and not metadata:
        (source / 'metadata.yaml').unlink()
    found, problems = read(source)
    assert found == whole[: len(found)]
    assert (share - 0.15) * 4 * COUNT < len(found) < (share + 0.05) * 4 * COUNT
    (problem,) = problems
    assert str(file_of(source)) in problem and 'cut off' in problem
    assert f'{len(found)} messages until {moment(found[-1][1])} were read' in problem


def test_a_file_by_itself_is_a_recording(kind, source, tmp_path):
    whole, _ = read(source)
    for name in (file_of(source).name, 'any.name'):
        alone = tmp_path / 'alone' / name
        alone.parent.mkdir(exist_ok=True)
        shutil.copy(file_of(source), alone)
        assert read(alone) == (whole, [])


def test_no_metadata_and_nothing_missing(kind, source):
    whole, _ = read(source)
    if kind != 'ros1':
        (source / 'metadata.yaml').write_text('rosbag2_bagfile_information: [')
        assert read(source) == (whole, [])
        (source / 'metadata.yaml').unlink()
    assert read(source) == (whole, [])


def test_a_cut_recording_is_labelled(kind, source, tmp_path, capsys):
    cut(source, size_of(source) // 2)
    found, _ = read(source)
    images = [time for topic, time, _ in found if topic == '/camera/image_raw']
    command = ['bag', str(source), '--words', 'a', '--model', 'cliptrase-tiny', '--weights']
    command += ['random', '--device', 'cpu', '--input-size', '32', '-o', str(tmp_path / 'out')]
    assert cli.main([*command, '--regions', 'none']) == 3
    told = capsys.readouterr()
    assert f'{len(found)} messages until' in told.err and f'{len(images)} images' in told.out
    after = messages(tmp_path / 'out')
    old = [(topic, time, data) for topic, _, time, data in after if topic[:5] != '/segm']
    assert old == found
    assert [m[2] for m in after if m[0] == '/segmentation/label_mask'] == images


def test_a_recording_of_which_nothing_is_left(kind, source, tmp_path):
    cut(source, 60)
    with pytest.raises(PictureError, match=r'nothing|cannot'):
        found, problems = read(source)
        assert not found and 'cut off' in problems[0]
        raise PictureError('nothing')
    cut(source, 0)
    with pytest.raises(PictureError, match='is empty'):
        read(source)
    file_of(source).write_bytes(b'anything else')
    with pytest.raises(PictureError, match='is not a recording; expected a ROS 1'):
        read(source)


def test_damage_in_the_middle(kind, source):
    whole, _ = read(source)
    content = bytearray(file_of(source).read_bytes())
    place = int(0.9 * len(content))
    content[place : place + 65536] = bytes([255]) * 65536
    file_of(source).write_bytes(content)
    found, (problem,) = read(source)
    assert 0.6 * len(whole) < len(found) < len(whole)
    assert [time for _, time, _ in found] == [time for _, time, _ in whole[: len(found)]]
    assert 'damaged' in problem and f'{len(found)} messages until' in problem


def test_the_log_of_a_recorder_that_was_killed(tmp_path):
    """The newest messages are only in SQLite's write-ahead log."""
    source = record(tmp_path, 'db3', drive('db3'))
    whole, _ = read(source)
    database = sqlite3.connect(inside(source))
    database.execute('PRAGMA journal_mode=WAL')
    database.execute('PRAGMA wal_autocheckpoint=0')
    rows = database.execute('SELECT topic_id, data FROM messages WHERE id <= 4').fetchall()
    for n, (topic, data) in enumerate(rows):
        database.execute(
            'INSERT INTO messages (topic_id, timestamp, data) VALUES (?, ?, ?)',
            (topic, START + COUNT * STEP + n, data),
        )
    database.commit()
    killed = tmp_path / 'killed'
    shutil.copytree(source, killed)  # while the database is open: closing it would remove the log
    database.close()
    assert (killed / f'{inside(source).name}-wal').stat().st_size
    log = (killed / f'{inside(source).name}-wal').read_bytes()
    found, problems = read(killed)
    assert len(found) == len(whole) + 4 and found[:-4] == whole and not problems
    assert [time for _, time, _ in found[-4:]] == [START + COUNT * STEP + n for n in range(4)]
    assert (killed / f'{inside(source).name}-wal').read_bytes() == log


def compressed(name):
    return {
        '': lambda data: data,
        'zstd': zstd.compress,
        'lz4': lz4.frame.compress,
    }[name]


def entries(count=20):
    robot = Robot('mcap')
    for topic, time, message in robot.drive(count):
        kind = message.__msgtype__
        text, _ = robot.store.generate_msgdef(kind, ros_version=2)
        yield topic, kind, 'ros2msg', text, 'cdr', time, robot.serialize(message)


@pytest.mark.parametrize('compression', ['', 'zstd', 'lz4'])
def test_a_chunk_that_is_cut(compression, tmp_path):
    """The part of the last chunk that can be unpacked is read."""
    path = mcap(tmp_path / 'x.mcap', entries(60), chunk=(compression, compressed(compression)))
    whole, problems = read(path)
    assert len(whole) == 240 and not problems
    cut(path, int(0.7 * size_of(path)))
    found, problems = read(path)
    assert found == whole[: len(found)] and len(found) > 60
    assert 'cut off: its footer is missing' in problems[0]


def test_mcap_without_chunks_and_without_an_end(tmp_path):
    path = mcap(tmp_path / 'x.mcap', entries(), end=False)
    found, problems = read(path)
    assert len(found) == 80 and '80 messages until' in problems[0]
    cut(path, size_of(path) - 1)
    assert len(read(path)[0]) == 79


def test_messages_that_are_not_in_order_of_time(tmp_path):
    path = mcap(tmp_path / 'x.mcap', reversed(list(entries())))
    found, problems = read(path)
    assert len(found) == 80 and not problems


def test_a_chunk_whose_checksum_is_wrong(tmp_path):
    path = mcap(tmp_path / 'x.mcap', entries(), chunk=('', compressed('')))
    content = bytearray(path.read_bytes())
    at = content.index(struct.pack('<QQ', 0, 0)) + 24
    content[at : at + 4] = b'abcd'
    path.write_bytes(content)
    found, problems = read(path)
    assert not found and 'x.mcap: 1 of its chunks are damaged' in problems[0]


def test_what_mcap_holds_beside_ros_2(tmp_path):
    """A ROS 1 message is converted; a JSON topic is named and skipped."""
    robot, own = Robot('ros1'), Robot('mcap')
    message = robot.image(START, seen(0), padding=3)
    text, _ = robot.store.generate_msgdef('sensor_msgs/msg/Image')
    ros1 = '/image', 'sensor_msgs/Image', 'ros1msg', text, 'ros1', START, robot.serialize(message)
    other = '/json', 'Thing', 'jsonschema', '{}', 'json', START + 1, b'{}'
    found, problems = read(mcap(tmp_path / 'x.mcap', [ros1, other]))
    assert found == [('/image', START, own.serialize(own.image(START, seen(0), padding=3)))]
    assert problems == ["/json (Thing) is skipped: its messages are 'json', not ROS messages"]


def test_a_compressed_file_that_is_cut(tmp_path):
    def prepare(writer):
        writer.set_compression(CompressionMode.FILE, CompressionFormat.ZSTD)

    source = record(tmp_path, 'mcap', drive('mcap'), prepare=prepare)
    whole, _ = read(source)
    cut(source, size_of(source) // 2)
    found, problems = read(source)
    assert found == whole[: len(found)] and 4 < len(found) < len(whole) and len(problems) == 1


def test_a_compressed_file_whose_end_alone_is_cut(tmp_path):
    """All data can be unpacked; only the end mark is missing."""

    def prepare(writer):
        writer.set_compression(CompressionMode.FILE, CompressionFormat.ZSTD)

    source = record(tmp_path, 'db3', prepare=prepare)
    whole, _ = read(source)
    file = inside(source)
    flushed = zstd.ZstdCompressor()
    data = zstd.decompress(file.read_bytes())
    file.write_bytes(flushed.compress(data, mode=flushed.FLUSH_BLOCK))
    found, problems = read(source)
    assert found == whole and 'it is cut off; 12 messages' in problems[0]


def test_a_part_that_is_missing_or_empty(tmp_path):
    source = record(tmp_path, 'mcap')
    whole, _ = read(source)
    metadata = source / 'metadata.yaml'
    metadata.write_text(metadata.read_text().replace('- drive.mcap', '- drive.mcap\n  - b.mcap'))
    found, problems = read(source)
    assert found == whole and len(problems) == 1 and 'b.mcap' in problems[0]
    (source / 'b.mcap').touch()
    found, problems = read(source)
    assert found == whole and 'b.mcap is empty' in problems[0]
    inside_a = source / 'drive.mcap'
    inside_a.unlink()
    with pytest.raises(PictureError, match=r'drive\.mcap.*b\.mcap is empty'):
        read(source)
    with pytest.raises(PictureError, match='holds no recording'):
        read(tmp_path)


def test_damage_where_there_is_no_index(kind, source):
    """A damaged chunk is read up to the damage; then the next chunk is read."""
    whole, _ = read(source)
    times = [time for _, time, _ in whole]
    content = bytearray(file_of(source).read_bytes())
    del content[-100:]
    place = content.index(b'\x00\x00\x00camera', len(content) // 3)
    content[place - 200 : place + 40_000] = bytes([255]) * 40_200
    file_of(source).write_bytes(content)
    found, (problem,) = read(source)
    after = [time for _, time, _ in found]
    assert 0.2 * len(whole) < len(found) < len(whole) and after == sorted(after)
    assert set(after) < set(times) and f'{len(found)} messages until' in problem
    if kind != 'db3':
        assert '; 1 of its chunks are damaged; ' in problem and after[-1] == times[-1]


def test_records_that_are_none_outside_of_chunks(tmp_path):
    path = mcap(tmp_path / 'x.mcap', entries(), end=False)
    path.write_bytes(path.read_bytes() + b'\x05' + bytes(8))
    found, (problem,) = read(path)
    assert len(found) == 80
    assert 'it is damaged (ValueError: a record of 0 bytes is shorter than its fields)' in problem
    bag = record(tmp_path, 'ros1')
    whole, _ = read(bag)
    bag.write_bytes(bag.read_bytes() + struct.pack('<I', 5) + b'\1\0\0\0x' + bytes(4))
    cut(bag, size_of(bag))
    content = bytearray(bag.read_bytes())
    place = content.index(b'index_pos=') + 10
    content[place : place + 8] = bytes(8)
    bag.write_bytes(content)
    found, (problem,) = read(bag)
    assert found == whole
    assert 'it is damaged (ReaderError: Header field could not be parsed.); 12 mess' in problem


def test_messages_that_an_index_has_lost(tmp_path):
    """The chunk has no channel with their id. rosbags skips them without an error."""
    source = record(tmp_path, 'mcap')
    whole, _ = read(source)
    content = bytearray(inside(source).read_bytes())
    place = content.index(struct.pack('<QQ', whole[2][1], whole[2][1])) - 6
    content[place : place + 2] = b'\xff\xff'
    inside(source).write_bytes(content)
    found, (problem,) = read(source)
    assert found == whole[:2] + whole[3:] and '1 messages of its index cannot be found' in problem


def test_quality_of_service_and_times_that_are_none(tmp_path):
    source = record(tmp_path, 'db3')
    whole, _ = read(source)
    database = sqlite3.connect(inside(source))
    database.execute("UPDATE topics SET offered_qos_profiles = '- depth: [' WHERE id = 1")
    database.execute("UPDATE topics SET offered_qos_profiles = '- depth: 3' WHERE id = 2")
    database.execute('UPDATE messages SET timestamp = -5 WHERE id = 3')
    database.commit()
    database.close()
    found, (problem,) = read(source)
    assert found == whole[:2] + whole[3:] and '(its time is out of range)' in problem
    with Recording(source) as recording:
        assert [channel.qos for channel in recording.counts] == [()] * 4


def test_a_database_that_is_none_of_ours(tmp_path):
    path = tmp_path / 'x.db3'
    database = sqlite3.connect(path)
    database.execute('CREATE TABLE other (id INTEGER)')
    database.commit()
    database.close()
    with pytest.raises(PictureError, match=r'nothing can be read \(no such table'):
        read(path)


def ros1(path, parts):
    """Write a ROS 1 bag of [(topic, type, definition, bytes)], with a wrong md5."""
    with Writer1(path) as writer:
        known = {}
        for n, (topic, kind, text, data) in enumerate(parts):
            if topic not in known:
                known[topic] = writer.add_connection(topic, kind, msgdef=text, md5sum='0' * 32)
            writer.write(known[topic], START + n, data)
    return path


def test_what_cannot_be_converted_is_named_and_left_out(tmp_path):
    robot = Robot('ros1')
    image, tf = robot.image(START, seen(0)), robot.transform(START)
    texts = [robot.store.generate_msgdef(m.__msgtype__)[0] for m in (image, tf)]
    path = ros1(
        tmp_path / 'x.bag',
        [
            ('/image', 'sensor_msgs/msg/Image', texts[0], robot.serialize(image)),
            ('/odd', 'odd/msg/Thing', 'not a definition !', b'abc'),
            ('/bare', 'odd/msg/Bare', '', b'abc'),
            ('/tf', 'tf/msg/tfMessage', texts[1], robot.serialize(tf)),
            ('/image', 'sensor_msgs/msg/Image', texts[0], b'too short'),
            ('/image', 'sensor_msgs/msg/Image', texts[0], b'also'),
            ('front//image', 'sensor_msgs/msg/Image', texts[0], robot.serialize(image)),
        ],
    )
    with Recording(path) as recording:
        found = list(recording.messages())
    assert [(m.channel.topic, m.channel.type) for m in found] == [
        ('/image', 'sensor_msgs/msg/Image'),
        ('/tf', 'tf2_msgs/msg/TFMessage'),
        ('/front/image', 'sensor_msgs/msg/Image'),
    ]
    own = Robot('mcap')
    assert [bytes(m.data) for m in found[:2]] == [
        own.serialize(own.image(START, seen(0))),
        own.serialize(own.transform(START)),
    ]
    odd, bare, short, more = recording.problems
    assert odd.startswith('/odd (odd/msg/Thing) is skipped: its definition cannot be read')
    assert bare.startswith('/bare (odd/msg/Bare) is skipped: the recording has no definition')
    assert short.startswith('/image: skipped the message of 2023-11-14') and 'not a valid' in short
    assert more == '/image: skipped 2 such messages in total'


def test_fields_that_have_changed_since_ros_1(tmp_path):
    """A type whose fields differ in ROS 2 gets the fields of ROS 2."""
    robot, own = Robot('ros1'), Robot('mcap')
    kind = 'geometry_msgs/msg/Inertia'
    text = 'float64 m\ngeometry_msgs/Vector3 com\nfloat64 ixx\n'
    robot.store.fielddefs.pop(kind)
    robot.store.register(get_types_from_msg(text, kind))
    vector = robot.make('geometry_msgs/msg/Vector3', x=1.0, y=2.0, z=3.0)
    message = robot.make(kind, m=5.0, com=vector, ixx=7.0)
    definition, _ = robot.store.generate_msgdef(kind)
    path = ros1(tmp_path / 'x.bag', [('/inertia', kind, definition, robot.serialize(message))])
    (found, *_), problems = read(path)
    assert not problems
    after = own.store.deserialize_cdr(found[2], kind)
    assert (after.m, after.com.y, after.ixx, after.izz) == (5.0, 2.0, 7.0, 0.0)


def test_latched_topics_and_custom_types_of_ros_1(tmp_path):
    path = record(tmp_path, 'ros1', latched=['/battery'])
    for whole in (True, False):
        if not whole:
            cut(path, size_of(path) - 10)
            with pytest.raises(Exception, match='index'):
                Reader1(path).open()
        with Recording(path) as recording:
            channels = {channel.topic: channel for channel in recording.counts}
        assert channels['/battery'].qos == (LATCHED,) and channels['/tf'].qos == ()
        assert 'float32[] cells' in channels['/battery'].definition
        assert channels['/camera/camera_info'].definition.count('float64[9] k') == 1
        assert 'uint32 seq' not in channels['/camera/image_raw'].definition


def test_definitions_in_idl_are_kept(tmp_path):
    sep = '=' * 80 + '\n'
    idl = (
        sep + 'IDL: robot/msg/Lamp\nmodule robot { module msg { struct Lamp { boolean on; };};};\n'
    )
    odd = sep + 'IDL: robot/msg/Odd\nnothing of this kind\n'
    path = mcap(
        tmp_path / 'x.mcap',
        [
            ('/lamp', 'robot/msg/Lamp', 'ros2idl', idl, 'cdr', START, b'\0\1\0\0\1'),
            ('/odd', 'robot/msg/Odd', 'ros2idl', odd, 'cdr', START, b'\0\1\0\0\1'),
            *entries(1),
        ],
    )
    out = tmp_path / 'out'
    command = ['bag', str(path), '--words', 'a', '--model', 'cliptrase-tiny', '--weights', 'random']
    assert cli.main([*command, '--device', 'cpu', '--input-size', '32', '-o', str(out)]) == 0
    after = connections(out)
    assert after['/lamp'].msgdef.data == idl and after['/odd'].msgdef.data == odd
    assert after['/lamp'].digest.startswith('RIHS01_') and after['/odd'].digest == ''


def changed(tmp_path, *statements):
    """Return a .db3 file changed by SQL, and its content before. Its columns have no types."""
    source = record(tmp_path, 'db3')
    whole, _ = read(source)
    path = inside(source)
    database = sqlite3.connect(path)
    for table in ('messages', 'topics', 'message_definitions'):
        database.execute(f'ALTER TABLE {table} RENAME TO old')
        columns = [row[1] for row in database.execute('PRAGMA table_info(old)')]
        database.execute(f'CREATE TABLE {table} ({", ".join(columns)})')
        database.execute(f'INSERT INTO {table} SELECT * FROM old')
        database.execute('DROP TABLE old')
    for statement in statements:
        database.execute(statement)
    database.commit()
    database.close()
    return path, whole


@pytest.mark.parametrize(
    'change',
    [
        'timestamp = NULL',
        "timestamp = 'abc'",
        'timestamp = 1.5e18',
        'data = NULL',
        "data = 'abc'",
        "topic_id = '1'",
        'topic_id = 99',
    ],
)
def test_rows_that_are_no_messages(change, tmp_path):
    path, whole = changed(tmp_path, f'UPDATE messages SET {change} WHERE id = 3')
    found, (problem,) = read(path)
    assert found == whole[:2] + whole[3:]
    assert '1 messages and 0 topics are malformed; 11 messages until' in problem


@pytest.mark.parametrize(
    'change', ['name = NULL', 'type = 5', "id = '1) OR (1=1'", 'serialization_format = NULL']
)
def test_rows_that_are_no_topics(change, tmp_path):
    path, whole = changed(tmp_path, f"UPDATE topics SET {change} WHERE name = '/tf'")
    found, (problem,) = read(path)
    assert found == [message for message in whole if message[0] != '/tf']
    assert '3 messages and 1 topics are malformed' in problem


def test_what_of_a_topic_can_be_missing(tmp_path):
    path, whole = changed(
        tmp_path,
        'UPDATE topics SET offered_qos_profiles = NULL, type_description_hash = NULL',
        'UPDATE message_definitions SET encoded_message_definition = NULL',
    )
    assert read(path) == (whole, [])
    with Recording(path) as recording:
        assert {channel[2:5] for channel in recording.counts} == {('', (), '')}


@pytest.mark.parametrize('qos', ['- 2024-13-45', '[' * 3000, '5', '- history: x'])
def test_quality_of_service_that_cannot_be_read(qos, caplog):
    """The warning appears once, even if the file is read several times."""
    profiles.cache_clear()
    assert profiles('/tf', qos) == profiles('/tf', qos) == ()
    (message,) = caplog.messages
    assert message.startswith('/tf: cannot read its quality of service profiles: not copied (')


@pytest.mark.parametrize(
    'files', ['[]', '2024-13-45', '[' * 3000, 'drive.mcap', '[5]', '[""]', '["\\x00"', 'null']
)
def test_metadata_that_name_no_files(files, tmp_path, caplog):
    source = record(tmp_path, 'mcap')
    whole, _ = read(source)
    text = f'rosbag2_bagfile_information:\n  relative_file_paths: {files}\n'
    (source / 'metadata.yaml').write_text(text)
    assert read(source) == (whole, [])
    (message,) = caplog.messages
    assert message.startswith(f'{source / "metadata.yaml"} cannot be used (')
    caplog.clear()
    (source / 'metadata.yaml').unlink()
    assert read(source) == (whole, []) and not caplog.messages


def test_files_that_are_folders(tmp_path):
    source = record(tmp_path, 'mcap')
    whole, _ = read(source)
    (source / 'metadata.yaml').write_text(
        'rosbag2_bagfile_information:\n  relative_file_paths: [".."]\n'
    )
    assert read(source) == (whole, [])
    (source / 'metadata.yaml').unlink()
    (source / 'another.mcap').mkdir()
    found, (problem,) = read(source)
    assert found == whole and 'another.mcap is a folder' in problem


def zipped(tmp_path, change):
    """Return a file packed with zstd in two frames, its bytes changed; and its content before."""
    source = record(tmp_path, 'mcap', drive('mcap'))
    whole, _ = read(source)
    data = inside(source).read_bytes()
    half = len(data) // 2
    path = tmp_path / 'x.mcap.zstd'
    path.write_bytes(change(zstd.compress(data[:half]) + zstd.compress(data[half:])))
    return path, whole


def test_a_compressed_file_of_several_frames(tmp_path):
    path, whole = zipped(tmp_path, lambda data: data)
    assert read(path) == (whole, [])
    path.write_bytes(path.read_bytes() + b'anything')
    found, (problem,) = read(path)
    assert found == whole and 'it cannot be unpacked to its end (' in problem


def test_a_compressed_file_that_is_damaged(tmp_path):
    place, size = 600_000, 140_000  # more than a block
    path, whole = zipped(
        tmp_path, lambda data: data[:place] + bytes([255]) * size + data[place + size :]
    )
    found, (problem,) = read(path)
    assert found == whole[: len(found)] and 0.2 * len(whole) < len(found) < len(whole)
    assert 'x.mcap.zstd: it ' in problem
    for content, reason in (
        (b'', 'zstd is empty'),
        (zstd.compress(b'x')[:8], r'zstd: nothing can be unpacked: it is cut off'),
        (
            zstd.compress(b'x')[:4] + b'\xff' * 20,
            'nothing can be unpacked: it cannot be unpacked to its',
        ),
        (b'nothing of zstd', 'zstd is not a recording'),
    ):
        path.write_bytes(content)
        with pytest.raises(PictureError, match=reason):
            read(path)
    # Other files in the folder are read.
    path.rename(tmp_path / 'drive' / 'z.mcap.zstd')
    (tmp_path / 'drive' / 'metadata.yaml').unlink()
    found, (problem,) = read(tmp_path / 'drive')
    assert found == whole and 'z.mcap.zstd is not a recording' in problem


def test_a_record_that_says_it_is_longer_than_any(tmp_path):
    """The file is sparse and 400 GB long. No memory is allocated for the record."""
    path = mcap(tmp_path / 'x.mcap', entries(), end=False)
    path.write_bytes(path.read_bytes() + struct.pack('<BQ', 5, 1 << 60))
    os.truncate(path, 400 * 10**9)
    found, (problem,) = read(path)
    assert len(found) == 80 and f'it is damaged (ValueError: a record of {1 << 60}' in problem
    bag = record(tmp_path, 'ros1')
    whole, _ = read(bag)
    content = bag.read_bytes().replace(b'index_pos=', b'index_not=')
    bag.write_bytes(content + struct.pack('<I', 0xFFFFFFF0))
    os.truncate(bag, 400 * 10**9)
    found, (problem,) = read(bag)
    assert found == whole and 'it is damaged (ValueError: a record of 4294967280' in problem


def test_a_field_that_says_it_is_longer_than_its_record(tmp_path):
    """The file is sparse and 400 GB long, longer than the field claims to be."""
    path = mcap(tmp_path / 'x.mcap', entries(), end=False)
    content = struct.pack('<HHI', 1, 1, 0xFFFFFFFF) + b'/topic'
    path.write_bytes(path.read_bytes() + struct.pack('<BQ', 4, len(content)) + content)
    os.truncate(path, 400 * 10**9)
    found, (problem,) = read(path)
    assert len(found) == 80
    assert 'it is damaged (ValueError: a record of 14 bytes is shorter than its fields)' in problem


@pytest.mark.parametrize('place, size', [(28, 4), (32, 8)])
def test_a_chunk_whose_fields_are_damaged(place, size, tmp_path):
    """The damaged field is the length of the compression name or of the data. The next chunk is
    read."""
    path = mcap(tmp_path / 'x.mcap', entries(), end=False, chunk=('', compressed('')))
    content = bytearray(path.read_bytes())
    place += content.index(struct.pack('<QQ', 0, 0))
    content[place : place + size] = b'\xff' * size
    after = mcap(tmp_path / 'after.mcap', entries(), chunk=('', compressed('')))
    path.write_bytes(content + after.read_bytes()[8:])
    found, (problem,) = read(path)
    assert found == read(after)[0] and len(found) == 80
    assert 'x.mcap: 1 of its chunks are damaged' in problem


def test_a_file_that_grows_is_read_as_far_as_it_was(tmp_path):
    file = (tmp_path / 'x').open('w+b')
    with file:
        file.write(bytes(10))
        file.seek(4)
        assert taken(file, 3, 8) == (bytes(3), True)
        assert taken(file, 3, 8) == (bytes(1), False)
        file.seek(9)
        assert taken(file, 1, 8) == (b'', False)


def test_memory_that_does_not_suffice_is_damage(tmp_path):
    """The process may allocate only 1 GB more than it uses."""
    path = mcap(tmp_path / 'x.mcap', entries(), end=False)
    path.write_bytes(path.read_bytes() + struct.pack('<BQ', 5, 2 * 10**9))
    os.truncate(path, 4 * 10**9)
    program = f"""
import resource
from pathlib import Path
from cliptrase_ros.recordings.reader import Recording
used = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 10**9, used + 10**9))
with Recording(Path({str(path)!r})) as recording:
    print(len(list(recording.messages())), recording.problems)
"""
    done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True)
    assert done.stdout.startswith('80 [') and 'MemoryError' in done.stdout, done.stderr


def test_attachments_are_passed_over(tmp_path):
    path = mcap(tmp_path / 'x.mcap', entries(), end=False)
    content = path.read_bytes()
    attachment = struct.pack('<BQ', 9, 100) + bytes(100)
    path.write_bytes(content[:8] + attachment + content[8:] + attachment)
    found, (problem,) = read(path)
    assert len(found) == 80 and 'it is cut off: its footer is missing; 80' in problem
    cut(path, size_of(path) - 1)
    found, (problem,) = read(path)
    assert len(found) == 80 and 'it is cut off: its footer is missing; 80' in problem


@pytest.mark.parametrize('compression', ['zstd', 'lz4'])
def test_a_chunk_that_becomes_more_than_it_says(compression, tmp_path):
    def pack(body):
        nonlocal size
        size = len(body)
        return compressed(compression)(body + bytes(10**8))

    size = 0
    path = mcap(tmp_path / 'x.mcap', entries(), chunk=(compression, pack))
    found, (problem,) = read(path)
    assert not found and '1 of its chunks are damaged' in problem
    packed = pack(bytes(1000))
    with pytest.raises(ValueError, match='unpack to more than the expected 1000 bytes'):
        unpacked(packed, compression, size)


def test_unpacking():
    data = np.random.default_rng(0).bytes(300_000)
    for name in ('zstd', 'lz4'):
        packed = compressed(name)(data)
        assert unpacked(packed, name) == (data, True)
        part, whole = unpacked(packed[: len(packed) // 2], name)
        assert data.startswith(part) and len(part) > 60_000 and not whole
        with pytest.raises(ValueError, match=f'{name} data cannot be unpacked'):
            unpacked(b'anything but that', name)
    with pytest.raises(ValueError, match="'rar' is not known"):
        unpacked(data, 'rar')


def test_moments():
    assert moment(START + 5_000_000) == '2023-11-14 22:13:20.005 (1700000000.005000000)'
    assert moment(sys.maxsize * 10**9) == f'{sys.maxsize}.000000000'
    assert moment(1) == '1970-01-01 00:00:00.000 (0.000000001)'


def test_rosbags_is_what_the_tests_take_it_for(tmp_path):
    """rosbags reads the MCAP files written by hand, and has no metadata version 7."""
    path = mcap(tmp_path / 'x.mcap', entries(2))
    assert [(topic, time) for topic, _, time, _ in messages(path)] == [
        (topic, time) for topic, *_, time, _ in entries(2)
    ]
    with pytest.raises(Exception, match='version'):
        Writer2(tmp_path / 'y', version=7)


@pytest.mark.slow
def test_cuts_anywhere(kind, tmp_path):
    """A cut at any place raises only PictureError, and never yields a wrong message."""
    source = record(tmp_path, kind, list(Robot(kind).drive(2, size=(8, 8))))
    whole, _ = read(source)
    content, counts = file_of(source).read_bytes(), set()
    if kind != 'ros1':
        (source / 'metadata.yaml').unlink()
    step = max(1, len(content) // 300)
    for size in [*range(1, len(content), step), *range(len(content) - 20, len(content))]:
        file_of(source).write_bytes(content[:size])
        try:
            found, problems = read(source)
        except PictureError:
            continue
        assert found == whole[: len(found)] and (problems or found == whole)
        counts.add(len(found))
    assert counts >= ({0, 3, 8} if kind != 'db3' else {0, 8})
