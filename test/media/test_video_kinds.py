"""Videos of many kinds, made here by PyAV, and what is read and written."""

import json
import re
import struct
from fractions import Fraction

import av
import numpy as np
import pytest

from cliptrase_ros import cli
from cliptrase_ros.errors import PictureError
from cliptrase_ros.media import videos

TINY = ['--model', 'cliptrase-tiny', '--weights', 'random', '--device', 'cpu', '--input-size', '32']
# The times in seconds of a video whose rate varies.
TIMES = [0, 0.05, 0.1, 0.15, 0.5, 0.6, 1.4]
EVEN = [n / 20 for n in range(60)]
FAST = {'movflags': '+faststart'}
FRAGMENTS = {'movflags': 'frag_keyframe+empty_moov'}
# Colours of the four quarters: top left, top right, bottom left, bottom right.
QUARTERS = (200, 30, 30), (30, 200, 30), (30, 30, 200), (200, 200, 30)


def quarters(height, width):
    image = np.zeros((height, width, 3), np.uint8)
    top, left = slice(height // 2), slice(width // 2)
    bottom, right = slice(height // 2, None), slice(width // 2, None)
    for place, colour in zip(
        [(top, left), (top, right), (bottom, left), (bottom, right)], QUARTERS, strict=True
    ):
        image[place] = colour
    return image


def seen(image):
    """Return the numbers of the quarters' colours in the order of QUARTERS."""
    height, width = image.shape[:2]
    points = [image[y, x] for y in (5, height - 6) for x in (5, width - 6)]
    return [int(np.abs(np.array(QUARTERS) - p.astype(int)).sum(1).argmin()) for p in points]


def film(
    path,
    codec='libx264',
    pixels='yuv420p',
    times=TIMES,
    size=(48, 64),
    clock=1000,
    container=None,
    change=None,
):
    """Write a video with noise and the four quarters. `change` is called with the new stream."""
    clock, noise = Fraction(1, clock), np.random.default_rng(0).integers(-9, 9, (*size, 3))
    with av.open(str(path), 'w', container_options=container or {}) as file:
        options = {'x265-params': 'log-level=none'} if codec == 'libx265' else {}
        stream = file.add_stream(codec, 20, options=options)
        stream.height, stream.width, stream.pix_fmt = *size, pixels
        stream.codec_context.time_base = clock
        if change:
            change(stream)
        for n, time in enumerate(times):
            image = (quarters(*size) + np.roll(noise, n, 1)).clip(0, 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(image, 'rgb24')
            frame.pts, frame.time_base = round(Fraction(time) / clock), clock
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


def turned(path, a, b, c, d):
    """Write a display matrix into an MP4, as phones do."""
    data = bytearray(path.read_bytes())
    matrix = [value << 16 for value in (a, b, 0, c, d, 0, 0, 0)]
    struct.pack_into('>8i', data, data.index(b'tkhd') + 44, *matrix)
    path.write_bytes(data)
    return path


def read(path):
    """Return (the video, its frames)."""
    video = videos.Video(path)
    return video, list(video)


@pytest.mark.parametrize(
    'name, codec, pixels, clock',
    [
        ('a.mp4', 'libx264', 'yuv420p', 1000),
        ('b.mov', 'libx265', 'yuv420p10le', 1000),
        ('c.mkv', 'libx264', 'yuv422p10le', 1000),
        ('d.webm', 'libvpx-vp9', 'yuv420p', 1000),
        ('e.ts', 'libx264', 'yuv420p', 90_000),
        ('f.gif', 'gif', 'rgb8', 100),
        ('g.apng', 'apng', 'rgb24', 1000),
        ('h.avi', 'mjpeg', 'yuvj420p', 20),
        ('i.mkv', 'ffv1', 'bgra', 1000),
        ('j.mov', 'prores_ks', 'yuv422p10le', 1000),
    ],
)
def test_containers_and_pixels_with_their_times(tmp_path, name, codec, pixels, clock):
    video, frames = read(film(tmp_path / name, codec, pixels, clock=clock))
    assert video.times == pytest.approx(TIMES) and video.read == len(TIMES) and not video.loss
    assert {(f.shape, f.dtype.name) for f in frames} == {((48, 64, 3), 'uint8')}
    assert seen(frames[0]) == seen(frames[-1]) == [0, 1, 2, 3]


def test_colours_of_high_dynamic_range_are_bt2020s(tmp_path):
    def hlg(stream):
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc = 9, 9, 18

    path = film(tmp_path / 'a.mp4', 'libx265', 'yuv420p10le', change=hlg)
    # The matrix of BT.2020 gives other colours for the same numbers than that of BT.709.
    plain = film(tmp_path / 'b.mp4', 'libx265', 'yuv420p10le')
    (_, frames), (_, others) = read(path), read(plain)
    assert seen(frames[0]) == [0, 1, 2, 3]
    assert np.abs(frames[0].astype(int) - others[0]).max() > 8


@pytest.mark.parametrize('name, codec', [('a.h264', 'libx264'), ('a.mjpeg', 'mjpeg')])
def test_a_stream_without_a_container_has_a_constant_rate(tmp_path, name, codec):
    pixels = 'yuvj420p' if codec == 'mjpeg' else 'yuv420p'
    video, frames = read(film(tmp_path / name, codec, pixels))
    assert len(frames) == len(TIMES) and video.count == 0
    assert video.times == pytest.approx([n / video.rate_hz for n in range(len(TIMES))])


@pytest.mark.parametrize(
    'matrix, order',
    [
        ((1, 0, 0, 1), [0, 1, 2, 3]),
        ((0, -1, 1, 0), [1, 3, 0, 2]),
        ((-1, 0, 0, -1), [3, 2, 1, 0]),
        ((0, 1, -1, 0), [2, 0, 3, 1]),
        ((-1, 0, 0, 1), [1, 0, 3, 2]),
        ((1, 0, 0, -1), [2, 3, 0, 1]),
        ((0, -1, -1, 0), [3, 1, 2, 0]),
        ((0, 1, 1, 0), [0, 2, 1, 3]),
    ],
)
def test_videos_of_phones_are_turned_upright(tmp_path, matrix, order):
    """Each matrix (a, b, c, d) maps x' = a x + c y, y' = b x + d y (ISO/IEC 14496-12)."""
    _, frames = read(turned(film(tmp_path / 'a.mp4'), *matrix))
    assert frames[0].shape == ((48, 64, 3) if matrix[0] else (64, 48, 3))
    assert seen(frames[0]) == order


def test_pixels_that_are_not_square_are_made_so(tmp_path):
    def wide(stream):
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)

    _, frames = read(film(tmp_path / 'a.mp4', change=wide))
    assert frames[0].shape == (48, 85, 3) and seen(frames[0]) == [0, 1, 2, 3]


def test_frames_of_another_size_are_resized(tmp_path):
    parts = [film(tmp_path / f'{n}.h264', size=size) for n, size in enumerate([(48, 64), (96, 80)])]
    (tmp_path / 'a.h264').write_bytes(b''.join(part.read_bytes() for part in parts))
    _, frames = read(tmp_path / 'a.h264')
    assert [f.shape for f in frames] == [(48, 64, 3)] * 14
    assert seen(frames[-1]) == [0, 1, 2, 3]


def test_a_clock_that_jumps_back_goes_on(tmp_path):
    part = film(tmp_path / 'a.ts', clock=90_000).read_bytes()
    (tmp_path / 'b.ts').write_bytes(part + part)
    video, _ = read(tmp_path / 'b.ts')
    again = [TIMES[-1] + 1 / video.rate_hz + time for time in TIMES]
    assert video.times == pytest.approx([*TIMES, *again])


def sound(path, video=False, cover=False, seconds=1.0):
    """Write silence, with a cover picture or a video of a second."""
    with av.open(str(path), 'w') as file:
        if video or cover:
            stream = file.add_stream('libx264' if video else 'mjpeg', 20)
            stream.height, stream.width = 48, 64
            stream.pix_fmt = 'yuv420p' if video else 'yuvj420p'
            stream.disposition = 1024 if cover else 1
        silence = file.add_stream('aac', 44_100)
        for n in range(20 * video or int(cover)):
            frame = av.VideoFrame.from_ndarray(quarters(48, 64), 'rgb24')
            frame.pts = n
            file.mux(stream.encode(frame))
        if video or cover:
            file.mux(stream.encode())
        for n in range(int(seconds * 44_100 / 1024)):
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), 'fltp', 'mono')
            samples.sample_rate, samples.pts = 44_100, n * 1024
            file.mux(silence.encode(samples))
        file.mux(silence.encode())
    return path


