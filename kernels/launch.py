"""From tensors to kernel arguments: sizes, strides, precision, and how many programs share the work."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeAlias

import torch
import triton.language as tl
from torch import Tensor

from stm_fast.kernels.chips import chip_of
from stm_fast.kernels.tiles import block_channels

LOG2_E = 1.4426950408889634
MAX_32_BIT = 2**31 - 2**24
"""Distances up to it, and what a tile reaches beyond the end, are counted in 32 bits."""
MIN_TILES_PER_SPLIT = 4
"""Tiles of tokens below which splitting the memory further costs more than it brings."""


class Operands(NamedTuple):
    """The operands of the scores gain[j] · (scale · <query[i], key[j]> + offset[i]) + bias[j].

    Attributes:
        query: `(B, C, Nq)`, of any strides, as all tensors are.
        key: `(B, C, Nk)`, of the query's dtype.
        gain: `(B, Nk)` float32, or None for ones.
        offset: `(B, Nq)` float32, or None for zeros.
        bias: `(B, Nk)` float32, or None for zeros. −inf keeps a token out of the read.
        scale: a finite number.
    """

    query: Tensor
    key: Tensor
    gain: Tensor | None
    offset: Tensor | None
    bias: Tensor | None
    scale: float


Gradients: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]
"""Gradients of query, key, gain, offset, bias and value; an empty tensor where one is not wanted."""


def score_arguments(operands: Operands) -> dict[str, Any]:
    """The arguments of every kernel that computes scores; strides of batch and channel are in multiples of `UNIT`."""
    query, key = operands.query, operands.key
    return {
        **score_vectors(operands),
        "query": query,
        "key": key,
        "query_batch": query.stride(0),
        "query_channel": query.stride(1),
        "query_item": query.stride(2),
        "key_batch": key.stride(0),
        "key_channel": key.stride(1),
        "key_item": key.stride(2),
        "CHANNELS": query.shape[1],
        "BLOCK_C": block_channels(query.shape[1], query.dtype),
    }


def score_vectors(operands: Operands) -> dict[str, Any]:
    """Sizes, scale and the vectors of the scores; vectors are small, and made contiguous where they are not."""
    gain, offset, bias = (
        None if vector is None else vector.contiguous() for vector in (operands.gain, operands.offset, operands.bias)
    )
    return {
        "gain": gain,
        "offset": offset,
        "bias": bias,
        "scale": operands.scale * LOG2_E,
        "queries": operands.query.shape[2],
        "tokens": operands.key.shape[2],
    }


def value_arguments(name: str, value: Tensor) -> dict[str, Any]:
    """Strides of values, or of the gradient of a readout, `(B, O, C, items)`."""
    return {
        name: value,
        f"{name}_batch": value.stride(0),
        f"{name}_object": value.stride(1),
        f"{name}_channel": value.stride(2),
        f"{name}_item": value.stride(3),
        "VALUE_CHANNELS": value.shape[2],
        "ROWS": value.shape[1] * value.shape[2],
    }


def with_offsets(*groups: dict[str, Any]) -> dict[str, Any]:
    """Arguments in units of the largest powers of two that divide them, up to 16 bytes; the units are arguments too.

    Triton knows of an argument whether it is a multiple of 16, but not of 4 or 8, as they are for grids of odd sizes,
    and would then read numbers one at a time. `UNIT` is that of the strides of batches, objects and channels;
    `QUERY_UNIT` and `TOKEN_UNIT` are those of the numbers of queries and tokens, by which reads are masked. `OFFSET` is
    the type of distances inside a tile: 64 bits only where 32 are too few, since every thread keeps many of them.
    """
    arguments = {name: argument for group in groups for name, argument in group.items()}
    strides = [name for name in arguments if name.endswith(("_batch", "_object", "_channel"))]
    tensors = [argument for argument in arguments.values() if isinstance(argument, Tensor)]
    widest = 16 // min(tensor.element_size() for tensor in tensors)
    units = {"UNIT": math.gcd(widest, *(arguments[name] for name in strides))}
    in_units = {name: arguments[name] // units["UNIT"] for name in strides}
    for name, unit in (("queries", "QUERY_UNIT"), ("tokens", "TOKEN_UNIT")):
        if name in arguments:
            units[unit] = math.gcd(widest, arguments[name])
            in_units[name] = arguments[name] // units[unit]
    farthest = max(_reach(tensor) for tensor in tensors)
    return {**arguments, **in_units, **units, "OFFSET": tl.int32 if farthest < MAX_32_BIT else tl.int64}


def _reach(tensor: Tensor) -> int:
    """Distance in numbers from a batch's first to its last."""
    return sum((size - 1) * abs(stride) for size, stride in zip(tensor.shape[1:], tensor.stride()[1:], strict=True))


def precision(*tensors: Tensor) -> str:
    """How float32 is multiplied: as float32, unless torch's own switch allows TensorFloat-32, which AMD has not."""
    device = tensors[0].device
    wide = any(tensor.dtype == torch.float32 for tensor in tensors)
    if not wide or device.type == "cpu" or chip_of(device).backend == "hip":
        return "ieee"
    switch = torch.backends.cuda.matmul.fp32_precision
    allowed = torch.get_float32_matmul_precision() != "highest" if switch == "none" else switch == "tf32"
    return "tf32" if allowed else "ieee"


def split_count(programs: int, tiles: int, processors: int) -> int:
    """Into how many splits a memory of `tiles` tiles is split, so that `programs` a split keep all processors busy.

    The smallest number that leaves less than a tenth of them idle in the last wave, or the one that leaves fewest.
    """
    most = max(1, min(tiles // MIN_TILES_PER_SPLIT, -(-2 * processors // programs)))
    best, least_idle = 1, 1.0
    for splits in range(1, most + 1):
        waves = -(-splits * programs // processors)
        idle = 1 - splits * programs / (waves * processors)
        if idle < 0.1:
            return splits
        if idle < least_idle:
            best, least_idle = splits, idle
    return best


def processors(device: torch.device) -> int:
    """Streaming multiprocessors of a GPU; one where the kernels are interpreted on a CPU."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


def blocks(size: int, block: int) -> int:
    """How many blocks cover a size."""
    return -(-size // block)


@contextmanager
def on_device_of(tensor: Tensor) -> Iterator[None]:
    """Launch on the current stream of the tensor's device."""
    if tensor.device.type != "cuda":
        yield
        return
    with torch.cuda.device(tensor.device):
        yield
