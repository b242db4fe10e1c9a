"""`stm-fast tune`: tiles of the GPU kernels, measured on the GPU at hand."""

from typing import Annotated

import typer

from stm_fast.cli.console import Interrupted, progress_bar, say, stdout, with_sentences
from stm_fast.cli.options import Dtype, resolve_dtype
from stm_fast.errors import BackendUnavailableError
from stm_fast.media.files import write_text


@with_sentences
def tune(
    key_channels: Annotated[int, typer.Option(min=1, max=512, help="Channels of the keys.")] = 128,
    value_channels: Annotated[int, typer.Option(min=1, help="Channels of the values, of all objects.")] = 512,
    frames: Annotated[int, typer.Option(min=1, help="Memory frames of 1620 tokens.")] = 10,
    dtype: Annotated[Dtype, typer.Option(help="Of keys and values.")] = Dtype.auto,
) -> None:
    """Measure tiles and backends on this GPU, and keep what is faster than the table's.

    They are kept in the cache folder for this GPU and this triton, and taken from then on by reads of these dtypes and
    about these channels. The memory's length takes no part: any number of frames that fills the GPU will do. Where the
    CUDA kernels serve too, each operation is from then on done by the backend that was faster.
    """
    from stm_fast.ops import preference
    from stm_fast.ops.backends import registry, triton

    reason = registry.unavailable("triton") or ("kernels are interpreted" if triton.interpreting() else None)
    if reason:
        raise BackendUnavailableError(f"there is nothing to tune: {reason}")
    import torch

    from stm_fast.kernels import chips, launch, tiles, tuning
    from stm_fast.ops.operands import Operands

    device = torch.device("cuda", torch.cuda.current_device())
    reason = chips.refused(device)
    if reason:
        raise BackendUnavailableError(f"the backend triton does not serve this GPU: {reason}")
    precision = resolve_dtype(dtype, "cuda")
    query, key, value = (
        torch.randn(shape, device=device).to(precision)
        for shape in ((1, key_channels, 1620), (1, key_channels, 1620 * frames), (1, 1, value_channels, 1620 * frames))
    )
    operands = Operands(query, key, None, None, None, key_channels**-0.5)
    file = triton.tuned_tiles(device)
    tiles.TUNED.pop(device, None)
    measured: list[tuning.Trial] = []
    launchable = launch.Operands(*operands)
    total = tuning.count(launchable, value)
    with progress_bar("Measuring", total, "tiles") as advance:
        try:
            for trial in tuning.trials(launchable, value, tuning.median_seconds_on_gpu):
                measured.append(trial)
                advance()
        except KeyboardInterrupt as error:
            raise Interrupted("Stopped; nothing was changed.") from error
    chosen = tuning.winners(measured)
    for trial in measured:
        if trial.seconds is not None and chosen.get(trial.operation) == trial.tile:
            say(f"{trial.operation}: {trial.tile}, {1e3 * trial.seconds:.3f} ms")
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, tuning.with_winners(file, chosen, launchable, value))
    stdout.print(f"{len(chosen)} of {len(tuning.OPERATIONS)} tiles replaced; {file}", markup=False, soft_wrap=True)
    tiles.use_tuned(device, file)
    if registry.unavailable("cuda"):
        return
    seconds = preference.measure(operands, value, ["triton", "cuda"], tuning.median_seconds_on_gpu)
    for operation, times in seconds.items():
        say(f"{operation}: " + ", ".join(f"{name} {1e3 * time:.3f} ms" for name, time in times.items()))
    kept = preference.file_of(device)
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_text(kept, preference.with_winners(kept, preference.winners(seconds), operands, value))
    stdout.print(f"the faster backend of each operation is kept in {kept}", markup=False, soft_wrap=True)
