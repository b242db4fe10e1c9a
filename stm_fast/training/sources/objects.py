"""The objects of a clip: which are large enough on the first frame, and their new ids."""

import numpy as np
from numpy.typing import NDArray

from stm_fast.training.augment.affine import Picture
from stm_fast.training.batch import VOID, Example

MIN_OBJECT_AREA = 0.003
"""The smallest area of an object on the first frame, as a fraction of the frame's."""


def object_ids(mask: Picture) -> NDArray[np.intp]:
    """Return the ids of a mask in ascending order, without background and void."""
    return 1 + np.flatnonzero(np.bincount(mask.ravel(), minlength=256)[1:VOID])


def large_objects(mask: Picture) -> NDArray[np.intp]:
    """Return the ids that cover more than `MIN_OBJECT_AREA` of a mask, in ascending order."""
    return 1 + np.flatnonzero(np.bincount(mask.ravel(), minlength=256)[1:VOID] > MIN_OBJECT_AREA * mask.size)


def renumber(masks: Picture, kept: NDArray[np.intp]) -> Picture:
    """Give objects the ids 1, 2 and so on, in the order of `kept`; others become background, and void stays void."""
    table = np.zeros(256, np.uint8)
    table[kept] = np.arange(1, len(kept) + 1)
    table[VOID] = VOID
    return table[masks]


def choose_objects(
    frames: list[Picture], masks: list[Picture], max_objects: int, rng: np.random.Generator
) -> Example | None:
    """Keep at most `max_objects` random objects of those large enough on the first frame; return None if there is none.

    Objects that appear later are background.
    """
    kept = rng.permutation(large_objects(masks[0]))[:max_objects]
    return (np.stack(frames), renumber(np.stack(masks), kept)) if len(kept) else None
