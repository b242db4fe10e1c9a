"""Pictures as H.264 video."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stm_fast.errors import MediaError
from stm_fast.media.files import atomic_path

BT709 = 1


@contextmanager
def video_writer(path: str | Path, fps: Fraction | float) -> Iterator["VideoEncoder"]:
    """Write an H.264 mp4 that every player opens.

    The file has a temporary name until the block ends. When the block is interrupted, or its input breaks off
    (`MediaError`), the file is finished first and holds all frames so far; after any other error it is removed.

    Args:
        path: the mp4 file.
        fps: frames a second.

    Yields:
        The encoder; give it frames with `write`.

    Raises:
        MediaError: this build of PyAV has no H.264 encoder.
        OSError: the file cannot be written.
    """
    stopped: BaseException | None = None
    with atomic_path(path) as partial, closing(VideoEncoder(partial, fps)) as encoder:
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

    def __init__(self, path: Path, fps: Fraction | float) -> None:
        import av
        from av.codec.codec import UnknownCodecError

        self.frames = 0
        self.path = path.absolute()
        self._container = av.open(str(self.path), "w", format="mp4", options={"movflags": "+faststart"})
        rate = Fraction(fps).limit_denominator(1001)
        try:
            self._stream = self._container.add_stream("libx264", rate=rate, options={"crf": "18", "preset": "veryfast"})
        except UnknownCodecError as error:
            self._container.close()
            raise MediaError("this build of PyAV has no libx264: install av from PyPI, or do without video") from error
        context = self._stream.codec_context
        context.pix_fmt = "yuv420p"
        context.colorspace = context.color_primaries = context.color_trc = BT709

    def write(self, image: NDArray[np.uint8]) -> None:
        """Append a frame, RGB uint8 `(H, W, 3)`; an odd size has its last row or column doubled, H.264 wants even."""
        from av.video.frame import VideoFrame
        from av.video.reformatter import Colorspace

        height, width = image.shape[:2]
        image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        if not self.frames:
            self._stream.height, self._stream.width = image.shape[:2]
        frame = VideoFrame.from_ndarray(image, format="rgb24")
        yuv = frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709)
        with self._told():
            self._container.mux(self._stream.encode(yuv))
        self.frames += 1

    def finish(self) -> None:
        """Flush the encoder."""
        with self._told():
            self._container.mux(self._stream.encode())

    def close(self) -> None:
        """Write the index and close the file."""
        with self._told():
            self._container.close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Failures of FFmpeg as the OSError that most of them are."""
        from av.error import FFmpegError

        try:
            yield
        except FFmpegError as error:
            if isinstance(error, OSError):
                raise
            raise OSError(error.errno, f"the video cannot be encoded: {error.strerror}", str(self.path)) from error
