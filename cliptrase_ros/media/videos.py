"""Video files: reading and writing frames with their times, through FFmpeg's libraries (PyAV)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.format import Flags
from av.stream import Disposition

from ..errors import PictureError

# H.264 encoders, the best first, with their options for a constant quality. Not every build of
# FFmpeg's libraries has them.
ENCODERS = {
    'libx264': {'crf': '20', 'preset': 'veryfast'},
    'libopenh264': {'rc_mode': 'off', 'qmin': '20', 'qmax': '20'},
}
H264, MJPEG = 'h264', 'mjpeg'
# Codec of a new video by suffix. AVI has no H.264 that players agree on.
CODECS = {'.mp4': H264, '.mkv': H264, '.avi': MJPEG}
# Steps of a second for the times of a new video; the usual rates divide it.
CLOCK_HZ = 90_000
# FFmpeg's flag of containers whose clock may jump, such as MPEG-TS.
JUMPS: Any = Flags.ts_discont.value
# The least time between two frames, in seconds.
TICK_S = 0.001
# The default for videos that do not state a rate.
RATE_HZ = 30.0
# Colours by their numbers in ITU-T H.273 and FFmpeg: those of HD with 16..235, of JPEG with 0..255.
BT709, LIMITED = 1, 1
BT601, FULL = 5, 2
# FFmpeg also reads pictures as videos, and texts (as ANSI art).
NO_VIDEOS = ('image2', 'tty')


class Video:
    """The upright frames of a video; can be iterated once.

    Of several video streams, the best by FFmpeg's rules is used. Frames of another size than the
    first are resized to it. Damaged frames are skipped.

    Attributes:
        rate_hz: mean number of frames a second.
        count: number of frames by its index; 0 if it has none.
        times: the time in seconds of each frame read so far, from the start of the file. They
            increase, also if the clock of the file jumps back.

    Raises:
        PictureError: the file does not exist, or no frame can be read from it.
    """

    def __init__(self, path: Path):
        if not path.is_file():
            raise PictureError(f'no video {path}')
        self._container, self._stream = _opened(path)
        rate = self._stream.average_rate or self._stream.guessed_rate
        self.rate_hz = float(rate) if rate and 0 < rate <= 1000 else RATE_HZ
        self.count = self._stream.frames
        self._length_s = _length_s(self._container, self._stream)
        self.times: list[float] = []
        self._shift = -(self._container.start_time or 0) / av.time_base
        self._end_s = 0.0
        self._damaged = 0
        self._size = (0, 0)
        self._frames = self._decoded()
        first = next(self._frames, None)
        if first is None:
            raise PictureError(f'{path} cannot be read as a video: no frame of it can be decoded')
        self._first = first

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield the frames [H, W, 3] uint8 RGB in order."""
        frame: av.VideoFrame | None = self._first
        while frame is not None:
            self.times.append(self._time_of(frame))
            yield self._upright(frame)
            frame = next(self._frames, None)
        self._container.close()

    @property
    def read(self) -> int:
        """Number of frames read so far."""
        return len(self.times)

    @property
    def cut(self) -> bool:
        """Whether the frames read so far end before the video does by its index."""
        # Tolerant because some containers only have an estimate.
        return self._length_s - self._end_s > max(2 / self.rate_hz, 0.01 * self._length_s)

    @property
    def loss(self) -> str:
        """What is missing of the video, after the last frame was read: the end of a sentence about
        the file. '' if it is complete."""
        if self.cut and self.count > self.read:
            return f'ends after {self.read} of {self.count} frames; these are kept'
        if self.cut:
            return f'ends after {self._end_s:.2f} of {self._length_s:.2f} s; this part is kept'
        return f'is damaged; packets skipped: {self._damaged}' if self._damaged else ''

    def _decoded(self) -> Iterator[av.VideoFrame]:
        started = False
        for packet in self._packets():
            try:
                frames = self._stream.decode(packet)
            except av.FFmpegError:
                # A recording of a broadcast may begin between two key frames.
                self._damaged += started
                continue
            started = started or bool(frames)
            yield from frames

    def _packets(self) -> Iterator[av.Packet | None]:
        """Yield the packets, and at the end one that gets the last frames out of the decoder."""
        try:
            yield from self._container.demux(self._stream)
        except av.FFmpegError:
            self._damaged += 1
            yield None

    def _time_of(self, frame: av.VideoFrame) -> float:
        last = self.times[-1] if self.times else -TICK_S
        # A stream without a container has no times.
        tick, following = self._stream.time_base, last + 1 / self.rate_hz if self.times else 0.0
        time = following if frame.pts is None else float(frame.pts * tick) + self._shift
        if time <= last and self._container.format.flags & JUMPS:
            # A stream that was joined or restarted.
            self._shift += following - time
            time = following
        # Behind damage, a decoder may return a frame late.
        time = max(time, last + TICK_S)
        self._end_s = time + max(float((frame.duration or 0) * tick), 1 / self.rate_hz)
        return time

    def _upright(self, frame: av.VideoFrame) -> np.ndarray:
        """Return [H, W, 3] uint8 RGB, with square pixels and turned as the file says."""
        if not self._size[0]:
            ratio = self._stream.sample_aspect_ratio or 1
            self._size = max(1, round(frame.width * ratio)), frame.height
        width, height = self._size
        image = frame.to_ndarray(format='rgb24', width=width, height=height)
        matrix: Any = frame.side_data.get('DISPLAYMATRIX')
        return image if matrix is None else _turned(image, bytes(matrix))


