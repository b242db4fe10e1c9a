"""The mask of the frame at which tracking begins, from boxes and points, in place of a mask file or beside one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stm_fast.errors import MediaError
from stm_fast.media.frames import FrameSource
from stm_fast.media.notices import notice
from stm_fast.prompters.hints import Hints
from stm_fast.prompters.label_map import label_map
from stm_fast.prompters.registry import make_prompter

if TYPE_CHECKING:
    from stm_fast.prompters.registry import Prompter


@dataclass(frozen=True)
class Hinted:
    """Boxes and points of objects in the frame at which tracking begins.

    Attributes:
        hints: of each object, by id from 1 to 255.
        prompter: that turns them into masks, or its name.
        masks: given beside them, in any form that `stm_fast.tracking.prompts.prompts_of` takes; None for none.
    """

    hints: Mapping[int, Hints]
    prompter: "str | Prompter" = "grabcut"
    masks: Any = None

    def first_mask(self, frames: FrameSource, given: NDArray[np.integer] | None, name: str) -> NDArray[np.integer]:
        """Segment the frame of a clip at which tracking begins, and give a notice of what was found.

        Args:
            frames: the clip.
            given: ids `(H, W)` of this frame that were given beside the hints. An object that has both is
                refined: its points correct its mask.
            name: of the frame.

        Returns:
            Ids `(H, W)`; hinted objects lie over given ones.

        Raises:
            ArgumentError: hints cannot be used, nothing was found of an object, or the prompter cannot be made.
            MediaError: the clip can be read only once, or has no such frame.
        """
        if not frames.seekable:
            raise MediaError(
                f"{frames.path} can be read only once, but boxes and points need their frame before the others: "
                "save it to a file first"
            )
        prompter = make_prompter(self.prompter) if isinstance(self.prompter, str) else self.prompter
        number = frames.number_of(name)
        first = None if number is None else next(frames.select(range(number, number + 1)), None)
        if first is None:
            raise MediaError(f"{frames.path} has no frame {name}, to which boxes and points belong")
        known = {} if given is None else {each: given == each for each in self.hints if (given == each).any()}
        found = label_map(prompter, first.image, self.hints, known)
        shares = ", ".join(f"{each} with {(found == each).mean():.1%}" for each in sorted(self.hints))
        notice(
            f"objects found from boxes and points, and their share of frame {first.name}: {shares}; the mask of this "
            "frame shows them, and more points correct it"
        )
        if given is None:
            return found
        rest = np.where(np.isin(given, list(self.hints)), 0, given)
        return np.where(found > 0, found, rest).astype(given.dtype)
