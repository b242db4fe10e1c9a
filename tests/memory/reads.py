"""What memories hand to the read."""

import contextlib
from collections.abc import Callable, Iterator
from unittest import mock

from torch import Tensor

from stm_fast.memory import readers, splits
from stm_fast.memory.policies import long_term


@contextlib.contextmanager
def watched() -> Iterator[list[tuple[Tensor, Tensor]]]:
    """List keys and values of all reads of frames, and of frames that become prototypes."""
    seen = list[tuple[Tensor, Tensor]]()

    def noting(function: Callable[..., object]) -> Callable[..., object]:
        def read(query_key: Tensor, memory_key: Tensor, memory_value: Tensor, **options: object) -> object:
            seen.append((memory_key, memory_value))
            return function(query_key, memory_key, memory_value, **options)

        return read

    with contextlib.ExitStack() as patches:
        for module, name in ((readers, "read_memory"), (splits, "read_memory"), (long_term, "memory_read")):
            patches.enter_context(mock.patch.object(module, name, noting(getattr(module, name))))
        yield seen


def assert_aligned(tensor: Tensor) -> None:
    """Check that tokens are side by side and rows begin at multiples of 8: a GPU copies 16 bytes at once."""
    *strides, of_tokens = tensor.stride()
    assert of_tokens == 1
    assert all(stride % 8 == 0 for stride in strides), strides
    assert tensor.data_ptr() % 16 == 0