def _opened(path: Path) -> tuple[av.container.InputContainer, Any]:
    """Return the file and its video stream (Any: PyAV's types let each of its values be None)."""
    try:
        # An absolute path, because FFmpeg takes 'a:' for a protocol. A playlist must not reach the
        # network.
        container = av.open(str(path.absolute()), container_options={'protocol_whitelist': 'file'})
    except av.FFmpegError as error:
        raise PictureError(
            f'{path} cannot be read as a video ({error.strerror}). If it is one, its index may be '
            'cut off (usually at the end of an .mp4)'
        ) from error
    kind = container.format.name
    if kind in NO_VIDEOS or kind.endswith('_pipe'):
        raise PictureError(
            f'{path} is a picture or a text, not a video; `cliptrase segment` labels pictures'
        )
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        kinds = {'cover picture' if s.type == 'video' else s.type for s in container.streams}
        raise PictureError(f'{path} has no video stream, only {", ".join(sorted(kinds))}')
    best = container.streams.best('video')
    stream = best if best in streams else streams[0]
    if stream.codec_context is None:
        raise PictureError(f'{path} cannot be read: PyAV does not know the codec of its video')
    stream.thread_type = 'AUTO'
    return container, stream


def _length_s(container: av.container.InputContainer, stream: Any) -> float:
    """Return the seconds of a video by its index; 0 if it does not say."""
    if container.format.name == 'avi' and stream.average_rate:
        # FFmpeg shortens the length of an AVI that is cut off, but not its number of frames.
        return float(stream.frames / stream.average_rate)
    if stream.duration:
        return float(stream.duration * stream.time_base)
    length = (container.duration or 0) / av.time_base
    # Sound may be a little longer than its pictures.
    return length if len(container.streams) == 1 else length - 1


