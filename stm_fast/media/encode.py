"""Pictures as H.264 video."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stm_fast.errors import MediaError
from stm_fast.media.files import atomic_path

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

BT709 = 1
SQUARE = Fraction(1)
TICKS_PER_SECOND = 90000


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
    """H.264 in mp4, yuv420p, BT.709; see `video_writer`.

    Attributes:
        frames: number of frames written so far.
    """

    def __init__(self, path: Path, fps: Fraction | float, pixel_aspect: Fraction = SQUARE) -> None:
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
        self._container = av.open(str(self.path), "w", format="mp4", options={"movflags": "+faststart"})
        options = {"crf": "18", "preset": "veryfast"}
        try:
            self._stream = self._container.add_stream("libx264", rate=self._rate, options=options)
        except UnknownCodecError as error:
            self._container.close()
            raise MediaError("this build of PyAV has no libx264: install av from PyPI, or write no video") from error
        context = self._stream.codec_context
        context.pix_fmt = "yuv420p"
        context.colorspace = context.color_primaries = context.color_trc = BT709
        context.sample_aspect_ratio = pixel_aspect.limit_denominator(255)

    def write(self, image: NDArray[np.uint8], time: Fraction | None = None) -> None:
        """Append a frame.

        Args:
            image: RGB uint8 `(H, W, 3)`. H.264 needs even sizes: an odd one has its last row or column doubled.
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
        frame = _in_yuv(image)
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
        self._stream.height, self._stream.width = _even(image).shape[:2]
        if timed:
            self._stream.codec_context.time_base = self._stream.time_base = Fraction(1, TICKS_PER_SECOND)

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


def _in_yuv(image: NDArray[np.uint8]) -> "VideoFrame":
    from av.video.frame import VideoFrame
    from av.video.reformatter import Colorspace

    frame = VideoFrame.from_ndarray(_even(image), format="rgb24")
    return frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709)
