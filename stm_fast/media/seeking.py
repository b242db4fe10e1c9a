"""Single frames of a video, in any order, each decoded from the key frame before it."""

from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stm_fast.errors import MediaError
from stm_fast.media.notices import Notices
from stm_fast.media.streams import Location, open_container, video_stream

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

MAX_BYTES = 1 << 26
"""Maximum size of the decoded frames that are held, so that stepping backward seldom decodes anew."""
_AHEAD = 16
"""Frames that are decoded to reach a later one, though there is a key frame between."""


class SeekingVideo:
    """Decodes single frames of a video; a video is opened once and stays open.

    Frames are numbered by the time stamps of their packets, which are read once, without decoding. Where the decoder
    yields other frames than these, as in damaged files, `read` returns None: only decoding from the beginning knows the
    numbers then. It is for one thread at a time.

    Args:
        location: a file.
        image: converts a decoded frame to RGB.
        given: gives notices.
    """

    def __init__(self, location: Location, image: Callable[["VideoFrame"], NDArray[np.uint8]], given: Notices) -> None:
        self._image = image
        self._stack = ExitStack()
        self._container, _ = self._stack.enter_context(open_container(location))
        self._stream = video_stream(self._container, location.path, given)
        self._stream.thread_type = "AUTO"
        self._stamps, self._key_stamps = self._read_stamps()
        self._numbers = {stamp: number for number, stamp in enumerate(self._stamps)}
        self._exact = len(self._numbers) == len(self._stamps) > 0 and self._begins_as_stated()
        self._decoded: dict[int, VideoFrame] = {}
        self._decoder: Iterator[VideoFrame] | None = None
        self._last = -1

    @property
    def count(self) -> int | None:
        """Number of frames; None if packets do not tell."""
        return len(self._stamps) if self._exact else None

    def read(self, number: int) -> NDArray[np.uint8] | None:
        """Return a frame as RGB; None if it cannot be found by seeking.

        Args:
            number: of the frame, from 0.
        """
        if not self._exact or not 0 <= number < len(self._stamps):
            return None
        if number not in self._decoded and not self._decode_to(number):
            self._exact = False
            return None
        return self._image(self._decoded[number])

    def close(self) -> None:
        """Close the video."""
        self._forget()
        self._stack.close()

    def _read_stamps(self) -> tuple[list[int], list[int]]:
        """Return the time stamps of frames and of key frames, ascending; none if a packet has none or is damaged."""
        stamps, keys = [], []
        for packet in self._container.demux(self._stream):
            if packet.size == 0 or packet.is_discard:
                continue
            if packet.pts is None or packet.is_corrupt:
                return [], []
            stamps.append(packet.pts)
            if packet.is_keyframe:
                keys.append(packet.pts)
        return sorted(stamps), sorted(keys)

    def _begins_as_stated(self) -> bool:
        """Return whether the first packet gives the first frame; after a damaged one, all numbers would be others."""
        from av.error import FFmpegError

        try:
            self._container.seek(self._stamps[0], stream=self._stream)
            first = next(self._container.decode(self._stream), None)
        except FFmpegError:
            return False
        return first is not None and first.pts == self._stamps[0]

    def _decode_to(self, number: int) -> bool:
        """Decode up to a frame; return False if other frames come than the packets say."""
        from av.error import FFmpegError

        try:
            if self._decoder is None or not self._is_ahead(number):
                self._forget()
                self._container.seek(self._stamps[number], stream=self._stream)
                self._decoder = self._container.decode(self._stream)
            for frame in self._decoder:
                found = self._numbers.get(frame.pts) if frame.pts is not None else None
                if found is None or (self._last >= 0 and found != self._last + 1) or found > number:
                    return False
                self._hold(found, frame)
                if found == number:
                    return True
        except (FFmpegError, MediaError):
            return False
        return False

    def _is_ahead(self, number: int) -> bool:
        """Return whether a frame is reached sooner from the last one than from the key frame before it."""
        if not 0 <= self._last < number:
            return False
        key, last = (bisect_right(self._key_stamps, self._stamps[each]) for each in (number, self._last))
        return number <= self._last + _AHEAD or key == last

    def _hold(self, number: int, frame: "VideoFrame") -> None:
        self._last = number
        self._decoded[number] = frame
        size = 3 * frame.width * frame.height // 2
        while len(self._decoded) > max(1, MAX_BYTES // size):
            del self._decoded[next(iter(self._decoded))]

    def _forget(self) -> None:
        self._decoder, self._last = None, -1
        self._decoded.clear()
