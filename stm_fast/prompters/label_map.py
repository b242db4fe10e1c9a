"""The mask of a frame with several objects, from the hints of each."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from stm_fast.errors import ArgumentError
from stm_fast.prompters.hints import Hints
from stm_fast.prompters.registry import Prompter


def label_map(
    prompter: Prompter,
    image: NDArray[np.uint8],
    hints: Mapping[int, Hints],
    masks: Mapping[int, NDArray[np.bool_]] | None = None,
) -> NDArray[np.uint8]:
    """Segment each object of a frame and lay the masks over one another.

    Foreground points of an object are background points of all others. A pixel that several objects claim goes to the
    one with the smallest mask: what is in front of something, or a part of it, is smaller.

    Args:
        prompter: that segments one object.
        image: RGB uint8 `(H, W, 3)`.
        hints: of each object, by id from 1 to 255.
        masks: `(H, W)` of objects that are known already, by id; their points correct them.

    Returns:
        Ids `(H, W)`, uint8, 0 for the background.

    Raises:
        ArgumentError: an id is out of range, hints do not show an object or lie outside of the frame, or nothing was
            found of an object.
    """
    size = image.shape[:2]
    for object_id, own in hints.items():
        if not 1 <= object_id <= 255:
            raise ArgumentError("hints", f"must have ids from 1 to 255, got {object_id}")
        own.check(size, f"object {object_id}", known=object_id in (masks or {}))
    found: dict[int, NDArray[np.bool_]] = {}
    for object_id, own in hints.items():
        taken = {point for other, its in hints.items() if other != object_id for point in its.foreground}
        if clash := sorted(taken & set(own.foreground)):
            raise ArgumentError("point", f"{clash[0].x},{clash[0].y} must be + of one object, got several")
        others = tuple(sorted(taken - set(own.background)))
        every = replace(own, background=own.background + others)
        found[object_id] = prompter(image, every, (masks or {}).get(object_id))
    labels = np.zeros(size, np.uint8)
    for object_id in sorted(found, key=lambda each: int(found[each].sum()), reverse=True):
        labels[found[object_id]] = object_id
    for object_id in found:
        if not (labels == object_id).any():
            raise ArgumentError("box", f"and points of object {object_id} show nothing: give more points of it")
    return labels
