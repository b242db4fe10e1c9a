"""Frames of a video from back to front, a bounded number of them in memory."""

import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, suppress
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stm_fast.errors import MediaError
from stm_fast.media.frames import Frame, numbered
from stm_fast.media.notices import Notices
from stm_fast.media.streams import Location, open_container, video_stream

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

MAX_BYTES = 1 << 28
"""Maximum size of the frames that are held, as RGB."""
_RUN_UPS = (0, 2, 10)
"""Seconds before a part at which decoding begins, tried in turn: not every container finds the key frame before it."""


class _Entry(NamedTuple):
    """What a frame is recognised by.

    Attributes:
        stamp: time stamp in the units of the stream; None if it has none.
        time: seconds from the first frame.
        checksum: of its first plane as decoded.
    """

    stamp: int | None
    time: Fraction
    checksum: int


class BackwardVideo:
    """Reads frames of a video by descending numbers, equal to those that reading from front to end yields.

    The video is first decoded up to the highest number, to count its frames and note what each is recognised by. Parts
    of it are then decoded from the key frame before them, the last part first. If what is decoded there differs from
    what was noted, as after damage, all parts are decoded from the first frame on.

    Args:
        location: a file or URL.
        image: converts a decoded frame to RGB.
        clock: makes a function that gives the seconds of each decoded frame, called in order.
        given: gives notices.
        max_bytes: maximum size of the frames that are held at a time; at least one is.
    """

    def __init__(
        self,
        location: Location,
        image: Callable[["VideoFrame"], NDArray[np.uint8]],
        clock: Callable[[], Callable[["VideoFrame"], Fraction]],
        given: Notices,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._location = location
        self._image = image
        self._clock = clock
        self._notice = given
        self._max_bytes = max_bytes
        self._run_ups: tuple[int, ...] = _RUN_UPS

    def read(self, numbers: range, size: tuple[int, int]) -> Iterator[Frame]:
        """Yield frames by number.

        Args:
            numbers: descending, at least one.
            size: height and width of a frame.

        Raises:
            MediaError: the video cannot be read or ends before the first of the numbers.
        """
        entries = self._look(numbers[0] + 1)
        if len(entries) <= numbers[0]:
            raise MediaError(f"{self._location.path} has no frame {numbers[0]}: it has {len(entries)} frames")
        held = max(1, self._max_bytes // (3 * size[0] * size[1]))
        for begin in range(0, len(numbers), held):
            wanted = numbers[begin : begin + held]
            images = self._part(wanted[::-1], entries)
            for number in wanted:
                yield Frame(numbered(number), images.pop(number), entries[number].time)

    def _look(self, count: int) -> list[_Entry]:
        """Decode the video from its beginning and note what frames are recognised by, up to a number of them."""
        from av.error import FFmpegError

        entries: list[_Entry] = []
        time = self._clock()
        with open_container(self._location) as (container, check):
            decoded = _Decoded(container, video_stream(container, self._location.path, self._notice), check)
            with closing(decoded.__iter__()) as frames:
                try:
                    for frame in frames:
                        entries.append(_Entry(frame.pts, time(frame), _checksum(frame)))
                        if len(entries) == count:
                            break
                except FFmpegError as error:
                    reason = f"{self._location.path} breaks off after {len(entries)} frames: {error.strerror}"
                    raise MediaError(reason) from error
        if decoded.damaged or not _ascending([entry.stamp for entry in entries]):
            self._run_ups = ()
        return entries

    def _part(self, numbers: range, entries: list[_Entry]) -> dict[int, NDArray[np.uint8]]:
        """Return frames by their ascending numbers."""
        while self._run_ups:
            if (found := self._sought(numbers, entries, self._run_ups[0])) is not None:
                return found
            self._run_ups = self._run_ups[1:]
        self._notice(
            f"{self._location.path} cannot be entered in its middle, so it is decoded from its beginning for each part "
            "of it that is read backward: a copy encoded anew may be faster"
        )
        return self._from_the_beginning(numbers)

    def _sought(self, numbers: range, entries: list[_Entry], run_up: int) -> dict[int, NDArray[np.uint8]] | None:
        """Decode frames from a key frame before them; None if others than those that were noted are decoded."""
        from av.error import FFmpegError

        by_stamp = {entries[number].stamp: number for number in numbers}
        first, last = entries[numbers[0]].stamp, entries[numbers[-1]].stamp
        assert first is not None
        assert last is not None
        found: dict[int, NDArray[np.uint8]] = {}
        with open_container(self._location) as (container, check):
            stream = video_stream(container, self._location.path, self._notice)
            with suppress(FFmpegError), closing(_Decoded(container, stream, check).__iter__()) as frames:
                container.seek(first - round(run_up / (stream.time_base or 1)), stream=stream)
                for frame in frames:
                    if (number := by_stamp.get(frame.pts)) is not None:
                        if _checksum(frame) != entries[number].checksum:
                            return None
                        found[number] = self._image(frame)
                    if frame.pts is None or frame.pts >= last:
                        break
        return found if len(found) == len(numbers) else None

    def _from_the_beginning(self, numbers: range) -> dict[int, NDArray[np.uint8]]:
        found: dict[int, NDArray[np.uint8]] = {}
        with open_container(self._location) as (container, check):
            stream = video_stream(container, self._location.path, self._notice)
            with closing(_Decoded(container, stream, check).__iter__()) as frames:
                for number, frame in enumerate(frames):
                    if number in numbers:
                        found[number] = self._image(frame)
                    if number >= numbers[-1]:
                        break
        return found


class _Decoded:
    """Decodes a stream and skips damaged packets, as `VideoFile` does.

    Attributes:
        damaged: number of packets that were skipped.
    """

    def __init__(self, container: "InputContainer", stream: "VideoStream", check: Callable[[], None]) -> None:
        self.damaged = 0
        self._container, self._stream, self._check = container, stream, check
        stream.thread_type = "AUTO"

    def __iter__(self) -> Generator["VideoFrame", None, None]:
        from av.error import FFmpegError

        for packet in self._container.demux(self._stream):
            self._check()
            try:
                frames = packet.decode()
            except FFmpegError:
                self.damaged += 1
                continue
            yield from frames


def _checksum(frame: "VideoFrame") -> int:
    """Return a checksum of the first plane, without the padding of its lines."""
    plane = frame.planes[0]
    lines = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: plane.height]
    used = min(plane.line_size, plane.width * max(1, (frame.format.components[0].bits + 7) // 8))
    return zlib.crc32(lines[:, :used].tobytes())


def _ascending(stamps: list[int | None]) -> bool:
    known = [stamp for stamp in stamps if stamp is not None]
    return len(known) == len(stamps) and all(before < after for before, after in pairwise(known))
