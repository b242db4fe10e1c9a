"""Frames of a video that FFmpeg decodes."""

import sys
from collections.abc import Generator, Iterator
from fractions import Fraction
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stm_fast.errors import MediaError
from stm_fast.media.backward import BackwardVideo
from stm_fast.media.display import display_matrix, is_sideways, upright
from stm_fast.media.frames import Frame, FrameSource, is_number, numbered
from stm_fast.media.levels import Pixels, Scaler
from stm_fast.media.notices import Notices
from stm_fast.media.seeking import SeekingVideo
from stm_fast.media.streams import (
    Location,
    frame_rate,
    is_perceptual,
    open_container,
    pixel_aspect,
    stated_packets,
    stated_seconds,
    video_stream,
)

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

_ALL = range(sys.maxsize)
USUAL_RATE = Fraction(25)
TICK = Fraction(1, 1000)  # seconds between frames with the same time stamp
JITTER = 2  # frames by which a time stamp may go back; a larger step starts another recording


class VideoFile(FrameSource):
    """A video decoded by FFmpeg, turned and mirrored as its display matrix says.

    Damaged packets are skipped, as in players, and a notice counts them. Frames that differ in size from the first are
    scaled to it.

    Args:
        location: a file, URL, pipe or camera. A source that can be opened only once keeps its first frame for the
            iteration.

    Raises:
        MediaError: it is unreadable, or has no video stream or no frame that can be decoded.
    """

    def __init__(self, location: Location) -> None:
        self.path = location.path
        self._location = location
        self._notice = Notices()
        self._scaler = Scaler(location.path)
        self._begun: Iterator[Frame] | None = None
        self._seeking: SeekingVideo | None = None
        decoding = self._decode_all()
        first = next(decoding, None)
        if first is None:
            raise MediaError(f"{self.path} has no frame that can be decoded")
        if location.once:
            self._begun = chain((first,), decoding)
        else:
            decoding.close()
        self.first_name = first.name

    def _decode(self) -> Iterator[Frame]:
        begun, self._begun = self._begun, None
        if begun is None and not self.seekable:
            raise MediaError(f"{self.path} can be read only once: save it as a file to read it again")
        return begun or self._decode_all()

    def _decode_some(self, numbers: range) -> Iterator[Frame]:
        if not numbers or not self.seekable or self._begun is not None:
            return super()._decode_some(numbers)
        if numbers.step > 0:
            return self._decode_all(numbers)
        rate = self.fps or USUAL_RATE
        video = BackwardVideo(
            self._location, lambda frame: self._image(frame, self.size), lambda: _Clock(rate).time, self._notice
        )
        return video.read(numbers, self.size)

    def frame(self, number: int) -> Frame:
        """Return one frame; see `FrameSource.frame`. The frame has no time. For one thread at a time."""
        image = self._sought().read(number) if self._can_seek else None
        return super().frame(number) if image is None else Frame(numbered(number), image)

    def exact_count(self) -> int | None:
        """Return the number of frames; see `FrameSource.exact_count`."""
        found = self._sought().count if self._can_seek else None
        return self.count if found is None else found

    @property
    def _can_seek(self) -> bool:
        return self.seekable and not self._location.once and isinstance(self._location.target, str)

    def _sought(self) -> SeekingVideo:
        if self._seeking is None:
            self._seeking = SeekingVideo(self._location, lambda frame: self._image(frame, self.size), self._notice)
        return self._seeking

    def _decode_all(self, numbers: range = _ALL) -> Generator[Frame, None, None]:
        """Yield frames by ascending number; the others are decoded, but not converted."""
        from av.error import FFmpegError

        with open_container(self._location) as (container, check):
            stream = video_stream(container, self.path, self._notice)
            stream.thread_type = "AUTO"
            if is_perceptual(stream):
                self._notice(
                    f"{self.path} is HDR and not tone-mapped, so its frames look flat: an SDR version may work better"
                )
            self.fps = frame_rate(stream)
            self._stated = stated_packets(container, stream)
            seconds = stated_seconds(container, stream)
            self.seekable = not self._location.once or (self._location.again and seconds is not None)
            estimate = round(seconds * self.fps) if seconds and self.fps else None
            self.count = self._stated or stream.frames or estimate
            clock = _Clock(self.fps or USUAL_RATE)
            size: tuple[int, int] | None = None
            index = packets = damaged = 0
            try:
                for packet in container.demux(stream):
                    check()
                    packets += packet.size > 0
                    try:
                        frames = packet.decode()
                    except FFmpegError:
                        damaged += 1
                        continue
                    for frame in frames:
                        if index >= numbers.stop:
                            return
                        time = clock.time(frame)
                        if size is not None and index not in numbers:
                            index += 1
                            continue
                        image = self._image(frame, size)
                        if size is None:
                            size = image.shape[0], image.shape[1]
                            self._set_shape(size, pixel_aspect(stream), sideways=is_sideways(display_matrix(frame)))
                        if index in numbers:
                            yield Frame(numbered(index), image, time)
                        index += 1
            except FFmpegError as error:
                raise MediaError(self._broken_off(index, str(error.strerror))) from error
            if damaged and index:
                self._notice(
                    f"{self.path} has {damaged} damaged packets, which were skipped: {index} frames were decoded"
                )
            if self._stated and packets < self._stated:
                raise MediaError(self._broken_off(index, "the file ends early"))
            if index and seconds and clock.end < 0.9 * seconds:
                self._notice(
                    f"{self.path} gave {index} frames, {float(clock.end):.2f} s, but its duration is "
                    f"{float(seconds):.2f} s: it may be cut off"
                )

    def _set_shape(self, size: tuple[int, int], aspect: Fraction, *, sideways: bool) -> None:
        self.size = size
        self.pixel_aspect = 1 / aspect if sideways else aspect
        if aspect != 1:
            height, width = size
            self._notice(
                f"{self.path} has pixels that are not square: frames and masks are {width}×{height} as stored, but "
                f"players show {round(width * self.pixel_aspect)}×{height}"
            )

    def _image(self, frame: "VideoFrame", size: tuple[int, int] | None) -> NDArray[np.uint8]:
        """Convert a decoded frame to RGB, upright and scaled to the size of the first."""
        if frame.interlaced_frame:
            self._notice(
                f"{self.path} is interlaced: frames are used with both of their fields, and may look combed where "
                "things move"
            )
        matrix = display_matrix(frame)
        height, width = (size[::-1] if is_sideways(matrix) else size) if size else (frame.height, frame.width)
        if (frame.height, frame.width) != (height, width):
            self._notice(
                f"{self.path} changes its size to {frame.width}×{frame.height}: such frames are scaled to the first "
                f"one's {width}×{height}"
            )
            frame = frame.reformat(width=width, height=height)
        return upright(self._scaler.rgb(_pixels(frame)), matrix)

    def _broken_off(self, frames: int, reason: str) -> str:
        expected = f" of {self.count}" if self.count else ""
        hint = "" if frames else self._location.hint
        return f"{self.path} breaks off after {frames}{expected} frames: {reason}{hint}"

    def may_hold(self, name: str) -> bool:
        """Return whether a frame can have this name."""
        return is_number(name, self._stated)


