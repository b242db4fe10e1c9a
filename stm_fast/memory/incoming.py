"""Check frames that come into memory, and turn them into tokens."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from stm_fast.memory.tokens import TokenBlock, Tokens, by_key


class GroupFrame(NamedTuple):
    """What a frame says of the objects of one group.

    Attributes:
        tokens: of these objects.
        annotated: whether the mask of one of them was given.
        uncertainty: their mean uncertainty, of those of which it is known; NaN if of none.
    """

    tokens: Tokens
    annotated: bool
    uncertainty: float


class IncomingFrame(NamedTuple):
    """A frame that comes into memory, with K rows of keys: O, or one that all objects share.

    Attributes:
        keys: `(K, Ck, h, w)`.
        values: `(O, Cv, h, w)`.
        presence: `(O, h, w)`; None if all locations count alike.
        annotated: for each object, whether its mask was given.
        uncertainty: uncertainty of each object; NaN where unknown.
    """

    keys: Tensor
    values: Tensor
    presence: Tensor | None
    annotated: list[bool]
    uncertainty: list[float]

    def of_group(self, first: int, last: int) -> GroupFrame:
        """Return what the frame says of the objects from row `first` up to `last`, which are a group."""
        rows = slice(first, last)
        keys = (self.keys if len(self.keys) < len(self.values) else self.keys[rows]).flatten(2)
        values = self.values[rows].flatten(2)
        zeros = torch.zeros(len(keys), keys.shape[2], device=keys.device)
        if self.presence is None:
            presence = torch.ones_like(zeros)
        else:
            presence = by_key(keys, self.presence[rows].flatten(1).float()).amax(1)
        known = [found for found in self.uncertainty[rows] if not math.isnan(found)]
        return GroupFrame(
            Tokens(keys, values, zeros, zeros, presence),
            any(self.annotated[rows]),
            sum(known) / len(known) if known else math.nan,
        )


def check_frame(
    keys: Tensor,
    values: Tensor,
    presence: Tensor | None,
    uncertainty: Tensor | None,
    *,
    min_objects: int,
    shared_keys: bool,
) -> None:
    """Raise if these do not match one another; see `MemoryBank.memorise` for the arguments.

    Raises:
        TypeError: an argument is not a tensor of floating-point numbers.
        ValueError: shapes or devices differ, or there are fewer than `min_objects` rows.
    """
    for name, given in (("keys", keys), ("values", values), ("presence", presence), ("uncertainty", uncertainty)):
        if given is None and name in ("presence", "uncertainty"):
            continue
        if not isinstance(given, Tensor) or not given.is_floating_point():
            found = given.dtype if isinstance(given, Tensor) else type(given).__name__
            raise TypeError(f"{name} must be a tensor of floating-point numbers, got {found}")
    rows = (1,) if shared_keys else values.shape[:1]
    if keys.ndim != 4 or values.ndim != 4 or (*keys.shape[:1], *keys.shape[2:]) != (*rows, *values.shape[2:]):
        allowed = (
            "keys must be (1, Ck, h, w) and values (O, Cv, h, w) with the same h and w"
            if shared_keys
            else "keys and values must be (O, C, h, w) with the same O, h and w"
        )
        raise ValueError(f"{allowed}, got {tuple(keys.shape)} and {tuple(values.shape)}")
    if len(values) < min_objects:
        raise ValueError(f"values must have a row for each of at least {min_objects} objects, got {len(values)}")
    for name, given, shape in (
        ("presence", presence, (values.shape[0], *values.shape[2:])),
        ("uncertainty", uncertainty, (values.shape[0],)),
    ):
        if given is not None and given.shape != shape:
            raise ValueError(f"{name} must be {shape} beside these values, got {tuple(given.shape)}")
    if presence is not None and presence.device != keys.device:
        raise ValueError(f"presence must be on {keys.device} as keys are, got {presence.device}")


def check_fits(keys: Tensor, values: Tensor, block: TokenBlock, grid: tuple[int, int]) -> None:
    """Raise if keys `(K, Ck, h, w)` and values `(O, Cv, h, w)` do not match a block.

    Raises:
        TypeError: the dtype differs.
        ValueError: the number of channels, the grid or the device differs.
    """
    for name, given, held, dtype in (
        ("keys", keys, block.keys, block.keys.dtype),
        ("values", values, block.values, block.read_dtype),
    ):
        channels = held.shape[1]
        if given.shape[1:] != (channels, *grid):
            rows = "O" if len(given) == len(values) else "1"
            raise ValueError(f"{name} must be ({rows}, {channels}, {grid[0]}, {grid[1]}), got {tuple(given.shape)}")
        if given.dtype != dtype:
            raise TypeError(f"{name} must be {dtype} as in memory, got {given.dtype}")
        if given.device != held.device:
            raise ValueError(f"{name} must be on {held.device} as in memory, got {given.device}")


def truth_values(annotated: object, objects: int) -> list[bool]:
    """Return a truth value for each object, given one for all or one for each.

    Raises:
        TypeError: these are not truth values.
        ValueError: their number is not that of the objects.
    """
    try:
        flags = torch.as_tensor(annotated)
    except (TypeError, ValueError, RuntimeError):
        flags = torch.empty(())
    if flags.dtype != torch.bool:
        raise TypeError(f"annotated must be a truth value, or one for each object, got {annotated!r}")
    if flags.ndim and flags.shape != (objects,):
        raise ValueError(f"annotated must be one or {objects} truth values, got {tuple(flags.shape)}")
    found: list[bool] = flags.expand(objects).tolist()
    return found
