"""The engines on a real GPU, at real shapes: what an interpreter cannot show."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from stm_fast.ops import memory_read
from stm_fast.ops.backends import registry
from tests.kernels.conftest import cuda_can_be_built

if not torch.cuda.is_available():
    pytest.skip("no GPU", allow_module_level=True)

# Where they can be built the CUDA kernels must serve.
ENGINES = ["triton", "cuda"] if cuda_can_be_built() else ["triton"]
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 3e-3}
DTYPES = list(TOLERANCE)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_engine_is_there(engine: str) -> None:
    assert registry.availability()[engine] is None


def tensors(
    dtype: torch.dtype, channels: int = 64, rows: int = 512, frames: int = 5, objects: int = 1
) -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator("cuda").manual_seed(0)
    shapes = (1, channels, 30, 54), (1, channels, frames, 30, 54), (1, objects, rows, frames, 30, 54)
    query, key, value = (torch.randn(shape, generator=random, device="cuda").to(dtype) for shape in shapes)
    return query, key, value


def relative(fast: Tensor, exact: Tensor) -> float:
    return float((fast.double() - exact.double()).norm() / exact.double().norm())


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("channels", "rows", "objects"), [(128, 512, 1), (64, 512, 4), (64, 256, 1), (256, 1024, 1)])
def test_read_and_gradients(engine: str, dtype: torch.dtype, channels: int, rows: int, objects: int) -> None:
    results = []
    for backend, precision in ((engine, dtype), ("reference", torch.float64)):
        parts = [part.to(precision).requires_grad_() for part in tensors(dtype, channels, rows, 2, objects)]
        read = memory_read(*parts, return_usage=True, return_lse=True, backend=backend)
        upstream = torch.randn(read.value.shape, generator=torch.Generator("cuda").manual_seed(1), device="cuda")
        loss = (read.value * upstream.to(dtype).to(precision)).sum() + read.lse.sum()
        results.append([*read, *torch.autograd.grad(loss, parts)])
    for fast, exact in zip(*results, strict=True):
        assert relative(fast, exact) < TOLERANCE[dtype]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("top_k", [1, 30, 128])
@pytest.mark.parametrize("similarity", ["dot", "l2"])
def test_top_k(engine: str, top_k: int, similarity: str) -> None:
    results = []
    for backend in (engine, "reference"):
        parts = [part.requires_grad_() for part in tensors(torch.float32)]
        options = {"similarity": similarity, "top_k": top_k, "return_usage": True, "return_lse": True}
        read = memory_read(*parts, **options, backend=backend)
        loss = read.value.square().sum() + read.lse.sum()
        results.append([*read, *torch.autograd.grad(loss, parts)])
    fast, exact = (result[0].flatten(3) for result in results)
    same = ((fast - exact).norm(dim=2) < 1e-3 * exact.norm(dim=2)).float().mean()
    assert same > 0.995  # of nearly equal scores either may be chosen
    for fast, exact in zip(*(result[1:] for result in results), strict=True):
        assert relative(fast, exact) < 5e-2


DTYPE_PAIRS = [
    (torch.float32, torch.bfloat16),
    (torch.bfloat16, torch.bfloat16),
    (torch.bfloat16, torch.float32),
    (torch.float16, torch.bfloat16),
]
OPTIONS: dict[str, dict[str, object]] = {
    "plain": {},
    "shrinkage and selection": {"similarity": "l2", "shrinkage": True, "selection": True},
    "masked": {"memory_mask": True},
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=list(OPTIONS))
@pytest.mark.parametrize("dtypes", DTYPE_PAIRS, ids=["32-16", "16", "16-32", "16-other 16"])
@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
def test_every_operand_layout_and_mixed_dtypes(
    engine: str, options: dict[str, object], dtypes: tuple[torch.dtype, torch.dtype], last: bool
) -> None:
    query, key, value = (part.flatten(3 if part.ndim == 6 else 2) for part in tensors(torch.float32, 64, 512, 2))
    random = torch.Generator("cuda").manual_seed(2)
    given = {
        "shrinkage": torch.rand(1, 1, key.shape[2], device="cuda", generator=random) + 0.5,
        "selection": torch.rand(query.shape, device="cuda", generator=random),
        "memory_mask": torch.rand(1, key.shape[2], device="cuda", generator=random) < 0.7,
    }
    upstream = torch.randn(*value.shape[:3], query.shape[2], device="cuda", generator=random).bfloat16().double()
    results = []
    for backend in (engine, "reference"):
        parts = [part.to(dtype) for part, dtype in zip((query, key, value), (dtypes[0], *dtypes), strict=True)]
        if last:
            parts = [part.mT.contiguous().mT for part in parts]
        if backend == "reference":
            parts = [part.double() for part in parts]
        chosen = {name: given[name] if choice is True else choice for name, choice in options.items()}
        parts = [part.requires_grad_() for part in parts]
        read = memory_read(*parts, **chosen, return_lse=True, backend=backend)
        loss = (read.value.double() * upstream.view_as(read.value)).sum() + read.lse.double().sum()
        results.append([*read[::2], *torch.autograd.grad(loss, parts)])
    for fast, exact in zip(*results, strict=True):
        assert relative(fast, exact) < TOLERANCE[torch.bfloat16]


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.parametrize("engine", ENGINES)
def test_another_gpu_than_the_current_one(engine: str) -> None:
    parts = tensors(torch.bfloat16)
    here = memory_read(*parts, backend=engine)
    there = memory_read(*(part.to("cuda:1") for part in parts), backend=engine)
    assert there.device == torch.device("cuda:1")
    assert torch.equal(there.to(here.device), here)


@pytest.mark.parametrize("engine", ENGINES)
def test_beyond_32_bit_offsets(engine: str) -> None:
    tokens = 2**31 // 512 + 10_000
    if torch.cuda.mem_get_info()[0] < 12 << 30:
        pytest.skip("needs 12 GB of free device memory")
    value = torch.zeros(1, 512, tokens, dtype=torch.bfloat16, device="cuda")
    key = torch.zeros(1, 16, tokens, dtype=torch.bfloat16, device="cuda")
    key[..., -1], value[..., -1] = 8, torch.arange(512, device="cuda").bfloat16()
    query = torch.full((1, 16, 20), 8.0, dtype=torch.bfloat16, device="cuda")
    for top_k in (None, 4):
        read = memory_read(query, key, value, scale=1.0, top_k=top_k, backend=engine)
        assert torch.equal(read, value[..., -1:].expand_as(read))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("top_k", [None, 30])
def test_the_same_bits_every_time(engine: str, top_k: int | None) -> None:
    def run() -> list[Tensor]:
        parts = [part.requires_grad_() for part in tensors(torch.bfloat16)]
        read = memory_read(*parts, top_k=top_k, backend=engine)
        return [read, *torch.autograd.grad(read.float().square().sum(), parts)]

    for first, second in zip(run(), run(), strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("top_k", [None, 30])
def test_cuda_graph(engine: str, top_k: int | None) -> None:
    query, key, value = tensors(torch.bfloat16)

    def read() -> Tensor:
        return memory_read(query, key, value, top_k=top_k, backend=engine)

    read()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = read()
    query.copy_(query.flip(-1))
    graph.replay()
    assert torch.equal(captured, read())


def on_side_stream(run: Callable[[], Tensor]) -> Tensor:
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        result = run()
    torch.cuda.current_stream().wait_stream(stream)
    return result


@pytest.mark.parametrize("engine", ENGINES)
def test_current_stream(engine: str) -> None:
    query, key, value = tensors(torch.bfloat16)
    other = key.flip(-1).contiguous()
    expected = memory_read(query, other, value, backend=engine)

    def late() -> Tensor:
        torch.cuda._sleep(50_000_000)
        key.copy_(other)
        return memory_read(query, key, value, backend=engine)

    assert torch.equal(on_side_stream(late), expected)


@pytest.mark.parametrize("engine", ENGINES)
def test_compiled_and_under_autocast(engine: str) -> None:
    parts = [part.requires_grad_() for part in tensors(torch.float32)]

    def read(*parts: Tensor) -> Tensor:
        return memory_read(*parts, backend=engine)

    with torch.autocast("cuda", torch.bfloat16):
        compiled, eager = torch.compile(read, fullgraph=True)(*parts), read(*parts)
    assert compiled.dtype == torch.bfloat16
    assert relative(compiled, eager) < 1e-2
    gradients = [torch.autograd.grad(result.float().square().sum(), parts) for result in (compiled, eager)]
    for fast, slow in zip(*gradients, strict=True):
        assert relative(fast, slow) < 2e-2


@pytest.mark.skipif(torch.version.hip is not None, reason="AMD has no TensorFloat-32")
def test_tf32_only_where_torch_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = tensors(torch.float32)
    exact = memory_read(*(part.double() for part in parts), backend="reference")
    errors = []
    for allowed in (False, True):
        monkeypatch.setattr(torch.backends.cuda.matmul, "fp32_precision", "tf32" if allowed else "ieee")
        errors.append(relative(memory_read(*parts, backend="triton"), exact))
    assert errors[0] < 1e-5 < errors[1]
