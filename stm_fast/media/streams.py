"""Open videos with FFmpeg (files, URLs, pipes and cameras) and choose their video stream."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from stm_fast.errors import MediaError
from stm_fast.media.notices import Notices

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

OPEN_SECONDS, READ_SECONDS = 20.0, 60.0  # for networks and cameras
CLOCK_RATE = 1000  # containers that count milliseconds state this rate if they know no other
PQ = 16  # transfer function of HDR10 and Dolby Vision
PIPE_HINT = " (a pipe is read from front to end: mp4 files whose index comes last must be given as files)"


@dataclass(frozen=True)
class Location:
    """Where a video comes from.

    Attributes:
        path: for messages.
        target: what FFmpeg opens: a name or URL; or a pipe or an open file, which is read from front to end.
        format: format of the input; None to detect it.
        once: whether it is opened only once, so that the first frame must be kept.
        again: whether it can be opened again if it turns out to have an end.
    """

    path: Path | str
    target: str | Path | BinaryIO
    format: str | None = None
    once: bool = False
    again: bool = False

    @property
    def hint(self) -> str:
        """What to add to a message that the video cannot be read."""
        return "" if isinstance(self.target, str) else PIPE_HINT


class _Pipe:
    """An input that FFmpeg reads from front to end as data arrives.

    FFmpeg's callback cannot raise. An interruption ends the input, and `check` raises it.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = getattr(file, "raw", file)  # a buffer would wait until it is full
        self._stopped: BaseException | None = None

    def read(self, size: int) -> bytes:
        if self._stopped:
            return b""
        try:
            return self._file.read(size) or b""
        except BaseException as error:
            self._stopped = error
            return b""

    def check(self) -> None:
        if self._stopped:
            raise self._stopped


@contextmanager
def open_container(location: Location) -> Iterator[tuple["InputContainer", Callable[[], None]]]:
    """Open a video.

    Yields:
        The container, and a function to call after each packet, which raises the error that stopped the input.

    Raises:
        MediaError: FFmpeg cannot read it.
    """
    import av
    from av.error import FFmpegError

    with ExitStack() as stack:
        target, check, timeout = location.target, _do_nothing, None
        if isinstance(target, str):
            opened: str | _Pipe = target
            timeout = (OPEN_SECONDS, READ_SECONDS) if location.once else None
        else:
            file = stack.enter_context(target.open("rb", buffering=0)) if isinstance(target, Path) else target
            opened = _Pipe(file)
            check = opened.check
        try:
            container = av.open(opened, format=location.format, metadata_errors="ignore", timeout=timeout)
        except FFmpegError as error:
            check()
            raise MediaError(f"{location.path} cannot be read as video: {error.strerror}{location.hint}") from error
        yield stack.enter_context(cast("InputContainer", container)), check


def _do_nothing() -> None:
    pass


def video_stream(container: "InputContainer", path: Path | str, notice: Notices) -> "VideoStream":
    """Choose the stream that the ffmpeg program takes: the default, then the largest one; never a cover picture.

    Raises:
        MediaError: there is none, or none that can be decoded.
    """
    from av.stream import Disposition

    pictures = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not pictures:
        cover = ", only a cover picture" if container.streams.video else ""
        raise MediaError(f"{path} has no video stream{cover}")
    streams = [stream for stream in pictures if stream.codec_context is not None]
    if not streams:
        raise MediaError(f"{path} has a video stream whose codec this build of FFmpeg does not know")
    chosen = max(streams, key=lambda s: (bool(s.disposition & Disposition.default), s.width * s.height, -s.index))
    if len(pictures) > 1:
        notice(
            f"{path} has {len(pictures)} video streams: stream {chosen.index}, {chosen.width}×{chosen.height}, is used"
        )
    return chosen


def frame_rate(stream: "VideoStream") -> Fraction | None:
    """Return the frames per second that the file states, or None."""
    rate = stream.average_rate or stream.guessed_rate
    return rate if rate and rate < CLOCK_RATE else None


def stated_seconds(container: "InputContainer", stream: "VideoStream") -> Fraction | None:
    """Return how long the video lasts, in seconds, if the file says; otherwise None."""
    import av

    if stream.duration and stream.time_base:
        return stream.duration * stream.time_base
    if not container.duration:
        return None
    counts_from_zero = "matroska" in container.format.name
    begin = max(container.start_time or 0, 0) if counts_from_zero else 0
    return Fraction(container.duration - begin, av.time_base)


def stated_packets(container: "InputContainer", stream: "VideoStream") -> int | None:
    """Return the number of packets in a complete file if it states that, as mp4 does; otherwise None."""
    if not stream.frames or "mp4" not in container.format.name:
        return None
    return len(stream.index_entries) if hasattr(stream, "index_entries") else None


def pixel_aspect(stream: "VideoStream") -> Fraction:
    """Return the width of a pixel divided by its height, as stored; 1 if unknown."""
    return Fraction(stream.sample_aspect_ratio or 1)


def is_perceptual(stream: "VideoStream") -> bool:
    """Return whether the video is HDR (perceptual quantisation), which looks flat unless it is tone-mapped."""
    return stream.codec_context.color_trc == PQ
