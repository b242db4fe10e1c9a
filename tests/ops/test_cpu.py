"""The compiled kernels, beyond what all backends are asked: sizes that cross tiles, threads, dtypes, far strides."""

import threading
from collections.abc import Iterator
from functools import partial

import pytest
import torch
from torch import Tensor

from stm_fast.errors import BackendUnavailableError
from stm_fast.ops import memory_read
from stm_fast.ops.backends import cpu, registry
from tests.ops.oracle import assert_accurate, assert_close_gradients, direct_read

pytestmark = pytest.mark.usefixtures("instruction_set")

# Tokens cross a tile of 96, a split of 2048 and a selection's split of 8192; queries cross panels of 12, 24 and 48.
SIZES = [
    # batch, key channels, queries, tokens, objects, value channels
    (1, 1, 1, 1, 1, 1),
    (1, 3, 49, 95, 1, 1),
    (2, 64, 48, 96, 1, 8),
    (1, 256, 13, 97, 2, 5),
    (1, 7, 130, 2049, 1, 12),
    (2, 64, 25, 4500, 3, 33),
    (1, 128, 97, 200, 1, 1024),
    (1, 64, 3, 20000, 1, 9),
    (3, 16, 150, 300, 1, 7),
    (2, 16, 1300, 110, 1, 10),
]


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def make(sizes: tuple[int, ...], dtype: torch.dtype = torch.float32, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    batch, channels, queries, tokens, objects, value_channels = sizes
    random = torch.Generator().manual_seed(seed)
    shapes = (batch, channels, queries), (batch, channels, tokens), (batch, objects, value_channels, tokens)
    query, key, value = (torch.randn(shape, generator=random).to(dtype) for shape in shapes)
    return query, key, value


def l2_options(query: Tensor, key: Tensor) -> dict[str, object]:
    random = torch.Generator().manual_seed(1)
    return {
        "similarity": "l2",
        "shrinkage": torch.rand(key.shape[0], 1, key.shape[2], generator=random) + 0.5,
        "selection": torch.rand(query.shape, generator=random),
        "memory_mask": torch.rand(key.shape[0], key.shape[2], generator=random) < 0.8,
    }


@pytest.mark.parametrize("top_k", [None, 1, 30])
@pytest.mark.parametrize("similarity", ["dot", "l2"])
@pytest.mark.parametrize("sizes", SIZES)
def test_equal_to_the_oracle(sizes: tuple[int, ...], similarity: str, top_k: int | None) -> None:
    query, key, value = make(sizes)
    options = {**(l2_options(query, key) if similarity == "l2" else {}), "top_k": top_k}
    result = memory_read(query, key, value, **options, return_usage=True, return_lse=True, backend="cpu")
    oracle, plain = (direct_read(query, key, value, **options, dtype=dtype) for dtype in (torch.float64, torch.float32))
    # The sums of a distance cancel, in another order than the plain formula's; usage has the rounding of lse as well.
    rounding = 4.0 if similarity == "l2" else 1.0
    for name, slack in (("value", rounding), ("usage", 16.0), ("lse", rounding)):
        assert_accurate(*(getattr(read, name) for read in (result, oracle, plain)), slack)


@pytest.mark.parametrize("top_k", [None, 5])
@pytest.mark.parametrize("similarity", ["dot", "l2"])
@pytest.mark.parametrize("sizes", [sizes for sizes in SIZES if sizes[3] > 1])
def test_gradients_equal_to_the_oracle(sizes: tuple[int, ...], similarity: str, top_k: int | None) -> None:
    query, key, value = make(sizes)
    options = l2_options(query, key) if similarity == "l2" else {}
    inputs = [query, key, value, *(options[name] for name in ("shrinkage", "selection") if name in options)]
    for tensor in inputs:
        tensor.requires_grad_()
    gradients = []
    for function in (partial(memory_read, return_lse=True, backend="cpu"), direct_read):
        result = function(query, key, value, **options, top_k=top_k)
        random = torch.Generator().manual_seed(2)
        value_weight = torch.randn(result.value.shape, generator=random)
        lse_weight = torch.randn(result.lse.shape, generator=random)
        loss = (result.value * value_weight).sum() + torch.where(
            result.lse.isfinite(), result.lse * lse_weight, 0
        ).sum()
        gradients.append(torch.autograd.grad(loss, inputs))
    for gradient, oracle in zip(*gradients, strict=True):
        assert_close_gradients(gradient, oracle.double(), 5e-5)


def check_gradients(query: Tensor, key: Tensor, value: Tensor) -> None:
    """Against autograd through the float64 formula."""
    fast, exact = (
        [x.detach().to(dtype).requires_grad_() for x in (query, key, value)] for dtype in (query.dtype, torch.float64)
    )
    upstream = torch.randn(value.shape[:-1] + query.shape[-1:], generator=torch.Generator().manual_seed(2))
    memory_read(*fast, backend="cpu").backward(upstream)
    direct_read(*exact).value.backward(upstream.double())
    for mine, true in zip(fast, exact, strict=True):
        assert_close_gradients(mine.grad, true.grad, 5e-5)


def test_gradients_where_not_all_batches_have_room_at_once() -> None:
    check_gradients(*make((3, 8, 1500, 110, 2, 520)))


@pytest.mark.parametrize("wanted", [(True, False, False), (False, True, False), (False, False, True)])
def test_gradients_of_one_input(wanted: tuple[bool, ...]) -> None:
    inputs = make((1, 12, 500, 130, 2, 50))
    exact = [x.double().requires_grad_() for x in inputs]
    fast = [x.detach().requires_grad_(want) for x, want in zip(inputs, wanted, strict=True)]
    upstream = torch.randn(1, 2, 50, 500, generator=torch.Generator().manual_seed(2))
    memory_read(*fast, backend="cpu").backward(upstream)
    direct_read(*exact).value.backward(upstream.double())
    for mine, true, want in zip(fast, exact, wanted, strict=True):
        assert (mine.grad is not None) == want
        if want:
            assert_close_gradients(mine.grad, true.grad, 5e-5)


def test_gradients_are_nan_wherever_the_readout_is() -> None:
    """A value that is not finite spoils every query of its channel, and with them all key gradients."""
    query, key, value = torch.ones(1, 1, 50), torch.zeros(1, 1, 1200), torch.ones(1, 1, 1, 1200)
    key[..., :300] = 100
    value[..., 1000] = torch.nan
    for tensor in (query, key, value):
        tensor.requires_grad_()
    memory_read(query, key, value, scale=1.0, backend="cpu").sum().backward()
    assert query.grad.isnan().all()
    assert key.grad.isnan().all()


def test_gradients_where_most_tiles_of_weights_are_zero() -> None:
    """Groups of 100 queries read groups of 100 tokens each; some groups of queries come back to the same tokens."""
    query, key, value = make((1, 16, 1300, 1000, 1, 24))
    groups = torch.eye(10)[torch.tensor([0, 3, 1, 2, 4, 4, 9, 5, 6, 0, 7, 8, 9])]
    key = key.index_fill(1, torch.arange(10), 0) + torch.cat([torch.eye(10), torch.zeros(6, 10)]).repeat_interleave(
        100, 1
    )
    marks = torch.cat([groups.T, torch.zeros(6, 13)]).repeat_interleave(100, 1)
    check_gradients(query.index_fill(1, torch.arange(10), 0) + 240 * marks, key, value)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("top_k", [None, 7])
@pytest.mark.parametrize("sizes", [(2, 16, 130, 9000, 2, 20), (2, 8, 1300, 500, 1, 60)])
def test_the_number_of_threads_changes_nothing(sizes: tuple[int, ...], top_k: int | None) -> None:
    def everything() -> list[Tensor]:
        query, key, value = (tensor.requires_grad_() for tensor in make(sizes))
        result = memory_read(query, key, value, top_k=top_k, return_usage=True, return_lse=True, backend="cpu")
        random = torch.Generator().manual_seed(3)
        loss = (result.value * torch.randn(result.value.shape, generator=random)).sum() + result.lse.sum()
        return [*(t.detach() for t in result), *torch.autograd.grad(loss, [query, key, value])]

    two = everything()
    torch.set_num_threads(1)
    one = everything()
    torch.set_num_threads(5)
    five = everything()
    for a, b, c in zip(one, two, five, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)


def test_several_python_threads_at_once() -> None:
    inputs = [make((1, 16, 100, 3000, 1, 24), seed=seed) for seed in range(4)]
    expected = [memory_read(*tensors, backend="cpu") for tensors in inputs]
    results: list[Tensor | None] = [None] * len(inputs)

    def read(index: int) -> None:
        for _ in range(5):
            results[index] = memory_read(*inputs[index], backend="cpu")

    threads = [threading.Thread(target=read, args=(index,)) for index in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result, right in zip(results, expected, strict=True):
        assert result is not None
        assert torch.equal(result, right)


@pytest.mark.parametrize("key_dtype", registry.DTYPES)
@pytest.mark.parametrize("value_dtype", registry.DTYPES)
def test_dtypes(key_dtype: torch.dtype, value_dtype: torch.dtype) -> None:
    """All between inputs and outputs is float32, but for weights that meet bfloat16 values in bfloat16 units."""
    query, key, value = make((1, 32, 60, 700, 2, 16))
    query, key, value = query.to(key_dtype), key.to(key_dtype), value.to(value_dtype)
    result = memory_read(query, key, value, return_lse=True, backend="cpu")
    exact = memory_read(query.float(), key.float(), value.float(), return_lse=True, backend="reference")
    assert result.value.dtype == value_dtype
    torch.testing.assert_close(result.lse, exact.lse)
    weights_rounded = key_dtype == value_dtype == torch.bfloat16
    tolerance = {"rtol": 1.6e-2, "atol": 2e-3} if weights_rounded else {}
    torch.testing.assert_close(result.value, exact.value.to(value_dtype), **tolerance)


@pytest.mark.parametrize("top_k", [None, 3])
def test_strides_beyond_32_bits(top_k: int | None) -> None:
    """Views of a bank so large that the places of its elements do not fit 32 bits; almost none of it is touched."""
    tokens, stride = 40, 2**30 + 7
    bank = torch.empty(3 * stride + tokens, dtype=torch.bfloat16)
    key = bank.as_strided((1, 4, tokens), (0, stride, 1))
    key.copy_(torch.randn(1, 4, tokens, generator=torch.Generator().manual_seed(0)))
    assert 3 * stride + tokens - 1 > 2**31
    query = torch.randn(1, 4, 9).bfloat16().requires_grad_()
    far, near = key.detach().requires_grad_(), key.detach().clone().requires_grad_()
    results = []
    for tensor in (far, near):
        result = memory_read(query, tensor, tensor.expand(1, 4, tokens), top_k=top_k, backend="cpu")
        results.append((result, *torch.autograd.grad(result.float().square().sum(), [query, tensor])))
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("magnitude", [1e4, -1e4])
def test_scores_far_from_zero(magnitude: float) -> None:
    query, key, value = make((1, 8, 50, 300, 1, 6))
    query[:, 0], key[:, 0] = magnitude, 8**0.5
    result = memory_read(query, key, value, return_lse=True, backend="cpu")
    torch.testing.assert_close(result.value, direct_read(query, key, value).value.float(), rtol=2e-2, atol=2e-3)
    assert (result.lse - magnitude).abs().max() < 20


def test_what_it_refuses() -> None:
    query, key, value = make((1, 4, 5, 6, 1, 3), torch.float64)
    with pytest.raises(Exception, match=r"it reads float32, bfloat16 and float16, not torch\.float64"):
        memory_read(query, key, value, backend="cpu")
    query, key, value = make((1, 4, 5, 6, 1, 3))
    with pytest.raises(Exception, match=r"it reads tensors with elements, not of shape \(1, 4, 0\)"):
        memory_read(query[..., :0], key, value, backend="cpu")


def test_an_unknown_instruction_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STM_FAST_CPU_ISA", "avx1024")
    with pytest.raises(BackendUnavailableError, match=r"STM_FAST_CPU_ISA is 'avx1024'; .* executes .*baseline"):
        memory_read(*make((1, 4, 5, 6, 1, 3)), backend="cpu")


def test_auto_takes_the_compiled_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    assert next(iter(registry.BACKENDS)) == "cpu"
    monkeypatch.setattr(cpu, "fill", lambda call, outputs: [output.zero_() for output in outputs])
    query, key, value = make((1, 4, 5, 5, 1, 3))
    assert (memory_read(query, key, value) == 0).all()
