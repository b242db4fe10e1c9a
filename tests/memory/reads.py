"""What memories hand to the read."""

import contextlib
from collections.abc import Iterator
from unittest import mock

from torch import Tensor

from stm_fast.memory import arena, parts
from stm_fast.ops import memory_read


@contextlib.contextmanager
def watched() -> Iterator[list[tuple[Tensor, Tensor]]]:
    """A context that lists keys and values of all reads of frames and of prototypes in the making."""
    seen = list[tuple[Tensor, Tensor]]()

    def read(query_key: Tensor, memory_key: Tensor, memory_value: Tensor, **options: object) -> object:
        seen.append((memory_key, memory_value))
        return memory_read(query_key, memory_key, memory_value, **options)

    with mock.patch.object(arena, "memory_read", read), mock.patch.object(parts, "memory_read", read):
        yield seen


def assert_aligned(tensor: Tensor) -> None:
    """A GPU can copy 16 bytes of 16-bit numbers at once: tokens are side by side and rows begin at multiples of 8."""
    *strides, of_tokens = tensor.stride()
    assert of_tokens == 1
    assert all(stride % 8 == 0 for stride in strides), strides
    assert tensor.data_ptr() % 16 == 0
