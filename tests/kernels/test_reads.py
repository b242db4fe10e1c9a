"""The GPU kernels against the float64 oracle, at sizes that an interpreter can bear."""

import math
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from stm_fast.errors import BackendUnavailableError
from stm_fast.kernels.operands import Operands
from stm_fast.ops import autograd, memory_read
from stm_fast.ops.calls import Read, ReadBackward, TopKRead, TopKReadBackward, Usage
from stm_fast.ops.dispatch import run_op
from tests.kernels.conftest import Engine
from tests.kernels.operands import doubled, random_read
from tests.ops.cases import KINDS, make_case
from tests.ops.oracle import assert_accurate, assert_close_gradients, direct_read

# Triton's tiles are 16 × 16 with 16 rows here, CUDA's 64 × 32: several along every side, none of them full.
SIZES = [
    # batch, key channels, queries, tokens, objects, value channels
    (1, 1, 1, 1, 1, 1),
    (2, 20, 17, 39, 1, 17),
    (1, 16, 20, 70, 3, 9),
    (1, 130, 5, 33, 1, 8),
    (1, 5, 70, 75, 1, 9),
]
DTYPES = [
    (torch.float32, torch.float32),
    (torch.float16, torch.float16),
    (torch.float32, torch.float16),
    (torch.float16, torch.float32),
    (torch.bfloat16, torch.bfloat16),
    (torch.float32, torch.bfloat16),
    (torch.bfloat16, torch.float32),
    (torch.bfloat16, torch.float16),
    (torch.float16, torch.bfloat16),
]
GRADIENT_ERROR = {torch.float32: 1e-4, torch.float16: 4e-3, torch.bfloat16: 3e-2}
DTYPE_NAMES = ["32", "16", "32-16", "16-32", "bfloat16", "32-bfloat16", "bfloat16-32", "bfloat16-16", "16-bfloat16"]


def refuses(engine: Engine, dtypes: tuple[torch.dtype, torch.dtype]) -> bool:
    """Whether an engine does not read these dtypes; that it says so is checked."""
    if not (engine.name == "triton" and engine.ops.interpreting() and torch.bfloat16 in dtypes):
        return False
    with pytest.raises(BackendUnavailableError, match=r"interpreter multiplies torch\.bfloat16 wrongly"):
        memory_read(*on(engine.device, make_case("dot", *dtypes).tensors[:3]), backend=engine.name)
    return True


@pytest.fixture(autouse=True)
def small(engine: Engine, request: pytest.FixtureRequest) -> None:
    """Tiles so small that even a tiny read crosses them; those of CUDA are what they are."""
    if engine.name == "triton":
        request.getfixturevalue("small_tiles")


