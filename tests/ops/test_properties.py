"""What must hold for any memory (hypothesis)."""

from itertools import pairwise

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stm_fast.ops import MemoryReadout, memory_read, merge_reads

TOLERANCE = {"rtol": 1e-9, "atol": 1e-9}
few = settings(max_examples=20)


@st.composite
def reads(draw: st.DrawFn) -> dict[str, object]:
    """Keyword arguments of a float64 read with flat grids."""
    random = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    batch, channels, value_channels = draw(st.integers(1, 3)), draw(st.integers(1, 8)), draw(st.integers(1, 5))
    queries, tokens = draw(st.integers(1, 9)), draw(st.integers(1, 24))

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random, dtype=torch.float64)

    read = {
        "query_key": normal(batch, channels, queries),
        "memory_key": normal(batch, channels, tokens),
        "memory_value": normal(batch, value_channels, tokens),
        "similarity": draw(st.sampled_from(["dot", "l2"])),
        "scale": draw(st.sampled_from([None, 0.1, 3.0])),
    }
    if read["similarity"] == "l2" and draw(st.booleans()):
        read["shrinkage"] = normal(batch, 1, tokens).exp()
    if read["similarity"] == "l2" and draw(st.booleans()):
        read["selection"] = normal(batch, channels, queries).exp()
    if draw(st.booleans()):
        read["memory_mask"] = torch.rand(batch, tokens, generator=random) < 0.8
    return read


def full(**read: object) -> MemoryReadout:
    return memory_read(**read, return_usage=True, return_lse=True)


def with_tokens(read: dict[str, object], index: object) -> dict[str, object]:
    """The same read of some memory tokens."""
    ours = ("memory_key", "memory_value", "shrinkage", "memory_mask")
    return {name: value[..., index] if name in ours else value for name, value in read.items()}


def assert_same(result: object, expected: object) -> None:
    torch.testing.assert_close(result, expected, **TOLERANCE)


@few
@given(reads(), st.randoms(use_true_random=False))
def test_permuting_the_memory_changes_nothing(read: dict[str, object], random: object) -> None:
    order = list(range(read["memory_key"].shape[-1]))
    random.shuffle(order)
    result, shuffled = full(**read), full(**with_tokens(read, order))
    assert_same((shuffled.value, shuffled.lse), (result.value, result.lse))
    assert_same(shuffled.usage, result.usage[..., order])


@few
@given(reads(), st.lists(st.integers(0, 24), max_size=3))
def test_splitting_and_merging_changes_nothing(read: dict[str, object], cuts: list[int]) -> None:
    tokens = read["memory_key"].shape[-1]
    bounds = sorted({0, tokens, *(cut for cut in cuts if cut < tokens)})
    parts = [full(**with_tokens(read, slice(*bound))) for bound in pairwise(bounds)]
    result = full(**read)
    assert_same(merge_reads([(part.value, part.lse) for part in parts]), (result.value, result.lse))


@few
@given(reads())
def test_duplicating_the_memory_changes_nothing(read: dict[str, object]) -> None:
    tokens = read["memory_key"].shape[-1]
    result, double = full(**read), full(**with_tokens(read, list(range(tokens)) * 2))
    assert_same(double.value, result.value)
    assert_same(double.usage[..., :tokens] + double.usage[..., tokens:], result.usage)


@few
@given(reads())
def test_adding_a_constant_per_query_changes_nothing(read: dict[str, object]) -> None:
    """A channel in which all keys are one adds its query's number to every score."""
    if "shrinkage" in read or read["similarity"] == "l2":
        read = {name: read[name] for name in ("query_key", "memory_key", "memory_value")}
    query_key, memory_key = read["query_key"], read["memory_key"]
    scale = query_key.shape[1] ** -0.5
    constant = torch.linspace(-50, 50, query_key.shape[-1], dtype=torch.float64).expand_as(query_key[:, :1])
    shifted = {
        **read,
        "query_key": torch.cat([query_key, constant], 1),
        "memory_key": torch.cat([memory_key, torch.ones_like(memory_key[:, :1])], 1),
        "scale": scale,
    }
    result, moved = full(**{**read, "scale": scale}), full(**shifted)
    assert_same((moved.value, moved.usage), (result.value, result.usage))
    assert_same(moved.lse, result.lse + scale * constant[:, 0])


@few
@given(reads(), st.one_of(st.none(), st.integers(1, 30)))
def test_usage_sums_to_the_number_of_queries(read: dict[str, object], top_k: int | None) -> None:
    result = full(**read, top_k=top_k)
    assert_same(result.usage.sum(-1), result.lse.isfinite().sum(-1).double())


@few
@given(reads(), st.integers(0, 5))
def test_top_k_of_everything_is_dense(read: dict[str, object], more: int) -> None:
    result = full(**read, top_k=read["memory_key"].shape[-1] + more)
    assert_same(tuple(result), tuple(full(**read)))


@few
@given(reads())
def test_reading_ones_gives_ones(read: dict[str, object]) -> None:
    result = full(**{**read, "memory_value": torch.ones_like(read["memory_value"])})
    assert_same(result.value, result.lse.isfinite().double()[:, None].expand_as(result.value))
