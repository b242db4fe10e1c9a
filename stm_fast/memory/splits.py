"""Read a memory in splits."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from stm_fast.memory.tokens import by_key
from stm_fast.ops import merge_reads, read_memory


class Split(NamedTuple):
    """Tokens of some objects, on the device of the read.

    Attributes:
        rows: rows of the objects.
        keys: `(rows, Ck, n)`, or `(1, Ck, n)` if the objects share them.
        values: `(rows, Cv, n)`.
    """

    rows: slice
    keys: Tensor
    values: Tensor


def read_splits(
    query_key: Tensor, objects: int, value_channels: int, splits: Iterable[Split], backend: str
) -> tuple[Tensor, Tensor]:
    """Read splits one after another and merge the reads by their log-sum-exp.

    Args:
        query_key: `(1, Ck, h, w)`.
        objects: number of objects O.
        value_channels: number Cv of channels of a value.
        splits: any number of them.
        backend: see `stm_fast.memory_read`.

    Returns:
        Value `(O, Cv, h, w)` and lse `(O, h, w)`, in float32 at least; zeros and −inf for an object without a split.
    """
    grid, dtype = query_key.shape[2:], torch.promote_types(query_key.dtype, torch.float32)
    value = query_key.new_zeros(objects, value_channels, *grid, dtype=dtype)
    lse = value.new_full((objects, *grid), -torch.inf)
    for rows, keys, values in splits:
        queries = query_key.expand(len(keys), -1, -1, -1)
        read = read_memory(queries, keys, by_key(keys, values), backend=backend)
        found = read.value.flatten(0, 1).to(dtype), read.lse.expand(len(values), -1, -1)
        value[rows], lse[rows] = merge_reads([(value[rows], lse[rows]), found])
    return value, lse