def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a kernel forgets to write is NaN, or an index far out."""
    empty = Tensor.new_empty

    def new_empty(tensor: Tensor, *size: object, **options: object) -> Tensor:
        result = empty(tensor, *size, **options)
        return result.fill_(math.nan if result.dtype.is_floating_point else 2**40)

    monkeypatch.setattr(Tensor, "new_empty", new_empty)


@pytest.fixture(autouse=True)
def poison(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    poisoned(monkeypatch)
    torch.use_deterministic_algorithms(engine.name == "cuda")  # poisons what the library allocates
    yield
    torch.use_deterministic_algorithms(False)
    monkeypatch.undo()


@pytest.mark.parametrize("affine", [False, True], ids=["plain", "affine"])
@pytest.mark.parametrize("sizes", SIZES)
def test_kernels_equal_the_reference(sizes: tuple[int, ...], affine: bool, splits: int, engine: Engine) -> None:
    operands, value = random_read(sizes, engine.device, affine)
    out, lse = run_op(Read(operands, value), engine.name)
    exact = run_op(Read(doubled(operands), value.double()), "reference")
    torch.testing.assert_close(out.double(), exact[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(lse.double(), exact[1], rtol=1e-5, atol=1e-5)
    (usage,), (exact_usage,) = run_op(Usage(operands, lse), engine.name), run_op(Usage(doubled(operands), exact.lse))
    torch.testing.assert_close(usage.double(), exact_usage, rtol=1e-4, atol=1e-5)
    grad_out, grad_lse = torch.randn_like(out), torch.randn_like(lse)
    gradients = run_op(ReadBackward(operands, value, out, lse, grad_out, grad_lse), engine.name)
    expected = run_op(
        ReadBackward(doubled(operands), value.double(), *exact, grad_out.double(), grad_lse.double()), "reference"
    )
    for fast, slow in zip(gradients, expected, strict=True):
        if slow is None:
            assert fast is None
        elif slow.count_nonzero():
            assert_close_gradients(fast, slow, 1e-4)
        else:
            assert fast.shape == slow.shape
            assert fast.abs().sum() < 1e-4


@pytest.mark.parametrize(
    ("sizes", "affine", "top_k"),
    [(SIZES[0], True, 5), (SIZES[1], False, 1), (SIZES[1], True, 5), (SIZES[2], True, 1), (SIZES[2], False, 16)],
)
def test_top_k_equals_the_reference(
    sizes: tuple[int, ...], affine: bool, top_k: int, splits: int, engine: Engine
) -> None:
    operands, value = random_read(sizes, engine.device, affine)
    operands.key[..., -1] = operands.key[..., 0]  # ties
    out, lse, indices, weights = run_op(TopKRead(operands, value, top_k), engine.name)
    expected = run_op(TopKRead(operands, value, top_k), "reference")
    torch.testing.assert_close(out, expected[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(lse, expected[1], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(weights, expected[3], rtol=0, atol=1e-5)
    counted = weights > 0
    assert torch.equal(indices[counted], expected[2][counted])
    assert ((indices >= 0) & (indices < value.shape[3])).all()
    grad_out, grad_lse = torch.randn_like(out), torch.randn_like(lse)
    call = TopKReadBackward(operands, value, out, indices, weights, grad_out, grad_lse)
    for fast, slow in zip(run_op(call, engine.name), run_op(call, "reference"), strict=True):
        if slow is None:
            assert fast is None
        else:
            torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-5)


SCORES: dict[str, Callable[[Tensor], Tensor]] = {
    "equal": torch.zeros_like,
    "rising": lambda token: token,
    "falling": lambda token: -token,
    "rising in few places": lambda token: torch.where(token % 16 < 2, token, -token),
    "two alone": lambda token: torch.where(token % 300 == 7, token, -math.inf),
    "not a number": lambda token: torch.where(token % 50 == 3, math.nan, token),
}


@pytest.mark.parametrize("scores", SCORES)
def test_top_k_of_many_tokens_in_any_order(scores: str, engine: Engine) -> None:
    random = torch.Generator().manual_seed(0)
    query, key = torch.zeros(1, 4, 3, device=engine.device), torch.zeros(1, 4, 600, device=engine.device)
    value = torch.randn(1, 1, 2, 600, generator=random).to(engine.device)
    bias = SCORES[scores](torch.arange(600.0, device=engine.device))[None]
    operands = Operands(query, key, None, None, bias, 1.0)
    out, lse, indices, weights = run_op(TopKRead(operands, value, 3), engine.name)
    if scores == "not a number":
        assert out.isnan().all()
        assert torch.equal(indices, torch.tensor([3, 53, 103], device=engine.device).expand_as(indices))
        return
    expected = run_op(TopKRead(operands, value, 3), "reference")
    torch.testing.assert_close((out, lse, weights), (expected[0], expected[1], expected[3]), rtol=1e-5, atol=1e-5)
    counted = expected[3] > 0
    assert torch.equal(indices[counted], expected[2][counted])


@pytest.mark.parametrize("top_k", [None, 4])
@pytest.mark.parametrize("dtypes", DTYPES, ids=DTYPE_NAMES)
@pytest.mark.parametrize("kind", KINDS)
def test_public_read_equals_the_oracle(
    kind: str, dtypes: tuple[torch.dtype, torch.dtype], top_k: int | None, engine: Engine
) -> None:
    if refuses(engine, dtypes):
        return
    case = make_case(kind, *dtypes)
    tensors = on(engine.device, case.tensors[:3])
    options = {name: on(engine.device, [part])[0] for name, part in case.options.items()}
    read = memory_read(*tensors, **options, top_k=top_k, return_usage=True, return_lse=True, backend=engine.name)
    oracle, plain = (case.read(direct_read, top_k=top_k, dtype=dtype) for dtype in (torch.float64, torch.float32))
    rounded = plain.value.to(dtypes[1])
    assert_accurate(read.value.cpu(), oracle.value, rounded, 4.0)
    assert_accurate(read.lse.cpu(), oracle.lse, plain.lse, 4.0)
    assert_accurate(read.usage.cpu(), oracle.usage, plain.usage, 16.0)


def on(device: torch.device, parts: list[object]) -> list[object]:
    return [part.to(device) if isinstance(part, Tensor) else part for part in parts]


@pytest.mark.parametrize("top_k", [None, 4])
@pytest.mark.parametrize(
    ("kind", "dtypes"), [*((kind, DTYPES[0]) for kind in KINDS), *(("dot", pair) for pair in DTYPES[1:])]
)
def test_public_gradients_equal_the_oracle(
    kind: str, dtypes: tuple[torch.dtype, torch.dtype], top_k: int | None, engine: Engine
) -> None:
    if refuses(engine, dtypes):
        return
    cases = [make_case(kind, *dtypes) for _ in range(2)]
    results = []
    for case, backend in zip(cases, (engine.name, None), strict=True):
        case.query_key, case.memory_key, case.memory_value = on(engine.device, case.tensors[:3])
        case.options = {name: on(engine.device, [part])[0] for name, part in case.options.items()}
        case.requires_grad()
        if backend:
            read = case.read(memory_read, top_k=top_k, return_lse=True, backend=backend)
        else:
            read = case.read(direct_read, top_k=top_k)
        weights = torch.linspace(-1, 1, read.value.numel(), device=engine.device).view_as(read.value)
        lse = read.lse[read.lse > -math.inf]
        loss = (read.value.to(weights) * weights).sum() + (
            lse * torch.linspace(0, 1, len(lse), device=engine.device)
        ).sum()
        loss.backward()
        results.append([tensor.grad for tensor in case.tensors])
    for fast, exact in zip(*results, strict=True):
        assert_close_gradients(fast, exact.double(), max(GRADIENT_ERROR[dtype] for dtype in dtypes))


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "tokens last": lambda x: x,
    "channels last": lambda x: x.transpose(-1, -2).contiguous().transpose(-1, -2),
    "slice of a bank": lambda x: torch.nn.functional.pad(x, (3, 9))[..., 3:-9],
    "expanded batch": lambda x: x[:1].expand_as(x),
    "every other": lambda x: x.repeat_interleave(2, -1)[..., ::2],
}


@pytest.mark.parametrize("key_dtype", [torch.float32, torch.float16], ids=["32", "16-32"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_strides(layout: str, key_dtype: torch.dtype, engine: Engine) -> None:
    sizes = 2, 20, 17, 39, 2, 9
    operands, value = random_read(sizes, engine.device, False)
    parts = operands.query.to(key_dtype), operands.key.to(key_dtype), value
    parts = tuple(LAYOUTS[layout](tensor).requires_grad_() for tensor in parts)
    for top_k in (None, 3):
        reads = [memory_read(*parts, top_k=top_k, backend=backend) for backend in (engine.name, "reference")]
        torch.testing.assert_close(*reads, rtol=0, atol=1e-5)
        gradients = [torch.autograd.grad(read.square().sum(), parts) for read in reads]
        for fast, slow in zip(*gradients, strict=True):
            assert_close_gradients(fast, slow.double(), GRADIENT_ERROR[key_dtype])


@pytest.mark.parametrize("top_k", [None, 3])
def test_nan_in_nan_out(top_k: int | None, engine: Engine) -> None:
    sizes = 1, 16, 18, 40, 1, 8
    operands, value = random_read(sizes, engine.device, False)
    operands.query[0, 3, 5] = math.nan
    read = memory_read(*operands[:2], value, top_k=top_k, return_lse=True, backend=engine.name)
    assert read.value[..., 5].isnan().all()
    assert read.lse[0, 5].isnan()
    others = torch.arange(18) != 5
    assert read.value[..., others].isfinite().all()


@pytest.mark.parametrize("scale", [1e4, -1e4])
def test_stable_for_large_scores(scale: float, engine: Engine) -> None:
    sizes = 1, 16, 18, 40, 1, 8
    operands, value = random_read(sizes, engine.device, False)
    reads = [memory_read(*operands[:2], value, scale=scale, backend=backend) for backend in (engine.name, "reference")]
    torch.testing.assert_close(*reads, rtol=0, atol=1e-3)


def test_refusals_name_what_was_seen(engine: Engine) -> None:
    query, value = torch.zeros(1, 4, 300, device=engine.device), torch.zeros(1, 2, 300, device=engine.device)
    with pytest.raises(BackendUnavailableError, match="the best 1 to 128 tokens, not 200"):
        autograd.top_k_read(Operands(query, query, None, None, None, 1.0), value[:, None], 200, engine.name)
    with pytest.raises(BackendUnavailableError, match=r"float16, not torch\.float64"):
        memory_read(query.double(), query.double(), value.double(), backend=engine.name)
