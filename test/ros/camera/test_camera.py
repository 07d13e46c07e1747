import struct

import cv2
import numpy as np
import pytest
from processes import wait_for
from sensor_msgs.msg import CameraInfo, Image
from towers import picture

from cliptrase_ros.errors import SettingError
from cliptrase_ros.media import encodings
from cliptrase_ros.media.videos import Writer
from cliptrase_ros.ros.camera.publisher import CameraOptions
from cliptrase_ros.ros.camera.sources import PictureSource, SourceError, read_depth_picture


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


def depth(n):
    """Return [40, 60] uint16 with two invalid pixels (0 and 65535), different for each n."""
    steps = np.random.default_rng(n).integers(1, 65535, (40, 60)).astype(np.uint16)
    steps[0, :2] = 0, 65535
    return steps


@pytest.fixture
def recording(tmp_path):
    """(pictures, depths): folders of four pictures; the second picture cannot be read."""
    pictures, depths = tmp_path / 'rgb', tmp_path / 'depth'
    pictures.mkdir(), depths.mkdir()
    for n in range(4):
        bgr = cv2.cvtColor(picture(40, 60, n), cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(pictures / f'{n}.png'), bgr)
        cv2.imwrite(str(depths / f'{n}.png'), depth(n))
    (pictures / '1.png').write_bytes(b'no picture')
    (depths / 'times.txt').write_text('not a picture')
    return pictures, depths


def take(frames, count):
    return [next(frames)[0] for _ in range(count)]


def test_a_folder_in_order_and_again(folder):
    frames = take(PictureSource(str(folder)).frames(loop=True), 5)
    for n, frame in zip((0, 1, 2, 0, 1), frames, strict=True):
        assert (frame == picture(40, 60, n)).all()
    assert len(list(PictureSource(str(folder)).frames(loop=False))) == 3


def test_one_picture(folder):
    assert len(list(PictureSource(str(folder / '1.png')).frames(loop=False))) == 1


def test_a_video_at_its_rate_and_again(video):
    source = PictureSource(str(video))
    assert source.rate_hz == 12.0
    levels = [round(float(f.mean()) / 50) for f in take(source.frames(loop=True), 12)]
    assert levels == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1]


def test_a_video_of_a_phone_is_upright(tmp_path):
    path = tmp_path / 'phone.mp4'
    writer = Writer(path, 10.0)
    for _ in range(4):
        writer(np.zeros((48, 64, 3), np.uint8))
    writer.close()
    data = bytearray(path.read_bytes())
    # A quarter of a turn as display matrix (ISO/IEC 14496-12).
    struct.pack_into('>5i', data, data.index(b'tkhd') + 44, 0, 1 << 16, 0, -1 << 16, 0)
    path.write_bytes(data)
    frames = PictureSource(str(path)).frames(loop=True)
    assert [f.shape for f in take(frames, 6)] == [(64, 48, 3)] * 6
    # The loop ends when the video is removed.
    path.unlink()
    assert len(list(frames)) == 2


def test_a_folder_that_is_emptied_ends_the_loop(folder):
    frames = PictureSource(str(folder)).frames(loop=True)
    take(frames, 3)
    for path in folder.iterdir():
        path.unlink()
    assert list(frames) == []


def test_depth_stays_with_its_picture(recording):
    pictures, depths = recording
    frames = list(PictureSource(*map(str, recording)).frames(loop=False))
    assert [path.name for _, path in frames] == ['0.png', '2.png', '3.png']
    for image, path in frames:
        n = int(path.stem)
        assert (image == picture(40, 60, n)).all()
        assert (read_depth_picture(path, 0.001, (40, 60)) == depth(n)).all()
    single = PictureSource(str(pictures / '2.png'), str(depths / '2.png')).frames(loop=False)
    assert [path.name for _, path in single] == ['2.png']


def test_depth_in_metres(tmp_path):
    steps = tmp_path / 'steps.png'
    cv2.imwrite(str(steps), depth(0))
    found = read_depth_picture(steps, 0.0002, (80, 120))
    expected = np.where(np.isin(depth(0), (0, 65535)), np.nan, depth(0) / 5000)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    metres = tmp_path / 'metres.tiff'
    cv2.imwrite(str(metres), np.array([[1.5, 0], [np.inf, -1]], np.float32))
    np.testing.assert_array_equal(
        read_depth_picture(metres, 0.0002, (2, 2)), [[1.5, np.nan], [np.nan] * 2]
    )


