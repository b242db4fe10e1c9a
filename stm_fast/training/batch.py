"""Batches of clips on their way through the network."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stm_fast.media.masks import VOID

__all__ = ["VOID", "Batch", "Example", "Packed", "collate", "pack"]

Example: TypeAlias = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""Frames `(T, S, S, 3)` and masks `(T, S, S)` of a clip. Ids are 1..n, all on the first frame, and `VOID`."""


@dataclass(frozen=True)
class Batch:
    """B clips of T frames with N objects in all.

    Attributes:
        frames: `(B, T, 3, S, S)` float32 in [0, 1].
        masks: `(B, T, S, S)` int64; 0 is background, 1..K are the clip's objects, `VOID` is unknown.
        clip: the clip of each object `(N,)` int64, in ascending order.
        slot: its id in that clip's masks minus one `(N,)` int64.
    """

    frames: Tensor
    masks: Tensor
    clip: Tensor
    slot: Tensor

    def to(self, device: torch.device | str) -> "Batch":
        """Return the batch on a device."""
        moved = {field.name: getattr(self, field.name).to(device, non_blocking=True) for field in fields(self)}
        return Batch(**moved)


class Packed(NamedTuple):
    """A batch in bytes: a fifth of its size, on the way from the process that drew it.

    Attributes:
        frames: `(B, T, S, S, 3)` uint8.
        masks: `(B, T, S, S)` uint8, as those of an `Example`.
    """

    frames: Tensor
    masks: Tensor

    def unpacked(self, device: torch.device | str = "cpu") -> Batch:
        """Return the batch on a device."""
        first = self.masks[:, 0]
        counts = first.masked_fill(first == VOID, 0).flatten(1).amax(1).long()
        return Batch(
            frames=self.frames.to(device).permute(0, 1, 4, 2, 3).float() / 255,
            masks=self.masks.to(device).long(),
            clip=torch.repeat_interleave(torch.arange(len(counts)), counts).to(device),
            slot=torch.cat([torch.arange(int(count)) for count in counts]).to(device),
        )


def pack(examples: Sequence[Example]) -> Packed:
    """Make a batch in bytes of at least one example; all have the same shape."""
    frames, masks = (torch.from_numpy(np.stack(part)) for part in zip(*examples, strict=True))
    return Packed(frames, masks)


def collate(examples: Sequence[Example]) -> Batch:
    """Make a batch of at least one example; all have the same shape."""
    return pack(examples).unpacked()