def blanked(data):
    """Return an MP4 whose pictures never came."""
    start = data.index(b'mdat') + 4
    return data[:start] + bytes(len(data) - start)


@pytest.mark.parametrize('name', ['a.mp4', 'a.mkv', 'a.mov'])
def test_sound_beside_the_video(tmp_path, name):
    video, frames = read(sound(tmp_path / name, video=True, seconds=1.5))
    assert len(frames) == 20 and not video.loss


@pytest.mark.parametrize(
    'make, reason',
    [
        (lambda path: sound(path), 'has no video stream, only audio'),
        (lambda path: sound(path, cover=True), 'has no video stream, only audio, cover picture'),
        (lambda path: path.write_bytes(b''), 'cannot be read as a video'),
        (lambda path: path.write_text('<!doctype html>' * 99), 'cannot be read as a video'),
        (
            lambda path: path.write_bytes(film(path).read_bytes()[:-400]),
            'If it is one, its index may be cut off',
        ),
        (
            lambda path: path.write_bytes(film(path).read_bytes().replace(b'avc1', b'zzz1')),
            'cannot be read: PyAV does not know the codec of its video',
        ),
        (
            lambda path: path.write_bytes(blanked(film(path, container=FAST).read_bytes())),
            'cannot be read as a video: no frame of it can be decoded',
        ),
        (
            lambda path: film(path.with_suffix('.png'), 'png', 'rgb24', [0]).rename(path),
            'is a picture or a text, not a video; `cliptrase segment` labels pictures',
        ),
    ],
)
def test_files_without_a_video(tmp_path, make, reason):
    make(tmp_path / 'a.mp4')
    with pytest.raises(PictureError, match=f'a.mp4 {reason}|a.mp4 .*{reason}'):
        videos.Video(tmp_path / 'a.mp4')


