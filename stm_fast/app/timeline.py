"""What is known of each frame: whether it has a mask, and the area and uncertainty of each object."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stm_fast.media.frames import FrameSource
from stm_fast.tracking.journal import read_journal
from stm_fast.tracking.output import OutputFolder
from stm_fast.tracking.propagation import TrackedFrame

Numbers = dict[int, tuple[float, float | None]]
"""Area as a share of the frame, and uncertainty, by object."""


class Timeline:
    """Areas and uncertainty by frame, as the journal of the results has them.

    Args:
        out: the results.
        clip: the video.

    Attributes:
        done: numbers of the frames whose masks were found.
    """

    def __init__(self, out: OutputFolder, clip: FrameSource) -> None:
        self._out, self._clip = out, clip
        self._pixels = clip.size[0] * clip.size[1]
        self._found: dict[int, Numbers] = {}
        self._given: dict[int, Numbers] = {}
        self.done: set[int] = set()
        for name, line in read_journal(out.journal).items():
            if (number := clip.number_of(name)) is not None:
                self._found[number] = {
                    int(each): (round(values["area"] / self._pixels, 6), values["uncertainty"])
                    for each, values in line["objects"].items()
                }
        self.refresh()

    def refresh(self) -> list[int]:
        """Look which masks are on disk; return the numbers of the frames that lost theirs, ascending."""
        numbers = {self._clip.number_of(name) for name in self._out.frames_done()}
        done = {number for number in numbers if number is not None}
        lost, self.done = sorted(self.done - done), done
        return lost

    def note(self, frame: TrackedFrame) -> Numbers:
        """Note what was found in a frame, and return it."""
        areas = _areas(frame.mask, frame.objects, self._pixels)
        self._found[frame.index] = {
            each: (area, None if (unsure := frame.uncertainty.get(each)) is None else round(unsure, 4))
            for each, area in areas.items()
        }
        self.done.add(frame.index)
        return self._found[frame.index]

    def give(self, number: int, mask: NDArray[np.integer] | None, objects: Collection[int]) -> None:
        """Note what a user gave for a frame; None for nothing.

        Args:
            number: of the frame.
            mask: ids `(H, W)` of the frame as it is now.
            objects: ids that the user speaks of.
        """
        if mask is None:
            self._given.pop(number, None)
        else:
            self._given[number] = {each: (area, None) for each, area in _areas(mask, objects, self._pixels).items()}

    def part(self, begin: int, end: int, objects: Collection[int]) -> dict[str, Any]:
        """Return the frames from `begin` to the one before `end` in types of JSON, as the page draws them."""
        frames = [
            {**(self._found.get(number, {}) if number in self.done else {}), **self._given.get(number, {})}
            for number in range(begin, end)
        ]
        none = (None, None)
        return {
            "from": begin,
            "to": end,
            "areas": {str(each): [frame.get(each, none)[0] for frame in frames] for each in objects},
            "uncertainty": {str(each): [frame.get(each, none)[1] for frame in frames] for each in objects},
            "masked": [int(number in self.done or number in self._given) for number in range(begin, end)],
        }


def _areas(mask: NDArray[np.integer], objects: Collection[int], pixels: int) -> dict[int, float]:
    counts = np.bincount(mask.ravel(), minlength=max(objects, default=0) + 1)
    return {each: round(int(counts[each]) / pixels, 6) for each in objects}


def described(numbers: Mapping[int, tuple[float, float | None]]) -> dict[str, Any]:
    """Return the numbers of a frame in types of JSON."""
    return {
        "areas": {str(each): area for each, (area, _) in numbers.items()},
        "uncertainty": {str(each): unsure for each, (_, unsure) in numbers.items()},
    }
