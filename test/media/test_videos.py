import json
import signal
import time
from functools import partial

import cv2
import forks
import numpy as np
import pytest
from forks import Fork, little_disk
from towers import picture

import cliptrase_ros as ct
from cliptrase_ros import cli
from cliptrase_ros.errors import PictureError
from cliptrase_ros.media import videos

TINY = ['--model', 'cliptrase-tiny', '--weights', 'random', '--device', 'cpu', '--input-size', '32']
WORDS = ['--words', 'floor', 'mug']


def film(path, frames=12, size=(48, 64), rate=20.0):
    """Write a video of one picture that moves to the right, 2 px a frame."""
    writer, scene = videos.Writer(path, rate), picture(*size)
    for n in range(frames):
        writer(np.roll(scene, 2 * n, 1))
    writer.close()
    return path


def frames_of(path):
    return list(videos.Video(path))


@pytest.mark.parametrize('suffix', videos.CODECS)
@pytest.mark.parametrize('size', [(48, 64), (47, 63)])
def test_what_is_written_can_be_read(tmp_path, suffix, size):
    path = film(tmp_path / f'a{suffix}', size=size)
    video = videos.Video(path)
    frames = list(video)
    assert len(frames) == video.read == 12 and not video.cut
    assert video.rate_hz == pytest.approx(20)
    # An odd last row or column is cut off.
    height, width = (side // 2 * 2 for side in size)
    assert {(f.shape, f.dtype.name) for f in frames} == {((height, width, 3), 'uint8')}
    # Colours are kept, and the third frame has moved by four pixels.
    expected = np.roll(picture(*size), 4, 1).astype(float)[:height, :width]
    assert np.abs(cv2.blur(frames[2] - expected, (9, 9))).max() < 40


def test_nothing_to_read(tmp_path):
    with pytest.raises(PictureError, match='no video '):
        videos.Video(tmp_path / 'none.mp4')
    (tmp_path / 'text.mp4').write_text('text')
    with pytest.raises(PictureError, match='cannot be read as a video'):
        videos.Video(tmp_path / 'text.mp4')


def test_frames_of_two_sizes_make_no_video(tmp_path):
    writer = videos.Writer(tmp_path / 'a.mp4', 20.0)
    writer(picture(48, 64))
    with pytest.raises(
        PictureError, match=r'frame of \(32, 64\) does not fit a video of \(48, 64\)'
    ):
        writer(picture(32, 64))


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(OSError, match=r'No such file or directory.*none'):
        videos.Writer(tmp_path / 'none' / 'a.mp4', 20.0)(picture(32, 32))


def test_nothing_written_is_nothing_to_close(tmp_path):
    videos.Writer(tmp_path / 'a.mp4', 20.0).close()
    assert not list(tmp_path.iterdir())


def run(*arguments):
    return cli.main(['video', *map(str, arguments), *WORDS, *TINY])


@pytest.mark.parametrize(
    'options, count, rate, shape',
    [
        ([], 12, 20, (48 + 52, 64)),
        (['--no-legend'], 12, 20, (48, 64)),
        (['--show', 'side', '--every', '3'], 4, 20 / 3, (48 + 52, 128)),
        (['--show', 'labels', '--limit', '5', '--every', '2'], 5, 10, (48 + 52, 64)),
        (['--protocol', 'cliptrase', '--no-legend'], 12, 20, (32, 32)),
    ],
)
def test_the_video_that_is_made(tmp_path, capsys, options, count, rate, shape):
    made = tmp_path / 'out' / 'labelled.mp4'
    assert run(film(tmp_path / 'a.mp4'), '-o', made, '--json', *options) == 0
    said = json.loads(capsys.readouterr().out)
    assert said.pop('seconds') > 0
    assert said == {'video': str(made), 'frames': count, 'complete': True}
    video = videos.Video(made)
    frames = list(video)
    assert len(frames) == count and video.rate_hz == pytest.approx(rate, rel=1e-3)
    assert frames[0].shape == (*shape, 3)
    assert [p.name for p in made.parent.iterdir()] == ['labelled.mp4']


def test_its_frames_are_overlays_of_the_segmenters_labels(tmp_path):
    made, source = tmp_path / 'out.avi', film(tmp_path / 'a.avi')
    assert run(source, '-o', made, '--no-legend') == 0
    segmenter = ct.load(
        ct.Settings(model='cliptrase-tiny', weights='random', device='cpu', input_size=32)
    )
    words = segmenter.vocabulary(WORDS[1:])
    for frame, given in zip(frames_of(source), frames_of(made), strict=True):
        expected = ct.overlay(frame, segmenter(frame, words).labels, words)
        assert np.abs(given.astype(float) - expected).mean() < 12


def test_smoothing_is_that_of_the_node(tmp_path):
    source, segmenter = film(tmp_path / 'a.avi', frames=4), None
    segmenter = ct.load(ct.Settings(model='cliptrase-tiny', weights='random', input_size=32))
    words = segmenter.vocabulary(WORDS[1:])
    from cliptrase_ros.cli.video import label

    frames = frames_of(source)
    plain, smooth = (list(label(frames, segmenter, words, weight)) for weight in (0.0, 0.5))
    mean = None
    for frame, (image, result), (_, own) in zip(frames, smooth, plain, strict=True):
        encoded = segmenter.encode(frame)
        scores = segmenter.scores(encoded, words)
        assert (own.labels == segmenter.label(encoded, words, scores).labels).all()
        mean = scores if mean is None else (mean + scores) / 2
        assert (result.labels == segmenter.label(encoded, words, mean).labels).mean() > 0.99
        assert (image == frame).all()


def test_a_video_that_is_cut_off_is_kept_as_far_as_it_goes(tmp_path, capsys):
    source = film(tmp_path / 'a.avi', frames=60)
    whole = source.read_bytes()
    source.write_bytes(whole[: len(whole) // 2])
    assert run(source, '-o', tmp_path / 'out.mp4') == 3
    kept = len(frames_of(tmp_path / 'out.mp4'))
    assert 10 < kept < 50
    assert f'ends after {kept} of 60 frames; these are kept' in capsys.readouterr().err


@pytest.mark.parametrize(
    'name, out, reason',
    [
        ('none.mp4', 'b.mp4', 'no video '),
        ('a.mp4', 'b.gif', 'ends with .mp4, .mkv, .avi'),
        ('a.mp4', 'file/b.mp4', 'file'),
    ],
)
def test_errors(tmp_path, capsys, name, out, reason):
    film(tmp_path / 'a.mp4')
    (tmp_path / 'file').write_text('')
    assert run(tmp_path / name, '-o', tmp_path / out) == 1
    error = capsys.readouterr().err
    assert reason in error and 'Traceback' not in error


def test_a_video_is_not_written_over_itself(tmp_path, capsys):
    source = film(tmp_path / 'a.mp4')
    before = source.read_bytes()
    (tmp_path / 'link.mp4').symlink_to(source)
    for out in (source, tmp_path / 'link.mp4'):
        assert run(source, '-o', out) == 1
        assert 'is the input video' in capsys.readouterr().err
    assert source.read_bytes() == before


@pytest.mark.parametrize('option', [['--every', '0'], ['--limit', '-1'], ['--smoothing', '1']])
def test_wrong_numbers(tmp_path, option):
    with pytest.raises(SystemExit):
        run(tmp_path / 'a.mp4', '-o', tmp_path / 'b.mp4', *option)


def test_a_full_disk_leaves_a_sentence_and_no_half_video(tmp_path):
    source = film(tmp_path / 'a.mp4', frames=60, size=(96, 128))
    out = tmp_path / 'out'
    arguments = ['video', source, *WORDS, *TINY, '-o', out / 'b.mp4']
    done = forks.run('cli', *arguments, first=partial(little_disk, 20_000))
    assert done.returncode == 1 and 'frames could be written to' in done.stderr
    assert 'Traceback' not in done.stderr and not list(out.iterdir())


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_labelled(tmp_path):
    source = film(tmp_path / 'a.mp4', frames=3000)
    out = tmp_path / 'out'
    running = Fork('cli', 'video', source, *WORDS, *TINY, '-o', out / 'b.mp4')
    while running.poll() is None and not (
        out.is_dir() and any(path.stat().st_size > 1000 for path in out.iterdir())
    ):
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    output, error = running.communicate()
    assert running.returncode == 130 and 'interrupted' in error and 'Traceback' not in error
    assert 0 < len(frames_of(out / 'b.mp4')) < 3000 and 'frames in' in output
