"""The stand-ins for similarity and affinity do what tensors of the same shape do, and refuse the rest."""

import pytest
import torch
from torch import Tensor

from stm_fast.integrations.affinity import FusedAffinity, LazySimilarity


def similarity(memory: int = 12, queries: int = 7) -> tuple[LazySimilarity, Tensor]:
    """A lazy one and the matrix it stands for."""
    key, shrinkage = torch.randn(1, 6, memory), 1 + torch.rand(1, 1, memory)
    query, selection = torch.randn(1, 6, queries), torch.rand(1, 6, queries)
    distance = (selection[:, :, None] * (key[..., None] - query[:, :, None]).square()).sum(1)
    return LazySimilarity(key, shrinkage, query, selection), -shrinkage.mT * distance / 6**0.5


SLICES = {
    "all": lambda s: s,
    "head": lambda s: s[:, :5],
    "tail": lambda s: s[:, -4:],
    "past the end": lambda s: s[:, -40:30],
    "inner": lambda s: s[:, 2:9][:, 1:-1],
    "queries": lambda s: s[:, 3:, torch.tensor([True, False] * 3 + [True])],
    "joined": lambda s: torch.cat([s[:, :4], s[:, 4:]], 1),
    "with a gap": lambda s: torch.cat([s[:, 1:3], s[:, 8:]], dim=1),
    "out of order": lambda s: torch.cat([s[:, 8:], s[:, :2]], 1)[:, 2:5],
}


@pytest.mark.parametrize("name", SLICES)
def test_slices_read_as_those_of_the_matrix(name: str) -> None:
    lazy, matrix = (SLICES[name](scores) for scores in similarity())
    assert lazy.shape == matrix.shape
    values = torch.randn(3, 4, matrix.shape[1])
    torch.testing.assert_close(values @ lazy.affinity(), values @ matrix.softmax(1), rtol=1e-4, atol=1e-5)


def test_a_slice_in_one_piece_copies_no_key() -> None:
    lazy, _ = similarity()
    whole = torch.cat([lazy[:, :4], lazy[:, 4:]], 1).affinity()
    assert whole.memory_key.data_ptr() == lazy.memory_key.data_ptr()


@pytest.mark.parametrize("product", [torch.bmm, torch.matmul, torch.Tensor.bmm, lambda v, a: v @ a])
def test_every_product_is_the_read(product: object) -> None:
    lazy, matrix = similarity()
    values = torch.randn(1, 4, 12)
    torch.testing.assert_close(product(values, lazy.affinity()), values @ matrix.softmax(1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(4, 12), (3, 4, 12), (2, 1500, 12), (1, 1031, 12)])
def test_values_of_any_number_of_objects_and_channels(shape: tuple[int, ...]) -> None:
    lazy, matrix = similarity()
    values = torch.randn(shape)
    torch.testing.assert_close(values @ lazy.affinity(), values @ matrix.softmax(1), rtol=1e-4, atol=1e-5)


def test_batches_have_their_own_affinity() -> None:
    key, query, values = torch.randn(2, 6, 12), torch.randn(2, 6, 7), torch.randn(2, 1100, 12)
    affinity = FusedAffinity(key, query, similarity="dot")
    expected = values @ (key.mT @ query / 6**0.5).softmax(1)
    torch.testing.assert_close(values @ affinity, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        values[0] @ affinity, values[0] @ (key.mT @ query / 6**0.5).softmax(1), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("top_k", [None, 3, 100])
def test_usage_is_the_sum_over_queries(top_k: int | None) -> None:
    lazy, matrix = similarity()
    kept = matrix.topk(min(top_k or 12, 12), dim=1).values[:, -1:]
    expected = matrix.masked_fill(matrix < kept, -torch.inf).softmax(1).sum(2)
    affinity = lazy.affinity(top_k)
    torch.testing.assert_close(affinity.sum(dim=2), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(affinity.expand(3, -1, -1).usage(), expected.expand(3, -1), rtol=1e-4, atol=1e-5)


def test_gradients_pass() -> None:
    lazy, _ = similarity()
    lazy.memory_key.requires_grad_()
    values = torch.randn(2, 4, 12, requires_grad=True)
    (values @ lazy.affinity()).square().sum().backward()
    assert lazy.memory_key.grad.abs().sum() > 0
    assert values.grad.abs().sum() > 0


def test_what_needs_the_matrix_is_refused() -> None:
    lazy, _ = similarity()
    affinity, values = lazy.affinity(), torch.randn(2, 4, 12)
    batched = FusedAffinity(torch.randn(2, 6, 12), torch.randn(2, 6, 7), similarity="dot")
    refused = [
        lambda: lazy[0],
        lambda: lazy[:, ::2],
        lambda: torch.softmax(lazy, 1),
        lambda: torch.cat([lazy, lazy], 2),
        lambda: torch.cat([lazy, similarity()[0]], 1),
        lambda: torch.cat([lazy[:, :5, :3], lazy[:, 5:, 3:6]], 1),
        lambda: affinity.sum(dim=1),
        lambda: affinity.expand(3, 12, 7),
        lambda: batched.expand(3, -1, -1),
        lambda: torch.matmul(affinity, values),
        lambda: torch.topk(affinity, 3),
        lambda: values[..., :5] @ affinity,
        lambda: torch.randn(3, 4, 12) @ batched,
    ]
    for call in refused:
        with pytest.raises(TypeError, match="needs the matrix that stm-fast does not build; allowed are"):
            call()
