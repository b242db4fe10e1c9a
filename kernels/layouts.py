"""The layout of tensors in memory, which decides how many bytes of them are copied at once."""

import math
from typing import NamedTuple

from torch import Tensor

MAX_SIZE = 2**31 - 2**20
"""Maximum size of a side of a descriptor's matrix."""
DESCRIPTOR_BYTES = 16
"""Alignment of the address and the stride of a descriptor."""


class Layout(NamedTuple):
    """A tensor `(B, [O,] C, items)` as a matrix. The channels are those of all objects.

    Attributes:
        by_item: whether the matrix is items × channels, instead of channels × items.
        shape: shape of the matrix, of all batches.
        stride: stride of the matrix's first side, in elements. The other side has stride 1.
    """

    by_item: bool
    shape: tuple[int, int]
    stride: int


def layout_of(tensor: Tensor) -> Layout | None:
    """Return the tensor as a matrix that a descriptor can read, or None if it is not one.

    Its address and its stride must be multiples of 16 bytes, and all dimensions but one must fold into one side.
    """
    if tensor.data_ptr() % DESCRIPTOR_BYTES:
        return None
    batch, *channel_sizes, items = tensor.shape
    batch_stride, *channel_strides, item_stride = tensor.stride()
    channels = tensor.shape[1:-1].numel()
    if item_stride == 1:
        stride = channel_strides[-1]
        sides = zip((batch, *channel_sizes), (batch_stride, *channel_strides), strict=True)
        layout = Layout(False, (batch * channels, items), stride)
        folds = _fold(list(sides), stride)
    else:
        layout = Layout(True, (batch * items, channels), item_stride)
        folds = _fold([(batch, batch_stride), (items, item_stride)], item_stride) and _fold(
            list(zip(channel_sizes, channel_strides, strict=True)), 1
        )
    first, second = layout.shape
    fits = second <= layout.stride and max(first, second) <= MAX_SIZE
    aligned = layout.stride * tensor.element_size() % DESCRIPTOR_BYTES == 0
    return layout if folds and fits and aligned else None


def copy_bytes(tensor: Tensor) -> int:
    """Return how many bytes of a tensor `(B, [O,] C, items)` are copied at once: 16 by a descriptor, else 8 at most."""
    if layout_of(tensor) is not None:
        return DESCRIPTOR_BYTES
    contiguous = next((dimension for dimension in (-1, -2) if tensor.stride(dimension) == 1), None)
    if contiguous is None:
        return min(8, tensor.element_size())
    dimensions = list(zip(tensor.shape, tensor.stride(), strict=True))
    length, _ = dimensions.pop(contiguous)
    steps = (length, *(stride for size, stride in dimensions if size > 1))
    return math.gcd(8, tensor.data_ptr(), *(tensor.element_size() * step for step in steps))


def _fold(dimensions: list[tuple[int, int]], stride: int) -> bool:
    """Return whether dimensions of (size, stride), the innermost last, fold into one dimension of a given stride."""
    for size, own_stride in reversed(dimensions):
        if size > 1 and own_stride != stride:
            return False
        stride *= size
    return True