def test_a_text_is_no_video(tmp_path):
    (tmp_path / 'a.txt').write_text('\n'.join(f'word {n}' for n in range(300)))
    with pytest.raises(PictureError, match='is a picture or a text'):
        videos.Video(tmp_path / 'a.txt')


def test_a_playlist_does_not_reach_the_network(tmp_path):
    film(tmp_path / 'a.ts', clock=90_000)
    text = '#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.5,\n{}a.ts\n#EXT-X-ENDLIST\n'
    (tmp_path / 'a.m3u8').write_text(text.format(''))
    assert len(read(tmp_path / 'a.m3u8')[1]) == len(TIMES)
    (tmp_path / 'b.m3u8').write_text(text.format('http://127.0.0.1:9/'))
    with pytest.raises(PictureError, match='cannot be read as a video'):
        videos.Video(tmp_path / 'b.m3u8')


@pytest.mark.parametrize('name', ['take:1 2.mp4', '2024-01-01T10:20:30.mp4', 'ü %d [x].mp4'])
def test_names_that_look_like_addresses_or_patterns(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    path = film(tmp_path / 'a.mp4').rename(tmp_path / name).relative_to(tmp_path)
    assert len(read(path)[1]) == len(TIMES)
    writer = videos.Writer(path, 5.0)
    writer(quarters(48, 64))
    writer.close()
    assert len(read(path)[1]) == 1


@pytest.mark.parametrize(
    'name, codec, options, kept, lost',
    [
        ('a.avi', 'mpeg4', {}, 0.75, r'ends after \d+ of 60 frames; these are kept'),
        ('a.mp4', 'libx264', FAST, 0.75, r'ends after \d+ of 60 frames'),
        (
            'a.mp4',
            'libx264',
            {'movflags': 'frag_keyframe+empty_moov'},
            0.75,
            r'ends after .* of 3.00 s',
        ),
        ('a.mkv', 'libx264', {}, 0.75, r'ends after .* of 3.00 s; this part is kept'),
        ('a.webm', 'libvpx', {}, 0.75, r'ends after .* of 3.00 s; this part is kept'),
        # FFmpeg reports this cut while it reads, others while it decodes.
        ('a.apng', 'apng', {}, 0.9, r'is damaged; packets skipped: \d'),
    ],
)
def test_what_is_there_of_a_cut_file_is_used_and_it_is_said(
    tmp_path, capsys, name, codec, options, kept, lost
):
    pixels = 'rgb24' if codec == 'apng' else 'yuv420p'
    path = film(tmp_path / name, codec, pixels, EVEN, container=options, clock=20)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    arguments = ['video', str(path), '--words', 'floor', *TINY, '-o', str(tmp_path / 'out.mp4')]
    assert cli.main(arguments) == 3
    _, frames = read(tmp_path / 'out.mp4')
    assert 5 < len(frames) < 60
    error = capsys.readouterr().err
    assert re.search(f'{name} {lost}', error), error


def test_damage_in_the_middle_is_skipped(tmp_path):
    options = {'times': EVEN, 'container': FAST, 'change': key_frames}
    path = film(tmp_path / 'a.mp4', **options)
    data = bytearray(path.read_bytes())
    # A download of which a part never came.
    data[len(data) // 2 : len(data) // 2 + 1000] = bytes(1000)
    path.write_bytes(data)
    video, frames = read(path)
    assert 30 < len(frames) < 60 and 'is damaged; packets skipped: ' in video.loss
    assert video.times[-1] == pytest.approx(EVEN[-1])


def key_frames(stream):
    stream.codec_context.gop_size = 20


def test_a_recording_that_begins_between_key_frames_is_not_damaged(tmp_path):
    path = film(tmp_path / 'a.ts', times=EVEN, clock=90_000, change=key_frames)
    path.write_bytes(path.read_bytes()[188 * 20 :])
    video, frames = read(path)
    assert 30 < len(frames) < 60 and not video.loss


def test_a_trimmed_video_is_complete(tmp_path):
    """Phones trim a video by the list of edits alone: the index has more frames than are shown."""
    path = film(tmp_path / 'a.mp4', times=EVEN)
    data = bytearray(path.read_bytes())
    struct.pack_into('>I', data, data.index(b'elst') + 12, 1000)
    path.write_bytes(data)
    video, frames = read(path)
    assert video.count == 60 and len(frames) == 20 and not video.loss


def test_a_last_frame_that_stays_is_not_a_cut(tmp_path):
    path = film(tmp_path / 'a.gif', 'gif', 'rgb8', [0, 0.1, 0.2, 0.3, 9.0], clock=100)
    video, _ = read(path)
    assert video.times[-1] == pytest.approx(9) and not video.loss


# Writing


def written(path, times=TIMES, size=(48, 64), rate=5.0):
    writer = videos.Writer(path, rate)
    for time in times:
        writer(quarters(*size), time)
    writer.close()
    return path


@pytest.mark.parametrize('suffix', ['.mp4', '.mkv'])
def test_what_browsers_play(tmp_path, suffix):
    path = written(tmp_path / f'a{suffix}', size=(47, 63))
    with av.open(str(path)) as file:
        (stream,) = file.streams
        context = stream.codec_context
        assert (context.name, context.pix_fmt, context.width) == ('h264', 'yuv420p', 62)
        assert (context.colorspace, context.color_primaries, context.color_trc) == (1, 1, 1)
        assert file.duration / av.time_base == pytest.approx(1.6)
    video, frames = read(path)
    assert video.times == pytest.approx(TIMES) and seen(frames[0]) == [0, 1, 2, 3]
    assert np.abs(frames[0][5, 5].astype(int) - QUARTERS[0]).max() < 6
    if suffix == '.mp4':
        data = path.read_bytes()
        assert data.index(b'moov') < data.index(b'mdat')


def test_an_avi_has_its_rate_only(tmp_path):
    video, frames = read(written(tmp_path / 'a.avi', [0, 0.21, 0.61, 0.99]))
    assert video.times == pytest.approx([0, 0.2, 0.6, 1.0]) and not video.loss
    assert seen(frames[0]) == [0, 1, 2, 3]


def test_frames_at_one_time_are_all_kept(tmp_path):
    video, _ = read(written(tmp_path / 'a.mp4', [0, 0.5, 0.5, 0.4, 1]))
    assert len(video.times) == 5 and video.times[-1] == pytest.approx(1)


def test_without_the_first_encoder_or_any(tmp_path, monkeypatch):
    monkeypatch.setattr(videos, 'ENCODERS', {'none': {}, **videos.ENCODERS})
    video, frames = read(written(tmp_path / 'a.mp4'))
    assert video.times == pytest.approx(TIMES) and seen(frames[-1]) == [0, 1, 2, 3]
    monkeypatch.setattr(videos, 'ENCODERS', {'none': {}, 'neither': {}})
    for name in ('a.mp4', 'a.mkv'):
        reason = r'PyAV has no encoder for H.264 \(none, neither\); .* write an .avi'
        with pytest.raises(PictureError, match=reason):
            videos.check_writable(tmp_path / name)
    videos.check_writable(tmp_path / 'a.avi')


@pytest.mark.parametrize('every', [1, 3])
def test_the_command_keeps_real_time(tmp_path, capsys, every):
    source, out = film(tmp_path / 'a.mkv'), tmp_path / 'out.mp4'
    arguments = ['--words', 'floor', *TINY, '--every', str(every), '-o', str(out), '--json']
    assert cli.main(['video', str(source), *arguments]) == 0
    assert json.loads(capsys.readouterr().out)['complete']
    video, _ = read(out)
    assert video.times == pytest.approx(TIMES[::every])
