"""Gradients to every input, through value and lse."""

import math

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from stm_fast.ops import memory_read
from tests.ops.cases import KINDS, Case, make_case
from tests.ops.oracle import assert_close_gradients, direct_read

pytestmark = pytest.mark.usefixtures("poisoned")


def gradients(case: Case, function: object, dtype: torch.dtype, **options: object) -> list[Tensor]:
    """Gradients of a random projection of value and lse."""
    value, _, lse = case.read(function, **options)
    random = torch.Generator().manual_seed(1)
    projection = (value * torch.randn(value.shape, generator=random).to(dtype)).sum()
    projection = projection + (lse.masked_fill(lse == -math.inf, 0) * torch.randn(lse.shape, generator=random)).sum()
    return list(torch.autograd.grad(projection, case.tensors))


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("top_k", "dtype", "relative"),
    [
        (None, torch.float64, 1e-10),
        (None, torch.float32, 1e-5),
        (None, torch.bfloat16, 2e-2),
        (4, torch.float64, 1e-10),
        (4, torch.float32, 1e-5),
    ],
)
def test_gradients_of_the_oracle(kind: str, top_k: int | None, dtype: torch.dtype, relative: float) -> None:
    case = make_case(kind, dtype).requires_grad()
    fast = gradients(case, memory_read, dtype, top_k=top_k, return_lse=True)
    for tensor, gradient, oracle in zip(
        case.tensors, fast, gradients(case, direct_read, dtype, top_k=top_k), strict=True
    ):
        assert gradient.dtype == tensor.dtype
        assert gradient.shape == tensor.shape
        assert_close_gradients(gradient, oracle.double(), relative)


@pytest.mark.parametrize("kind", ["dot", "xmem", "masked"])
@pytest.mark.parametrize("top_k", [None, 3])
def test_gradcheck(kind: str, top_k: int | None) -> None:
    case = make_case(kind, torch.float64)
    case.query_key, case.memory_value = case.query_key[:, :, :2, :2], case.memory_value[:, :2]
    if "selection" in case.options:
        case.options["selection"] = case.options["selection"][:, :, :2, :2]
    case.requires_grad()

    def read(*tensors: Tensor) -> tuple[Tensor, Tensor]:
        query_key, memory_key, memory_value, *rest = tensors
        options = {**case.options, **dict(zip(("shrinkage", "selection"), rest, strict=False))}
        result = memory_read(query_key, memory_key, memory_value, **options, top_k=top_k, return_lse=True)
        return result.value, result.lse.masked_fill(result.lse == -math.inf, 0)

    assert gradcheck(read, tuple(tensor.detach().clone().requires_grad_() for tensor in case.tensors))


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("top_k", [None, 4])
@pytest.mark.parametrize("only", range(5))
def test_one_input_alone(only: int, top_k: int | None) -> None:
    """What is skipped for the inputs without gradients changes nothing for the one with."""
    case = make_case("xmem")
    case.tensors[only].requires_grad_()
    (alone,) = torch.autograd.grad(case.read(memory_read, top_k=top_k).square().sum(), case.tensors[only])
    case.requires_grad()
    together = torch.autograd.grad(case.read(memory_read, top_k=top_k).square().sum(), case.tensors)
    torch.testing.assert_close(alone, together[only])


def test_unused_value_leaves_the_gradient_of_lse() -> None:
    case = make_case("l2", torch.float64).requires_grad()
    result = case.read(memory_read, return_lse=True).lse.sum()
    oracle = case.read(direct_read).lse.sum()
    tensors = case.tensors[:2]
    for gradient, expected in zip(
        torch.autograd.grad(result, tensors), torch.autograd.grad(oracle, tensors), strict=True
    ):
        torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("top_k", [None, 4])
def test_double_backward_is_refused(top_k: int | None) -> None:
    case = make_case("dot").requires_grad()
    gradient, *_ = torch.autograd.grad(
        case.read(memory_read, top_k=top_k).square().sum(), case.tensors, create_graph=True
    )
    with pytest.raises(RuntimeError, match="memory_read was differentiated twice"):
        gradient.sum().backward()


@pytest.mark.parametrize("top_k", [None, 4])
def test_usage_has_no_gradient(top_k: int | None) -> None:
    case = make_case("dot").requires_grad()
    assert not case.read(memory_read, top_k=top_k, return_usage=True).usage.requires_grad


def test_gradient_of_an_expanded_query_is_summed() -> None:
    """One frame, several objects: the query is expanded over the batch."""
    case = make_case("dot", torch.float64)
    query = case.query_key[:1].clone().requires_grad_()
    expanded = memory_read(query.expand(2, -1, -1, -1), case.memory_key, case.memory_value)
    parts = [memory_read(query, case.memory_key[[i]], case.memory_value[[i]]) for i in range(2)]
    (fast,) = torch.autograd.grad(expanded.square().sum(), query)
    (expected,) = torch.autograd.grad(torch.cat(parts).square().sum(), query)
    torch.testing.assert_close(fast, expected)
