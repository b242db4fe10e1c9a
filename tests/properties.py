"""What must hold for any memory (hypothesis), for every backend and dtype.

The oracle of a changed memory is that of the original one, and the result is held to it as any other is: an error of at
most twice that of the plain formula, plus a rounding band. Scores and statistics are float32 whatever the dtype of the
values, so the band has a part for each.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from hypothesis import strategies as st
from torch import Tensor

from stm_fast.ops import MemoryReadout, memory_read, merge_reads
from tests.ops.oracle import direct_read

Read = dict[str, Any]


class Way(NamedTuple):
    """A backend, a dtype of keys and values, and a device."""

    backend: str
    dtype: torch.dtype
    device: torch.device = torch.device("cpu")

    def __str__(self) -> str:
        return f"{self.backend}, {str(self.dtype).removeprefix('torch.')}"

    def read(self, read: Read, **options: object) -> MemoryReadout:
        """Return value, usage and lse, on the CPU."""
        moved = {name: part.to(self.device) if isinstance(part, Tensor) else part for name, part in read.items()}
        found = memory_read(**moved, **options, return_usage=True, return_lse=True, backend=self.backend)
        return MemoryReadout(*(part.cpu() for part in found))


class Expected:
    """What a read gives, exactly and by the plain formula, and the largest number that its scores are summed from."""

    def __init__(self, read: Read) -> None:
        statistics = torch.float64 if read["memory_key"].dtype == torch.float64 else torch.float32
        self.eps = torch.finfo(statistics).eps
        self.exact, self.plain = direct_read(**read), direct_read(**read, dtype=statistics)
        q, k = read["query_key"].double(), read["memory_key"].double()
        scale = read.get("scale") or q.shape[1] ** -0.5
        e = read.get("selection", torch.ones_like(q)).double()
        s = read.get("shrinkage", torch.ones_like(k[:, :1])).double()
        summed = (e * q.square()).sum(1)[..., None] + 2 * (e * q).abs().mT @ k.abs() + e.mT @ k.square()
        self.largest = 1 + scale * float((s * summed).max())

    def assert_value(self, found: Tensor) -> None:
        self.assert_right(found, self.exact.value, self.plain.value.to(found.dtype))

    def assert_lse(self, found: Tensor, moved: Tensor | float = 0.0) -> None:
        self.assert_right(found, self.exact.lse + moved, self.plain.lse + moved)

    def assert_usage(self, found: Tensor, order: object = slice(None)) -> None:
        self.assert_right(found, self.exact.usage[..., order], self.plain.usage[..., order])

    def assert_right(self, found: Tensor, exact: Tensor, plain: Tensor) -> None:
        finite = exact.isfinite()
        assert torch.equal(found[~finite].double(), exact[~finite])
        if finite.any():
            exact = exact[finite]
            band = 8 * (torch.finfo(found.dtype).eps + self.largest * self.eps) * exact.abs().max()
            assert (found[finite] - exact).abs().max() <= 2 * (plain[finite] - exact).abs().max() + band


@st.composite
def reads(draw: st.DrawFn, way: Way) -> Read:
    """Draw keyword arguments of a read with flat grids."""
    random = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    batch, channels, value_channels = draw(st.integers(1, 3)), draw(st.integers(1, 8)), draw(st.integers(1, 5))
    queries, tokens = draw(st.integers(1, 9)), draw(st.integers(1, 24))
    parts = torch.float64 if way.dtype == torch.float64 else torch.float32

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random, dtype=torch.float64).to(way.dtype)

    def positive(*shape: int) -> Tensor:
        return (torch.rand(shape, generator=random, dtype=torch.float64) + 0.5).to(parts)

    read = {
        "query_key": normal(batch, channels, queries),
        "memory_key": normal(batch, channels, tokens),
        "memory_value": normal(batch, value_channels, tokens),
        "similarity": draw(st.sampled_from(["dot", "l2"])),
        "scale": draw(st.sampled_from([None, 0.125, 2.0])),
    }
    if read["similarity"] == "l2" and draw(st.booleans()):
        read["shrinkage"] = positive(batch, 1, tokens)
    if read["similarity"] == "l2" and draw(st.booleans()):
        read["selection"] = positive(batch, channels, queries)
    if draw(st.booleans()):
        read["memory_mask"] = torch.rand(batch, tokens, generator=random) < 0.8
    return read


def with_tokens(read: Read, index: object) -> Read:
    """Return the same read of some memory tokens."""
    of_tokens = ("memory_key", "memory_value", "shrinkage", "memory_mask")
    return {name: value[..., index] if name in of_tokens else value for name, value in read.items()}


def permuting_the_memory_changes_nothing(way: Way, data: st.DataObject) -> None:
    read = data.draw(reads(way))
    order = data.draw(st.permutations(range(read["memory_key"].shape[-1])))
    expected, shuffled = Expected(read), way.read(with_tokens(read, order))
    expected.assert_value(shuffled.value)
    expected.assert_lse(shuffled.lse)
    expected.assert_usage(shuffled.usage, order)


def splitting_and_merging_changes_nothing(way: Way, data: st.DataObject) -> None:
    read = data.draw(reads(way))
    tokens = read["memory_key"].shape[-1]
    cuts = data.draw(st.lists(st.integers(0, tokens), max_size=3))
    splits = [way.read(with_tokens(read, slice(*bound))) for bound in pairwise(sorted({0, tokens, *cuts}))]
    value, lse = merge_reads([(split.value, split.lse) for split in splits])
    expected = Expected(read)
    expected.assert_value(value)
    expected.assert_lse(lse)


def duplicating_the_memory_changes_nothing(way: Way, data: st.DataObject) -> None:
    read = data.draw(reads(way))
    tokens = read["memory_key"].shape[-1]
    expected, double = Expected(read), way.read(with_tokens(read, list(range(tokens)) * 2))
    expected.assert_value(double.value)
    expected.assert_lse(double.lse, math.log(2))
    expected.assert_usage(double.usage[..., :tokens] + double.usage[..., tokens:])


def adding_a_constant_per_query_changes_nothing(way: Way, data: st.DataObject) -> None:
    """A channel in which all keys are one adds its query's number to every score."""
    drawn = data.draw(reads(way))
    query_key, memory_key = drawn["query_key"], drawn["memory_key"]
    read = {"query_key": query_key, "memory_key": memory_key, "memory_value": drawn["memory_value"]}
    scale = query_key.shape[1] ** -0.5
    constant = torch.linspace(-50, 50, query_key.shape[-1]).to(way.dtype).expand_as(query_key[:, :1])
    shifted = {
        **read,
        "query_key": torch.cat([query_key, constant], 1),
        "memory_key": torch.cat([memory_key, torch.ones_like(memory_key[:, :1])], 1),
    }
    moved, expected = way.read(shifted, scale=scale), Expected(read)
    expected.largest += 50 * scale
    expected.assert_value(moved.value)
    expected.assert_usage(moved.usage)
    expected.assert_lse(moved.lse, scale * constant[:, 0].double())


