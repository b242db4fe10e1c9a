"""Storage of a memory's tokens: prototypes and frames in one block, so that one read sees all of them."""

from collections.abc import Iterator

import torch
from torch import Tensor

from stm_fast.memory.frames import FrameTable
from stm_fast.memory.tokens import TokenBlock, Tokens, aligned

_FIRST_FRAMES = 8
_GROWTH = 1.5


class TokenStorage:
    """The tokens of the frames in a table, of O objects, and their prototypes.

    Frames follow one another in the order of the table. Prototypes are directly before the first frame. Both are one
    range of tokens, which is read without a copy.

    The block starts with room for a few frames and grows by half when it is full, up to the bound of the table. So a
    frame is written once and copied at most three more times, on average.

    Args:
        table: which frames this process holds.
        block: the tokens.
        grid: height and width of a frame in tokens.
        prototype_room: tokens before the first frame.
        prototypes: how many of them are in use.
    """

    def __init__(
        self,
        table: FrameTable,
        block: TokenBlock,
        grid: tuple[int, int],
        prototype_room: int,
        prototypes: int = 0,
    ) -> None:
        self.block = block
        self.grid = grid
        self.prototype_room = prototype_room
        self._table = table
        self._prototypes = prototypes

    @classmethod
    def empty(
        cls,
        table: FrameTable,
        first: Tokens,
        grid: tuple[int, int],
        prototype_room: int,
        value_dtype: torch.dtype | None = None,
    ) -> "TokenStorage":
        """Return storage without tokens.

        Args:
            table: see `TokenStorage`.
            first: tokens like those that will be written.
            grid: see `TokenStorage`.
            prototype_room: see `TokenStorage`.
            value_dtype: dtype in which values are stored; None for their own.
        """
        capacity = prototype_room + _first_frames(table) * grid[0] * grid[1]
        return cls(table, TokenBlock.empty(first, capacity, value_dtype), grid, prototype_room)

    @classmethod
    def restored(
        cls,
        table: FrameTable,
        block: TokenBlock,
        grid: tuple[int, int],
        prototype_room: int,
        prototypes: int,
        device: torch.device,
    ) -> "TokenStorage":
        """Return storage on a device, given a block with just these prototypes and the frames of the table."""
        frames = max(_first_frames(table), table.held_here)
        first = prototype_room - prototypes
        capacity = prototype_room + frames * grid[0] * grid[1]
        block = block.resized(0, block.capacity, first, capacity, device)
        return cls(table, block, grid, prototype_room, prototypes)

    @property
    def objects(self) -> int:
        """Number of objects O."""
        return self.block.values.shape[0]

    @property
    def tokens_per_frame(self) -> int:
        """Number of tokens h·w of a frame."""
        return self.grid[0] * self.grid[1]

    @property
    def prototypes(self) -> int:
        """Number of prototypes in each row of keys."""
        return self._prototypes

    @property
    def begin(self) -> int:
        """First token of the range that is in use."""
        return self.prototype_room - self._prototypes

    @property
    def end(self) -> int:
        """End of the range that is in use."""
        return self._capacity(self._table.held_here)

    @property
    def keys(self) -> Tensor:
        """Keys of all tokens `(K, Ck, N)`, prototypes first; a view."""
        return self.block.keys[..., self.begin : self.end]

    @property
    def values(self) -> Tensor:
        """Values of all tokens `(O, Cv, N)`, prototypes first; a view unless they are stored in int8."""
        return self.block.values_to_read(self.begin, self.end)

    @property
    def usage(self) -> Tensor:
        """How much each token was read `(K, N)`, see `Tokens.usage`; a view."""
        return self.block.usage[..., self.begin : self.end]

    def range_of(self, slot: int) -> slice:
        """Return the range of tokens of the frame in a slot, which this process holds."""
        place = self._place(slot)
        assert place is not None, f"slot {slot} is of a frame that another process holds"
        return slice(place, place + self.tokens_per_frame)

    def frame(self, slot: int) -> Tokens:
        """Return the tokens of the frame in a slot, which this process holds."""
        place = self.range_of(slot)
        return self.block.get(place.start, place.stop)

    def prototype_tokens(self) -> Tokens:
        """Return the prototypes."""
        return self.block.get(self.begin, self.prototype_room)

    def ranges(self, frames: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield keys and values, the tokens of `frames` frames at a time."""
        step = frames * self.tokens_per_frame
        for first in range(self.begin, self.end, step):
            last = min(first + step, self.end)
            yield self.block.keys[..., first:last], self.block.values_to_read(first, last)

    def write(self, slot: int, tokens: Tokens) -> None:
        """Write the tokens of the frame in a slot, if this process holds it."""
        place = self._place(slot)
        if place is not None:
            self.block.put(place, tokens)

    def write_prototypes(self, tokens: Tokens) -> None:
        """Replace all prototypes with these."""
        self.block.put(self.prototype_room - tokens.number, tokens)
        self._prototypes = tokens.number

    def remove(self, slot: int) -> None:
        """Remove the frame in a slot, also from the table; the last frame of the same process replaces it."""
        successor = self._table.successor_of(slot)
        source, target = self._place(successor), self._place(slot)
        if source != target:
            assert source is not None
            assert target is not None
            self.block.copy(source, target, self.tokens_per_frame)
        self._table.remove(slot)

    def keep_objects(self, rows: list[int]) -> None:
        """Keep only these objects."""
        self.block = self.block.of_rows(rows)

    def reserve(self, more: int = 0) -> None:
        """Make room for the frames that this process holds and some more; free what is beyond the bound.

        Args:
            more: number of further frames.
        """
        frames, bound = self._table.held_here + more, self._table.max_here
        if aligned(self._capacity(frames)) > self.block.capacity:
            grown = int(_GROWTH * (self.block.capacity - self.prototype_room) // self.tokens_per_frame)
            wanted = max(frames, grown if bound is None else min(grown, bound))
        elif bound is not None and aligned(self._capacity(max(bound, frames))) < self.block.capacity:
            wanted = max(bound, frames)
        else:
            return
        self.block = self.block.resized(self.begin, self.end, self.begin, self._capacity(wanted))

    def _place(self, slot: int) -> int | None:
        """Return the first token of the frame in a slot; None if another process holds it."""
        place = self._table.place_of(slot)
        return None if place is None else self._capacity(place)

    def _capacity(self, frames: int) -> int:
        """Return the tokens of a block for this number of frames."""
        return self.prototype_room + frames * self.tokens_per_frame


def _first_frames(table: FrameTable) -> int:
    """Return the number of frames that a new block has room for."""
    return _FIRST_FRAMES if table.max_here is None else min(_FIRST_FRAMES, table.max_here)