class _Clock:
    """Counts seconds from the first frame, strictly increasing, by time stamps as far as they are valid."""

    def __init__(self, rate: Fraction) -> None:
        self._step = 1 / rate
        self._origin: Fraction | None = None
        self._last = Fraction(0)

    @property
    def end(self) -> Fraction:
        """End of the last frame if it is shown for as long as the rate says."""
        return self._last + self._step

    def time(self, frame: "VideoFrame") -> Fraction:
        stamp = frame.dts if frame.pts is None else frame.pts
        at = None if stamp is None or frame.time_base is None else stamp * frame.time_base
        if self._origin is None:
            self._origin = at or Fraction(0)
            return self._last
        time = self.end if at is None else at - self._origin
        if at is not None and time < self._last - JITTER * self._step:
            self._origin = at - self.end
            time = self.end
        self._last = max(time, self._last + TICK)
        return self._last


def _pixels(frame: "VideoFrame") -> Pixels:
    """Return grey, RGB or RGBA of a decoded frame: 16 bits unchanged, fewer scaled to 8."""
    parts = frame.format.components
    alpha = any(part.is_alpha for part in parts)
    if parts[0].bits == 16:
        name = "rgba64le" if alpha else "gray16le" if len(parts) == 1 else "rgb48le"
    else:
        name = "rgba" if alpha else "rgb24"
    return np.asarray(frame.to_ndarray(format=name))
