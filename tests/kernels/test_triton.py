"""The Triton kernels against the float64 oracle, at sizes that an interpreter can bear."""

import math
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from stm_fast.errors import BackendUnavailableError
from stm_fast.ops import autograd, memory_read
from stm_fast.ops.backends import reference, triton
from stm_fast.ops.operands import Operands
from tests.ops.cases import KINDS, make_case
from tests.ops.oracle import assert_accurate, assert_close_gradients, direct_read

pytestmark = pytest.mark.usefixtures("device")

# Tiles of 16 × 16 with 16 rows: several along every side, none of them full.
SIZES = [
    # batch, key channels, queries, tokens, objects, value channels
    (1, 1, 1, 1, 1, 1),
    (2, 20, 17, 39, 1, 17),
    (1, 16, 20, 70, 3, 9),
    (1, 130, 5, 33, 1, 8),
]
DTYPES = [
    (torch.float32, torch.float32),
    (torch.float16, torch.float16),
    (torch.float32, torch.float16),
    (torch.float16, torch.float32),
]


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles so small that even a tiny read crosses them."""
    from stm_fast.kernels import tiles

    small = tiles.Tile(queries=16, tokens=16, rows=16, warps=1, stages=1)
    monkeypatch.setattr(tiles, "TABLE", [row._replace(tile=small) for row in tiles.TABLE])
    monkeypatch.setattr("stm_fast.kernels.top_k_backward.GATHER_TILE", small)
    monkeypatch.setattr("stm_fast.kernels.top_k.GATHER_TILE", small)


@pytest.fixture(params=[1, 2, 7])
def parts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Into how many parts the memory is split; some of 7 are empty."""
    for module in ("dense", "dense_backward", "top_k"):
        monkeypatch.setattr(f"stm_fast.kernels.{module}.split", lambda *_: request.param)
    return int(request.param)


def random_operands(sizes: tuple[int, ...], device: torch.device, dtype: torch.dtype, affine: bool) -> Operands:
    batch, channels, queries, tokens, *_ = sizes
    random = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random).to(device)

    query, key = normal(batch, channels, queries).to(dtype), normal(batch, channels, tokens).to(dtype)
    if not affine:
        return Operands(query, key, None, None, None, 0.3)
    bias = normal(batch, tokens)
    bias[:, ::5] = -math.inf
    return Operands(query, key, normal(batch, tokens).abs() + 0.5, normal(batch, queries), bias, 0.3)