# The header of a PNG of 70000 x 70000 px. OpenCV raises an error for it.
HUGE = bytes.fromhex('89504e470d0a1a0a0000000d49484452000111700001117010000000004ac5b754')


@pytest.mark.parametrize(
    'pixels, reason',
    [
        (np.zeros((40, 60), np.uint8), 'is uint8 with 1 channels; give 16-bit PNG'),
        (np.zeros((40, 60, 3), np.uint16), 'is uint16 with 3 channels'),
        (np.zeros((40, 50), np.uint16), 'is 50 x 40 px, but its picture is 60 x 40 px'),
        (None, 'cannot be read'),
    ],
)
def test_depth_of_another_kind_is_an_error(recording, pixels, reason):
    first = recording[1] / '0.png'
    first.write_bytes(HUGE if pixels is None else cv2.imencode('.png', pixels)[1].tobytes())
    with pytest.raises(SourceError, match=f'depth_source: .*0.png {reason}'):
        read_depth_picture(first, 0.001, (40, 60))
    if pixels is None:
        # A bad kind of depth is refused at the start, one broken picture is not.
        assert len(list(PictureSource(*map(str, recording)).frames(loop=False))) == 3
    else:
        with pytest.raises(SourceError, match=reason):
            PictureSource(*map(str, recording))


def test_depth_that_does_not_fit_the_source_is_an_error(recording, video):
    pictures, depths = map(str, recording)
    with pytest.raises(SourceError, match='not with a video or webcam'):
        PictureSource(str(video), depths)
    with pytest.raises(SourceError, match='is neither a picture nor a folder'):
        PictureSource(pictures, f'{depths}/none')
    with pytest.raises(SourceError, match='no picture in the folder'):
        (recording[1] / 'empty').mkdir()
        PictureSource(pictures, f'{depths}/empty')
    with pytest.raises(SourceError, match='1 depth pictures for 4 pictures'):
        PictureSource(pictures, f'{depths}/0.png')
    for path in recording[1].glob('*.png'):
        path.write_bytes(b'no picture')
    with pytest.raises(SourceError, match='no depth picture can be read'):
        PictureSource(pictures, depths)


@pytest.mark.parametrize('name', ['none.png', 'none', '', 'broken.png', 'notes.txt', '97'])
def test_nothing_to_see_is_an_error(folder, name):
    source = name if name.isdecimal() else str(folder / name) if name else str(folder / 'x' / 'y')
    with pytest.raises(SourceError, match='source'):
        PictureSource(source)
    empty = folder / 'empty'
    empty.mkdir()
    with pytest.raises(SourceError, match='no picture in the folder'):
        PictureSource(str(empty))


def test_images_and_intrinsics_come_together(tester, start, folder):
    got, infos = [], []
    tester.create_subscription(Image, '/cam/image', got.append, 10)
    tester.create_subscription(CameraInfo, '/cam/camera_info', infos.append, 10)
    process = start(
        'camera.publisher',
        [f'source:={folder}', 'rate_hz:=20.0', 'width:=30', 'fov_deg:=90.0', 'frame_id:=eye'],
        ['image:=/cam/image', 'camera_info:=/cam/camera_info'],
    )
    wait_for(lambda: len(got) > 4 and len(infos) > 4, what='images', process=process)
    image, info = got[-1], infos[-1]
    assert (image.width, image.height, image.encoding) == (30, 20, 'rgb8')
    assert image.header.frame_id == info.header.frame_id == 'eye'
    stamps = {(m.header.stamp.sec, m.header.stamp.nanosec) for m in got}
    assert len(stamps & {(m.header.stamp.sec, m.header.stamp.nanosec) for m in infos}) >= 3
    assert info.k[0] == pytest.approx(15.0) and (info.k[2], info.k[5]) == (14.5, 9.5)
    shrunk = cv2.resize(picture(40, 60, 0), (30, 20), interpolation=cv2.INTER_AREA)
    assert any((encodings.to_rgb(m) == shrunk).all() for m in got)


