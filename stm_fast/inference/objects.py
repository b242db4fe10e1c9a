"""Masks of object ids, and what an annotation changes."""

from collections.abc import Collection, Sequence
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

Mask: TypeAlias = "NDArray[np.integer] | NDArray[np.bool_] | Tensor"

MAX_ID = 2**31 - 1
"""The largest object id that the segmenter takes; a mask file may hold fewer, see `stm_fast.media.masks`."""
_BACKGROUND_SHARE = 1e-3
"""Share of the freed probability that the background gets, so that it takes what no object has a part in."""


def to_ids(mask: Mask, size: tuple[int, int], device: torch.device) -> Tensor:
    """Return a mask as int64 `(H, W)` on a device.

    Args:
        mask: object ids, 0 for the background; numpy or torch, any integer type or bool, any strides.
        size: `(H, W)` of the frame it belongs to.
        device: where the result goes.

    Raises:
        TypeError: neither numpy nor torch, or not integers.
        ValueError: not `(H, W)`, another size, or ids that are negative or above 2³¹ - 1.
    """
    if isinstance(mask, np.ndarray):
        if mask.dtype.kind not in "iub":
            raise TypeError(f"mask must hold integers, got {mask.dtype}")
        ids = torch.from_numpy(mask.astype(np.int64, order="C"))
    elif isinstance(mask, Tensor):
        if mask.is_floating_point() or mask.is_complex():
            raise TypeError(f"mask must hold integers, got {mask.dtype}")
        ids = mask.long()
    else:
        raise TypeError(f"mask must be a numpy array or a tensor, got {type(mask).__name__}")
    if tuple(ids.shape) != size:
        raise ValueError(f"mask must have the frame's size {size}, got {tuple(ids.shape)}")
    low, high = (bound.item() for bound in torch.aminmax(ids))
    if low < 0 or high > MAX_ID:
        raise ValueError(f"mask must hold ids from 0 to {MAX_ID}, got {low} to {high}")
    return ids.to(device)


def ids_in(mask: Tensor) -> tuple[int, ...]:
    """Return the objects in a mask, sorted."""
    return tuple(object_id for object_id in torch.unique(mask).tolist() if object_id)


def annotated_objects(mask: Tensor, objects: Collection[int] | None) -> tuple[int, ...]:
    """Return the ids that a mask speaks of, sorted: `objects`, or all that are in it.

    Raises:
        ValueError: `objects` are not ids or none, or the mask holds none.
    """
    if objects is not None:
        if len(objects) == 0:
            raise ValueError("objects must name at least one id or be None, got none")
        if not all(1 <= object_id <= MAX_ID for object_id in objects):
            raise ValueError(f"objects must be ids from 1 to {MAX_ID}, got {tuple(objects)}")
        return tuple(sorted({int(object_id) for object_id in objects}))
    ids = ids_in(mask)
    if not ids:
        raise ValueError("mask must hold an object, got 0 (background) everywhere")
    return ids


def one_hot(mask: Tensor, ids: Sequence[int]) -> Tensor:
    """Return a float32 mask for each of `ids`, `(O, H, W)`, from a mask of ids `(H, W)`."""
    return (mask == torch.tensor(ids, device=mask.device).view(-1, 1, 1)).float()


def without_holes(masks: Tensor, others: Tensor, size: int) -> Tensor:
    """Fill holes and gaps of masks that are up to `size` pixels wide, where no other object is.

    Args:
        masks: of each object, `(O, 1, H, W)` in [0, 1].
        others: what the other objects cover, likewise.
        size: masks are closed (dilated, then eroded) by a square of `size + 1` pixels; 0 leaves them as they are.
    """
    if size == 0:
        return masks
    dilated = F.max_pool2d(F.pad(masks, [size] * 4), size + 1, stride=1)
    closed = -F.max_pool2d(-dilated, size + 1, stride=1)
    return torch.maximum(masks, torch.minimum(closed, 1 - others))


def to_mask(rows: Tensor, ids: Sequence[int]) -> Tensor:
    """Turn rows `(H, W)`, 0 for the background and 1..O for `ids`, into ids; uint8 where all fit, else int32."""
    dtype = torch.uint8 if max(ids, default=0) < 256 else torch.int32
    return torch.tensor((0, *ids), dtype=dtype, device=rows.device)[rows]


def corrected(probabilities: Tensor, rows: Sequence[int], masks: Tensor) -> Tensor:
    """Return probabilities in which some objects are exactly where an annotation puts them.

    Where an annotated object was and no longer is, its probability goes to the others in proportion to theirs, and to
    the background where they have none.

    Args:
        probabilities: of background and objects, `(O + 1, H, W)`, summing to one.
        rows: of the annotated objects; row 0 is the background.
        masks: one for each of `rows`, in [0, 1] `(len(rows), H, W)`.
    """
    rest = probabilities.clone()
    freed = rest[list(rows)].sum(0)
    rest[list(rows)] = 0
    rest[0] += _BACKGROUND_SHARE * freed
    rest *= (1 - masks.sum(0)) / rest.sum(0).clamp(min=torch.finfo(rest.dtype).tiny)
    rest[list(rows)] = masks
    return rest