def random_value(sizes: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    batch, _, _, tokens, objects, channels = sizes
    return torch.randn(batch, objects, channels, tokens, generator=torch.Generator().manual_seed(1)).to(device, dtype)


def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a kernel forgets to write is NaN, or an index far out."""
    empty = Tensor.new_empty

    def new_empty(tensor: Tensor, *size: object, **options: object) -> Tensor:
        result = empty(tensor, *size, **options)
        return result.fill_(math.nan if result.dtype.is_floating_point else 2**40)

    monkeypatch.setattr(Tensor, "new_empty", new_empty)


@pytest.fixture(autouse=True)
def poison(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    poisoned(monkeypatch)
    yield
    monkeypatch.undo()


@pytest.mark.parametrize("affine", [False, True], ids=["plain", "affine"])
@pytest.mark.parametrize("sizes", SIZES)
def test_kernels_equal_the_reference(sizes: tuple[int, ...], affine: bool, parts: int, device: torch.device) -> None:
    operands, value = random_operands(sizes, device, torch.float32, affine), random_value(sizes, device, torch.float32)
    out, lse = triton.read(operands, value)
    exact = reference.read(doubled(operands), value.double())
    torch.testing.assert_close(out.double(), exact[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(lse.double(), exact[1], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        triton.usage(operands, lse).double(), reference.usage(doubled(operands), exact[1]), rtol=1e-4, atol=1e-5
    )
    grad_out, grad_lse = torch.randn_like(out), torch.randn_like(lse)
    wanted = True, True, True
    gradients = triton.read_backward(operands, value, out, lse, grad_out, grad_lse, *wanted)
    expected = reference.read_backward(
        doubled(operands), value.double(), *exact, grad_out.double(), grad_lse.double(), *wanted
    )
    for fast, slow in zip(gradients, expected, strict=True):
        if slow.count_nonzero():
            assert_close_gradients(fast, slow, 1e-4)
        else:
            assert fast.shape == slow.shape
            assert fast.abs().sum() < 1e-4


def doubled(operands: Operands) -> Operands:
    return Operands(*(part.double() if isinstance(part, Tensor) else part for part in operands))


@pytest.mark.parametrize(
    ("sizes", "affine", "top_k"),
    [(SIZES[0], True, 5), (SIZES[1], False, 1), (SIZES[1], True, 5), (SIZES[2], True, 1), (SIZES[2], False, 16)],
)
def test_top_k_equals_the_reference(
    sizes: tuple[int, ...], affine: bool, top_k: int, parts: int, device: torch.device
) -> None:
    operands, value = random_operands(sizes, device, torch.float32, affine), random_value(sizes, device, torch.float32)
    operands.key[..., -1] = operands.key[..., 0]  # ties
    out, lse, indices, weights = triton.top_k_read(operands, value, top_k)
    expected = reference.top_k_read(operands, value, top_k)
    torch.testing.assert_close(out, expected[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(lse, expected[1], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(weights, expected[3], rtol=0, atol=1e-5)
    counted = weights > 0
    assert torch.equal(indices[counted], expected[2][counted])
    assert ((indices >= 0) & (indices < value.shape[3])).all()
    grad_out, grad_lse = torch.randn_like(out), torch.randn_like(lse)
    arguments = operands, value, out, indices, weights, grad_out, grad_lse, True, True, True
    for fast, slow in zip(
        triton.top_k_read_backward(*arguments), reference.top_k_read_backward(*arguments), strict=True
    ):
        torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("top_k", [None, 4])
@pytest.mark.parametrize("dtypes", DTYPES, ids=["32", "16", "32-16", "16-32"])
@pytest.mark.parametrize("kind", KINDS)
def test_public_read_equals_the_oracle(
    kind: str, dtypes: tuple[torch.dtype, torch.dtype], top_k: int | None, device: torch.device
) -> None:
    case = make_case(kind, *dtypes)
    tensors = on(device, case.tensors[:3])
    options = {name: on(device, [part])[0] for name, part in case.options.items()}
    read = memory_read(*tensors, **options, top_k=top_k, return_usage=True, return_lse=True, backend="triton")
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
    kind: str, dtypes: tuple[torch.dtype, torch.dtype], top_k: int | None, device: torch.device
) -> None:
    cases = [make_case(kind, *dtypes) for _ in range(2)]
    results = []
    for case, backend in zip(cases, ("triton", None), strict=True):
        case.query_key, case.memory_key, case.memory_value = on(device, case.tensors[:3])
        case.options = {name: on(device, [part])[0] for name, part in case.options.items()}
        case.requires_grad()
        if backend:
            read = case.read(memory_read, top_k=top_k, return_lse=True, backend=backend)
        else:
            read = case.read(direct_read, top_k=top_k)
        weights = torch.linspace(-1, 1, read.value.numel(), device=device).view_as(read.value)
        lse = read.lse[read.lse > -math.inf]
        loss = (read.value.to(weights) * weights).sum() + (lse * torch.linspace(0, 1, len(lse), device=device)).sum()
        loss.backward()
        results.append([tensor.grad for tensor in case.tensors])
    for fast, exact in zip(*results, strict=True):
        assert_close_gradients(fast, exact.double(), 1e-4 if torch.float16 not in dtypes else 4e-3)


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "tokens last": lambda x: x,
    "channels last": lambda x: x.transpose(-1, -2).contiguous().transpose(-1, -2),
    "slice of a bank": lambda x: torch.nn.functional.pad(x, (3, 9))[..., 3:-9],
    "expanded batch": lambda x: x[:1].expand_as(x),
    "every other": lambda x: x.repeat_interleave(2, -1)[..., ::2],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_strides(layout: str, device: torch.device) -> None:
    sizes = 2, 20, 17, 39, 2, 9
    operands, value = random_operands(sizes, device, torch.float32, False), random_value(sizes, device, torch.float32)
    query, key, value = (LAYOUTS[layout](tensor).requires_grad_() for tensor in (operands.query, operands.key, value))
    for top_k in (None, 3):
        reads = [memory_read(query, key, value, top_k=top_k, backend=backend) for backend in ("triton", "reference")]
        torch.testing.assert_close(*reads, rtol=0, atol=1e-5)
        fast, slow = (torch.autograd.grad(read.square().sum(), (query, key, value)) for read in reads)
        torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("top_k", [None, 3])
def test_nan_in_nan_out(top_k: int | None, device: torch.device) -> None:
    sizes = 1, 16, 18, 40, 1, 8
    operands, value = random_operands(sizes, device, torch.float32, False), random_value(sizes, device, torch.float32)
    operands.query[0, 3, 5] = math.nan
    read = memory_read(*operands[:2], value, top_k=top_k, return_lse=True, backend="triton")
    assert read.value[..., 5].isnan().all()
    assert read.lse[0, 5].isnan()
    others = torch.arange(18) != 5
    assert read.value[..., others].isfinite().all()


@pytest.mark.parametrize("scale", [1e4, -1e4])
def test_stable_for_large_scores(scale: float, device: torch.device) -> None:
    sizes = 1, 16, 18, 40, 1, 8
    operands, value = random_operands(sizes, device, torch.float32, False), random_value(sizes, device, torch.float32)
    reads = [memory_read(*operands[:2], value, scale=scale, backend=backend) for backend in ("triton", "reference")]
    torch.testing.assert_close(*reads, rtol=0, atol=1e-3)


def everything(operands: Operands, value: Tensor) -> list[Tensor]:
    """The outputs of all ops, gradients of all operands among them."""
    wanted = True, True, True
    out, lse = triton.read(operands, value)
    best_out, best_lse, *choice = triton.top_k_read(operands, value, 3)
    upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(3)).to(out), lse.cos()
    return [
        out,
        lse,
        triton.usage(operands, lse),
        *triton.read_backward(operands, value, out, lse, *upstream, *wanted),
        best_out,
        best_lse,
        *choice,
        *triton.top_k_read_backward(operands, value, best_out, *choice, *upstream, *wanted),
    ]


def test_wide_distances_are_the_same(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    from stm_fast.kernels import launch

    sizes = 1, 20, 17, 39, 2, 9
    operands, value = random_operands(sizes, device, torch.float32, True), random_value(sizes, device, torch.float32)
    narrow = everything(operands, value)
    monkeypatch.setattr(launch, "MOST_32_BIT", 0)
    for wide, close in zip(everything(operands, value), narrow, strict=True):
        assert torch.equal(wide, close)


@pytest.mark.parametrize("affine", [False, True], ids=["plain", "affine"])
def test_the_read_of_chips_that_always_rescale(affine: bool, parts: int, device: torch.device) -> None:
    from stm_fast.kernels import chips, tiles

    sizes = SIZES[1]
    operands, value = random_operands(sizes, device, torch.float32, affine), random_value(sizes, device, torch.float32)
    with chips.pretending(chips.CHIPS["sm_100"]):
        assert not tiles.rescales_lazily(torch.device("cpu"))
        out, lse = triton.read(operands, value)
    exact = reference.read(doubled(operands), value.double())
    torch.testing.assert_close(out.double(), exact[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(lse.double(), exact[1], rtol=1e-5, atol=1e-5)


def test_refusals_name_what_was_seen(device: torch.device) -> None:
    query, value = torch.zeros(1, 4, 3, device=device), torch.zeros(1, 2, 3, device=device)
    with pytest.raises(BackendUnavailableError, match="the best 1 to 128 tokens, not 200"):
        autograd.top_k_read(Operands(query, query, None, None, None, 1.0), value[:, None], 200, "triton")
    wide = torch.zeros(1, 600, 3, device=device)
    with pytest.raises(BackendUnavailableError, match=r"at most 512 key channels .*, not 600"):
        memory_read(wide, wide, value, backend="triton")
    with pytest.raises(BackendUnavailableError, match=r"float16, not torch\.float64"):
        memory_read(query.double(), query.double(), value.double(), backend="triton")
