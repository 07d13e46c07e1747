import cv2
import numpy as np
import pytest
from processes import wait_for
from sensor_msgs.msg import CameraInfo, Image
from towers import picture

from cliptrase_ros.ros import images
from cliptrase_ros.ros.camera import Source, SourceError


@pytest.fixture
def folder(tmp_path):
    for n in (2, 0, 1):
        bgr = cv2.cvtColor(picture(40, 60, n), cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(tmp_path / f'{n}.png'), bgr)
    (tmp_path / 'broken.png').write_bytes(b'no picture')
    (tmp_path / 'notes.txt').write_text('not a picture')
    return tmp_path


@pytest.fixture
def video(tmp_path):
    path = tmp_path / 'video.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'MJPG'), 12.0, (64, 48))
    for n in range(5):
        writer.write(np.full((48, 64, 3), 50 * n, np.uint8))
    writer.release()
    return path


def take(frames, count):
    return [next(frames) for _ in range(count)]


def test_a_folder_in_order_and_again(folder):
    frames = take(Source(str(folder)).frames(loop=True), 5)
    for n, frame in zip((0, 1, 2, 0, 1), frames, strict=True):
        assert (frame == picture(40, 60, n)).all()
    assert len(list(Source(str(folder)).frames(loop=False))) == 3


def test_one_picture(folder):
    assert len(list(Source(str(folder / '1.png')).frames(loop=False))) == 1


def test_a_video_at_its_rate_and_again(video):
    source = Source(str(video))
    assert source.rate_hz == 12.0
    levels = [round(float(f.mean()) / 50) for f in take(source.frames(loop=True), 12)]
    assert levels == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1]


def test_a_folder_that_is_emptied_ends_the_loop(folder):
    frames = Source(str(folder)).frames(loop=True)
    take(frames, 3)
    for path in folder.iterdir():
        path.unlink()
    assert list(frames) == []


@pytest.mark.parametrize('name', ['none.png', 'none', '', 'broken.png', 'notes.txt', '97'])
def test_nothing_to_see_is_an_error(folder, name):
    source = name if name.isdecimal() else str(folder / name) if name else str(folder / 'x' / 'y')
    with pytest.raises(SourceError, match='source'):
        Source(source)
    empty = folder / 'empty'
    empty.mkdir()
    with pytest.raises(SourceError, match='no picture in the folder'):
        Source(str(empty))


def test_images_and_intrinsics_come_together(tester, start, folder):
    got, infos = [], []
    tester.create_subscription(Image, '/cam/image', got.append, 10)
    tester.create_subscription(CameraInfo, '/cam/camera_info', infos.append, 10)
    process = start(
        'camera',
        [f'source:={folder}', 'rate_hz:=20.0', 'width:=30', 'fov_deg:=90.0', 'frame_id:=eye'],
        ['image:=/cam/image', 'camera_info:=/cam/camera_info'],
    )
    wait_for(lambda: len(got) > 4 and len(infos) > 4, what='images', process=process)
    image, info = got[-1], infos[-1]
    assert (image.width, image.height, image.encoding) == (30, 20, 'rgb8')
    assert image.header.frame_id == info.header.frame_id == 'eye'
    stamps = {(m.header.stamp.sec, m.header.stamp.nanosec) for m in got}
    assert len(stamps & {(m.header.stamp.sec, m.header.stamp.nanosec) for m in infos}) >= 3
    assert info.k[0] == pytest.approx(15.0) and (info.k[2], info.k[5]) == (15.0, 10.0)
    shrunk = cv2.resize(picture(40, 60, 0), (30, 20), interpolation=cv2.INTER_AREA)
    assert any((images.to_rgb(m) == shrunk).all() for m in got)


def test_it_waits_for_a_listener_and_ends_with_its_source(tester, start, video):
    process = start(
        'camera',
        [f'source:={video}', 'loop:=false', 'wait_for_subscriber:=true', 'rate_hz:=10.0'],
        ['image:=/late/image'],
    )
    wait_for(lambda: '/late/image' in process.output, what='the camera', process=process)
    got = []
    tester.create_subscription(Image, '/late/image', got.append, 10)
    assert process.wait() == 0
    wait_for(lambda: len(got) == 5, what='all five frames')


@pytest.mark.parametrize(
    'parameters', [[], ['source:=/nowhere.mp4'], ['source:=97'], ['source:=7.mp4', 'rate_hz:=-1.0']]
)
def test_without_a_source_it_says_so_and_ends_with_1(start, parameters):
    process = start('camera', parameters)
    assert process.wait() == 1
    assert (
        'source' in process.output or 'rate_hz' in process.output
    ) and 'Traceback' not in process.output
