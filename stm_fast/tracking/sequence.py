"""A clip whose frames are not files: arrays from a list, a generator or a camera."""

from collections.abc import Iterable, Iterator, Sequence, Sized
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stm_fast.errors import MediaError
from stm_fast.media.frames import Frame, FrameSource, is_number, numbered


class FrameSequence(FrameSource):
    """Frames of an iterable, named 00000, 00001 and so on.

    Takes frames from an iterator when they are needed, so that a live source is followed as it runs, but the first one
    at once, for its size.

    Args:
        frames: RGB, numpy `(H, W, 3)` or torch `(3, H, W)`, uint8 or floating in [0, 1], all of one size.

    Raises:
        TypeError: a frame is of another type or dtype.
        ValueError: there is no frame, or one has another shape or range.
    """

    fps = None
    first_name = numbered(0)

    def __init__(self, frames: Iterable[Any]) -> None:
        self.path = "the frames"
        self.seekable = not isinstance(frames, Iterator)
        self.count = len(frames) if isinstance(frames, Sized) else None
        iterator = iter(frames)
        first = next(iterator, None)
        if first is None:
            raise ValueError("video must hold at least one frame, got none")
        height, width = to_image(first).shape[:2]
        self.size = (height, width)
        self._frames: Iterable[Any] = frames if self.seekable else chain([first], iterator)

    def _decode(self) -> Iterator[Frame]:
        for index, frame in enumerate(self._frames):
            yield Frame(numbered(index), to_image(frame))

    def _decode_some(self, numbers: range) -> Iterator[Frame]:
        frames = self._frames
        if isinstance(frames, Sequence | np.ndarray | Tensor):
            return (Frame(numbered(each), to_image(frames[each])) for each in numbers[: _within(numbers, len(frames))])
        if numbers.step < 0:
            raise MediaError("the frames come from an iterator, from front to end: give a list to track them backward")
        return super()._decode_some(numbers)

    def may_hold(self, name: str) -> bool:
        """Return whether a frame can have this name."""
        return is_number(name, self.count)


def _within(numbers: range, count: int) -> int:
    """Return how many of the numbers come before the first that is past the end."""
    return len(numbers) if numbers.step < 0 else len(range(numbers.start, min(numbers.stop, count), numbers.step))


def to_image(frame: Any) -> NDArray[np.uint8]:
    """Return a frame as RGB uint8 `(H, W, 3)`.

    Args:
        frame: numpy `(H, W, 3)` or torch `(3, H, W)` or `(1, 3, H, W)`, uint8 or floating in [0, 1].

    Raises:
        TypeError: it has another type or dtype.
        ValueError: it has another shape, or values out of range.
    """
    from stm_fast.inference.frames import to_rgb

    if (
        isinstance(frame, np.ndarray)
        and frame.dtype == np.uint8
        and frame.ndim == 3
        and frame.shape[2] == 3
        and frame.size
    ):
        return np.array(frame)
    rgb = to_rgb(frame, torch.device("cpu"))[0]
    return np.ascontiguousarray((rgb * 255).round().byte().permute(1, 2, 0).numpy())
