"""`stm-fast doctor`: what is installed, which backends are available, and whether their results are right."""

import os
import time
from typing import TYPE_CHECKING, NamedTuple

import typer

from stm_fast.cli import options
from stm_fast.cli.console import OPTION_ERROR, stdout, with_sentences

if TYPE_CHECKING:
    import torch


class SelfTest(NamedTuple):
    """A read compared with the float64 formula.

    Attributes:
        error: largest absolute error.
        allowed: twice the error of the plain formula in float32, plus a rounding band.
        seconds: time of the read.
    """

    error: float
    allowed: float
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether the error is allowed, which NaN is not."""
        return self.error <= self.allowed


@with_sentences
def doctor(threads: options.Threads = None) -> None:
    """Show versions, devices and backends, and test the memory read against a float64 oracle."""
    from rich.markup import escape
    from rich.table import Table

    from stm_fast.errors import BackendUnavailableError
    from stm_fast.media.summary import versions
    from stm_fast.ops.backends.registry import availability
    from stm_fast.ops.failures import in_a_line, is_kernel_failure

    facts = Table(title="stm-fast doctor", show_header=False)
    for name, value in (versions() | _machine()).items():
        facts.add_row(name, value)
    stdout.print(facts)

    backends = Table(title="Backends of the memory read")
    for column in ("backend", "state", "self-test against float64"):
        backends.add_column(column)
    healthy = True
    served = False
    for name, reason in availability().items():
        if reason:
            backends.add_row(name, f"off: {reason}", "")
            continue
        for device in devices():
            try:
                result = self_test(name, device)
            except BackendUnavailableError as error:
                backends.add_row(name, f"off ({device})", str(error))
                continue
            except Exception as error:
                if not is_kernel_failure(error):
                    raise
                healthy = False
                backends.add_row(name, f"on ({device})", f"[red]FAILED[/]: {escape(in_a_line(error))}")
                continue
            healthy &= result.passed
            served = True
            verdict = "[green]passed[/]" if result.passed else "[red]FAILED[/]"
            numbers = f"error {result.error:.1e}, allowed {result.allowed:.1e}, {1000 * result.seconds:.0f} ms"
            backends.add_row(name, f"on ({device})", f"{verdict}: {numbers}")
    stdout.print(backends)
    _show_engines()
    if not (healthy and served):
        raise typer.Exit(OPTION_ERROR)


def _show_engines() -> None:
    """Print the engine of the CPU kernels that was measured to be the fastest, for each kind of read."""
    import torch
    from rich.table import Table

    from stm_fast.ops import cpu_engines

    kept = cpu_engines.kept()
    if not kept:
        return
    table = Table(title=f"Engines of the CPU kernels (threads: {torch.get_num_threads()})")
    for column in ("read of keys and values", "engine", "measured, ms"):
        table.add_column(column)
    for name, choice in sorted(kept.items()):
        times = ", ".join(f"{engine} {1e3 * seconds:.2f}" for engine, seconds in choice.seconds.items())
        table.add_row(name, choice.engine, times)
    stdout.print(table)


def self_test(backend: str, device: str) -> SelfTest:
    """Read a small seeded memory with a backend and compare with the float64 formula.

    Raises:
        BackendUnavailableError: the backend refuses the call.
    """
    import torch

    from stm_fast.ops import memory_read

    generator = torch.Generator().manual_seed(0)
    query = torch.randn(2, 64, 15, 27, generator=generator)
    key = torch.randn(2, 64, 3, 15, 27, generator=generator)
    value = torch.randn(2, 128, 3, 15, 27, generator=generator)
    exact, plain = _formula(query.double(), key.double(), value.double()), _formula(query, key, value).double()
    on_device = [tensor.to(device) for tensor in (query, key, value)]
    begin = time.perf_counter()
    read = memory_read(*on_device, backend=backend).cpu().double()
    seconds = time.perf_counter() - begin
    band = 2 * torch.finfo(torch.float32).eps * exact.abs().max()
    allowed = 2 * (plain - exact).abs().max() + band
    return SelfTest(float((read - exact).abs().max()), float(allowed), seconds)


def devices() -> list[str]:
    """Return the kinds of device of this machine."""
    import torch

    return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def _formula(query: "torch.Tensor", key: "torch.Tensor", value: "torch.Tensor") -> "torch.Tensor":
    """Compute the dot-product read directly, in the operands' precision."""
    import torch

    q, k, v = query.flatten(2), key.flatten(2), value.flatten(2)
    affinity = torch.softmax(k.mT @ q / q.shape[1] ** 0.5, dim=1)
    return (v @ affinity).view(*value.shape[:2], *query.shape[2:])


def _engine() -> str:
    """Return which engine of the CPU kernels reads."""
    from stm_fast.ops import cpu_engines

    forced = os.environ.get(cpu_engines.VARIABLE)
    if forced:
        return f"{forced}, forced by {cpu_engines.VARIABLE}"
    if cpu_engines.kept():
        return "the fastest, as measured (see below); stm-fast tune --device cpu measures again"
    return "the fastest; it is measured by the first large read, or by stm-fast tune --device cpu"


def _machine() -> dict[str, str]:
    import av
    import torch
    from av.codec.codec import UnknownCodecError

    from stm_fast.cli import threads
    from stm_fast.ops import compiled
    from stm_fast.tracking.options import resolve_dtype

    try:
        encoder = av.Codec("libx264", "w").name
    except UnknownCodecError:
        encoder = "missing: overlays cannot be written"
    cards = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "cpu": torch.backends.cpu.get_cpu_capability(),
        **threads.facts(),
        "cpu kernels": ", ".join(compiled.instruction_sets()) or "missing",
        "cpu engine": _engine(),
        "gpu": ", ".join(cards) or "none",
        "default dtype": ", ".join(f"{kind} {resolve_dtype('auto', kind)}" for kind in devices()),
        "H.264 encoder": encoder,
    }
