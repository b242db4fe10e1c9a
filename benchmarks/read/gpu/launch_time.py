"""Microseconds of Python before the driver, for each launcher of the Triton kernels.

    python -m benchmarks.read.gpu.launch_time

No GPU is needed: kernels are compiled for an absent chip, and the C function that would launch them does nothing. What
is left is the host's work for a call, which includes allocation of workspaces but not of outputs. It does not depend on
sizes. These are small, because torch's own operations between the gradient kernels run on the CPU.
"""

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, NamedTuple
from unittest import mock

import torch
import triton
from torch import Tensor

from benchmarks.read.cases import TOP_K, Case
from benchmarks.read.gpu.cases import OPERATIONS, STM
from stm_fast.kernels import (
    backward,
    candidates,
    chips,
    forward,
    plans,
    query_gradient,
    top_k,
    top_k_backward,
    usage,
)
from stm_fast.kernels.operands import Gradients, Operands

CHIP = chips.CHIPS["sm_90"]
CASE = replace(STM, queries=64, frames=40)
REPETITIONS = 300
ROUNDS = 5


class HostTime(NamedTuple):
    """Medians of a launcher's calls in microseconds.

    Attributes:
        kept: time of a call like an earlier one.
        triton: triton's part of it, with all kernels compiled.
        planned: time of the first call of its form, with kernels compiled.
    """

    kept: float
    triton: float
    planned: float


class _Utilities:
    """Stands in for the driver's functions that triton has in C and for the launcher that it compiles; does nothing."""

    @staticmethod
    def _nothing(*_: Any) -> None:
        pass

    launch = build_signature_metadata = fill_tma_descriptor = fill_tma_descriptor_tiled = _nothing

    @staticmethod
    def load_binary(*_: Any) -> tuple[int, int, int, int, int]:
        """Return module, function, registers, spills and the maximum number of threads."""
        return 1, 1, 0, 0, 1024

    @staticmethod
    def get_device_properties(_: object) -> dict[str, int]:
        """Return the properties that triton looks at."""
        return {"max_shared_mem": CHIP.shared}


class _Driver:
    """A driver for an absent GPU, which loads and launches whatever it is given."""

    utils = _Utilities()

    def __init__(self) -> None:
        from triton.backends.nvidia.driver import CudaLauncher

        self.launcher_cls = CudaLauncher

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget(CHIP.backend, CHIP.arch, CHIP.warp)

    def get_current_device(self) -> object:
        """Return a device of its own, since triton caches kernels by device: others must not use those loaded here."""
        return self

    def get_current_stream(self, _: object) -> int:
        return 0


@contextmanager
def launching_nothing() -> Iterator[None]:
    """Treat CPU tensors as GPU tensors during the block; launches do nothing and succeed."""
    from triton.backends.nvidia import driver as nvidia
    from triton.runtime.driver import driver

    absent = {
        "PyKernelArg": lambda **_: None,
        "compile_module_from_src": lambda **_: _Utilities,
        "library_dirs": list,
    }
    with ExitStack() as stack:
        stack.enter_context(mock.patch.multiple(nvidia, create=True, **absent))
        stack.enter_context(mock.patch.object(driver, "_active", _Driver()))
        stack.enter_context(chips.pretending(CHIP))
        for module in (forward, query_gradient, candidates):
            stack.enter_context(mock.patch.object(module, "processors", return_value=CHIP.processors))
        plans.forget()
        stack.callback(plans.forget)
        yield


def launcher_of(case: Case) -> Callable[[], None]:
    """Return the launcher of a case, with the memory's layout in a bank."""
    tokens = case.frames * case.queries

    def bank(*shape: int) -> Tensor:
        return torch.zeros(*shape, -(-tokens // 8) * 8, dtype=case.dtype)[..., :tokens]

    query = torch.zeros(1, case.key_channels, case.queries, dtype=case.dtype)
    operands = Operands(query, bank(1, case.key_channels), None, None, None, case.key_channels**-0.5)
    value = bank(1, case.objects, case.value_channels)
    out = value.new_zeros(*value.shape[:3], case.queries)
    lse = torch.zeros(1, case.queries)
    indices = torch.zeros(1, case.queries, TOP_K, dtype=torch.int64)
    weights = torch.zeros(1, case.queries, TOP_K)
    gradients = Gradients(torch.zeros_like(query), operands.key.clone(), None, None, None, value.clone())
    launchers: dict[str, Callable[[], None]] = {
        "read": lambda: forward.read(operands, value, out, lse),
        "backward": lambda: backward.read_backward(operands, value, out, lse, out, lse, gradients),
        "usage": lambda: usage.usage(operands, lse, torch.empty(1, tokens)),
        "top_k": lambda: top_k.top_k_read(operands, value, out, lse, indices, weights),
        "top_k_backward": lambda: top_k_backward.top_k_read_backward(
            operands, value, out, indices, weights, out, lse, gradients
        ),
    }
    return launchers[case.operation]


class _Recorder:
    """Stands in for a compiled kernel and records its launches."""

    def __init__(self, compiled: Any, launches: list[Callable[[], None]]) -> None:
        self._compiled, self._launches = compiled, launches

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        return lambda *arguments: self._launches.append(lambda: self._compiled[grid](*arguments))


def launches_of(run: Callable[[], None]) -> list[Callable[[], None]]:
    """Return the launches of compiled kernels that a call makes."""
    plans.forget()
    run()
    launches: list[Callable[[], None]] = []
    for plan in plans._plans.values():
        for launch in plan.launches.values():
            launch.compiled = _Recorder(launch.compiled, launches)
    run()
    plans.forget()
    return launches


def measure(case: Case) -> HostTime:
    """Measure the three times of a launcher in turns."""
    run = launcher_of(case)
    launches = launches_of(run)

    def triton_alone() -> None:
        for launch in launches:
            launch()

    def first() -> None:
        plans.forget()
        run()

    run()
    times: list[list[float]] = [[], [], []]
    for _ in range(ROUNDS):
        for found, timed in zip(times, (run, triton_alone, first), strict=True):
            timed()
            found += _seconds(timed)
    return HostTime(*(1e6 * statistics.median(found) for found in times))


def _seconds(run: Callable[[], None]) -> list[float]:
    seconds = []
    for _ in range(REPETITIONS // ROUNDS):
        begin = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - begin)
    return seconds


def main() -> None:
    """Run the command line."""
    torch.set_num_threads(1)
    lines = [
        f"Microseconds of the host per call, triton {triton.__version__}, torch {torch.__version__}",
        "| launcher | a call like one before | of which triton | the first of its form |",
        "|---|---|---|---|",
    ]
    with launching_nothing():
        for operation in OPERATIONS:
            found = measure(replace(CASE, operation=operation))
            lines.append(f"| {operation} | {found.kept:.0f} | {found.triton:.0f} | {found.planned:.0f} |")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
