"""Frames, and sources that yield them one at a time."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stm_fast.errors import MediaError


class Frame(NamedTuple):
    """One frame of a clip.

    Attributes:
        name: name of its mask without a suffix: the image's stem, or the frame's number in five digits.
        image: RGB uint8 `(H, W, 3)`.
        time: seconds from the first frame, strictly increasing; None for images.
    """

    name: str
    image: NDArray[np.uint8]
    time: Fraction | None = None


class FrameSource(ABC):
    """A clip that is decoded as it is iterated, and never held as a whole.

    It can be iterated any number of times, unless `seekable` is False. Iterating yields all frames before the first one
    that cannot be read or differs in size from the first, then raises `MediaError`.

    Attributes:
        path: the file or folder as a `Path`; a URL or pattern as the string that was given, or "standard input".
        size: height and width of every frame, in pixels, upright.
        fps: frames per second; None for images, or if the file does not say. Frames may be spaced differently, see
            `Frame.time`.
        count: number of frames; None if it is unknown before decoding.
        first_name: name of the first frame.
        pixel_aspect: width of a pixel divided by its height. Frames are as stored; players stretch them by it.
        seekable: whether it can be iterated again; False for a pipe, a camera or a live stream.
    """

    path: Path | str
    size: tuple[int, int]
    fps: Fraction | None
    count: int | None
    first_name: str
    pixel_aspect: Fraction = Fraction(1)
    seekable: bool = True

    @abstractmethod
    def _decode(self) -> Iterator[Frame]:
        """Yield all frames in order, whatever their size."""

    def __iter__(self) -> Iterator[Frame]:
        return self._checked(self._decode())

    def select(self, numbers: range) -> Iterator[Frame]:
        """Yield some of the frames, in either direction; only a bounded number of them is held at a time.

        Args:
            numbers: of the frames, counted from 0. Ascending numbers may go beyond the end of the clip.

        Raises:
            MediaError: see `__iter__`; or the numbers descend and the source can be read only from front to end.
        """
        return self._checked(self._decode_some(numbers))

    def frame(self, number: int) -> Frame:
        """Return one frame, given its number from 0.

        It is fast at any place of images and stacks, and of a video file in which seeking arrives where time stamps
        say. Other videos, among them many `.ts` and some `.avi`, are decoded from the beginning for each frame.

        Raises:
            MediaError: there is no such frame, or it cannot be read.
        """
        found = next(self.select(range(number, number + 1)), None)
        if found is None:
            raise MediaError(f"{self.path} has no frame {number}")
        return found

    def exact_count(self) -> int | None:
        """Return the number of frames, if it can be found without decoding them; else `count`, which may be a guess."""
        return self.count

    def name_of(self, number: int) -> str | None:
        """Return the name of a frame, given its number from 0; None if the clip has no such frame."""
        name = numbered(number)
        return name if self.may_hold(name) else None

    def number_of(self, name: str) -> int | None:
        """Return the number of a frame, given its name; None if no frame can have this name."""
        return int(name) if self.may_hold(name) else None

    def _decode_some(self, numbers: range) -> Iterator[Frame]:
        """Yield frames by number, whatever their size."""
        if numbers.step < 0:
            raise MediaError(f"{self.path} can be read only from front to end: save it as a file to track it backward")
        return islice(self._decode(), numbers.start, numbers.stop, numbers.step)

    def _checked(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Yield frames up to the first that differs in size."""
        for frame in frames:
            height, width = frame.image.shape[:2]
            if (height, width) != self.size:
                raise MediaError(
                    f"frame {frame.name} of {self.path} is {width}×{height} but the clip began at "
                    f"{self.size[1]}×{self.size[0]}: all frames must have one size"
                )
            yield frame

    @abstractmethod
    def may_hold(self, name: str) -> bool:
        """Return whether a frame can have this name."""

    def has_file(self, path: Path) -> bool:
        """Return whether a file is one of the frames."""
        return False

    def file_of(self, name: str) -> Path | None:
        """Return the image file of a frame; None if frames have no files of their own."""
        return None


def numbered(index: int) -> str:
    """Return the name of a frame, given its number from 0."""
    return f"{index:05d}"


def is_number(name: str, count: int | None) -> bool:
    """Return whether `numbered` gives this name to one of `count` frames; None means any number of frames."""
    return name.isdecimal() and name == numbered(int(name)) and (count is None or int(name) < count)
