"""How tensors lie in memory, and so how many bytes of them are copied at once."""

import math
from typing import NamedTuple

from torch import Tensor

MAX_SIZE = 2**31 - 2**20
"""Of a side of a descriptor."""
DESCRIPTOR_BYTES = 16
"""What addresses and strides of a descriptor are multiples of."""


class Layout(NamedTuple):
    """A tensor `(B, [O,] C, items)` as a matrix; rows are its channels, of all objects.

    Attributes:
        by_item: the matrix is items × rows, else rows × items.
        shape: of the matrix, with those of all batches.
        stride: of the matrix's first side, in numbers; that of the other is 1.
    """

    by_item: bool
    shape: tuple[int, int]
    stride: int


def layout_of(tensor: Tensor) -> Layout | None:
    """The tensor as a matrix that a descriptor can read, or None if it is none.

    Its address and its stride must be multiples of 16 bytes, and everything but one side lie one stride apart.
    """
    if tensor.data_ptr() % DESCRIPTOR_BYTES:
        return None
    batch, *row_sizes, items = tensor.shape
    batch_stride, *row_strides, item_stride = tensor.stride()
    rows = tensor.shape[1:-1].numel()
    if item_stride == 1:
        stride = row_strides[-1]
        sides = zip((batch, *row_sizes), (batch_stride, *row_strides), strict=True)
        layout = Layout(False, (batch * rows, items), stride)
        regular = _apart(list(sides), stride)
    else:
        layout = Layout(True, (batch * items, rows), item_stride)
        regular = _apart([(batch, batch_stride), (items, item_stride)], item_stride) and _apart(
            list(zip(row_sizes, row_strides, strict=True)), 1
        )
    first, second = layout.shape
    fits = second <= layout.stride and max(first, second) <= MAX_SIZE
    whole = layout.stride * tensor.element_size() % DESCRIPTOR_BYTES == 0
    return layout if regular and fits and whole else None


def copy_bytes(tensor: Tensor) -> int:
    """How many bytes of a tensor `(B, [O,] C, items)` are copied at once: 16 by a descriptor, else 8 at most."""
    if layout_of(tensor) is not None:
        return DESCRIPTOR_BYTES
    # What lies side by side, and how far apart all else does where there are several.
    along = next((side for side in (-1, -2) if tensor.stride(side) == 1), None)
    if along is None:
        return min(8, tensor.element_size())
    sides = list(zip(tensor.shape, tensor.stride(), strict=True))
    size, _ = sides.pop(along)
    distances = (size, *(stride for count, stride in sides if count > 1))
    return math.gcd(8, tensor.data_ptr(), *(tensor.element_size() * distance for distance in distances))


def _apart(sides: list[tuple[int, int]], stride: int) -> bool:
    """Whether sides of (size, stride), the innermost last, are one side whose steps are `stride`."""
    for size, distance in reversed(sides):
        if size > 1 and distance != stride:
            return False
        stride *= size
    return True
