"""From tensors to kernel arguments: sizes, strides, precision, and how many programs share the work."""

import math
from collections.abc import Hashable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, TypeAlias

import torch
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from stm_fast.kernels.chips import chip_of
from stm_fast.kernels.layouts import Layout, layout_of
from stm_fast.kernels.tiles import Tile, block_channels

LOG2_E = 1.4426950408889634
MAX_32_BIT = 2**31 - 2**24
"""Distances up to it, and what a tile reaches beyond the end, are counted in 32 bits."""
ALIGNED_ITEMS = 8
"""Their bytes are a multiple of 16 in every dtype, as descriptors require of a row."""


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


def score_tensors(operands: Operands) -> dict[str, Any]:
    """The tensors of every kernel that computes scores; vectors are small, and made contiguous where they are not."""
    query, key, gain, offset, bias, _ = operands
    return {
        "query": query,
        "key": key,
        "gain": None if gain is None else gain.contiguous(),
        "offset": None if offset is None else offset.contiguous(),
        "bias": None if bias is None else bias.contiguous(),
    }


def key_of(operation: str, tensors: dict[str, Any], *options: Hashable) -> Hashable:
    """All that a plan is made from, see `stm_fast.kernels.plans`.

    Args:
        operation: whose plan it is.
        tensors: that its kernels are given, or None, the same names every time.
        options: of the call: the scale, and what replaces the table's.
    """
    query, value = tensors.get("query"), tensors.get("value")
    wide = (query is not None and query.dtype == torch.float32) or (value is not None and value.dtype == torch.float32)
    key: list[Hashable] = [operation, wide and tf32_is_allowed(), *options]
    for tensor in tensors.values():
        if tensor is None:
            key.append(None)
        else:
            key += tensor.device, tensor.dtype, tensor.shape, tensor.stride(), tensor.data_ptr() % 16
    return tuple(key)


def score_arguments(operands: Operands, tile: Tile) -> dict[str, Any]:
    """The arguments of every kernel that computes scores tile by tile."""
    query, key = operands.query, operands.key
    channels = block_channels(query.shape[1], query.dtype)
    return {
        **score_vectors(operands),
        **source("query", query, channels, tile.queries),
        **source("key", key, channels, tile.tokens),
        "CHANNELS": query.shape[1],
        "BLOCK_C": channels,
    }


def score_vectors(operands: Operands) -> dict[str, Any]:
    """Sizes, scale and the vectors of the scores."""
    return {
        **{name: vector for name, vector in score_tensors(operands).items() if name not in ("query", "key")},
        "scale": operands.scale * LOG2_E,
        **count("queries", operands.query.shape[2], operands.query),
        **count("tokens", operands.key.shape[2], operands.key),
    }


def scattered(name: str, value: Tensor) -> dict[str, Any]:
    """The arguments of values, or of the gradient of a readout, that are read item by item: no descriptor."""
    return {**_strides(name, value), **_value_sizes(value)}


def value_arguments(name: str, value: Tensor, tile: Tile, items: int) -> dict[str, Any]:
    """The arguments of values, or of the gradient of a readout, `(B, O, C, items)`, in tiles of `items` items."""
    return {
        **source(name, value, tile.value_channels, items),
        **_value_sizes(value),
    }


def _value_sizes(value: Tensor) -> dict[str, int]:
    return {"VALUE_CHANNELS": value.shape[2], "ROWS": value.shape[1] * value.shape[2]}


