"""What a user gives for a clip: masks that show the objects, corrections, and the frames that are to be tracked."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from stm_fast.errors import ArgumentError
from stm_fast.inference.objects import Mask
from stm_fast.media.frames import FrameSource
from stm_fast.media.masks import Colour
from stm_fast.tracking.correction import Correction
from stm_fast.tracking.correction_files import CorrectionFile, GivenCorrection, corrections_of
from stm_fast.tracking.hinted import Hinted
from stm_fast.tracking.prompts import Prompt, PromptReader, is_one_mask, prompts_of
from stm_fast.tracking.propagation import TrackedFrame
from stm_fast.tracking.reach import check_reach, position
from stm_fast.tracking.route import FORWARD, Route

Corrections = Callable[[TrackedFrame], "Correction | Mask | None"]


class Given(NamedTuple):
    """What a user gives for a clip.

    Attributes:
        prompts: masks that show the objects, by frame name.
        corrections: by frame name.
        callback: called with each frame; what it returns corrects the frame before it is yielded. None for none.
        passes: numbers of the frames of each pass, see `Route`.
        void: id in masks that is no object, or None.
        explicit: whether corrections were given, even if there are none of them.
    """

    prompts: Mapping[str, Prompt]
    corrections: Mapping[str, GivenCorrection] = MappingProxyType({})
    callback: Corrections | None = None
    passes: tuple[range, ...] = FORWARD
    void: int | None = None
    explicit: bool = False

    def files(self) -> list[Path]:
        """Return the files that are given as masks and corrections."""
        files = [prompt for prompt in self.prompts.values() if isinstance(prompt, Path)]
        for given in self.corrections.values():
            files += given.files() if isinstance(given, CorrectionFile) else []
        return files

    def reader(self, turn: int, clip: FrameSource, colours: dict[Colour, int]) -> PromptReader:
        """Return what reads the masks and corrections of a pass.

        Args:
            turn: number of the pass, from 0.
            clip: the clip.
            colours: ids of colours so far, which all passes share.
        """
        numbers = self.passes[turn]
        prompts = {name: mask for name, mask in self.prompts.items() if position(numbers, name, clip) is not None}
        corrections = {
            name: given for name, given in self.corrections.items() if position(numbers, name, clip) is not None
        }
        return PromptReader(prompts, clip.size, void=self.void, corrections=corrections, colours=colours)


def given_of(clip: FrameSource, masks: Any, corrections: Any, route: Route, void: int | None) -> Given:
    """Return what is given for a clip, from any form that `stm_fast.track` takes.

    Raises:
        MediaError: a file cannot be used, or nothing that is given is of a frame that is tracked.
        ArgumentError: the route names frames that the clip lacks, or does not say where to begin.
        TypeError, ValueError: a mask cannot be used.
    """
    start = route.start(clip)
    if start is None and is_one_mask(masks):
        given = "boxes and points: their frame" if isinstance(masks, Hinted) else "one mask: its frame"
        raise ArgumentError("from_frame", f"must be given to track {route} from {given}")
    prompts = prompts_of(masks, clip, void=void, first=None if start is None else clip.name_of(start))
    callback = corrections if callable(corrections) else None
    found = {} if corrections is None or callback else corrections_of(corrections, clip, void=void)
    if start is None:
        start = route.start_at_masks(clip, prompts or found)
    passes = route.passes(clip, start)
    check_reach(passes, prompts, found, clip)
    return Given(prompts, found, callback, passes, void, corrections is not None and callback is None)
