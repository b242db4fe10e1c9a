"""Options that several commands share; `stm_fast.tracking.options` says what they do."""

from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

from stm_fast.cli import threads

if TYPE_CHECKING:
    from stm_fast.tracking.options import TrackOptions

MODEL_PANEL = "Model and memory"


class Dtype(str, Enum):
    """Number formats a network can run in; `auto` is bfloat16 where the processor computes in it, else float32."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class Offload(str, Enum):
    """Where kept frames go: they stay on the device, or move to the host's memory or to the output's disk."""

    none = "none"
    host = "host"
    disk = "disk"


Void = Annotated[
    int | None,
    typer.Option(
        "--void",
        min=1,
        max=255,
        metavar="ID",
        help="Pixels of this id in masks are background, such as 255 of PASCAL VOC.",
        show_default=False,
    ),
]
Model = Annotated[
    str,
    typer.Option(
        help="compact, resnet50 (with --weights), or a file: STM_weights.pth or .safetensors.",
        rich_help_panel=MODEL_PANEL,
    ),
]
Weights = Annotated[
    str | None, typer.Option(help="Weights for a model given by name.", show_default=False, rich_help_panel=MODEL_PANEL)
]
Size = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Shorter side, in pixels, that the network works at; smaller frames keep theirs, 0 keeps all. "
        "If left out, the model's best: 608 for compact, which enlarges smaller frames by up to a third, else 480.",
        show_default=False,
        rich_help_panel=MODEL_PANEL,
    ),
]
MemoryEvery = Annotated[
    int,
    typer.Option(
        min=1, help="Remember every n-th frame, besides the first and the previous.", rich_help_panel=MODEL_PANEL
    ),
]
MemoryName = Annotated[
    str,
    typer.Option(
        "--memory",
        metavar="POLICY",
        help="Which frames stay in memory. auto: all of a short video; in a longer one old frames become prototypes. "
        "official: all, so that memory and time grow. window:N: the last N. least-used:N. long-term: prototypes from "
        "20 frames on. diverse: frames that differ.",
        rich_help_panel=MODEL_PANEL,
    ),
]
MemoryLimit = Annotated[
    str | None,
    typer.Option(
        metavar="BYTES",
        help="The most bytes that are remembered, such as 4GB; no bound if left out.",
        show_default=False,
        rich_help_panel=MODEL_PANEL,
    ),
]
OffloadOption = Annotated[
    Offload,
    typer.Option(
        "--offload",
        help="Where remembered frames move to, so that the memory may outgrow the device's; disk is that of OUT.",
        rich_help_panel=MODEL_PANEL,
    ),
]
TopK = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Read only the k best memory locations; all if left out.",
        show_default=False,
        rich_help_panel=MODEL_PANEL,
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...", rich_help_panel=MODEL_PANEL)]
DtypeOption = Annotated[
    Dtype,
    typer.Option("--dtype", help="auto: bfloat16 where the processor computes in it.", rich_help_panel=MODEL_PANEL),
]
Backend = Annotated[
    str, typer.Option(help="Backend of the memory read, see stm-fast doctor.", rich_help_panel=MODEL_PANEL)
]
Threads = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="CPU threads to compute with, at most; if left out, one for every core that this process is granted.",
        show_default=False,
        callback=threads.use,
    ),
]


def track_options(
    model: str,
    weights: str | None,
    size: int | None = None,
    memory_every: int = 5,
    memory: str = "auto",
    memory_limit: str | None = None,
    top_k: int | None = None,
    device: str = "auto",
    dtype: Dtype = Dtype.auto,
    backend: str = "auto",
    offload: Offload = Offload.none,
    void: int | None = None,
) -> "TrackOptions":
    """Put the options above together."""
    from stm_fast.tracking.options import TrackOptions

    return TrackOptions(
        model=model,
        weights=weights,
        size="auto" if size is None else size or None,
        memory_every=memory_every,
        memory=memory,
        memory_limit=memory_limit,
        top_k=top_k,
        device=device,
        dtype=dtype.value,
        backend=backend,
        offload=offload.value,
        void=void,
    )
