"""`stm-fast tune`: measure the tiles of the GPU kernels, or the engines of the CPU kernels, on this machine."""

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
    from stm_fast.kernels.tiles import Tile
    from stm_fast.ops import tile_tuning
    from stm_fast.ops.engine_timing import Kind

LOOKS = 20
"""Measurements of each CPU engine, four times as many as the first large read makes."""


@with_sentences
def tune(
    key_channels: Annotated[int, typer.Option(min=1, max=512, help="Key channels.")] = 128,
    value_channels: Annotated[int, typer.Option(min=1, help="Value channels, of all objects.")] = 512,
    frames: Annotated[int, typer.Option(min=1, help="Memory frames of 1620 tokens each; for a GPU.")] = 10,
    dtype: Annotated[
        Dtype, typer.Option(help="Dtype of keys and values. auto: the fastest one of the GPU; every one on a CPU.")
    ] = Dtype.auto,
    device: options.Device = "auto",
    seconds: Annotated[float | None, typer.Option(min=0.0, help="Time limit; what was found is kept.")] = None,
) -> None:
    """Measure what is fastest on this machine, and use it for later reads of the same dtypes and similar channels.

    On a GPU, this measures the tiles of every operation of the Triton kernels. Tiles faster than the built-in ones are
    written to the cache folder after each operation, for this GPU and this version of triton. Any number of frames that
    fills the GPU will do: tiles do not depend on the length of the memory. If the CUDA kernels are available too, each
    operation is then measured with both backends, and the faster backend serves it from then on.

    On a CPU, this measures the engines of the kernels, one for each instruction set. The first large read does so too;
    tune measures longer, and also repeats every kind of read that was measured before. The result is kept for this
    processor and this number of threads. Run it when the machine is as busy as it usually is.
    """
    until = time.monotonic() + (math.inf if seconds is None else seconds)
    if resolve_device(device) == "cpu":
        _tune_engines(key_channels, value_channels, dtype, until)
    else:
        _tune_gpu(key_channels, value_channels, frames, dtype, until)


def _tune_gpu(key_channels: int, value_channels: int, frames: int, dtype: Dtype, until: float) -> None:
    """Tune the tiles of every operation on the current GPU, then compare its backends."""
    from stm_fast.ops.backends import registry, triton

    reason = registry.unavailable("triton") or ("the kernels are interpreted" if triton.interpreting() else None)
    if reason:
        raise BackendUnavailableError(f"there is nothing to tune: {reason}")
    import torch

    from stm_fast.kernels import chips, tiles
    from stm_fast.ops import tile_tuning

    device = torch.device("cuda", torch.cuda.current_device())
    reason = chips.refused(device)
    if reason:
        raise BackendUnavailableError(f"the triton backend does not support this GPU: {reason}")
    precision = resolve_dtype(dtype.value, "cuda")
    problem = tile_tuning.Problem(key_channels, value_channels, 1620 * frames, precision, device)
    file = triton.tuned_tiles(device)
    tiles.TUNED.pop(device, None)
    _tune_tiles(problem, file, until)
    tiles.use_tuned(device, file)
    if registry.unavailable("cuda") is None and time.monotonic() < until:
        _choose_backends(problem)


def _tune_tiles(problem: "tile_tuning.Problem", file: Path, until: float) -> None:
    """Tune one operation after another. The time that is left is divided equally among the remaining operations."""
    from stm_fast.ops import tile_tuning

    operands, value = problem.tensors()
    candidates = {name: tile_tuning.neighbours(name, operands, value) for name in tile_tuning.OPERATIONS}
    compilers, done = tile_tuning.Compilers(problem), 0

    def summary() -> str:
        return f"{done} of {len(candidates)} operations were measured; tiles that beat the built-in ones are in {file}"

    try:
        with progress_bar("Compiling and measuring", sum(map(len, candidates.values())), "tiles") as advance:
            for name, tiles in candidates.items():
                now = time.monotonic()
                if now >= until:
                    break
                runnable = []
                for tile, ran in compilers.compile(name, tiles, now + (until - now) / (len(candidates) - done)):
                    advance(name)
                    if ran:
                        runnable.append(tile)
                _measure(name, problem, runnable, file)
                done += 1
    except KeyboardInterrupt as error:
        raise Interrupted(f"Stopped; {summary()}.") from error
    finally:
        compilers.end()
    stdout.print(summary(), markup=False, soft_wrap=True)


def _measure(name: str, problem: "tile_tuning.Problem", tiles: list["Tile"], file: Path) -> None:
    """Measure tiles of an operation and keep the best one; after Ctrl-C, the best one so far."""
    from stm_fast.ops import tile_tuning
    from stm_fast.ops.gpu_timing import median_seconds_on_gpu

    operands, value = problem.tensors()
    trials: list[tile_tuning.Trial] = []
    try:
        for trial in tile_tuning.trials(name, operands, value, median_seconds_on_gpu, tiles):
            trials.append(trial)  # noqa: PERF402  one by one, so that Ctrl-C keeps them
    finally:
        if trials:
            winner = tile_tuning.winner(trials)
            _write(file, tile_tuning.with_winner(file, name, winner, operands, value))
            best = next((trial for trial in trials if trial.tile == winner), trials[0])
            say(f"{name}: {best.tile}, {1e3 * (best.seconds or 0.0):.3f} ms")


def _choose_backends(problem: "tile_tuning.Problem") -> None:
    """Measure every operation with both backends and remember the faster one."""
    from stm_fast.ops import backend_timing, preference
    from stm_fast.ops.gpu_timing import median_seconds_on_gpu

    operands, value = problem.tensors()
    kept = preference.file_of(problem.device)
    seconds: dict[str, dict[str, float]] = backend_timing.measure(
        operands, value, ["triton", "cuda"], median_seconds_on_gpu
    )
    for operation, times in seconds.items():
        say(f"{operation}: " + ", ".join(f"{name} {1e3 * time:.3f} ms" for name, time in times.items()))
    _write(kept, backend_timing.with_winners(kept, backend_timing.winners(seconds), operands, value))
    stdout.print(f"the faster backend of each operation is kept in {kept}", markup=False, soft_wrap=True)


def _tune_engines(key_channels: int, value_channels: int, dtype: Dtype, until: float) -> None:
    """Measure the CPU engines for every operation and dtype, and for all kinds of reads measured before."""
    from stm_fast.ops import compiled, cpu_engines

    reason = compiled.failure("cpu")
    if reason:
        raise BackendUnavailableError(f"there is nothing to tune: {reason}")
    kinds = _kinds(key_channels, value_channels, dtype)
    file, done = cpu_engines.kept_file(), 0

    def summary() -> str:
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
        raise Interrupted(f"Stopped; {summary()}.") from error
    stdout.print(summary(), markup=False, soft_wrap=True)


def _kinds(key_channels: int, value_channels: int, dtype: Dtype) -> "dict[str, Kind]":
    """Return the kinds of reads to measure, by name."""
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