def _turned(image: np.ndarray, matrix: bytes) -> np.ndarray:
    """Return the image [H, W, C] turned and mirrored by a display matrix, to right angles.

    The matrix is the one of MP4 (ISO/IEC 14496-12): nine int32, in whose first two rows x' = a x +
    c y and y' = b x + d y.
    """
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
    if abs(a) < abs(b):
        image, a, d = image.swapaxes(0, 1), c, b
    return np.ascontiguousarray(image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def check_writable(path: Path) -> None:
    """Raise PictureError unless a video with this suffix can be written."""
    if path.suffix.lower() not in CODECS:
        raise PictureError(f'{path}: expected a video name that ends with {", ".join(CODECS)}')
    _encoder(path)


def _encoder(path: Path) -> str:
    """Return the name of the encoder for a new video. Raise PictureError if there is none."""
    if CODECS[path.suffix.lower()] == MJPEG:
        return MJPEG
    for name in ENCODERS:
        with contextlib.suppress(av.codec.codec.UnknownCodecError):
            return av.Codec(name, 'w').name
    raise PictureError(
        f'{path}: the installed PyAV has no encoder for H.264 ({", ".join(ENCODERS)}); install the '
        'package `av` from pip, or write an .avi'
    )


class Writer:
    """A new video file of frames [H, W, 3] uint8 RGB, in constant quality, without sound.

    Its size is that of the first frame, made even: an odd last row or column is cut off.

    Raises:
        OSError: the file cannot be written completely.
    """

    def __init__(self, path: Path, rate_hz: float):
        self._path, self._rate_hz = path, rate_hz
        # PyAV's types do not know that a stream is one of video.
        self._container: Any = None
        self._stream: Any = None
        self._size = (0, 0)
        self._last = -1
        self.count = 0
        self._written = 0

    def __call__(self, frame: np.ndarray, time_s: float | None = None) -> None:
        """Write one more frame.

        Args:
            time_s: when it is shown; None: at the constant rate. An .avi has only multiples of
                1 / rate_hz.
        """
        if not self._container:
            self._open(frame.shape[:2])
        if frame.shape[:2] != self._size:
            raise PictureError(f'frame of {frame.shape[:2]} does not fit a video of {self._size}')
        height, width = (side // 2 * 2 for side in self._size)
        pixels = np.ascontiguousarray(frame[:height, :width])
        context = self._stream.codec_context
        picture = av.VideoFrame.from_ndarray(pixels, 'rgb24').reformat(
            format=context.pix_fmt,
            dst_colorspace=context.colorspace,
            dst_color_range=context.color_range,
        )
        time = self.count / self._rate_hz if time_s is None else time_s
        # An encoder refuses times that do not increase.
        self._last = max(self._last + 1, round(time / context.time_base))
        picture.pts, picture.time_base = self._last, context.time_base
        self.count += 1
        with self._told():
            self._mux(picture)

    def _open(self, size: tuple[int, int]) -> None:
        name = _encoder(self._path)
        self._size = size
        rate = Fraction(self._rate_hz).limit_denominator(CLOCK_HZ)
        # With flush_packets a full disk shows at once. With faststart the index is moved to the
        # start of the file, so that it plays while it is downloaded.
        options = {'flush_packets': '1', 'movflags': '+faststart'}
        self._container = av.open(str(self._path.absolute()), 'w', container_options=options)
        self._stream = stream = self._container.add_stream(name, rate, ENCODERS.get(name, {}))
        stream.height, stream.width = (side // 2 * 2 for side in size)
        context = stream.codec_context
        if name == MJPEG:
            stream.pix_fmt, context.time_base = 'yuvj420p', 1 / rate
            context.colorspace, context.color_range = BT601, FULL
            context.qmin = context.qmax = 3
        else:
            stream.pix_fmt, context.time_base = 'yuv420p', Fraction(1, CLOCK_HZ)
            context.colorspace = context.color_primaries = context.color_trc = BT709
            context.color_range = LIMITED
            # MP4 adds up its length in the order of decoding, which must be that of the times.
            context.max_b_frames = 0
        with self._told():
            self._container.start_encoding()

    def _mux(self, picture: av.VideoFrame | None) -> None:
        for packet in self._stream.encode(picture):
            packet.duration = round(1 / self._rate_hz / packet.time_base)
            self._container.mux(packet)
            self._written += 1

    def close(self) -> None:
        """Finish the file.

        Raises:
            OSError: it could not be written completely.
        """
        if self._container is None:
            return
        with self._told():
            self._mux(None)
            self._container.close()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except av.FFmpegError as error:
            disk = os.statvfs(self._path.parent)
            raise OSError(
                f'only {self._written} of {self.count} frames could be written to '
                f'{self._path.parent} ({error.strerror}); '
                f'{disk.f_bavail * disk.f_frsize / 1e6:.0f} MB are free there'
            ) from error
