"""The read under torch.compile and torch.export, and with tensors that have no numbers."""

import pytest
import torch
from torch import Tensor

from stm_fast.ops import memory_read
from tests.ops.cases import make_case

OPS = torch.ops.stm_fast


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("top_k", [None, 4, 25])
def test_an_exported_read_has_the_gradients_of_the_eager_one(top_k: int | None, backend: str) -> None:
    class Reader(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward(self, query_key: Tensor, memory_key: Tensor, memory_value: Tensor) -> Tensor:
            return memory_read(query_key * self.weight, memory_key, memory_value, top_k=top_k, backend=backend)

    case = make_case("dot")
    reader = Reader()
    exported = torch.export.export(reader, tuple(case.tensors[:3])).module()
    gradients = []
    for module in (reader, exported):
        module(*case.tensors[:3]).square().sum().backward()
        gradients.append(next(iter(module.parameters())).grad)
    assert gradients[0].abs() > 0
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("top_k", [None, 4])
def test_compiles_without_graph_breaks(top_k: int | None) -> None:
    """Forward and backward; the graph is what matters, so it is not turned into machine code."""
    case = make_case("masked").requires_grad()

    def loss(query_key: Tensor, memory_key: Tensor, memory_value: Tensor) -> Tensor:
        result = memory_read(
            query_key, memory_key, memory_value, **case.options, top_k=top_k, return_usage=True, return_lse=True
        )
        return result.value.square().sum() + result.lse[0].sum() + result.usage.sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")(*case.tensors[:3])
    expected = loss(*case.tensors[:3])
    torch.testing.assert_close(compiled, expected)
    torch.testing.assert_close(torch.autograd.grad(compiled, case.tensors), torch.autograd.grad(expected, case.tensors))


def test_compiled_read_serves_a_growing_memory() -> None:
    compiled = torch.compile(memory_read, fullgraph=True, backend="aot_eager", dynamic=True)
    case = make_case("dot")
    for frames in (1, 2):
        key, value = case.memory_key[:, :, :frames], case.memory_value[:, :, :frames]
        torch.testing.assert_close(compiled(case.query_key, key, value), memory_read(case.query_key, key, value))


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_compiled_top_k_of_a_memory_with_fewer_tokens(backend: str, dynamic: bool) -> None:
    """Where the memory has 15 tokens and where it has 30."""
    torch.compiler.reset()
    options = {"top_k": 20, "return_usage": True, "return_lse": True, "backend": backend}
    compiled = torch.compile(memory_read, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for frames in (1, 2):
        results = []
        for function in (memory_read, compiled):
            case = make_case("dot")
            leaves = [case.query_key, case.memory_key[:, :, :frames], case.memory_value[:, :, :frames]]
            leaves = [leaf.clone().requires_grad_() for leaf in leaves]
            result = function(*leaves, **options)
            (result.value.square().sum() + result.lse.sum()).backward()
            results.append([*result, *(leaf.grad for leaf in leaves)])
        for eager, mine in zip(*results, strict=True):
            assert torch.equal(eager, mine)


@pytest.mark.parametrize("top_k", [None, 4, 25])
def test_exports_with_a_memory_of_any_length(top_k: int | None) -> None:
    class Reader(torch.nn.Module):
        def forward(self, query_key: Tensor, memory_key: Tensor, memory_value: Tensor) -> Tensor:
            return memory_read(query_key, memory_key, memory_value, similarity="l2", top_k=top_k)

    case = make_case("l2")
    tokens = torch.export.Dim("tokens", min=2, max=1 << 20)
    program = torch.export.export(
        Reader(), tuple(t.flatten(2) for t in case.tensors), dynamic_shapes=(None, {2: tokens}, {2: tokens})
    )
    shorter = [case.query_key.flatten(2), *(t.flatten(2)[..., :17] for t in case.tensors[1:])]
    torch.testing.assert_close(program.module()(*shorter), memory_read(*shorter, similarity="l2", top_k=top_k))


@pytest.mark.parametrize("top_k", [None, 4])
def test_tensors_without_numbers_give_shapes(top_k: int | None) -> None:
    """The meta device has no autocast."""
    case = make_case("masked")
    options = {name: value.to("meta") if isinstance(value, Tensor) else value for name, value in case.options.items()}
    tensors = [tensor.to("meta") for tensor in case.tensors[:3]]
    result = memory_read(*tensors, **options, top_k=top_k, return_usage=True, return_lse=True)
    assert [tuple(tensor.shape) for tensor in result] == [(2, 6, 3, 5), (2, 2, 3, 5), (2, 3, 5)]