def count(name: str, size: int, beside: Tensor) -> dict[str, int]:
    """How many queries or tokens there are, in units of the largest power of two that divides it.

    Triton knows of an argument whether it is a multiple of 16, but not of 4 or 8, as numbers of queries and tokens are
    for grids of odd sizes, and would mask, and so read, them one at a time.
    """
    unit = math.gcd(16 // beside.element_size(), size)
    return {name: size // unit, f"{name.upper()}_UNIT": unit}


def source(name: str, tensor: Tensor, block_rows: int, block_items: int) -> dict[str, Any]:
    """The arguments of a tensor `(B, [O,] C, items)` that is read in tiles; see `stm_fast.kernels.primitives`."""
    layout = described(tensor, block_rows, block_items)
    return {
        **_strides(name, tensor),
        f"{name}_descriptor": None if layout is None else _descriptor(tensor, layout, block_rows, block_items),
        f"{name.upper()}_BY_ITEM": True if layout is not None and layout.by_item else None,
    }


def _strides(name: str, tensor: Tensor) -> dict[str, Any]:
    """A tensor `(B, [O,] C, items)` and its strides.

    They are in units of the largest power of two that divides all but the items' stride, up to 16 bytes, for the
    reason of `count`.
    """
    names = ("batch", "object", "channel") if tensor.ndim == 4 else ("batch", "channel")
    *strides, item = tensor.stride()
    unit = math.gcd(16 // tensor.element_size(), *strides)
    return {
        name: tensor,
        **{f"{name}_{part}": stride // unit for part, stride in zip(names, strides, strict=True)},
        f"{name}_item": item,
        f"{name.upper()}_UNIT": unit,
    }


def described(tensor: Tensor, block_rows: int, block_items: int) -> Layout | None:
    """How a descriptor reads a tensor in tiles, or None where the chip, the layout or the tiles have none."""
    layout = layout_of(tensor) if chip_of(tensor.device).descriptors else None
    if layout is None or tensor.shape[0] == 1:
        return layout
    reaches_into_next_batch = (
        tensor.shape[-1] % block_items if layout.by_item else tensor.shape[1:-1].numel() % block_rows
    )
    return None if reaches_into_next_batch else layout


def _descriptor(tensor: Tensor, layout: Layout, block_rows: int, block_items: int) -> TensorDescriptor:
    block = [block_items, block_rows] if layout.by_item else [block_rows, block_items]
    return TensorDescriptor(tensor, list(layout.shape), [layout.stride, 1], block)


def aligned(tensor: Tensor) -> Tensor:
    """Queries, or the gradient of a readout, copied where their layout keeps a descriptor from reading them.

    They are small beside the memory, and kernels that own tokens read them once for every tile of tokens.
    """
    if not chip_of(tensor.device).descriptors or layout_of(tensor) is not None:
        return tensor
    items = tensor.shape[-1]
    room = tensor.new_empty(*tensor.shape[:-1], blocks(items, ALIGNED_ITEMS) * ALIGNED_ITEMS)[..., :items]
    return room.copy_(tensor)


def all_have_descriptors(arguments: dict[str, Any]) -> bool:
    """Whether no tensor that a kernel reads in tiles is read by pointers."""
    return all(argument is not None for name, argument in arguments.items() if name.endswith("_descriptor"))


def with_distances(*groups: dict[str, Any]) -> dict[str, Any]:
    """The arguments of all groups, and `OFFSET`, the type of distances within a tile.

    It has 64 bits only where 32 are too few, since every thread keeps many of them.
    """
    arguments = {name: argument for group in groups for name, argument in group.items()}
    tensors = [argument for argument in arguments.values() if isinstance(argument, Tensor)]
    farthest = max(_reach(tensor) for tensor in tensors)
    return {**arguments, "OFFSET": tl.int32 if farthest < MAX_32_BIT else tl.int64}


def _reach(tensor: Tensor) -> int:
    """Distance in numbers from a batch's first to its last."""
    return sum((size - 1) * abs(stride) for size, stride in zip(tensor.shape[1:], tensor.stride()[1:], strict=True))


def precision(tile: Tile, *tensors: Tensor) -> str:
    """How float32 is multiplied: as float32, unless torch's own switch allows TensorFloat-32, which AMD has not."""
    device = tensors[0].device
    wide = any(tensor.dtype == torch.float32 for tensor in tensors)
    if not wide or device.type == "cpu" or chip_of(device).backend == "hip":
        return "ieee"
    if tf32_is_allowed():
        return "tf32"
    return "bf16x6" if tile.split_float32 else "ieee"


def tf32_is_allowed() -> bool:
    """What torch's switch of products of float32 says."""
    switch = torch.backends.cuda.matmul.fp32_precision
    return torch.get_float32_matmul_precision() != "highest" if switch == "none" else bool(switch == "tf32")


def processors(device: torch.device) -> int:
    """Streaming multiprocessors of a GPU; one where the kernels are interpreted on a CPU."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


def blocks(size: int, block: int) -> int:
    """How many blocks cover a size."""
    return -(-size // block)


def on_device_of(tensor: Tensor) -> AbstractContextManager[Any]:
    """Launch on the current stream of the tensor's device."""
    device = tensor.device
    if device.type != "cuda" or device.index == torch.cuda.current_device():
        return nullcontext()
    return torch.cuda.device(device)
