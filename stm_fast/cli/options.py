"""Options that several commands share. `TrackOptions` has their defaults, and says what they do."""

from collections.abc import Callable
from dataclasses import fields
from enum import Enum
from functools import wraps
from typing import Annotated, Any, TypeVar, get_args

import typer

from stm_fast.cli import threads
from stm_fast.cli.signatures import Parameter, with_parameters
from stm_fast.tracking.options import TrackOptions

MODEL_PANEL = "Model and memory"
OUTPUT_PANEL = "Output"

R = TypeVar("R")


class Dtype(str, Enum):
    """Number formats of a network; `auto` is bfloat16 if the processor has instructions for it, else float32."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class Offload(str, Enum):
    """Where remembered frames move to: nowhere, the host's memory, or the output's disk."""

    none = "none"
    host = "host"
    disk = "disk"


Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...", rich_help_panel=MODEL_PANEL)]
Threads = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Number of CPU threads. Defaults to one for every core that this process may use.",
        show_default=False,
        callback=threads.use,
    ),
]

_TRACK_OPTIONS: dict[str, Any] = {
    "void": Annotated[
        int | None,
        typer.Option(
            min=1,
            max=255,
            metavar="ID",
            help="Ignore pixels of this id in masks, such as 255 in PASCAL VOC: they are background, and not scored.",
            show_default=False,
        ),
    ],
    "model": Annotated[
        str,
        typer.Option(
            help="compact, resnet50 (with --weights), or a file: STM_weights.pth or .safetensors.",
            rich_help_panel=MODEL_PANEL,
        ),
    ],
    "weights": Annotated[
        str | None,
        typer.Option(help="Weights for a model given by name.", show_default=False, rich_help_panel=MODEL_PANEL),
    ],
    "size": Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Shorter side, in pixels, that the network works at. Smaller frames keep their size; 0 keeps every "
            "size. Defaults to the model's best: 560 for compact, which enlarges smaller frames, at most twice; else "
            "480.",
            show_default=False,
            rich_help_panel=MODEL_PANEL,
        ),
    ],
    "memory_every": Annotated[
        int,
        typer.Option(
            min=1, help="Remember every n-th frame, besides the first and the previous.", rich_help_panel=MODEL_PANEL
        ),
    ],
    "memory": Annotated[
        str,
        typer.Option(
            metavar="POLICY",
            help="Which frames stay in memory. auto: all of a short video; in a longer one, old frames become "
            "prototypes. official: all, so memory and time grow. window:N: the last N. least-used:N: the N that are "
            "read most. long-term: as prototypes from 20 frames on. diverse: frames that differ.",
            rich_help_panel=MODEL_PANEL,
        ),
    ],
    "memory_limit": Annotated[
        str | None,
        typer.Option(
            metavar="BYTES",
            help="Maximum size of the memory, such as 4GB. Defaults to no limit.",
            show_default=False,
            rich_help_panel=MODEL_PANEL,
        ),
    ],
    "top_k": Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Read only the k most similar memory locations; 0 reads all. Defaults to the model's best.",
            show_default=False,
            rich_help_panel=MODEL_PANEL,
        ),
    ],
    "device": Device,
    "dtype": Annotated[
        Dtype,
        typer.Option(help="auto: bfloat16 if the processor has instructions for it.", rich_help_panel=MODEL_PANEL),
    ],
    "backend": Annotated[
        str, typer.Option(help="Backend of the memory read; see stm-fast doctor.", rich_help_panel=MODEL_PANEL)
    ],
    "offload": Annotated[
        Offload,
        typer.Option(
            help="Move remembered frames off the device, so that the memory may outgrow it: to the host's memory, or "
            "to a disk, that of OUT.",
            rich_help_panel=MODEL_PANEL,
        ),
    ],
    "soft": Annotated[
        int | None,
        typer.Option(
            metavar="BITS",
            help="Also keep the probability of each object in each frame, in OUT/soft: grey PNGs of 8 or 16 bits.",
            show_default=False,
            rich_help_panel=OUTPUT_PANEL,
        ),
    ],
}
ALL = tuple(_TRACK_OPTIONS)
FOR_DATASETS = tuple(name for name in ALL if name not in ("offload", "void", "soft"))
MODEL = ("model", "weights", "device", "dtype", "backend")


def takes_track_options(*names: str) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Add tracking options to a command, which receives them as `TrackOptions` in its parameter `tracking`."""
    added = {name: Parameter(_TRACK_OPTIONS[name], _default(name)) for name in names}

    def decorate(command: Callable[..., R]) -> Callable[..., R]:
        @wraps(command)
        def run(**given: Any) -> R:
            tracking = _track_options({name: given.pop(name) for name in names})
            return command(tracking=tracking, **given)

        return with_parameters(run, command, added, in_place_of="tracking")

    return decorate


def _default(name: str) -> Any:
    """Return the default of a tracking option in the command line's type."""
    default = next(field.default for field in fields(TrackOptions) if field.name == name)
    if name in ("size", "top_k"):
        return None
    kind = get_args(_TRACK_OPTIONS[name])[0]
    return kind(default) if isinstance(kind, type) and issubclass(kind, Enum) else default


def _track_options(given: dict[str, Any]) -> TrackOptions:
    options = {name: value.value if isinstance(value, Enum) else value for name, value in given.items()}
    if "size" in options:
        options["size"] = "auto" if options["size"] is None else options["size"] or None
    if "top_k" in options:
        options["top_k"] = "auto" if options["top_k"] is None else options["top_k"] or None
    return TrackOptions(**options)
