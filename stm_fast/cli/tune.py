"""`stm-fast tune`: tiles of the GPU kernels, or engines of the CPU kernels, measured on the machine at hand."""

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stm_fast.cli import options
from stm_fast.cli.console import Interrupted, say, stdout, with_sentences
from stm_fast.cli.options import Dtype
from stm_fast.errors import BackendUnavailableError
from stm_fast.media.files import write_text
from stm_fast.progress import progress_bar
from stm_fast.tracking.options import resolve_device, resolve_dtype

if TYPE_CHECKING:
    from stm_fast.kernels import tuning
    from stm_fast.kernels.tiles import Tile
    from stm_fast.ops.engine_timing import Kind

LOOKS = 20
"""At each CPU engine: four times as many as a read takes."""


@with_sentences
def tune(
    key_channels: Annotated[int, typer.Option(min=1, max=512, help="Channels of the keys.")] = 128,
    value_channels: Annotated[int, typer.Option(min=1, help="Channels of the values, of all objects.")] = 512,
    frames: Annotated[int, typer.Option(min=1, help="Memory frames of 1620 tokens, on a GPU.")] = 10,
    dtype: Annotated[
        Dtype, typer.Option(help="Of keys and values; auto: what the GPU is best at, or on a CPU all.")
    ] = Dtype.auto,
    device: options.Device = "auto",
    seconds: Annotated[float | None, typer.Option(min=0.0, help="Stop after these, with what was found.")] = None,
) -> None:
    """Measure what is fastest on this machine, and keep it for reads of these dtypes and about these channels.

    On a GPU these are tiles and backends, and what is faster than the table's is kept, in the cache folder for this GPU
    and this triton, after each operation. The memory's length takes no part: any number of frames that fills the GPU
    will do. Where the CUDA kernels serve too, each operation is from then on done by the backend that was faster.

    On a CPU these are the engines of its kernels, one for each instruction set. The first large read measures them by
    itself; tune takes longer looks, also at every kind of read that was measured before. It is kept for this processor
    and number of threads. Run it when the machine is as busy as it usually is.
    """
    until = time.monotonic() + (math.inf if seconds is None else seconds)
    if resolve_device(device) == "cpu":
        _tune_engines(key_channels, value_channels, dtype, until)
    else:
        _tune_gpu(key_channels, value_channels, frames, dtype, until)


def _tune_gpu(key_channels: int, value_channels: int, frames: int, dtype: Dtype, until: float) -> None:
    """Tune the tiles of every operation on the current GPU, then measure its backends."""
    from stm_fast.ops.backends import registry, triton

    reason = registry.unavailable("triton") or ("kernels are interpreted" if triton.interpreting() else None)
    if reason:
        raise BackendUnavailableError(f"there is nothing to tune: {reason}")
    import torch

    from stm_fast.kernels import chips, tiles, tuning

    device = torch.device("cuda", torch.cuda.current_device())
    reason = chips.refused(device)
    if reason:
        raise BackendUnavailableError(f"the backend triton does not serve this GPU: {reason}")
    precision = resolve_dtype(dtype.value, "cuda")
    problem = tuning.Problem(key_channels, value_channels, 1620 * frames, precision, device)
    file = triton.tuned_tiles(device)
    tiles.TUNED.pop(device, None)
    _tune_tiles(problem, file, until)
    tiles.use_tuned(device, file)
    if registry.unavailable("cuda") is None and time.monotonic() < until:
        _choose_backends(problem)


def _tune_tiles(problem: "tuning.Problem", file: Path, until: float) -> None:
    """Tune one operation after another; each has its share of the time that is left."""
    from stm_fast.kernels import tuning

    operands, value = problem.tensors()
    found = {name: tuning.neighbours(name, operands, value) for name in tuning.OPERATIONS}
    ahead, done = tuning.Ahead(problem), 0
    try:
        with progress_bar("Compiling and measuring", sum(map(len, found.values())), "tiles") as advance:
            for name, tiles in found.items():
                now = time.monotonic()
                if now >= until:
                    break
                fitting = []
                for tile, fits in ahead(name, tiles, now + (until - now) / (len(found) - done)):
                    advance(name)
                    if fits:
                        fitting.append(tile)
                _measure(name, problem, fitting, file)
                done += 1
    except KeyboardInterrupt as error:
        raise Interrupted(f"Stopped; {_told(done, found)} in {file}.") from error
    finally:
        ahead.end()
    stdout.print(f"{_told(done, found)} in {file}", markup=False, soft_wrap=True)