@pytest.mark.parametrize(
    'parameters, encoding, size, focal, center',
    [
        (['width:=30'], '16UC1', (20, 30), (25.0, 22.5), (15.25, 9.25)),
        (['depth_unit_m:=0.0002'], '32FC1', (40, 60), (50.0, 45.0), (31.0, 19.0)),
    ],
)
def test_a_recording(tester, start, recording, parameters, encoding, size, focal, center):
    pictures, depths = recording
    (depths / '2.png').write_bytes(b'no picture')
    topics = 'image', 'camera_info', 'depth/image_rect', 'depth/camera_info'
    heard = {topic: {} for topic in topics}
    for topic, kept in heard.items():

        def keep(message, kept=kept):
            kept[message.header.stamp.sec, message.header.stamp.nanosec] = message

        kind = CameraInfo if 'info' in topic else Image
        tester.create_subscription(kind, f'/{topic}', keep, 10)
    process = start(
        'camera.publisher',
        [
            *(f'source:={pictures}', f'depth_source:={depths}', 'rate_hz:=20.0', 'frame_id:=eye'),
            *('fx:=50.0', 'fy:=45.0', 'cx:=31.0', 'cy:=19.0', *parameters),
        ],
    )
    expected = {}
    for n in (0, 2, 3):
        expected[n] = cv2.resize(picture(40, 60, n), size[::-1], interpolation=cv2.INTER_AREA)

    def numbers(stamps):
        """Return {number of the picture: its newest stamp}."""
        found = {}
        for stamp in sorted(stamps):
            pixels = encodings.to_rgb(heard['image'][stamp])
            found.update({n: stamp for n, own in expected.items() if (pixels == own).all()})
        return found

    def complete():
        return set.intersection(*(set(kept) for kept in heard.values()))

    wait_for(lambda: len(numbers(complete())) == 2, what='depth', process=process)
    wait_for(lambda: 2 in numbers(list(heard['image'])), what='the other', process=process)
    assert not heard['depth/image_rect'].get(numbers(list(heard['image']))[2])
    with_depth = numbers(complete())
    assert set(with_depth) == {0, 3}
    for n, stamp in with_depth.items():
        image, info, metres, metres_info = (kept[stamp] for kept in heard.values())
        assert metres.header == image.header == info.header and metres.encoding == encoding
        assert info == metres_info and (info.height, info.width) == size
        np.testing.assert_allclose([info.k[0], info.k[4]], focal)
        np.testing.assert_allclose([info.k[2], info.k[5]], center)
        if encoding == '16UC1':
            found = np.frombuffer(metres.data, np.uint16).reshape(size)
            assert (found == depth(n)[1::2, 1::2]).all()  # the nearest pixel, never a mean
        else:
            found = np.frombuffer(metres.data, np.float32).reshape(size)
            assert np.isnan(found[0, :2]).all()
            np.testing.assert_allclose(found[1:], depth(n)[1:] / 5000, rtol=1e-6)
    assert f'{depths}/2.png cannot be read; published its picture without' in process.output


def test_it_waits_for_a_listener_and_ends_with_its_source(tester, start, video):
    process = start(
        'camera.publisher',
        [f'source:={video}', 'loop:=false', 'wait_for_subscriber:=true', 'rate_hz:=10.0'],
        ['image:=/late/image'],
    )
    wait_for(lambda: '/late/image' in process.output, what='the camera', process=process)
    got = []
    tester.create_subscription(Image, '/late/image', got.append, 10)
    assert process.wait() == 0
    wait_for(lambda: len(got) == 5, what='all five frames')


def test_intrinsics_are_given_all_or_none():
    assert CameraOptions().matrix is None
    assert (
        CameraOptions(fx=500.0, fy=500.0, cx=0.0, cy=120.0).matrix[0, 2] == 0
    )  # cx may be 0 in a crop
    for given in ({'fx': 500.0, 'cy': 120.0}, {'fx': 500.0, 'fy': 500.0}, {'cx': 160.0}):
        with pytest.raises(SettingError, match='give all of them'):
            CameraOptions(**given)


@pytest.mark.parametrize(
    'parameters',
    [
        [],
        ['source:=/nowhere.mp4'],
        ['source:=97'],
        ['source:=7.mp4', 'rate_hz:=-1.0'],
        ['source:=7.png', 'depth_source:=/nowhere'],
    ],
)
def test_without_a_source_it_says_so_and_ends_with_1(start, parameters):
    process = start('camera.publisher', parameters)
    assert process.wait() == 1
    assert (
        'source' in process.output or 'rate_hz' in process.output
    ) and 'Traceback' not in process.output
