"""Memory tokens: keys, values and numbers about each token, in one block."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

_MAX_INT8 = 127
_MIN_SCALE = torch.finfo(torch.float32).tiny

TOKEN_ALIGNMENT = 8
"""Number of tokens in 16 bytes of the smallest dtype that is read. GPUs copy 16 bytes at once, and their tensor
descriptors require strides and addresses that are multiples of that."""


def aligned(tokens: int, step: int = TOKEN_ALIGNMENT) -> int:
    """Round a number of tokens up to a multiple of `step`."""
    return -(-tokens // step) * step


class Tokens(NamedTuple):
    """Tokens of O objects. The last dimension is that of tokens.

    There are K rows of keys, and of numbers about tokens: one for each object, or a single one if all share their keys.

    Attributes:
        keys: `(K, Ck, n)`.
        values: `(O, Cv, n)`, in the dtype of the network.
        usage: how much each token was read so far: its softmax weights, summed over locations and reads;
            float32 `(K, n)`.
        born: number of reads before the token came, float32 `(K, n)`.
        presence: share of the token's location that the object covers, in [0, 1], float32 `(K, n)`; of objects that
            share their keys, the largest.
    """

    keys: Tensor
    values: Tensor
    usage: Tensor
    born: Tensor
    presence: Tensor

    @property
    def number(self) -> int:
        """Number of tokens of an object."""
        return self.keys.shape[2]


@dataclass
class TokenBlock:
    """Room for the tokens of O objects, with K rows of keys. A read sees any range of them without a copy.

    The capacity of a new block is a multiple of `TOKEN_ALIGNMENT`, and so are its strides.

    Attributes:
        keys: `(K, Ck, capacity)`.
        values: `(O, Cv, capacity)`, in the dtype in which they are stored.
        usage: float32 `(K, capacity)`; this and the next two as in `Tokens`.
        born: likewise.
        presence: likewise.
        scales: float32 `(O, capacity)`, factors of the int8 values of each token; None for other dtypes.
        read_dtype: dtype of the values that were put in.
    """

    keys: Tensor
    values: Tensor
    usage: Tensor
    born: Tensor
    presence: Tensor
    scales: Tensor | None
    read_dtype: torch.dtype

    @classmethod
    def empty(cls, like: Tokens, capacity: int, value_dtype: torch.dtype | None) -> "TokenBlock":
        """Return a block for at least `capacity` tokens like these.

        Values are stored in `value_dtype`; None for their own dtype.
        """
        return cls(
            _room(like.keys, capacity),
            _room(like.values, capacity, value_dtype),
            _room(like.usage, capacity),
            _room(like.born, capacity),
            _room(like.presence, capacity),
            scales=_room(like.values[:, 0], capacity, torch.float32) if value_dtype == torch.int8 else None,
            read_dtype=like.values.dtype,
        )

    @classmethod
    def of(cls, tensors: dict[str, Tensor], read_dtype: torch.dtype) -> "TokenBlock":
        """Return the block that has these `tensors`."""
        others = {name: part for name, part in tensors.items() if name != "scales"}
        return cls(**others, scales=tensors.get("scales"), read_dtype=read_dtype)

    @property
    def capacity(self) -> int:
        """Number of tokens that each row has room for."""
        return self.keys.shape[2]

    @property
    def nbytes(self) -> int:
        """Bytes of the block."""
        return sum(part.nbytes for part in self.tensors().values())

    @property
    def bytes_per_token(self) -> int:
        """Bytes of a token, in all rows."""
        return self.nbytes // self.capacity

    def put(self, first: int, tokens: Tokens) -> None:
        """Write tokens, starting at index `first`."""
        place = slice(first, first + tokens.number)
        values = tokens.values
        if self.scales is not None:
            values = values.float()
            scales = values.abs().amax(1) / _MAX_INT8
            values = (values / scales.clamp(min=_MIN_SCALE)[:, None]).round().to(torch.int8)
            self.scales[..., place] = scales
        self.keys[..., place] = tokens.keys
        self.values[..., place] = values
        self.usage[..., place], self.born[..., place], self.presence[..., place] = tokens[2:]

    def get(self, first: int, last: int) -> Tokens:
        """Return the tokens from `first` up to `last`, as views except for values that are stored in another dtype."""
        place = slice(first, last)
        values = self.values_to_read(first, last).to(self.read_dtype)
        return Tokens(
            self.keys[..., place], values, self.usage[..., place], self.born[..., place], self.presence[..., place]
        )

    def values_to_read(self, first: int, last: int) -> Tensor:
        """Return values `(O, Cv, n)` for a read; a view if they are stored in floating point."""
        if self.scales is None:
            return self.values[..., first:last]
        # Rows reach to the next multiple of the alignment and are cut off again, so that they are aligned.
        place = slice(first, first + aligned(last - first))
        values = self.values[..., place].to(self.read_dtype) * self.scales[:, None, place].to(self.read_dtype)
        return values[..., : last - first]

    def copy(self, source: int, target: int, count: int) -> None:
        """Copy tokens from one range to another, which does not overlap it."""
        for part in self.tensors().values():
            part[..., target : target + count] = part[..., source : source + count]

    def of_rows(self, rows: Sequence[int]) -> "TokenBlock":
        """Return a block with some of the objects. Keys that objects share are not copied."""
        index = torch.tensor(rows, dtype=torch.long, device=self.keys.device)
        own = len(self.values)
        kept = {name: part[index] if len(part) == own else part for name, part in self.tensors().items()}
        return TokenBlock.of(kept, self.read_dtype)

    def resized(
        self, first: int, last: int, target: int, capacity: int, device: torch.device | None = None
    ) -> "TokenBlock":
        """Return a block of at least this capacity with the tokens from `first` up to `last` from index `target` on.

        It is on the same device unless another one is given.
        """
        moved = {name: _room(part, capacity, device=device) for name, part in self.tensors().items()}
        for name, part in self.tensors().items():
            moved[name][..., target : target + last - first] = part[..., first:last]
        return TokenBlock.of(moved, self.read_dtype)

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors of the block by the names of its attributes."""
        parts = {name: getattr(self, name) for name in ("keys", "values", "usage", "born", "presence")}
        return parts if self.scales is None else parts | {"scales": self.scales}


