"""What tests make faster in Triton's interpreter computes the same."""

import pytest
import torch

triton = pytest.importorskip("triton")

import triton.language as tl  # noqa: E402


@triton.jit
def either(first, second):
    return first ^ second


@triton.jit
def xor_kernel(x, known, own, ROWS: tl.constexpr, COLUMNS: tl.constexpr, AXIS: tl.constexpr, LEFT: tl.constexpr):
    """Reduce `(ROWS, COLUMNS)` to LEFT numbers, by the function that is made faster and by one of our own."""
    row, column = tl.arange(0, ROWS), tl.arange(0, COLUMNS)
    numbers = tl.load(x + row[:, None] * COLUMNS + column[None, :])
    tl.store(known + tl.arange(0, LEFT), tl.xor_sum(numbers, AXIS))
    tl.store(own + tl.arange(0, LEFT), tl.reduce(numbers, AXIS, either))


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_xor_at_once_and_number_by_number(dtype: torch.dtype, axis: int, device: torch.device) -> None:
    bounds, random = torch.iinfo(dtype), torch.Generator().manual_seed(0)
    numbers = torch.randint(bounds.min, bounds.max, (4, 8), generator=random, dtype=dtype).to(device)
    left = (8, 4)[axis]
    known, own = numbers.new_zeros(left), numbers.new_zeros(left)
    xor_kernel[(1,)](numbers, known, own, ROWS=4, COLUMNS=8, AXIS=axis, LEFT=left)
    assert own.count_nonzero()
    assert torch.equal(known, own)
