"""The read under torch's own machinery."""

import pytest
import torch
from torch import Tensor, library

from stm_fast.kernels.operands import Operands
from stm_fast.ops import memory_read
from tests.ops.cases import make_case

OPS = torch.ops.stm_fast


def operands(dtype: torch.dtype = torch.float32) -> Operands:
    gain, bias = torch.rand(2, 7), torch.randn(2, 7)
    return Operands(torch.randn(2, 4, 5).to(dtype), torch.randn(2, 4, 7).to(dtype), gain, torch.randn(2, 5), bias, 0.5)


@pytest.mark.parametrize("affine", [True, False])
def test_ops_keep_to_their_schemas(affine: bool) -> None:
    torch.manual_seed(0)
    op = operands() if affine else Operands(*operands()[:2], None, None, None, 0.5)
    value = torch.randn(2, 3, 6, 7, dtype=torch.bfloat16)
    out, lse = OPS.read(*op, value, "auto")
    chosen, top_lse, indices, weights = OPS.top_k_read(*op, value, 3, "auto")
    calls = {
        OPS.read: (value,),
        OPS.read_backward: (value, out, lse, out, lse, [True, True, False]),
        OPS.usage: (lse,),
        OPS.top_k_read: (value, 9),
        OPS.top_k_read_backward: (value, chosen, indices, weights, chosen, top_lse, [False, True, True]),
    }
    for op_packet, arguments in calls.items():
        library.opcheck(op_packet.default, (*op, *arguments, "reference"))


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_ops_are_differentiable_by_themselves(backend: str) -> None:
    """So programs that hold the ops alone, such as exported ones, have gradients."""
    torch.manual_seed(0)
    op = operands(torch.float32)
    op = Operands(*(part.requires_grad_() if isinstance(part, Tensor) else part for part in op))
    value = torch.randn(2, 3, 6, 7, requires_grad=True)
    library.opcheck(OPS.read.default, (*op, value, backend))
    library.opcheck(OPS.top_k_read.default, (*op, value, 3, backend))


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


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_the_op_reads_no_more_tokens_than_there_are(backend: str) -> None:
    op, value = operands(), torch.randn(2, 1, 6, 7)
    exact = OPS.top_k_read(*op, value, 7, backend)
    outputs = OPS.top_k_read(*op, value, 200, backend)
    assert outputs[2].shape == outputs[3].shape == (2, 5, 7)
    assert all(map(torch.equal, outputs, exact))


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
def test_autocast_reads_in_its_dtype(top_k: int | None) -> None:
    """As for a matrix product: float32 and other 16-bit inputs are cast, the statistics stay float32."""
    case = make_case("xmem").requires_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = case.read(memory_read, top_k=top_k, return_lse=True, return_usage=True)
    assert [t.dtype for t in result] == [torch.bfloat16, torch.float32, torch.float32]
    rounded = [t.detach().bfloat16() for t in case.tensors[:3]]
    torch.testing.assert_close(result.value, memory_read(*rounded, **case.options, top_k=top_k))
    result.value.float().sum().backward()
    assert all(tensor.grad.dtype == torch.float32 for tensor in case.tensors)


def test_autocast_leaves_float64_and_disabled_regions_alone() -> None:
    double, single = make_case("dot", torch.float64), make_case("dot")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(double.read(memory_read), make_case("dot", torch.float64).read(memory_read))
        with torch.autocast("cpu", enabled=False):
            inside = single.read(memory_read)
    torch.testing.assert_close(inside, single.read(memory_read))


def test_autocast_does_not_reach_into_the_backend() -> None:
    """A backend's own matrix products keep their precision when an op is called inside an autocast region."""
    op, value = operands(), torch.randn(2, 1, 6, 7)
    expected = OPS.read(*op, value, "reference")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(OPS.read(*op, value, "reference"), expected)


@pytest.mark.parametrize("top_k", [None, 4])
def test_tensors_without_numbers_give_shapes(top_k: int | None) -> None:
    """The meta device has no autocast."""
    case = make_case("masked")
    options = {name: value.to("meta") if isinstance(value, Tensor) else value for name, value in case.options.items()}
    tensors = [tensor.to("meta") for tensor in case.tensors[:3]]
    result = memory_read(*tensors, **options, top_k=top_k, return_usage=True, return_lse=True)
    assert [tuple(tensor.shape) for tensor in result] == [(2, 6, 3, 5), (2, 2, 3, 5), (2, 3, 5)]


def test_inference_mode() -> None:
    case = make_case("xmem").requires_grad()
    with torch.inference_mode():
        result = case.read(memory_read, return_usage=True)
    assert result.value.is_inference()
    torch.testing.assert_close(result.value, case.read(memory_read).detach())


def test_trains_under_distributed_data_parallel() -> None:
    """A group of one process: DDP's gradient hooks see the gradients of a plain backward pass.

    The DDP module goes before its group does. Otherwise it is the group's last owner and joins gloo's threads while it
    holds the GIL; one of them may need the GIL to free the work that it has done, and both wait for ever.
    """
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        case = make_case("dot")
        model = torch.nn.Conv2d(5, 5, 1)
        gradients = []
        for wrap in (lambda module: module, torch.nn.parallel.DistributedDataParallel):
            model.zero_grad()
            memory_read(wrap(model)(case.query_key), case.memory_key, case.memory_value).square().sum().backward()
            gradients.append(model.weight.grad.clone())
    finally:
        torch.distributed.destroy_process_group()
    torch.testing.assert_close(*gradients)
