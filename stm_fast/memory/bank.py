"""The memory of a video: keys and values of past frames, in one block that the read sees without a copy."""

from collections.abc import Sequence

import torch
from torch import Tensor

from stm_fast.memory.policies import MemoryPolicy
from stm_fast.ops import memory_read

_FIRST_CAPACITY = 8
_GROWTH = 1.5


class MemoryBank:
    """Keys and values of O objects in T frames, kept by a policy.

    Frames live in slots of a block `(O, C, capacity, h, w)` that grows by half when it is full, so a frame costs one
    copy of itself and, on average, at most three more as it grows. A frame that leaves is overwritten in place; slots
    are therefore not in order of time, which a softmax over all of them does not see.

    Objects are rows in the order in which they joined. One that joined later has no memory of earlier frames, and
    `mask` says so. When an object joins or is removed, the block is copied once.

    Args:
        policy: which frames stay.
    """

    def __init__(self, policy: MemoryPolicy | None = None) -> None:
        self.policy = policy or MemoryPolicy()
        self._keys = torch.empty(0, 0, 0, 0, 0)
        self._values = torch.empty(0, 0, 0, 0, 0)
        self._frames: list[int] = []
        self._pinned: set[int] = set()
        self._previous: int | None = None
        self._joined: list[int] = []

    @property
    def objects(self) -> int:
        """Number of objects O."""
        return len(self._joined)

    @property
    def frames(self) -> tuple[int, ...]:
        """Index of the frame in each of the T slots."""
        return tuple(self._frames)

    @property
    def tokens(self) -> int:
        """Number of memory tokens of an object, T·h·w."""
        return len(self._frames) * self._keys.shape[-2] * self._keys.shape[-1]

    @property
    def nbytes(self) -> int:
        """Bytes of the block, free slots included."""
        return self._keys.nbytes + self._values.nbytes

    @property
    def keys(self) -> Tensor:
        """Memory keys `(O, Ck, T, h, w)`, a view."""
        return self._keys[: self.objects, :, : len(self._frames)]

    @property
    def values(self) -> Tensor:
        """Memory values `(O, Cv, T, h, w)`, a view."""
        return self._values[: self.objects, :, : len(self._frames)]

    @property
    def mask(self) -> Tensor | None:
        """Bool `(O, T, h, w)`, True where an object has a memory; None when every object has all of it."""
        if not self._frames or max(self._joined) <= min(self._frames):
            return None
        valid = torch.tensor(self._frames) >= torch.tensor(self._joined)[:, None]
        height, width = self._keys.shape[-2:]
        return valid.to(self._keys.device)[:, :, None, None].expand(-1, -1, height, width)

    def memorise(self, index: int, keys: Tensor, values: Tensor, *, annotated: bool = False) -> None:
        """Puts a frame into memory, in place of the previous frame unless the policy keeps that one.

        The last frame can be memorised again and takes its own place then, whether or not the first attempt came to its
        end: whoever was interrupted can try again.

        Args:
            index: number of the frame, not below those memorised before.
            keys: `(O, Ck, h, w)`, of one dtype and device in all frames. Rows beyond the objects known so far are
                objects that join.
            values: `(O, Cv, h, w)`, likewise.
            annotated: the frame's masks were given, not predicted.

        Raises:
            TypeError: another dtype than that of the frames in memory.
            ValueError: shapes that do not fit one another or the memory, another device than its own, or an index that
                is below the last.
        """
        self._check(index, keys, values)
        if not self.policy.memorises(index, annotated=annotated):
            return
        slot = self._slot_of(index)
        keeps, pins = self.policy.keeps(index, annotated=annotated), self.policy.pins(annotated=annotated)
        self._reserve(keys, values, slots=max(slot + 1, len(self._frames)))
        self._keys[:, :, slot] = keys
        self._values[:, :, slot] = values
        self._frames[slot : slot + 1] = [index]
        self._joined += [index] * (len(keys) - self.objects)
        self._previous = None if keeps else slot
        self._pinned.discard(index)
        if pins:
            self._pinned.add(index)

    def remove(self, row: int) -> None:
        """Forgets the object in a row, and the frames that no other object remembers. Later rows move up.

        Raises:
            IndexError: no such row.
        """
        if not 0 <= row < self.objects:
            raise IndexError(f"row must be in 0..{self.objects - 1}, got {row}")
        rows = [other for other in range(self.objects) if other != row]
        joined = [self._joined[other] for other in rows]
        slots = [slot for slot, frame in enumerate(self._frames) if joined and frame >= min(joined)]
        self._keys, self._values = _selected(self._keys, rows, slots), _selected(self._values, rows, slots)
        self._joined = joined
        self._previous = slots.index(self._previous) if self._previous in slots else None
        self._frames = [self._frames[slot] for slot in slots]
        self._pinned.intersection_update(self._frames)

    def read(self, query_key: Tensor, *, top_k: int | None = None, backend: str = "auto") -> Tensor:
        """What each object's memory says about a frame (STM paper, section 3.2).

        Args:
            query_key: `(1, Ck, h, w)`, shared by all objects.
            top_k: softmax over the k best memory tokens of each location only.
            backend: see `stm_fast.memory_read`.

        Returns:
            Readout `(O, Cv, h, w)`.

        Raises:
            ValueError: the memory is empty.
        """
        if not self._frames:
            raise ValueError("the memory is empty: memorise a frame before reading")
        query_key = query_key.expand(self.objects, -1, -1, -1)
        return memory_read(query_key, self.keys, self.values, top_k=top_k, memory_mask=self.mask, backend=backend)

    def _check(self, index: int, keys: Tensor, values: Tensor) -> None:
        if (
            keys.ndim != 4
            or values.ndim != 4
            or (keys.shape[0], *keys.shape[2:]) != (values.shape[0], *values.shape[2:])
        ):
            raise ValueError(
                f"keys and values must be (O, C, h, w) with the same O, h and w, got {tuple(keys.shape)} and "
                f"{tuple(values.shape)}"
            )
        if len(keys) < max(self.objects, 1):
            raise ValueError(
                f"keys must have a row for each of at least {max(self.objects, 1)} objects, got {len(keys)}"
            )
        if self._frames:
            self._check_alike(index, keys, values, max(self._frames))

    def _check_alike(self, index: int, keys: Tensor, values: Tensor, last: int) -> None:
        """Whether a frame goes with those in memory, of which `last` is the last."""
        if index < last:
            raise ValueError(f"index must not be below that of the last frame memorised ({last}), got {index}")
        for name, given, block in (("keys", keys, self._keys), ("values", values, self._values)):
            channels, grid = block.shape[1], block.shape[3:]
            if (given.shape[1], *given.shape[2:]) != (channels, *grid):
                raise ValueError(f"{name} must be (O, {channels}, {grid[0]}, {grid[1]}), got {tuple(given.shape)}")
            if given.dtype != block.dtype:
                raise TypeError(f"{name} must be {block.dtype} as in memory, got {given.dtype}")
            if given.device != block.device:
                raise ValueError(f"{name} must be on {block.device} as in memory, got {given.device}")

    def _slot_of(self, index: int) -> int:
        """The slot of a frame: its own if it has one, the previous frame's, one after the last, or one that must go."""
        if index in self._frames:
            return self._frames.index(index)
        if self._previous is not None:
            return self._previous
        bound = self.policy.max_frames
        if bound is not None and len(self._frames) >= bound:
            removable = [frame for frame in self._frames if frame not in self._pinned]
            if removable:
                return self._frames.index(min(removable))
        return len(self._frames)

    def _reserve(self, keys: Tensor, values: Tensor, *, slots: int) -> None:
        """Makes room for the rows of `keys` and for `slots` frames."""
        objects, _, capacity = self._keys.shape[:3]
        if slots > capacity:
            capacity = self._grown(capacity, slots)
        if (len(keys), capacity) == (objects, self._keys.shape[2]) and self._holds(keys, values):
            return
        moved = self._moved(self._keys, keys, capacity), self._moved(self._values, values, capacity)
        self._keys, self._values = moved

    def _holds(self, keys: Tensor, values: Tensor) -> bool:
        """Whether the block is of the channels, grid, dtype and device of these."""
        return all(
            (block.shape[1], *block.shape[3:], block.dtype, block.device)
            == (given.shape[1], *given.shape[2:], given.dtype, given.device)
            for block, given in ((self._keys, keys), (self._values, values))
        )

    def _grown(self, capacity: int, slots: int) -> int:
        capacity = max(_FIRST_CAPACITY, int(capacity * _GROWTH))
        if self.policy.max_frames is not None:
            capacity = min(capacity, self.policy.max_frames)
        return max(capacity, slots)

    def _moved(self, block: Tensor, like: Tensor, capacity: int) -> Tensor:
        """A block of this capacity with a row for each of `like`, holding what `block` holds."""
        objects, used = self.objects, len(self._frames)
        rows, channels, height, width = like.shape
        moved = like.new_empty(rows, channels, capacity, height, width)
        if used:
            moved[:objects, :, :used] = block[:objects, :, :used]
            # The read masks these tokens, but a NaN in a value would survive a weight of zero.
            moved[objects:, :, :used] = 0
        return moved


def _selected(block: Tensor, rows: Sequence[int], slots: Sequence[int]) -> Tensor:
    """Some rows and slots of a block, copied once."""
    row, slot = (torch.tensor(chosen, dtype=torch.long) for chosen in (rows, slots))
    return block[row[:, None, None], torch.arange(block.shape[1])[:, None], slot]
