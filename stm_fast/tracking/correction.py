"""A correction: where a user says that objects are in a frame."""

from collections.abc import Collection
from typing import NamedTuple

import torch

from stm_fast.inference.objects import Mask, annotated_objects, to_ids


class Correction(NamedTuple):
    """Where objects are in a frame.

    Attributes:
        mask: ids `(H, W)`, 0 for the background.
        objects: the ids that are corrected; one without a pixel is not in the frame. None for those in the mask.
    """

    mask: Mask
    objects: Collection[int] | None = None


def check_correction(correction: "Correction | Mask", size: tuple[int, int]) -> None:
    """Make sure that a correction can be used for frames of a size.

    Raises:
        TypeError: the mask is of another type or does not hold integers.
        ValueError: it has another size than the frames or holds no object, or the objects are not ids or none.
    """
    mask, objects = as_correction(correction)
    annotated_objects(to_ids(mask, size, torch.device("cpu")), objects)


def as_correction(correction: "Correction | Mask") -> Correction:
    """Return a correction of the objects in a mask, or the correction itself."""
    return correction if isinstance(correction, Correction) else Correction(correction)
