"""Pictures as video: H.264, or ProRes and VP9 with an alpha channel."""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from stm_fast.errors import MediaError
from stm_fast.media.conversion import converted
from stm_fast.media.files import atomic_path

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

BT709 = 1
SQUARE = Fraction(1)
TICKS_PER_SECOND = 90000


@dataclass(frozen=True)
class Coding:
    """How pictures are encoded.

    Attributes:
        codec: FFmpeg's name of the encoder.
        container: FFmpeg's name of the file format.
        pixels: FFmpeg's name of the pixel format.
        options: of the encoder.
        container_options: of the file format.
        even: whether width and height must be even.
        alpha: whether pictures are RGBA, with straight alpha, rather than RGB.
    """

    codec: str
    container: str
    pixels: str
    options: Mapping[str, str] = field(default_factory=dict)
    container_options: Mapping[str, str] = field(default_factory=dict)
    even: bool = False
    alpha: bool = False


_INDEX_FIRST = {"movflags": "+faststart"}
H264 = Coding("libx264", "mp4", "yuv420p", {"crf": "18", "preset": "veryfast"}, _INDEX_FIRST, even=True)
PRORES = Coding("prores_ks", "mov", "yuva444p10le", {"profile": "4444", "alpha_bits": "16"}, _INDEX_FIRST, alpha=True)
VP9 = Coding(
    "libvpx-vp9",
    "webm",
    "yuva420p",
    {"crf": "20", "b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1", "auto-alt-ref": "0"},
    alpha=True,
)


@contextmanager
def video_writer(path: str | Path, fps: Fraction | float, pixel_aspect: Fraction = SQUARE) -> Iterator["VideoEncoder"]:
    """Write an H.264 mp4 that every player opens.

    The file has a temporary name until the block ends. If the block is interrupted or its input breaks off
    (`MediaError`), the file is finished and holds all frames so far. After any other error it is removed.

    Args:
        path: the mp4 file.
        fps: frames per second; approximate average if frames have time stamps.
        pixel_aspect: width of a pixel divided by its height; players stretch the picture by it.

    Yields:
        The encoder, whose `write` takes frames.

    Raises:
        MediaError: this build of PyAV has no H.264 encoder.
        OSError: the file cannot be written.
    """
    stopped: BaseException | None = None
    with atomic_path(path) as partial, closing(VideoEncoder(partial, fps, pixel_aspect)) as encoder:
        try:
            yield encoder
        except (KeyboardInterrupt, MediaError) as error:
            if not encoder.frames:
                raise
            stopped = error
        encoder.finish()
    if stopped:
        raise stopped


class VideoEncoder:
    """Encodes pictures one at a time, in BT.709; see `video_writer` for H.264.

    Args:
        path: the file, which is replaced as it is written.
        fps: frames per second; approximate average if frames have time stamps.
        pixel_aspect: width of a pixel divided by its height.
        coding: how pictures are encoded.

    Attributes:
        frames: number of frames written so far.
    """

    def __init__(
        self, path: Path, fps: Fraction | float, pixel_aspect: Fraction = SQUARE, coding: Coding = H264
    ) -> None:
        import av
        from av.codec.codec import UnknownCodecError

        self.frames = 0
        self.path = path.absolute()
        self._rate = Fraction(fps).limit_denominator(1001)
        self._timed = False
        self._last_tick = -1
        self._held: VideoFrame | None = None
        self._last_duration = 0
        self._durations: dict[int, int] = {}
        self._coding = coding
        self._container = av.open(str(self.path), "w", format=coding.container, options=dict(coding.container_options))
        try:
            self._stream = cast(
                "VideoStream", self._container.add_stream(coding.codec, rate=self._rate, options=dict(coding.options))
            )
        except UnknownCodecError as error:
            self._container.close()
            raise MediaError(
                f"this build of PyAV has no {coding.codec}: install av from PyPI, or write no video"
            ) from error
        context = self._stream.codec_context
        context.pix_fmt = coding.pixels
        context.colorspace = context.color_primaries = context.color_trc = BT709
        context.sample_aspect_ratio = pixel_aspect.limit_denominator(255)

    def write(self, image: NDArray[np.uint8], time: Fraction | None = None) -> None:
        """Append a frame.

        Args:
            image: RGB uint8 `(H, W, 3)`, or RGBA `(H, W, 4)` for a coding with alpha. H.264 needs even sizes: an odd
                one has its last row or column doubled.
            time: seconds from the first frame, rounded to 1/90000; None to space frames by the rate. Either all frames
                have a time or none. A frame that is not later than the one before is moved to one tick after it.

        Raises:
            ValueError: some frames have a time and others do not.
            OSError: the file cannot be written.
        """
        if not self.frames:
            self._begin(image, timed=time is not None)
        if self._timed != (time is not None):
            raise ValueError(f"time of frame {self.frames} is {time}: all frames must have a time, or none")
        frame = _in_yuv(self._fitted(image), self._coding)
        frame.pts = self.frames if time is None else max(round(time * TICKS_PER_SECOND), self._last_tick + 1)
        self._encode_held(frame.pts - self._last_tick)
        self._held, self._last_tick = frame, frame.pts
        self.frames += 1

    def finish(self) -> None:
        """Flush the encoder. The last frame lasts as long as the one before it, but no longer than the rate says."""
        ticks = round(TICKS_PER_SECOND / self._rate)
        self._encode_held(min(ticks, self._last_duration or ticks) if self._timed else 1)
        self._encode(None)

    def close(self) -> None:
        """Write the index and close the file."""
        with self._os_errors():
            self._container.close()

    def _begin(self, image: NDArray[np.uint8], *, timed: bool) -> None:
        self._timed = timed
        self._stream.height, self._stream.width = self._fitted(image).shape[:2]
        if timed:
            self._stream.codec_context.time_base = self._stream.time_base = Fraction(1, TICKS_PER_SECOND)

    def _fitted(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return _even(image) if self._coding.even else image

    def _encode_held(self, duration: int) -> None:
        """Encode the frame that was waiting for its duration, given in units of the time base."""
        if self._held is None:
            return
        self._last_duration = self._durations[self._last_tick] = duration
        self._encode(self._held)
        self._held = None

    def _encode(self, frame: "VideoFrame | None") -> None:
        """Encode a frame; None flushes the encoder."""
        with self._os_errors():
            for packet in self._stream.encode(frame):
                packet.duration = self._durations.pop(packet.pts or 0, 0)
                self._container.mux(packet)

    @contextmanager
    def _os_errors(self) -> Iterator[None]:
        """Raise failures of FFmpeg as `OSError`."""
        from av.error import FFmpegError

        try:
            yield
        except FFmpegError as error:
            if isinstance(error, OSError):
                raise
            raise OSError(error.errno, f"the video cannot be encoded: {error.strerror}", str(self.path)) from error


def _even(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Double the last row or column if their number is odd."""
    height, width = image.shape[:2]
    return np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def _in_yuv(image: NDArray[np.uint8], coding: Coding) -> "VideoFrame":
    from av.video.frame import VideoFrame
    from av.video.reformatter import Colorspace

    frame = VideoFrame.from_ndarray(image, format="rgba" if coding.alpha else "rgb24")
    if coding.alpha:
        return converted(frame, format=coding.pixels, dst_colorspace=Colorspace.ITU709)
    return frame.reformat(format=coding.pixels, dst_colorspace=Colorspace.ITU709)
