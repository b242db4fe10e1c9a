"""Soft masks: the probability of each object in a frame, as grey PNGs of 8 or 16 bits."""

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from stm_fast.errors import MediaError
from stm_fast.inference.segmentation import Segmentation
from stm_fast.media.files import atomic_path
from stm_fast.tracking.output import OutputFolder

SoftMask = NDArray[np.uint8] | NDArray[np.uint16]
"""Probabilities `(H, W)` from 0 to 255, or to 65535."""


def soft_masks(found: Segmentation, bits: int) -> dict[int, SoftMask]:
    """Return the probability of each object in a frame, rounded to 8 or 16 bits."""
    top = (1 << bits) - 1
    levels = (found.probabilities[1:] * top).round_().to(torch.uint8 if bits == 8 else torch.int32).cpu().numpy()
    kind = np.uint8 if bits == 8 else np.uint16
    return {object_id: plane.astype(kind) for object_id, plane in zip(found.objects, levels, strict=True)}


def write_soft_masks(folder: OutputFolder, name: str, masks: Mapping[int, SoftMask]) -> None:
    """Write the soft masks of a frame, each atomically.

    Raises:
        OSError: a file cannot be written.
    """
    for object_id, mask in masks.items():
        with atomic_path(folder.soft_mask(object_id, name)) as partial:
            Image.fromarray(mask).save(partial, format="PNG")


def check_soft_masks(folder: OutputFolder, name: str, objects: Iterable[int]) -> None:
    """Make sure that a frame whose mask is there has the soft masks of its objects.

    Raises:
        MediaError: one is missing.
    """
    for object_id in objects:
        if not folder.soft_mask(object_id, name).is_file():
            raise MediaError(
                f"{folder.soft_mask(object_id, name)} is missing though the mask of the frame is there: put it back, "
                "or start the run again"
            )
