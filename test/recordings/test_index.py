"""When a file is read by its index, and the warning if the index cannot be used."""

import struct

import pytest
from bag_files import inside, mcap, record
from mcap.writer import Writer
from rosbags.rosbag2.enums import CompressionFormat, CompressionMode

from cliptrase_ros.recordings import mcap as mcap_files
from cliptrase_ros.recordings import ros1
from cliptrase_ros.recordings.compression import zstd
from cliptrase_ros.recordings.convert import described
from cliptrase_ros.recordings.reader import Recording
from cliptrase_ros.recordings.scan import Scan


def read(path):
    """Return ([(topic, time)], whether an index was used, problems) of one file."""
    with Recording(path) as recording:
        found = [(message.channel.topic, message.time) for message in recording.messages()]
        ((_, file),) = recording._files
        return found, not isinstance(file, Scan), recording.problems


def whole(kind, tmp_path):
    """Return a file with an index, and its [(topic, time)]."""
    path = record(tmp_path, kind)
    path = path if kind == 'ros1' else inside(path)
    found, indexed, problems = read(path)
    assert len(found) == 12 and indexed and not problems
    return path, found


def put(path, place, content):
    with path.open('r+b') as file:
        file.seek(place)
        file.write(content)


@pytest.mark.parametrize('kind', ['ros1', 'mcap'])
@pytest.mark.parametrize('left', [0.9, 0.5])
def test_a_cut_file_has_no_index(kind, left, tmp_path, caplog):
    path, _ = whole(kind, tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(left * len(content))])
    _, indexed, problems = read(path)
    assert not indexed and problems and not caplog.messages


def test_a_bag_that_was_not_closed_has_no_index(tmp_path, caplog):
    path, found = whole('ros1', tmp_path)
    put(path, path.read_bytes().index(b'index_pos=') + 10, bytes(8))
    again, indexed, (problem,) = read(path)
    assert again == found and not indexed and 'not closed' in problem and not caplog.messages


def entries():
    """Yield messages whose times go back."""
    for time in (30, 10, 20):
        yield '/text', 'std_msgs/msg/String', 'ros2msg', 'string data\n', 'cdr', time, bytes(8)


@pytest.mark.parametrize('end', [False, True])
def test_mcap_without_a_summary_has_no_index(end, tmp_path, caplog):
    found, indexed, problems = read(mcap(tmp_path / 'x.mcap', entries(), end=end))
    assert [time for _, time in found] == [30, 10, 20]
    assert not indexed and bool(problems) == (not end) and not caplog.messages


def test_mcap_without_chunks_has_no_index(tmp_path, caplog):
    """A summary alone is not enough."""
    path = tmp_path / 'x.mcap'
    with path.open('wb') as file:
        writer = Writer(file, use_chunking=False)
        writer.start(profile='ros2')
        for topic, kind, encoding, text, form, time, data in entries():
            schema = writer.register_schema(kind, encoding, text.encode())
            channel = writer.register_channel(topic, form, schema)
            writer.add_message(channel, time, data, time)
        writer.finish()
    assert mcap_files.has_index(path)
    found, indexed, problems = read(path)
    assert [time for _, time in found] == [30, 10, 20]
    assert not indexed and not problems and not caplog.messages


def test_a_file_that_is_too_short_for_an_index(tmp_path):
    path = tmp_path / 'x.mcap'
    path.write_bytes(mcap_files.MAGIC)
    assert not mcap_files.has_index(path)


def test_an_index_of_mcap_that_cannot_be_used_is_told(tmp_path, caplog):
    """rosbags refuses a file without the ROS 2 profile. The file is complete, so without the
    warning nobody would know why reading is slow."""
    path, found = whole('mcap', tmp_path)
    put(path, path.read_bytes().index(b'ros2'), b'ros9')
    again, indexed, problems = read(path)
    assert again == found and not indexed and not problems
    (message,) = caplog.messages
    assert message == (
        f'{path}: cannot use its index (ReaderError: Profile is not ros2.): reading all records '
        'instead'
    )


def test_the_file_that_is_told_is_the_packed_one(tmp_path, caplog):
    def prepare(writer):
        writer.set_compression(CompressionMode.FILE, CompressionFormat.ZSTD)

    path = inside(record(tmp_path, 'mcap', prepare=prepare))
    content = zstd.decompress(path.read_bytes()).replace(b'ros2', b'ros9', 1)
    path.write_bytes(zstd.compress(content))
    assert len(read(path)[0]) == 12
    (message,) = caplog.messages
    assert path.suffix == '.zstd' and message.startswith(f'{path}: cannot use its index (')


def test_an_index_of_ros_1_that_is_damaged_is_told(tmp_path, caplog):
    path, found = whole('ros1', tmp_path)
    content = path.read_bytes()
    (place,) = struct.unpack_from('<Q', content, content.index(b'index_pos=') + 10)
    put(path, place, b'\xff' * 8)
    again, indexed, problems = read(path)
    assert again == found and not indexed and problems
    (message,) = caplog.messages
    assert message.startswith(f'{path}: cannot use its index (ReaderError: Bag index looks dam')


def test_a_bag_whose_first_header_is_damaged(tmp_path, caplog):
    path, found = whole('ros1', tmp_path)
    put(path, len(ros1.MAGIC) + 4, b'\xff' * 4)
    again, _, (problem,) = read(path)
    assert not again and found and 'it is damaged (ReaderError: ' in problem
    (message,) = caplog.messages
    assert 'Declared field size is too large for header.' in message


def test_a_definition_that_gives_no_hash_is_told(caplog):
    described.cache_clear()
    assert described('robot/msg/Odd', '!', '') == ('!', '')
    (message,) = caplog.messages
    assert message.startswith(
        'robot/msg/Odd: the recording has no type hash and none can be computed'
    )
