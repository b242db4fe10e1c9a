"""Values, usage and lse against the float64 oracle, in every precision."""

import pytest
import torch

from stm_fast.ops import memory_read
from tests.ops.cases import KINDS, Case, make_case
from tests.ops.oracle import assert_accurate, direct_read

pytestmark = pytest.mark.usefixtures("poisoned")

PRECISIONS = {
    "float32": (torch.float32, torch.float32),
    "bfloat16": (torch.bfloat16, torch.bfloat16),
    "float16": (torch.float16, torch.float16),
    "float32 keys, bfloat16 values": (torch.float32, torch.bfloat16),
    "bfloat16 keys, float32 values": (torch.bfloat16, torch.float32),
}


def check(case: Case, **options: object) -> None:
    result = case.read(memory_read, return_usage=True, return_lse=True, **options)
    oracle = case.read(direct_read, **options)
    # Usage and lse of 16-bit keys are float32; the plain formula rounds them to what it computes in.
    plain = case.read(direct_read, **options, dtype=case.memory_key.dtype)
    value_plain = case.read(direct_read, **options, dtype=case.memory_value.dtype)
    assert_accurate(result.value, oracle.value, value_plain.value)
    # Usage is made from lse, so that it has the rounding of that, and not only its own.
    largest = oracle.lse[oracle.lse.isfinite()].abs().max().item()
    assert_accurate(result.usage, oracle.usage, plain.usage.to(result.usage.dtype), max(1.0, largest))
    assert_accurate(result.lse, oracle.lse, plain.lse.to(result.lse.dtype))


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_dense_read(kind: str, precision: str) -> None:
    check(make_case(kind, *PRECISIONS[precision]))


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("top_k", [1, 3, 29, 30, 31])
def test_top_k_read(kind: str, top_k: int) -> None:
    check(make_case(kind), top_k=top_k)


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("top_k", [None, 4])
def test_float64_equals_the_oracle(kind: str, top_k: int | None) -> None:
    case = make_case(kind, torch.float64)
    result = case.read(memory_read, top_k=top_k, return_usage=True, return_lse=True)
    torch.testing.assert_close(tuple(result), tuple(case.read(direct_read, top_k=top_k)), rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_top_k_read_of_16_bit_inputs(dtype: torch.dtype) -> None:
    check(make_case("dot", dtype), top_k=4)


@pytest.mark.parametrize("scale", [0.0, 0.3, -1, 7])
@pytest.mark.parametrize("kind", ["dot", "l2", "xmem"])
def test_scale(kind: str, scale: float) -> None:
    check(make_case(kind), scale=scale)


@pytest.mark.parametrize(
    ("queries", "tokens", "channels", "value_channels"), [(1, 1, 1, 1), (3, 2, 256, 1), (1, 70, 1, 9)]
)
def test_extreme_sizes(queries: int, tokens: int, channels: int, value_channels: int) -> None:
    torch.manual_seed(0)
    case = Case(
        torch.randn(1, channels, queries), torch.randn(1, channels, tokens), torch.randn(1, value_channels, tokens)
    )
    check(case)
    check(case, top_k=2)


@pytest.mark.parametrize("top_k", [None, 3])
def test_no_queries_and_no_objects(top_k: int | None) -> None:
    case = make_case("shared")
    query, key, value = case.tensors
    assert memory_read(query[..., :0], key, value, top_k=top_k).shape == (2, 3, 6, 3, 0)
    assert memory_read(query, key, value[:, :0], top_k=top_k).shape == (2, 0, 6, 3, 5)
    assert memory_read(query[:0], key[:0], value[:0], top_k=top_k).shape == (0, 3, 6, 3, 5)


def test_result_dtypes() -> None:
    result = make_case("dot", torch.float16, torch.bfloat16).read(memory_read, return_usage=True, return_lse=True)
    assert [t.dtype for t in result] == [torch.bfloat16, torch.float32, torch.float32]


def test_unasked_outputs_are_none() -> None:
    case = make_case("dot")
    assert isinstance(case.read(memory_read), torch.Tensor)
    assert case.read(memory_read, return_lse=True).usage is None
    assert case.read(memory_read, return_usage=True, top_k=2).lse is None
