"""Folders whose files are not called as metadata.yaml says; files packed in other ways."""

import bz2
import gzip
import json
import lzma
import os
import shutil
import struct

import lz4.frame
import pytest
from bag_files import Robot, inside, mcap, name_in_metadata, record, split
from rosbags.rosbag2.enums import CompressionFormat, CompressionMode

from cliptrase_ros.batch import archive
from cliptrase_ros.errors import PictureError
from cliptrase_ros.recordings.compression import zstd
from cliptrase_ros.recordings.reader import Recording

PACKERS = {
    'zst': zstd.compress,
    'lz4': lz4.frame.compress,
    'gz': gzip.compress,
    'bz2': bz2.compress,
    'xz': lzma.compress,
}


def read(path):
    """Return ([(topic, time, bytes)], problems) of a recording."""
    with Recording(path) as recording:
        return [(m.channel.topic, m.time, bytes(m.data)) for m in recording.messages()], (
            recording.problems
        )


def pack(path, name=None, packer=zstd.compress):
    """Replace a file by its packed form; return the new path."""
    target = path.with_name(name or f'{path.name}.zst')
    content = packer(path.read_bytes())
    path.unlink()
    target.write_bytes(content)
    return target


def by_file(writer):
    writer.set_compression(CompressionMode.FILE, CompressionFormat.ZSTD)


@pytest.fixture
def bag(tmp_path):
    """Return a recording of three files, these files, and its messages."""
    source, files = split(tmp_path)
    whole, problems = read(source)
    assert len(whole) == 24 and not problems
    return source, files, whole


# Packed files


@pytest.mark.parametrize('kind', ['ros1', 'db3', 'mcap'])
@pytest.mark.parametrize('suffix', PACKERS)
@pytest.mark.parametrize('name', ['x.{kind}.{suffix}', 'x', 'x.mcap', 'x.DB3.ZST'])
def test_compression_is_told_by_content(kind, suffix, name, tmp_path):
    path = record(tmp_path, kind)
    path = path if kind == 'ros1' else inside(path)
    whole, _ = read(path)
    packed = pack(path, name.format(kind=kind, suffix=suffix), PACKERS[suffix])
    assert read(packed) == (whole, [])


@pytest.mark.parametrize('suffix', PACKERS)
def test_a_packed_file_that_is_cut(suffix, tmp_path):
    """It has two frames; the cut is in the second."""
    path = inside(record(tmp_path, 'mcap', Robot('mcap').drive(40, size=(96, 128))))
    whole, _ = read(path)
    content = path.read_bytes()
    frames = [PACKERS[suffix](part) for part in (content[:-50_000], content[-50_000:])]
    path.write_bytes(b''.join(frames))
    assert read(path) == (whole, [])
    path.write_bytes(frames[0] + frames[1][:40])
    found, (problem,) = read(path)
    assert 100 < len(found) < 160 and found == whole[: len(found)] and 'cut off' in problem
    path.write_bytes(frames[0] + b'not a frame of this kind')
    found, (problem,) = read(path)
    assert 100 < len(found) < 160 and found == whole[: len(found)]
    path.write_bytes(frames[0][:16])
    with pytest.raises(PictureError, match=r'drive.mcap: nothing can be unpacked: it is cut off'):
        read(path)


@pytest.mark.parametrize('kind', ['db3', 'mcap'])
def test_a_file_that_only_seems_packed(kind, tmp_path, caplog):
    path = inside(record(tmp_path, kind))
    whole, _ = read(path)
    for name in ('x.mcap.zst', 'x.zstd', 'x.db3.gz', 'x'):
        path = path.rename(tmp_path / name)
        assert read(path) == (whole, []) and not caplog.messages


def test_a_file_that_is_packed_twice_or_by_pzstd(tmp_path):
    path = inside(record(tmp_path, 'mcap', prepare=by_file))
    whole, _ = read(path)
    data = zstd.decompress(path.read_bytes())
    twice = pack(path, 'x.zstd.gz', gzip.compress)
    assert read(twice) == (whole, [])
    # pzstd writes a skippable frame before each frame.
    twice.write_bytes(b'\x50\x2a\x4d\x18\x04\0\0\0abcd' + zstd.compress(data))
    assert read(twice) == (whole, [])
    for _ in range(4):
        data = zstd.compress(data)
    twice.write_bytes(data)
    with pytest.raises(PictureError, match='is not a recording'):
        read(twice)


