"""Grids, strides and shared memory: everything is read where it lies."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from stm_fast.ops import dispatch, memory_read, schemas
from stm_fast.ops.calls import OPERATIONS
from tests.ops.cases import make_case


def bank_view(tensor: Tensor) -> Tensor:
    """The same numbers in a slice of a bank with room for more frames, its spare room poisoned."""
    bank = tensor.new_full((*tensor.shape[:2], tensor.shape[2] + 3, *tensor.shape[3:]), torch.nan)
    bank[:, :, 1:-2] = tensor
    return bank[:, :, 1:-2]


def tokens_last(tensor: Tensor) -> Tensor:
    """The same numbers with channels innermost, as channels-last convolutions write them."""
    return tensor.movedim(1, -1).contiguous().movedim(-1, 1)


def spread(tensor: Tensor) -> Tensor:
    """The same numbers with a gap after each of them."""
    return torch.stack([tensor, torch.full_like(tensor, torch.nan)], -1)[..., 0]


def cropped(tensor: Tensor) -> Tensor:
    """The same numbers inside a wider grid: no view of it is flat."""
    return torch.nn.functional.pad(tensor, (1, 2, 2, 1), value=torch.nan)[..., 2:-1, 1:-2]


LAYOUTS = [bank_view, tokens_last, spread, cropped]
Layout = Callable[[Tensor], Tensor]


class ReadInputs(TorchDispatchMode):
    """Where the tensors lie that are handed to the ops of the read."""

    def __init__(self) -> None:
        super().__init__()
        self.storages: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "stm_fast":
            self.storages |= {arg.untyped_storage().data_ptr() for arg in args if isinstance(arg, Tensor)}
        return func(*args, **(kwargs or {}))


class LargestTensor(TorchDispatchMode):
    """Elements of the largest tensor that any operation makes, inside the reference backend as well."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "stm_fast":
            with self:
                if func is torch.ops.stm_fast.top_k_usage.default:
                    return schemas.top_k_usage(*args)
                return dispatch.run_flat(OPERATIONS[func.overloadpacket.__name__], *args[:-1], "reference")
        result = func(*args, **(kwargs or {}))
        tensors = result if isinstance(result, tuple | list) else [result]
        self.elements = max(self.elements, *(t.numel() for t in tensors if isinstance(t, Tensor)), 0)
        return result


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("top_k", [None, 4])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_strides(layout: Layout, top_k: int | None) -> None:
    case = make_case("xmem")
    expected = case.read(memory_read, top_k=top_k, return_usage=True)
    case.memory_key, case.memory_value = layout(case.memory_key), layout(case.memory_value)
    if layout is not bank_view:
        case.query_key = layout(case.query_key)
    result = case.read(memory_read, top_k=top_k, return_usage=True)
    torch.testing.assert_close(result[:2], expected[:2])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradients_with_any_strides(layout: Layout) -> None:
    case = make_case("dot").requires_grad()
    expected = torch.autograd.grad(case.read(memory_read).square().sum(), case.tensors)
    value = memory_read(case.query_key, layout(case.memory_key), layout(case.memory_value))
    torch.testing.assert_close(torch.autograd.grad(value.square().sum(), case.tensors), expected)


@pytest.mark.parametrize("layout", [bank_view, tokens_last, spread])
def test_memory_is_not_copied(layout: Layout) -> None:
    case = make_case("l2")
    key, value = layout(case.memory_key), layout(case.memory_value)
    with ReadInputs() as inputs:
        memory_read(case.query_key, key, value, similarity="l2", return_usage=True)
    assert {tensor.untyped_storage().data_ptr() for tensor in (case.query_key, key, value)} <= inputs.storages


def test_expanded_memory_and_query() -> None:
    """Stride 0 over the batch: one memory or one frame for all."""
    case = make_case("dot")
    query, key = case.query_key[:1].expand(2, -1, -1, -1), case.memory_key[:1].expand(2, -1, -1, -1, -1)
    with ReadInputs() as inputs:
        result = memory_read(query, key, case.memory_value)
    assert {query.untyped_storage().data_ptr(), key.untyped_storage().data_ptr()} <= inputs.storages
    torch.testing.assert_close(result, memory_read(query.contiguous(), key.contiguous(), case.memory_value))


def test_flat_grids_are_grids() -> None:
    case = make_case("xmem")
    grid = case.read(memory_read, return_usage=True, return_lse=True)
    options = {name: value.flatten(2) for name, value in case.options.items() if isinstance(value, Tensor)}
    flat = memory_read(
        *(tensor.flatten(2) for tensor in case.tensors[:3]),
        similarity="l2",
        **options,
        return_usage=True,
        return_lse=True,
    )
    assert [tuple(tensor.shape) for tensor in grid] == [(2, 6, 3, 5), (2, 2, 3, 5), (2, 3, 5)]
    torch.testing.assert_close(tuple(flat), (grid.value.flatten(2), grid.usage.flatten(1), grid.lse.flatten(1)))


@pytest.mark.parametrize("top_k", [None, 5])
def test_extra_memory_does_not_grow_with_queries_times_memory(top_k: int | None) -> None:
    """No tensor that a read, its gradients or its usage make comes near to the affinity."""
    queries, tokens = 1500, 6000
    sizes = ((1, 4, queries), (1, 4, tokens), (1, 4, tokens))
    tensors = [torch.randn(size).requires_grad_() for size in sizes]
    with LargestTensor() as tensor:
        memory_read(*tensors, similarity="l2", top_k=top_k, return_usage=True).value.sum().backward()
    assert tensors[1].numel() <= tensor.elements <= queries * tokens / 16


def test_a_top_k_above_the_memory_costs_what_the_memory_does() -> None:
    case = make_case("dot")
    with LargestTensor() as tensor:
        result = case.read(memory_read, top_k=100_000, return_usage=True, return_lse=True)
    batch, tokens, queries, channels = 2, 30, 15, 6
    assert tensor.elements <= batch * tokens * queries * channels
    torch.testing.assert_close(tuple(result), tuple(case.read(memory_read, return_usage=True, return_lse=True)))


def test_nothing_of_the_size_of_the_affinity_is_saved() -> None:
    sizes: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    case = make_case("xmem").requires_grad()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        memory_read(case.query_key.repeat(1, 1, 9, 9), case.memory_key, case.memory_value)
    assert sizes
    assert max(sizes) <= 2 * 6 * 15 * 81 < 2 * 30 * 15 * 81
