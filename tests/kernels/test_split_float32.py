"""The accuracy of float32 as split bf16 on the matrix units of a GPU, simulated on a CPU.

Triton's "bf16x6" multiplies the three parts of both operands in six products, smallest first. Matrix units multiply
bfloat16 exactly and sum 16 products at once. What they add to a sum is truncated to float32, not rounded.
"""

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from tests.ops.oracle import assert_accurate

PRODUCTS_AT_ONCE = 16
CHANNELS_AT_ONCE, TOKENS_AT_ONCE = 64, 32
"""A block of channels and a tile of tokens, each summed separately and then added to the total in float32."""


def parts(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the three bfloat16 parts, largest first, as float32."""
    high = x.bfloat16().float()
    middle = (x - high).bfloat16().float()
    return high, middle, (x - high - middle).bfloat16().float()


def truncated(exact: Tensor) -> Tensor:
    """Return float64 as float32, rounded toward zero."""
    nearest = exact.float()
    beyond = nearest.double().abs() > exact.abs()
    return torch.where(beyond, torch.nextafter(nearest, torch.zeros_like(nearest)), nearest)


def on_matrix_units(a: Tensor, b: Tensor, total: Tensor) -> Tensor:
    """Return total + a · b, for a `[M, K]` and b `[K, N]` of bfloat16 numbers."""
    for start in range(0, a.shape[1], PRODUCTS_AT_ONCE):
        some = slice(start, start + PRODUCTS_AT_ONCE)
        total = truncated(total.double() + a[:, some].double() @ b[some].double())
    return total


def multiplied(a: Tensor, b: Tensor) -> Tensor:
    """The product of float32 `[M, K]` and `[K, N]` as triton's "bf16x6" makes it."""
    high_a, middle_a, low_a = parts(a)
    high_b, middle_b, low_b = parts(b)
    total = torch.zeros(a.shape[0], b.shape[1])
    pairs = (middle_a, middle_b), (low_a, high_b), (high_a, low_b), (middle_a, high_b), (high_a, middle_b)
    for left, right in (*pairs, (high_a, high_b)):
        total = on_matrix_units(left, right, total)
    return total


def in_blocks(a: Tensor, b: Tensor, size: int) -> Tensor:
    """Return the product of float32 as kernels compute it, block by block of the reduction."""
    blocks = zip(a.split(size, 1), b.split(size), strict=True)
    return sum((multiplied(*block) for block in blocks), start=torch.zeros(a.shape[0], b.shape[1]))


def softmax_read(scores: Tensor, value: Tensor, product: Callable[..., Tensor] = torch.matmul) -> tuple[Tensor, Tensor]:
    """Readout `[M, V]` and lse `[M]` of scores `[M, N]` and values `[N, V]`."""
    top = scores.amax(1, keepdim=True)
    weights = torch.exp(scores - top)
    total = weights.sum(1, keepdim=True)
    return product(weights, value) / total, (top + total.log())[:, 0]


@pytest.mark.parametrize("sharpness", [0.3, 1.0, 4.0])
@pytest.mark.parametrize(("channels", "tokens"), [(64, 400), (128, 100), (128, 1600)])
def test_reads_are_as_accurate_as_float32(channels: int, tokens: int, sharpness: float) -> None:
    random = torch.Generator().manual_seed(channels + tokens)
    query, key, value = (
        torch.randn(shape, generator=random) for shape in ((48, channels), (channels, tokens), (tokens, 40))
    )
    query *= sharpness
    scale = 1 / math.sqrt(channels)
    scores = in_blocks(query, key, CHANNELS_AT_ONCE) * scale
    fast = softmax_read(scores, value, partial(in_blocks, size=TOKENS_AT_ONCE))
    plain = softmax_read(query @ key * scale, value)
    oracle = softmax_read(query.double() @ key.double() * scale, value.double())
    for found, exact, rounded in zip(fast, oracle, plain, strict=True):
        assert_accurate(found, exact, rounded)


def test_the_parts_are_the_number() -> None:
    x = torch.randn(10_000, generator=torch.Generator().manual_seed(0)) * torch.logspace(-20, 20, 10_000)
    assert torch.equal(sum(part.double() for part in parts(x)), x.double())


def test_fewer_products_would_not_do() -> None:
    """The three products of "bf16x3" are not accurate enough."""
    random = torch.Generator().manual_seed(0)
    a, b = torch.randn(48, 128, generator=random), torch.randn(128, 48, generator=random)
    (high_a, middle_a, _), (high_b, middle_b, _) = parts(a), parts(b)
    three = on_matrix_units(middle_a, high_b, torch.zeros(48, 48))
    three = on_matrix_units(high_a, high_b, on_matrix_units(high_a, middle_b, three))
    with pytest.raises(AssertionError):
        assert_accurate(three, a.double() @ b.double(), a @ b)
    assert_accurate(multiplied(a, b), a.double() @ b.double(), a @ b)