def test_packed_messages_that_are_cut(tmp_path):
    """The recorder packs each message on its own."""
    whole = [b'\0\1\0\0' + struct.pack('<I', 5) + b'abcd\0'] * 3
    packed = [zstd.compress(data) for data in whole]
    packed[1] = packed[1][:-2]
    text = 'std_msgs/msg/String', 'ros2msg', 'string data\n', 'cdr'
    entries = [('/text', *text, n, data) for n, data in enumerate(packed)]
    found, (problem,) = read(mcap(tmp_path / 'x.mcap', entries))
    assert found == [('/text', n, whole[n]) for n in (0, 2)]
    assert '/text: skipped the message of' in problem and 'its zstd data are cut off' in problem


TAR = b'drive'.ljust(257, b'\0') + b'ustar'


@pytest.mark.parametrize(
    'content, said',
    [
        (b'PK\3\4' + bytes(60), 'is a ZIP archive: unpack it first'),
        (b"7z\xbc\xaf'\x1c" + bytes(60), 'is a 7z archive: unpack it first'),
        (b'version https://git-lfs.github.com/spec/v1\n', 'is a Git LFS pointer: run'),
        (b'\n<!DOCTYPE html>\n', 'is a web page: download'),
        (b'<html>', 'is a web page: download'),
        (TAR, 'is a tar archive: unpack it first'),
        (gzip.compress(TAR, mtime=0), 'is a tar archive: unpack it first'),
        (b'rosbag2_bagfile_information:\n', 'is a description of a recording: give the folder'),
    ],
)
def test_files_that_are_taken_for_a_recording(content, said, tmp_path):
    path = tmp_path / 'drive.mcap'
    path.write_bytes(content)
    with pytest.raises(PictureError, match=f'drive.mcap {said}'):
        read(path)


# Names in metadata.yaml


@pytest.mark.parametrize('told', ['{}.zstd', '{}.ZST', '{}.gz', '/data/bags/{}', 'old/{}', './{}'])
def test_names_that_mean_the_same_file(told, bag, caplog):
    source, files, whole = bag
    name_in_metadata(source, [told.format(file.name) for file in files])
    assert read(source) == (whole, []) and not caplog.messages


def test_names_of_windows(bag, caplog):
    source, files, whole = bag
    name_in_metadata(source, [f'C:\\bags\\split\\{file.name}' for file in files])
    assert read(source) == (whole, []) and not caplog.messages


def test_names_that_are_told_twice(bag, caplog):
    source, files, whole = bag
    name_in_metadata(source, [name for file in files for name in (file.name, f'{file.name}.zstd')])
    assert read(source) == (whole, []) and not caplog.messages


@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16'])
def test_metadata_that_an_editor_has_saved(encoding, bag, caplog):
    source, files, whole = bag
    name_in_metadata(source, [file.name for file in reversed(files)])
    metadata = source / 'metadata.yaml'
    metadata.write_text(metadata.read_text(), encoding)
    assert read(source) == (whole[16:] + whole[8:16] + whole[:8], []) and not caplog.messages


@pytest.mark.parametrize('name', ['{}.zst', '{}.ZST', '{}.zstd', '{}.lz4'])
def test_files_packed_by_hand(name, bag, caplog):
    source, files, whole = bag
    for file in files:
        pack(file, name.format(file.name))
    assert read(source) == (whole, []) and not caplog.messages


def test_files_unpacked_by_hand(tmp_path, caplog):
    source, files = split(tmp_path, prepare=by_file)
    whole, _ = read(source)
    for file in files:
        pack(file, file.stem, zstd.decompress)
    assert read(source) == (whole, []) and not caplog.messages


@pytest.mark.parametrize('names', [['c.mcap', 'b.mcap', 'a.mcap'], ['1', '2.bin', '0.zst']])
def test_renamed_files_are_read_in_order_of_time(names, bag, caplog):
    source, files, whole = bag
    for file, name in zip(files, names, strict=True):
        file.rename(source / name)
    assert read(source) == (whole, [])
    (message,) = caplog.messages
    listed = ', '.join(sorted(names))
    assert message == (
        f'{source / "metadata.yaml"} names split_0.mcap, split_1.mcap, split_2.mcap, the folder '
        f'holds {listed} instead'
    )


