"""Checks of what `memory_read` is given: errors name the argument, what was seen and what is allowed."""

import math

import torch
from torch import Tensor

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_options(similarity: object, scale: object, shrinkage: object, selection: object, top_k: object) -> None:
    """Check what is not a tensor of the memory."""
    if similarity not in ("dot", "l2"):
        raise ValueError(f"similarity is {similarity!r}; allowed are 'dot' and 'l2'")
    if similarity == "dot":
        for name, tensor in (("shrinkage", shrinkage), ("selection", selection)):
            if tensor is not None:
                raise ValueError(f"{name} is given with similarity 'dot'; it goes with 'l2' only")
    if scale is not None:
        if isinstance(scale, bool) or not isinstance(scale, (int, float)):
            raise TypeError(f"scale is a {type(scale).__name__}; allowed are a number and None")
        if not math.isfinite(scale):
            raise ValueError(f"scale is {scale}; allowed are finite numbers")
    if top_k is not None:
        if isinstance(top_k, bool) or not isinstance(top_k, (int, torch.SymInt)):
            raise TypeError(f"top_k is a {type(top_k).__name__}; allowed are an int and None")
        if top_k < 1:
            raise ValueError(f"top_k is {top_k}; allowed are 1 and more")


def check_tensor(name: str, tensor: object, beside: object, dtypes: tuple[torch.dtype, ...] = DTYPES) -> None:
    """Check type, dtype and device of a tensor."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} is a {type(tensor).__name__}; allowed is a torch.Tensor")
    if tensor.dtype not in dtypes:
        raise TypeError(f"{name} is {tensor.dtype}; allowed are {', '.join(map(str, dtypes))}")
    if isinstance(beside, Tensor) and tensor.device != beside.device:
        raise ValueError(f"{name} is on {tensor.device}; allowed is {beside.device}, where query_key is")


def check_main(query_key: Tensor, memory_key: Tensor, memory_value: Tensor) -> None:
    """Check dtypes and shapes of keys and values."""
    if query_key.dtype != memory_key.dtype:
        raise TypeError(f"memory_key is {memory_key.dtype}; allowed is {query_key.dtype}, the dtype of query_key")
    if (memory_value.dtype == torch.float64) != (memory_key.dtype == torch.float64):
        raise TypeError(
            f"memory_value is {memory_value.dtype}, the keys are {memory_key.dtype}; float64 goes with itself"
        )
    for name, tensor in (("query_key", query_key), ("memory_key", memory_key)):
        if tensor.ndim < 3:
            raise ValueError(f"{name} has shape {_shape(tensor)}; allowed is (B, Ck, *grid)")
    batch, channels, *_ = query_key.shape
    grid = memory_key.shape[2:]
    if channels == 0:
        raise ValueError(f"query_key has shape {_shape(query_key)}; it needs at least one channel")
    if memory_key.shape[:2] != query_key.shape[:2]:
        raise ValueError(
            f"memory_key has shape {_shape(memory_key)}; allowed is ({batch}, {channels}, *grid), "
            "the batch and channels of query_key"
        )
    if 0 in grid:
        raise ValueError(f"memory_key has shape {_shape(memory_key)}; its grid needs at least one token")
    leading = memory_value.ndim - len(grid)
    if leading not in (2, 3) or memory_value.shape[0] != batch or memory_value.shape[leading:] != grid:
        wanted = ", ".join(map(str, grid))
        raise ValueError(
            f"memory_value has shape {_shape(memory_value)}; allowed are ({batch}, Cv, {wanted}) and "
            f"({batch}, O, Cv, {wanted}), on the grid of memory_key"
        )


def check_optional(
    name: str,
    tensor: Tensor | None,
    shape: tuple[int, ...],
    beside: Tensor,
    dtypes: tuple[torch.dtype, ...] = DTYPES,
) -> None:
    """Check a tensor that may be None."""
    if tensor is None:
        return
    check_tensor(name, tensor, beside, dtypes)
    if tensor.shape != torch.Size(shape):
        raise ValueError(f"{name} has shape {_shape(tensor)}; allowed is {tuple(shape)}")


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)