def by_key(keys: Tensor, rows: Tensor) -> Tensor:
    """View a tensor that has a row for each object, `(O, ...)`, as `(K, O / K, ...)` beside K rows of keys.

    `memory_read` takes values in this layout: objects that share their keys then share one affinity.
    """
    return rows.view(len(keys), len(rows) // len(keys), *rows.shape[1:])


def gathered(tokens: Tokens, index: Tensor) -> Tokens:
    """Return the tokens at `index` `(K, n)`, which may differ between rows of keys."""

    def take(part: Tensor) -> Tensor:
        if part.ndim == 2:
            return part.gather(1, index)
        return part.gather(2, index[:, None].expand(*part.shape[:2], -1))

    return Tokens(*map(take, tokens))


def joined(parts: Sequence[Tokens]) -> Tokens:
    """Concatenate tokens, in aligned rows."""
    number = sum(tokens.number for tokens in parts)

    def join(tensors: tuple[Tensor, ...]) -> Tensor:
        padding = tensors[0].new_empty(*tensors[0].shape[:-1], aligned(number) - number)
        return torch.cat([*tensors, padding], -1)[..., :number]

    return Tokens(*(join(tensors) for tensors in zip(*parts, strict=True)))


def _room(like: Tensor, capacity: int, dtype: torch.dtype | None = None, device: torch.device | None = None) -> Tensor:
    shape = (*like.shape[:-1], aligned(capacity))
    return like.new_empty(shape, dtype=dtype or like.dtype, device=device or like.device)
