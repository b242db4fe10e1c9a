"""Which backend serves where another refuses, fails, or is told of a mistake."""

import gc
import math
import re
import subprocess
import warnings
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from stm_fast.errors import BackendUnavailableError
from stm_fast.ops import dispatch, memory_read
from stm_fast.ops.backends import reference, registry
from stm_fast.ops.calls import Call, Outputs, Read
from stm_fast.ops.failures import in_a_line
from tests.ops.cases import make_case

FILL = reference.fill
ILLEGAL = "CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be asynchronously reported"


AFTER_A_FAILURE = (
    "reads on cpu take the 'second' backend, because 'first' failed in read with RuntimeError: Triton Error [CUDA]: "
    "device kernel image is invalid (it is not tried again in this process; backend='first' raises the whole error)"
)


class Fake:
    """A backend that computes as the reference does, unless an operation is in `errors`."""

    def __init__(self) -> None:
        self.errors: dict[str, BaseException] = {}
        self.calls: list[str] = []
        self.reason: str | None = None
        self.half_done: list[weakref.ref[Tensor]] = []

    def device_type(self) -> str:
        return "cpu"

    def unavailable(self, device: torch.device | None = None) -> None:
        return None

    def refusal(self, call: Call) -> str | None:
        return self.reason

    def fill(self, call: Call, outputs: Outputs) -> None:
        self.calls.append(call.operation)
        FILL(call, outputs)
        if call.operation not in self.errors:
            return
        for output in outputs:
            if output is not None:
                output.fill_(math.nan if output.is_floating_point() else 0)
                self.half_done.append(weakref.ref(output))
        raise self.errors[call.operation]


