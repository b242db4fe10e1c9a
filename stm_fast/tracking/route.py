"""Which frames of a clip are tracked, in which order."""

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Integral

from stm_fast.errors import ArgumentError
from stm_fast.media.frames import FrameSource

DIRECTIONS = ("forward", "backward", "both")
_OPEN = sys.maxsize
"""End of a range without one."""
FORWARD = (range(_OPEN),)
"""All frames, in order."""


@dataclass(frozen=True)
class Route:
    """Which frames of a clip are tracked, in which order.

    A pass is a run of frames in one direction that begins at the start frame. Each pass is tracked by itself, from the
    masks that are given for its own frames, with a memory that begins empty; "both" is a forward pass and then a
    backward pass.

    Attributes:
        direction: "forward", "backward" or "both".
        from_frame: name of the start frame, or its number counted from 0 if no frame has that name. None for the first
            of the frames; backward for the last frame with a mask, and in both directions for the first one.
        frames: range of the frames that are tracked, "A:B" or "A:B:S": from frame A to the one before frame B, every
            S-th of them. Each may be left out. A and B are names or numbers. None for all frames.
    """

    direction: str = "forward"
    from_frame: int | str | None = None
    frames: str | None = None

    def __post_init__(self) -> None:
        if self.direction not in DIRECTIONS:
            raise ArgumentError("direction", f"must be one of {', '.join(DIRECTIONS)}, got {self.direction}")
        if not isinstance(self.frames, str | None):
            raise ArgumentError("frames", f"must be a text such as 100:200:2, got {self.frames!r}")

    def __str__(self) -> str:
        return "in both directions" if self.direction == "both" else self.direction

    def settings(self) -> dict[str, object]:
        """Return the attributes in types of JSON, to compare runs."""
        start = self.from_frame
        return {
            "direction": self.direction,
            "from_frame": int(start) if isinstance(start, Integral) else start,
            "frames": self.frames,
        }

    def start(self, clip: FrameSource) -> int | None:
        """Return the number of the start frame; None if it depends on which frames have masks.

        Raises:
            ArgumentError: the clip has no such frame, or the range leaves it out.
        """
        if self.from_frame is not None:
            number = frame_number(self.from_frame, clip, "from_frame")
            tracked = self._range(clip, number)
            if number not in tracked:
                raise ArgumentError("from_frame", f"must be one of the frames {self.frames}, got {self.from_frame}")
            return number
        return self._range(clip, 0).start if self.direction == "forward" else None

    def start_at_masks(self, clip: FrameSource, names: Iterable[str]) -> int:
        """Return the number of the start frame if it depends on which frames have masks.

        Args:
            clip: the clip.
            names: of the frames with masks, at least one.

        Raises:
            ArgumentError: none of them is tracked.
        """
        numbers = {number for name in names if (number := clip.number_of(name)) is not None}
        tracked = [number for number in sorted(numbers) if number in self._range(clip, number)]
        if not tracked:
            raise ArgumentError("from_frame", f"must be given to track {self}, as none of its frames has a mask")
        return tracked[0 if self.direction == "both" else -1]

    def passes(self, clip: FrameSource, start: int) -> tuple[range, ...]:
        """Return the numbers of the frames of each pass, in its order; a number may lie beyond the end of the clip.

        Args:
            clip: the clip.
            start: number of the start frame.
        """
        tracked = self._range(clip, start)
        step = tracked.step
        ahead, behind = range(start, tracked.stop, step), range(start, tracked.start - 1, -step)
        return {"forward": (ahead,), "backward": (behind,), "both": (ahead, behind)}[self.direction]

    def _range(self, clip: FrameSource, start: int) -> range:
        """Return the numbers of the frames that are tracked; a range without a beginning holds the start frame."""
        ends = re.fullmatch(r"([^:]*):([^:]*)(?::([0-9]*))?", self.frames or ":")
        step = int(ends[3] or 1) if ends else 0
        if not ends or step < 1:
            raise ArgumentError("frames", f"must be A:B or A:B:S with S from 1, such as 100:200:2, got {self.frames}")
        begin = frame_number(ends[1], clip, "frames") if ends[1] else start % step
        end = _OPEN if not ends[2] else _end(ends[2], clip)
        if begin >= end:
            raise ArgumentError("frames", f"must be A:B with A before B, got {self.frames}")
        return range(begin, end, step)


def frame_number(frame: int | str, clip: FrameSource, argument: str) -> int:
    """Return the number of a frame that is given by its name or, if no frame has that name, by its number from 0.

    Raises:
        ArgumentError: the clip has no such frame.
    """
    text = str(frame)
    if (named := clip.number_of(text)) is not None:
        return named
    if _is_number(text) and clip.name_of(int(text)) is not None:
        return int(text)
    last = "" if clip.count is None else f" of {clip.count}"
    raise ArgumentError(
        argument,
        f"must name frames of {clip.path}, such as {clip.first_name}, or their numbers from 0{last}, got {frame}",
    )


def _end(text: str, clip: FrameSource) -> int:
    """Return the number of the frame at which a range ends, which may be one past the last."""
    if _is_number(text) and int(text) > 0 and clip.number_of(text) is None and clip.name_of(int(text) - 1) is not None:
        return int(text)
    return frame_number(text, clip, "frames")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()
