"""Large scores, masks, NaN and ties."""

import math

import pytest
import torch

from stm_fast.ops import memory_read
from tests.ops.cases import make_case
from tests.ops.oracle import direct_read

TOP_K = [None, 4]


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("top_k", TOP_K)
@pytest.mark.parametrize("magnitude", [1e4, 1e15])
def test_large_scores_are_stable(top_k: int | None, magnitude: float) -> None:
    case = make_case("dot").requires_grad()
    result = case.read(memory_read, top_k=top_k, scale=magnitude, return_lse=True, return_usage=True)
    result.value.sum().backward()
    oracle = case.read(direct_read, top_k=top_k, scale=magnitude)
    assert result.lse.abs().max() > magnitude
    torch.testing.assert_close(result.value, oracle.value.float(), rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(result.usage.sum(), torch.tensor(30.0))
    assert all(tensor.grad.isfinite().all() for tensor in case.tensors)


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("top_k", TOP_K)
def test_query_without_memory_reads_zeros(top_k: int | None) -> None:
    case = make_case("masked").requires_grad()
    result = case.read(memory_read, top_k=top_k, return_lse=True, return_usage=True)
    assert (result.value[1] == 0).all()
    assert (result.lse[1] == -math.inf).all()
    assert (result.usage[1] == 0).all()
    assert result.lse[0].isfinite().all()
    result.value.sum().backward()
    assert all((tensor.grad[1] == 0).all() for tensor in case.tensors)
    assert all(tensor.grad[0].isfinite().all() for tensor in case.tensors)


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("top_k", TOP_K)
@pytest.mark.parametrize(("kind", "garbage"), [("dot", 1e4), ("l2", 1e4), ("shrinkage", 1e4), ("xmem", 1e20)])
def test_masked_tokens_do_not_matter(kind: str, garbage: float, top_k: int | None) -> None:
    case = make_case(kind)
    keep = torch.arange(30).view(2, 3, 5).expand(2, 2, 3, 5) % 3 != 1
    case.memory_key.masked_fill_(~keep[:, None], garbage)
    masked = case.read(memory_read, memory_mask=keep, top_k=top_k)
    kept = keep[0].flatten()
    for name in {"shrinkage"} & case.options.keys():
        case.options[name] = case.options[name].flatten(2)[..., kept]
    case.memory_key, case.memory_value = (t.flatten(2)[..., kept] for t in (case.memory_key, case.memory_value))
    torch.testing.assert_close(masked, case.read(memory_read, top_k=top_k))


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("top_k", TOP_K)
def test_nan_in_nan_out(top_k: int | None) -> None:
    case = make_case("dot")
    case.query_key[0, 2, 1, 3] = math.nan
    result = case.read(memory_read, top_k=top_k, return_lse=True)
    expected = torch.zeros(2, 3, 5, dtype=torch.bool)
    expected[0, 1, 3] = True
    assert torch.equal(result.lse.isnan(), expected)
    assert torch.equal(result.value.isnan(), expected[:, None].expand_as(result.value))

    case = make_case("dot")
    case.memory_key[1, 0, 1, 2, 4] = math.nan
    result = case.read(memory_read, top_k=top_k, return_lse=True)
    assert result.value[1].isnan().all()
    assert result.lse[1].isnan().all()
    assert not result.value[0].isnan().any()


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("top_k", TOP_K)
@pytest.mark.parametrize("bits", [0x7FC00000, 0x7FFFFFFF, -1])
@pytest.mark.parametrize("tokens", [2, 600])
def test_nan_is_seen_beside_tokens_that_do_not_count(tokens: int, bits: int, top_k: int | None) -> None:
    """Of any payload, beside masked tokens, and in a tile that is otherwise negligible."""
    query, key, value = torch.ones(1, 1, 50), torch.zeros(1, 1, tokens), torch.ones(1, 3, tokens)
    key[..., : tokens // 2] = 100
    key[..., tokens // 2] = torch.tensor(bits, dtype=torch.int32).view(torch.float32)
    mask = torch.ones(1, tokens, dtype=torch.bool)
    mask[..., 1:] = tokens > 2
    result = memory_read(query, key, value, scale=1.0, top_k=top_k, return_lse=True)
    assert result.lse.isnan().all()
    assert result.value.isnan().all()
    result = memory_read(query, key.roll(-(tokens // 2), -1), value, memory_mask=mask, scale=1.0, top_k=top_k)
    assert result.isnan().all()


@pytest.mark.usefixtures("engine")
def test_numbers_near_the_largest() -> None:
    """A masked token may hold anything finite."""
    case = make_case("dot")
    largest = torch.finfo(torch.float32).max
    keep = torch.arange(30).view(2, 3, 5).expand(2, 2, 3, 5) != 7
    expected = case.read(memory_read, memory_mask=keep)
    case.memory_value.masked_fill_(~keep[:, None], largest)
    torch.testing.assert_close(case.read(memory_read, memory_mask=keep), expected)


@pytest.mark.usefixtures("engine")
def test_nan_value_reaches_its_channel() -> None:
    case = make_case("dot")
    case.memory_value[0, 3, 0, 0, 0] = math.nan
    result = case.read(memory_read)
    assert result[0, 3].isnan().all()
    assert result.isnan().sum() == 15


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_value_that_is_not_finite_is_seen_whatever_its_weight(number: float, dtype: torch.dtype) -> None:
    """In the plain formula its weight of zero makes NaN of it; kernels pass over whole tiles of such weights."""
    query, key, value = torch.ones(1, 1, 50), torch.zeros(1, 1, 1200), torch.ones(1, 3, 1200)
    key[..., :300] = 100
    value[0, 1, 1000] = number
    result = memory_read(query.to(dtype), key.to(dtype), value.to(dtype), scale=1.0)
    assert result[0, 1].isnan().all()
    assert torch.equal(result[0, [0, 2]], torch.ones(2, 50, dtype=dtype))


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("top_k", [1, 2, 3, 5, 9, 13])
def test_ties_go_to_the_lower_index(top_k: int) -> None:
    """Scores take three levels, so that ties cross every boundary of tiles and choice."""
    torch.manual_seed(0)
    memory_key = torch.randint(0, 3, (2, 1, 40)).float()
    query_key = torch.tensor([1.0, -1.0, 0.0, 2.0, -0.5]).expand(2, 1, 5)
    one_hot = torch.eye(40).expand(2, 40, 40)
    weights = memory_read(query_key, memory_key, one_hot, top_k=top_k)
    oracle = direct_read(query_key, memory_key, one_hot, top_k=top_k)
    torch.testing.assert_close(weights, oracle.value.float())


def test_half_precision_keys_far_from_the_origin() -> None:
    """The squares of the selection's channels would overflow float16 if keys were not centred."""
    case = make_case("xmem", torch.float16)
    case.query_key += 500
    case.memory_key += 500
    oracle = case.read(direct_read)
    torch.testing.assert_close(case.read(memory_read).double(), oracle.value, rtol=0, atol=0.03)


def test_selection_of_16_bit_keys_is_not_rounded_again() -> None:
    """Only the keys themselves are of 16 bits, not their squares."""
    short = make_case("xmem", torch.bfloat16, torch.float32)
    long = make_case("xmem", torch.bfloat16, torch.float32)
    long.query_key, long.memory_key = long.query_key.float(), long.memory_key.float()
    torch.testing.assert_close(short.read(memory_read), long.read(memory_read))


@pytest.mark.parametrize("kind", ["selection", "xmem", "masked"])
def test_keys_without_gradients_are_prepared_to_the_same_bits(kind: str) -> None:
    plain = make_case(kind).read(memory_read, return_lse=True)
    trained = make_case(kind).requires_grad().read(memory_read, return_lse=True)
    assert torch.equal(plain.value, trained.value)
    assert torch.equal(plain.lse, trained.lse)
