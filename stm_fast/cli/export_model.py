"""`stm-fast export-model`: a network for other runtimes."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from stm_fast.cli.console import stdout, with_sentences
from stm_fast.progress import progress_bar


class Runtime(str, Enum):
    """What the files are for."""

    onnx = "onnx"
    torch = "torch"


@with_sentences
def export_model(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write.")],
    model: Annotated[
        str, typer.Option(help="compact, resnet50 (with --weights), or a file: STM_weights.pth or .safetensors.")
    ] = "compact",
    weights: Annotated[str | None, typer.Option(help="Weights for a model given by name.", show_default=False)] = None,
    runtime: Annotated[
        Runtime,
        typer.Option(
            "--format",
            "-f",
            help="onnx: ONNX models in standard operators; torch: programs of torch.export, with the fused read.",
        ),
    ] = Runtime.onnx,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export.")] = False,
) -> None:
    """Write a network in parts for other runtimes: encoders, memory read and decoder.

    Sizes of frames, the length of the memory and the number of objects stay free. docs/runtimes.md describes the parts,
    and examples/onnx_loop.py segments a video with them.
    """
    from stm_fast.models.weight_files import load_model
    from stm_fast.runtimes.onnx_files import export_onnx
    from stm_fast.runtimes.programs import export_programs

    export = export_onnx if runtime is Runtime.onnx else export_programs
    network = load_model(model, weights=weights)
    with progress_bar("Exporting", None, "parts") as advance:
        files = export(network, out, overwrite=overwrite, each=advance)
    for file in files:
        stdout.print(f"{file} {file.stat().st_size / 1e6:.1f} MB", markup=False, soft_wrap=True)