@pytest.fixture
def first(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    """The faster of two fused backends, "first" and "second"; nothing is known of failures yet."""
    fakes = {"first": Fake(), "second": Fake()}
    load = registry.load
    monkeypatch.setattr(registry, "BACKENDS", {"first": "", "second": "", "reference": registry.BACKENDS["reference"]})
    monkeypatch.setattr(registry, "load", lambda name: fakes.get(name) or load(name))
    registry.import_failure.cache_clear()
    monkeypatch.setattr(dispatch, "_failed", {})
    monkeypatch.setattr(dispatch, "_warned", set())
    yield fakes["first"]
    registry.import_failure.cache_clear()


@pytest.fixture
def second(first: Fake) -> Any:
    return registry.load("second")


@pytest.fixture
def told() -> Iterator[list[warnings.WarningMessage]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught


def messages(told: list[warnings.WarningMessage]) -> list[str]:
    return [str(warning.message) for warning in told]


def test_the_next_backend_serves_and_the_failure_is_told_once(
    first: Fake, second: Fake, told: list[warnings.WarningMessage]
) -> None:
    case = make_case("xmem")
    expected = case.read(memory_read, backend="reference")
    first.errors["read"] = RuntimeError("Triton Error [CUDA]: device kernel image is invalid\nand more")
    for _ in range(3):
        torch.testing.assert_close(case.read(memory_read), expected, rtol=0, atol=0)
    assert first.calls == ["read"]
    assert second.calls == ["read"] * 3
    assert messages(told) == [AFTER_A_FAILURE]


def test_other_dtypes_and_operations_are_tried(first: Fake, told: list[warnings.WarningMessage]) -> None:
    first.errors = dict.fromkeys(("read", "usage"), RuntimeError("no kernel image is available"))
    for dtype in (torch.float32, torch.float16):
        make_case("dot", dtype).read(memory_read, top_k=3)
        for _ in range(2):
            make_case("dot", dtype).read(memory_read, return_usage=True)
    assert first.calls == ["top_k_read", "read", "usage"] * 2
    assert [re.search(r"failed in (\w+)", message)[1] for message in messages(told)] == ["read", "usage"]


def test_gradients_where_only_the_backward_kernel_fails(first: Fake, second: Fake) -> None:
    first.errors = {"read_backward": OSError("No such file or directory: 'ptxas'")}
    cases = [make_case("xmem").requires_grad() for _ in range(2)]
    for case, backend in zip(cases, ("auto", "reference"), strict=True):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            case.read(memory_read, backend=backend).square().sum().backward()
    for mine, exact in zip(cases[0].tensors, cases[1].tensors, strict=True):
        assert torch.equal(mine.grad, exact.grad)
    assert first.calls == ["read", "read_backward"]
    assert second.calls == ["read_backward"]


def test_a_named_backend_raises_the_error_itself_and_is_tried_again(first: Fake, second: Fake) -> None:
    first.errors["read"] = RuntimeError("the launch failed")
    with pytest.warns(RuntimeWarning, match="'first' failed in read"):
        make_case("dot").read(memory_read)
    with pytest.raises(RuntimeError, match="the launch failed") as raised:
        make_case("dot").read(memory_read, backend="first")
    assert raised.value is first.errors["read"]
    assert second.calls == ["read"]


class SoftTimeLimit(Exception):
    """As a signal handler raises it, in the middle of whatever runs."""


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("Triton Error [CUDA]: out of memory"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes"),
        MemoryError(),
        BackendUnavailableError("STM_FAST_CPU_ISA is 'avx9'"),
        ValueError("top_k is 0"),
        TypeError("value is a list"),
        TimeoutError("after 30 s"),
        SoftTimeLimit(),
        KeyboardInterrupt(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_is_not_of_the_kernel_is_raised(
    error: BaseException, first: Fake, second: Fake, told: list[warnings.WarningMessage]
) -> None:
    first.errors["read"] = error
    for _ in range(2):
        with pytest.raises(type(error)) as raised:
            make_case("dot").read(memory_read)
        assert raised.value is error
    assert first.calls == ["read"] * 2
    assert not second.calls
    assert not told


def test_an_error_that_every_backend_meets_is_raised_as_the_first_met_it(
    first: Fake, second: Fake, told: list[warnings.WarningMessage], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as after an illegal access to the GPU's memory; nothing is remembered of the backends."""

    def lost(*_: object) -> None:
        raise torch.AcceleratorError(ILLEGAL)

    first.errors["read"] = RuntimeError("Triton Error [CUDA]: an illegal memory access was encountered")
    second.errors["read"] = torch.AcceleratorError(ILLEGAL)
    with monkeypatch.context() as patch:
        patch.setattr(reference, "fill", lost)
        with pytest.raises(RuntimeError, match=r"^Triton Error \[CUDA\]: an illegal memory access") as raised:
            make_case("dot").read(memory_read)
    assert raised.value is first.errors["read"]
    assert not told
    first.errors.clear()
    make_case("dot").read(memory_read)
    assert first.calls == ["read"] * 2


def test_a_failure_keeps_no_outputs_alive(first: Fake) -> None:
    first.errors["read"] = RuntimeError("the launch failed")
    gc.disable()
    try:
        with pytest.warns(RuntimeWarning):
            make_case("dot").read(memory_read)
        first.errors.clear()
        assert first.half_done
        assert not [output for output in first.half_done if output() is not None]
    finally:
        gc.enable()


def test_the_reference_in_place_of_backends_that_refuse_is_told_once(
    first: Fake, second: Fake, told: list[warnings.WarningMessage]
) -> None:
    first.reason, second.reason = "it is picky", "it is tired"
    for _ in range(2):
        make_case("dot").read(memory_read, top_k=3)
    make_case("dot").read(memory_read)
    assert messages(told) == [
        f"reads on cpu take the slower 'reference' backend, because 'first' cannot serve {operation}: it is picky; "
        f"'second' cannot serve {operation}: it is tired"
        for operation in ("top_k_read", "read")
    ]


def test_nothing_is_told_where_a_fused_backend_serves_or_none_could(
    first: Fake, told: list[warnings.WarningMessage]
) -> None:
    first.reason = "it is tired"
    make_case("dot").read(memory_read)
    make_case("dot").read(memory_read, backend="reference")
    make_case("dot", torch.float64).read(memory_read)
    memory_read(torch.ones(1, 4, 0), torch.ones(1, 4, 6), torch.ones(1, 3, 6))
    assert not told


def test_choice_passes_over_what_failed(first: Fake) -> None:
    """The summary of a run names the backend that really read."""
    case = make_case("dot")
    first.errors["read"] = RuntimeError("the launch failed")
    operands = Read(_operands(case.query_key), case.memory_value.flatten(2)[:, None])
    assert dispatch.choose("auto", operands) == "first"
    with pytest.warns(RuntimeWarning):
        case.read(memory_read)
    assert dispatch.choose("auto", operands) == "second"
    assert dispatch.choose("first", operands) == "first"


def _operands(key: Tensor) -> Any:
    from stm_fast.ops.similarity import dot

    return dot(key.flatten(2), key.flatten(2), 1.0)


def test_an_error_in_a_line() -> None:
    assert in_a_line(RuntimeError(ILLEGAL)) == f"RuntimeError: {ILLEGAL.splitlines()[0]}"
    assert in_a_line(AssertionError()) == "AssertionError"
    failed = subprocess.CalledProcessError(1, ["gcc", "main.c"])
    assert in_a_line(failed) == ("CalledProcessError: Command '['gcc', 'main.c']' returned non-zero exit status 1.")


def test_errors_of_triton_are_failures(first: Fake) -> None:
    errors = pytest.importorskip("triton.runtime.errors")
    for error, said in (
        (errors.OutOfResources(300000, 232448, "shared memory"), "OutOfResources: out of resource: shared memory"),
        (errors.PTXASError("Internal Triton PTX codegen error\n`ptxas` stderr:\n"), "PTXASError: Internal Triton PTX"),
    ):
        dispatch._failed.clear()
        dispatch._warned.clear()
        first.errors["read"] = error
        with pytest.warns(RuntimeWarning, match=f"'first' failed in read with {said}"):
            make_case("dot").read(memory_read)