def test_metadata_of_another_recording(bag, tmp_path, caplog):
    """Its number of messages does not fit, so messages may be missing."""
    source, _, whole = bag
    name_in_metadata(source, ['other.mcap'], 30)
    found, (problem,) = read(source)
    assert found == whole and problem == (
        f'{source / "metadata.yaml"} names other.mcap, the folder holds split_0.mcap, '
        'split_1.mcap, split_2.mcap instead; it counts 30 messages, the files hold 24'
    )
    name_in_metadata(source, ['split_0.mcap', 'split_1.mcap', 'split_2.mcap'], 30)
    assert read(source) == (whole, [])
    assert caplog.messages[-1] == (
        f'{source / "metadata.yaml"} counts 30 messages, the files hold 24'
    )


# Lost parts


def damaged(change, file):
    if change == 'missing':
        file.unlink()
    elif change == 'empty':
        file.write_bytes(b'')
    elif change == 'another':
        file.write_text('nothing of this kind')
    elif change == 'folder':
        file.unlink()
        file.mkdir()
    elif change == 'packed and cut':
        packed = pack(file)
        packed.write_bytes(packed.read_bytes()[:40])
    elif change == 'link':
        file.unlink()
        file.symlink_to('nowhere')


@pytest.mark.parametrize('kind', ['db3', 'mcap'])
@pytest.mark.parametrize('metadata', [True, False])
@pytest.mark.parametrize(
    'change', ['missing', 'empty', 'another', 'folder', 'packed and cut', 'link']
)
def test_a_lost_part_is_named_and_the_others_are_read(change, metadata, kind, tmp_path):
    source, files = split(tmp_path, kind)
    whole, _ = read(source)
    if not metadata:
        (source / 'metadata.yaml').unlink()
    damaged(change, files[1])
    found, problems = read(source)
    assert found == whole[:8] + whole[16:]
    if metadata or change != 'missing':
        (problem,) = problems
        assert files[1].name in problem


