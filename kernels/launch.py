"""From tensors to kernel arguments: sizes, strides, descriptors and precision."""

import math
from collections.abc import Hashable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from stm_fast.kernels.chips import chip_of
from stm_fast.kernels.layouts import Layout, layout_of
from stm_fast.kernels.operands import Operands
from stm_fast.kernels.tiles import Tile, block_channels

LOG2_E = 1.4426950408889634
MAX_32_BIT = 2**31 - 2**24
"""Offsets within a batch have 32 bits up to this limit, which leaves room for a tile that extends beyond the end."""
ALIGNED_ITEMS = 8
"""Number of items whose bytes are a multiple of 16 in every dtype, as descriptors require of strides."""


def score_tensors(operands: Operands) -> dict[str, Any]:
    """Return the tensors of every kernel that computes scores. Vectors are small, and are made contiguous."""
    query, key, gain, offset, bias, _ = operands
    return {
        "query": query,
        "key": key,
        "gain": None if gain is None else gain.contiguous(),
        "offset": None if offset is None else offset.contiguous(),
        "bias": None if bias is None else bias.contiguous(),
    }


def key_of(operation: str, tensors: dict[str, Any], *options: Hashable) -> Hashable:
    """Return the key of a plan, with everything that the plan depends on; see `stm_fast.kernels.plans`.

    Args:
        operation: name of the operation.
        tensors: tensors that its kernels are given, or None; the same names in every call of the operation.
        options: other options of the call, such as the scale and a tile that replaces the table's.
    """
    query, value = tensors.get("query"), tensors.get("value")
    has_float32 = any(tensor is not None and tensor.dtype == torch.float32 for tensor in (query, value))
    key: list[Hashable] = [operation, has_float32 and tf32_is_allowed(), *options]
    for tensor in tensors.values():
        if tensor is None:
            key.append(None)
        else:
            key += tensor.device, tensor.dtype, tensor.shape, tensor.stride(), tensor.data_ptr() % 16
    return tuple(key)


def score_arguments(operands: Operands, tile: Tile) -> dict[str, Any]:
    """Return the arguments of every kernel that computes scores tile by tile."""
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
    """Return the sizes, the scale and the vectors of the scores."""
    return {
        **{name: vector for name, vector in score_tensors(operands).items() if name not in ("query", "key")},
        "scale": operands.scale * LOG2_E,
        **count("queries", operands.query.shape[2], operands.query),
        **count("tokens", operands.key.shape[2], operands.key),
    }


def scattered(name: str, value: Tensor) -> dict[str, Any]:
    """Return the arguments of values, or of the gradient of a readout, that are read item by item: no descriptor."""
    return {**_strides(name, value), **_value_sizes(value)}


def value_arguments(name: str, value: Tensor, tile: Tile, items: int) -> dict[str, Any]:
    """Return the arguments of values, or of the gradient of a readout, `(B, O, C, Nk)`, read in tiles of `items`."""
    return {
        **source(name, value, tile.value_channels, items),
        **_value_sizes(value),
    }


def _value_sizes(value: Tensor) -> dict[str, int]:
    return {"VALUE_CHANNELS": value.shape[2], "TOTAL_VALUE_CHANNELS": value.shape[1] * value.shape[2]}


