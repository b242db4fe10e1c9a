"""Which frames a memory keeps (STM paper, section 3.5 and table 4)."""

from dataclasses import dataclass


@dataclass(frozen=True)
class MemoryPolicy:
    """Which frames stay in memory, and how many.

    Two kinds of frames are *kept*: annotated ones, whose masks were given rather than predicted (the first frame above
    all), and every `every`-th one. The previous frame is in memory besides, until the next one takes its place.

    When there are `max_frames`, the oldest frame that is not annotated goes: the memory of what the user showed never
    fades, and recent looks replace old ones. Annotated frames are never refused, and the previous frame always finds a
    place, so a memory of more than `max_frames` annotations outgrows the bound.

    Attributes:
        every: distance between periodic frames, counted from frame 0; None for none.
        keep_first: keep annotated frames for ever. Otherwise they are frames like all others.
        keep_previous: the previous frame is always in memory.
        max_frames: bound on the number of frames in memory, the previous one included; None for no bound.

    Raises:
        ValueError: a number below its minimum, or neither `keep_first` nor `keep_previous`: an object that appears
            later would not be remembered.
    """

    every: int | None = 5
    keep_first: bool = True
    keep_previous: bool = True
    max_frames: int | None = None

    def __post_init__(self) -> None:
        if self.every is not None and self.every < 1:
            raise ValueError(f"every must be at least 1 or None, got {self.every}")
        if not (self.keep_first or self.keep_previous):
            raise ValueError("one of keep_first and keep_previous must be True, got False for both")
        if self.max_frames is not None and self.max_frames < self.keep_first + self.keep_previous:
            least = self.keep_first + self.keep_previous
            raise ValueError(f"max_frames must be at least {least} with this policy or None, got {self.max_frames}")

    def memorises(self, index: int, *, annotated: bool) -> bool:
        """Whether frame `index` enters the memory at all."""
        return self.keep_previous or self.keeps(index, annotated=annotated)

    def keeps(self, index: int, *, annotated: bool) -> bool:
        """Whether frame `index` stays when it is no longer the previous one."""
        return self.pins(annotated=annotated) or (self.every is not None and index % self.every == 0)

    def pins(self, *, annotated: bool) -> bool:
        """Whether a frame stays even when `max_frames` is reached."""
        return self.keep_first and annotated