def test_a_part_that_is_cut(bag):
    source, files, whole = bag
    content = files[1].read_bytes()
    files[1].write_bytes(content[: len(content) // 3])
    found, (problem,) = read(source)
    assert found[:8] == whole[:8] and found[-8:] == whole[16:] and 16 < len(found) < 24
    assert problem.startswith(f'{files[1]}: it is cut off')


def test_one_part_missing_and_one_renamed(bag):
    source, files, whole = bag
    files[0].unlink()
    files[2].rename(source / 'a.mcap')
    found, (problem,) = read(source)
    assert found == whole[8:] and problem == (
        f'{source / "metadata.yaml"} names split_0.mcap, split_2.mcap, the folder holds a.mcap '
        'instead; it counts 24 messages, the files hold 16'
    )


def test_each_part_in_another_state(bag):
    """One is renamed, one is packed, one is in a folder below."""
    source, files, whole = bag
    files[0].rename(source / 'z.mcap')
    pack(files[1])
    (source / 'data').mkdir()
    files[2].rename(source / 'data' / files[2].name)
    assert read(source) == (whole, [])


def test_parts_elsewhere(bag, tmp_path):
    source, files, whole = bag
    (tmp_path / 'away').mkdir()
    for file in files[:2]:
        file.rename(tmp_path / 'away' / file.name)
    away = [str(tmp_path / 'away' / files[0].name), f'../away/{files[1].name}']
    name_in_metadata(source, [*away, files[2].name])
    assert read(source) == (whole, [])


# Other files


def test_files_that_metadata_do_not_name(bag, tmp_path, caplog):
    source, files, whole = bag
    name_in_metadata(source, [file.name for file in files[:2]], 16)
    assert read(source) == (whole, [])
    assert caplog.messages[-1].endswith('does not name split_2.mcap, read as well')
    files[2].rename(source / 'other.mcap')
    found, (problem,) = read(source)
    assert found == whole[:16]
    assert 'does not name other.mcap, not read; delete metadata.yaml to read all' in problem
    (source / 'metadata.yaml').unlink()
    assert read(source) == (whole, [])
    assert caplog.messages[-1].endswith(
        'these files are read as one recording: other.mcap, split_0.mcap, split_1.mcap'
    )


def test_copies_are_read_once(bag, caplog):
    source, files, whole = bag
    (source / 'split_0.mcap.zst').write_bytes(zstd.compress(files[0].read_bytes()))
    shutil.copy(files[1], source / 'split_1.mcap.bak')
    shutil.copy(files[1], source / 'split_1 (copy).mcap')
    assert read(source) == (whole, [])
    (source / 'metadata.yaml').unlink()
    assert read(source) == (whole, []) and not caplog.messages


def test_a_converted_copy_is_read_once(bag, tmp_path):
    source, _, whole = bag
    (tmp_path / 'other').mkdir()
    _, others = split(tmp_path / 'other', 'db3')
    (source / 'metadata.yaml').unlink()
    for file in others:
        file.rename(source / file.name)
    assert read(source) == (whole, [])
    # One form of the second part is cut; the other is read.
    os.truncate(source / 'split_1.mcap', (source / 'split_1.mcap').stat().st_size // 3)
    assert read(source) == (whole, [])


def test_the_copy_that_is_complete_is_read(tmp_path):
    """Unpacking was interrupted."""
    source = record(tmp_path, 'db3', name='whole')
    whole, _ = read(source)
    file = inside(source)
    content = file.read_bytes()
    packed = source / f'{file.name}.zst'
    packed.write_bytes(zstd.compress(content))
    file.write_bytes(content + b'x')
    assert read(source) == (whole, [])
    packed.write_bytes(packed.read_bytes()[:-8])
    found, (problem,) = read(source)
    assert found == whole and 'cut off' in problem


def test_what_a_folder_holds_besides(bag, tmp_path, caplog):
    source, files, whole = bag
    (source / '._split_0.mcap').write_bytes(b'\0\5\x16\7')
    (source / 'notes.txt').write_text('rainy')
    (source / 'photos.tar.gz').write_bytes(gzip.compress(bytes(1000)))
    (source / 'cover.png').write_bytes(files[0].read_bytes())
    (source / 'split_0.db3-wal').write_bytes(b'')
    (source / 'index.sqlite').write_bytes(b'SQLite format 3\0' + bytes(100))
    assert read(source) == (whole, [])
    (source / 'metadata.yaml').unlink()
    assert read(source) == (whole, []) and not caplog.messages


def test_folders_without_a_recording(bag, tmp_path):
    source, files, _ = bag
    with pytest.raises(PictureError, match=r'the folder holds no recording.*; give one of split$'):
        read(tmp_path)
    record(tmp_path, 'ros1', name='old')
    with pytest.raises(PictureError, match=r'; give one of old\.bag, split$'):
        read(tmp_path)
    for file in files:
        file.unlink()
    with pytest.raises(PictureError, match=r'names split_0.mcap, split_1.mcap, split_2.mcap, but'):
        read(source)
    name_in_metadata(source, [f'split_{n}.mcap' for n in range(20)])
    with pytest.raises(PictureError, match=r'names split_0.*split_7.mcap and 12 more, but the fol'):
        read(source)


def test_all_parts_lost(bag):
    source, files, _ = bag
    files[0].unlink()
    for file in files[1:]:
        file.write_bytes(b'')
    with pytest.raises(PictureError) as refused:
        read(source)
    told = str(refused.value)
    assert 'names split_0.mcap, which the folder lacks' in told
    assert 'split_1.mcap is empty' in told and 'split_2.mcap is empty' in told


@pytest.mark.parametrize('name', ['x.MCAP', 'x.mcap.ZST', 'x', 'x.zst'])
def test_archives_know_recordings_by_content(name, tmp_path):
    source = record(tmp_path, 'mcap')
    (source / 'metadata.yaml').unlink()
    pack(inside(source), name, zstd.compress if 'z' in name.lower() else bytes)
    items, bags = archive.list_items([source], tmp_path / 'out')
    assert bags and len(items) == 1 and json.dumps(items)
    (file,) = source.iterdir()
    items, bags = archive.list_items([file], tmp_path / 'out')
    assert bags and items[0].target == str(tmp_path / 'out' / 'x')