def _told(done: int, found: dict[str, list["Tile"]]) -> str:
    return f"{done} of {len(found)} operations were measured; tiles faster than the table's are"


def _measure(name: str, problem: "tuning.Problem", fitting: list["Tile"], file: Path) -> None:
    """Measure an operation's tiles and keep the best; on Ctrl-C the best until then."""
    from stm_fast.kernels import tuning
    from stm_fast.kernels.timing import median_seconds_on_gpu

    operands, value = problem.tensors()
    measured: list[tuning.Trial] = []
    try:
        for trial in tuning.trials(name, operands, value, median_seconds_on_gpu, fitting):
            measured.append(trial)  # noqa: PERF402 - one by one, for Ctrl-C
    finally:
        if measured:
            chosen = tuning.winner(measured)
            _write(file, tuning.with_winner(file, name, chosen, operands, value))
            best = next((trial for trial in measured if trial.tile == chosen), measured[0])
            say(f"{name}: {best.tile}, {1e3 * (best.seconds or 0.0):.3f} ms")


def _choose_backends(problem: "tuning.Problem") -> None:
    """Measure every operation with both backends, and keep which one was faster."""
    from stm_fast.kernels.timing import median_seconds_on_gpu
    from stm_fast.ops import preference
    from stm_fast.ops.operands import Operands

    launchable, value = problem.tensors()
    operands, kept = Operands(*launchable), preference.file_of(problem.device)
    seconds: dict[str, dict[str, float]] = preference.measure(
        operands, value, ["triton", "cuda"], median_seconds_on_gpu
    )
    for operation, times in seconds.items():
        say(f"{operation}: " + ", ".join(f"{name} {1e3 * time:.3f} ms" for name, time in times.items()))
    _write(kept, preference.with_winners(kept, preference.winners(seconds), operands, value))
    stdout.print(f"the faster backend of each operation is kept in {kept}", markup=False, soft_wrap=True)


def _tune_engines(key_channels: int, value_channels: int, dtype: Dtype, until: float) -> None:
    """Measure the CPU engines for every operation and dtype, and for what is kept already."""
    from stm_fast.ops import compiled, cpu_engines

    reason = compiled.failure()
    if reason:
        raise BackendUnavailableError(f"there is nothing to tune: {reason}")
    kinds = _kinds(key_channels, value_channels, dtype)
    file, done = cpu_engines.kept_file(), 0

    def told() -> str:
        return f"{done} of {len(kinds)} kinds of reads were measured; the fastest engine for each is kept in {file}"

    try:
        with progress_bar("Measuring", len(kinds), "kinds of reads") as advance:
            for name, kind in kinds.items():
                if time.monotonic() >= until:
                    break
                choice = cpu_engines.measure_again(kind, LOOKS)
                done += 1
                advance(name)
                say(f"{name}: {choice}")
    except KeyboardInterrupt as error:
        raise Interrupted(f"Stopped; {told()}.") from error
    stdout.print(told(), markup=False, soft_wrap=True)


def _kinds(key_channels: int, value_channels: int, dtype: Dtype) -> "dict[str, Kind]":
    """Kinds of reads to measure, by their names."""
    import torch

    from stm_fast.ops import cpu_engines
    from stm_fast.ops.engine_timing import OPERATIONS, Kind

    dtypes = [torch.float32, torch.bfloat16] if dtype is Dtype.auto else [getattr(torch, dtype.value)]
    asked = [
        Kind.of(operation, key, key_channels, value, value_channels)
        for operation in OPERATIONS
        for key in dtypes
        for value in dtypes
    ]
    before = [Kind.parse(name) for name in cpu_engines.kept()]
    return {str(kind): kind for kind in (*asked, *before) if kind is not None}


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, text)