def usage_sums_to_the_number_of_queries(way: Way, data: st.DataObject) -> None:
    read = data.draw(reads(way))
    result = way.read(read, top_k=data.draw(st.one_of(st.none(), st.integers(1, 30))))
    number = result.lse.isfinite().sum(-1).double()
    Expected(read).assert_right(result.usage.sum(-1), number, number)


def top_k_of_everything_is_dense(way: Way, data: st.DataObject) -> None:
    read = data.draw(reads(way))
    result = way.read(read, top_k=read["memory_key"].shape[-1] + data.draw(st.integers(0, 5)))
    expected = Expected(read)
    expected.assert_value(result.value)
    expected.assert_lse(result.lse)
    expected.assert_usage(result.usage)


def reading_ones_gives_ones(way: Way, data: st.DataObject) -> None:
    read = data.draw(reads(way))
    result = way.read({**read, "memory_value": torch.ones_like(read["memory_value"])})
    ones = result.lse.isfinite().double()[:, None].expand_as(result.value)
    Expected(read).assert_right(result.value, ones, ones)


PROPERTIES: list[Callable[[Way, st.DataObject], None]] = [
    permuting_the_memory_changes_nothing,
    splitting_and_merging_changes_nothing,
    duplicating_the_memory_changes_nothing,
    adding_a_constant_per_query_changes_nothing,
    usage_sums_to_the_number_of_queries,
    top_k_of_everything_is_dense,
    reading_ones_gives_ones,
]