def count(name: str, size: int, tensor: Tensor) -> dict[str, int]:
    """Return the number of queries or tokens in units of the largest power of two that divides it, up to 16 bytes.

    Triton knows whether an argument is a multiple of 16, but not of 4 or 8, which numbers of queries and tokens often
    are. Without the unit it would mask numbers one at a time, and so read them one at a time.

    Args:
        name: "queries" or "tokens".
        size: the number of them.
        tensor: tensor of queries or tokens, which has the bytes of a number.
    """
    unit = math.gcd(16 // tensor.element_size(), size)
    return {name: size // unit, f"{name.upper()}_UNIT": unit}


def source(name: str, tensor: Tensor, block_channels: int, block_items: int) -> dict[str, Any]:
    """Return the arguments of a tensor `(B, [O,] C, items)` read in tiles; see `stm_fast.kernels.primitives`."""
    layout = described(tensor, block_channels, block_items)
    return {
        **_strides(name, tensor),
        f"{name}_descriptor": None if layout is None else _descriptor(tensor, layout, block_channels, block_items),
        f"{name.upper()}_BY_ITEM": True if layout is not None and layout.by_item else None,
    }


def _strides(name: str, tensor: Tensor) -> dict[str, Any]:
    """Return a tensor `(B, [O,] C, items)` and its strides.

    All strides but that of items are in units of the largest power of two that divides them, up to 16 bytes, for the
    same reason as in `count`.
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


def described(tensor: Tensor, block_channels: int, block_items: int) -> Layout | None:
    """Return the matrix that a descriptor reads, or None if the chip, the layout or the tiles allow no descriptor."""
    layout = layout_of(tensor) if chip_of(tensor.device).descriptors else None
    if layout is None or tensor.shape[0] == 1:
        return layout
    reaches_into_next_batch = (
        tensor.shape[-1] % block_items if layout.by_item else tensor.shape[1:-1].numel() % block_channels
    )
    return None if reaches_into_next_batch else layout


def _descriptor(tensor: Tensor, layout: Layout, block_channels: int, block_items: int) -> TensorDescriptor:
    block = [block_items, block_channels] if layout.by_item else [block_channels, block_items]
    return TensorDescriptor(tensor, list(layout.shape), [layout.stride, 1], block)


def aligned(tensor: Tensor) -> Tensor:
    """Return queries, or the gradient of a readout, copied if only their layout prevents the use of a descriptor.

    They are small compared to the memory, and kernels that own tokens read them once for every tile of tokens.
    """
    if not chip_of(tensor.device).descriptors or layout_of(tensor) is not None:
        return tensor
    items = tensor.shape[-1]
    copy = tensor.new_empty(*tensor.shape[:-1], blocks(items, ALIGNED_ITEMS) * ALIGNED_ITEMS)[..., :items]
    return copy.copy_(tensor)


def all_have_descriptors(arguments: dict[str, Any]) -> bool:
    """Return whether all tensors that a kernel reads in tiles are read by descriptors."""
    return all(argument is not None for name, argument in arguments.items() if name.endswith("_descriptor"))


def with_index_type(*groups: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of all groups and `INDEX`, the integer type of offsets within a batch.

    It has 64 bits only if 32 are too few, since every thread keeps many offsets.
    """
    arguments = {name: argument for group in groups for name, argument in group.items()}
    tensors = [argument for argument in arguments.values() if isinstance(argument, Tensor)]
    max_offset = max(_max_offset(tensor) for tensor in tensors)
    return {**arguments, "INDEX": tl.int32 if max_offset < MAX_32_BIT else tl.int64}


def _max_offset(tensor: Tensor) -> int:
    """Return the offset of the last number of a batch from its first."""
    return sum((size - 1) * abs(stride) for size, stride in zip(tensor.shape[1:], tensor.stride()[1:], strict=True))


def precision(tile: Tile, *tensors: Tensor) -> str:
    """Return how float32 is multiplied: exactly, unless torch's setting allows TensorFloat-32 and the chip has it."""
    device = tensors[0].device
    has_float32 = any(tensor.dtype == torch.float32 for tensor in tensors)
    if not has_float32 or device.type == "cpu" or chip_of(device).backend == "hip":
        return "ieee"
    if tf32_is_allowed():
        return "tf32"
    return "bf16x6" if tile.split_float32 else "ieee"


def tf32_is_allowed() -> bool:
    """Return whether torch's settings allow TensorFloat-32 in products of float32."""
    setting = torch.backends.cuda.matmul.fp32_precision
    return torch.get_float32_matmul_precision() != "highest" if setting == "none" else bool(setting == "tf32")


def processors(device: torch.device) -> int:
    """Return the number of multiprocessors of a GPU; 1 if the kernels are interpreted on a CPU."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


def blocks(size: int, block: int) -> int:
    """Return the number of blocks that cover a size."""
    return -(-size // block)


def on_device_of(tensor: Tensor) -> AbstractContextManager[Any]:
    """Return a context in which kernels are launched on the current stream of the tensor's device."""
    device = tensor.device
    if device.type != "cuda" or device.index == torch.cuda.current_device():
        return nullcontext()
    return torch.cuda.device(device)
