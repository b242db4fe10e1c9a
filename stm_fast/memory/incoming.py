"""Check frames that come into memory, and turn them into tokens."""

from typing import NamedTuple

import torch
from torch import Tensor

from stm_fast.memory.tokens import TokenBlock, Tokens


class IncomingFrame(NamedTuple):
    """A frame that comes into memory.

    Attributes:
        number: of the frame.
        tokens: of O objects.
        annotated: for each object, whether its mask was given.
        permanent: whether the frame stays whatever the policy says.
        uncertainty: uncertainty of each object; NaN where unknown.
    """

    number: int
    tokens: Tokens
    annotated: list[bool]
    permanent: bool
    uncertainty: list[float]

    def of_rows(self, first: int, last: int) -> "IncomingFrame":
        """Return the frame's rows from `first` up to `last`."""
        tokens = Tokens(*(part[first:last] for part in self.tokens))
        return IncomingFrame(
            self.number, tokens, self.annotated[first:last], self.permanent, self.uncertainty[first:last]
        )


def check_frame(
    keys: Tensor, values: Tensor, presence: Tensor | None, uncertainty: Tensor | None, min_objects: int
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
    if keys.ndim != 4 or values.ndim != 4 or (keys.shape[0], *keys.shape[2:]) != (values.shape[0], *values.shape[2:]):
        raise ValueError(
            f"keys and values must be (O, C, h, w) with the same O, h and w, got {tuple(keys.shape)} and "
            f"{tuple(values.shape)}"
        )
    if len(keys) < min_objects:
        raise ValueError(f"keys must have a row for each of at least {min_objects} objects, got {len(keys)}")
    for name, given, shape in (
        ("presence", presence, (keys.shape[0], *keys.shape[2:])),
        ("uncertainty", uncertainty, (keys.shape[0],)),
    ):
        if given is not None and given.shape != shape:
            raise ValueError(f"{name} must be {shape} beside these keys, got {tuple(given.shape)}")
    if presence is not None and presence.device != keys.device:
        raise ValueError(f"presence must be on {keys.device} as keys are, got {presence.device}")


def check_fits(keys: Tensor, values: Tensor, block: TokenBlock, grid: tuple[int, int]) -> None:
    """Raise if keys and values `(O, C, h, w)` do not match a block.

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
            raise ValueError(f"{name} must be (O, {channels}, {grid[0]}, {grid[1]}), got {tuple(given.shape)}")
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


def tokens_of(keys: Tensor, values: Tensor, presence: Tensor | None) -> Tokens:
    """Return the tokens of a new frame; see `MemoryBank.memorise` for the arguments."""
    zeros = torch.zeros(len(keys), keys.shape[2] * keys.shape[3], device=keys.device)
    present = torch.ones_like(zeros) if presence is None else presence.flatten(1).float()
    return Tokens(keys.flatten(2), values.flatten(2), zeros, zeros, present)
