"""Options that several commands share, and the segmenter they make."""

import re
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import torch

    from stm_fast.inference.resumable import ResumableSegmenter
    from stm_fast.memory.offload import Store
    from stm_fast.memory.policies import MemoryPolicy
    from stm_fast.models.stm import STM

MODEL_PANEL = "Model and memory"
_LEAST_FRAMES, _MOST_FRAMES = 2, 1_000_000
"""The first frame and the previous one; and more than any memory holds."""
_MOST_BYTES = 1 << 60


class Dtype(str, Enum):
    """Number formats a network can run in; `auto` is bfloat16 where the processor computes in it, else float32."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


@dataclass(frozen=True)
class MemoryOption:
    """A policy by name, as `--memory` takes it.

    Attributes:
        name: of a function in `stm_fast.memory.presets`, with hyphens.
        frames: that follow the name after a colon; None if there are none.
    """

    name: str
    frames: int | None = None

    NEEDED = ("window", "least-used")
    OPTIONAL = ("long-term", "diverse")

    @classmethod
    def parse(cls, text: str) -> "MemoryOption":
        """The option of a text such as "official" or "window:20".

        Raises:
            ValueError: it is no such text.
        """
        name, colon, frames = text.partition(":")
        takes = name in (*cls.NEEDED, *cls.OPTIONAL)
        digits = bool(re.fullmatch("[0-9]+", frames))
        if takes and digits and (len(frames) > 9 or not _LEAST_FRAMES <= int(frames) <= _MOST_FRAMES):
            raise ValueError(f"--memory {name}:N must have N from {_LEAST_FRAMES} to {_MOST_FRAMES}, got {text}")
        if not (takes and digits if colon else name in ("official", *cls.OPTIONAL)):
            raise ValueError(
                "--memory must be official, window:N, least-used:N, long-term or diverse (also with :N), N being a "
                f"number of frames, got {text}"
            )
        return cls(name, int(frames) if colon else None)

    def policy(self, every: int, max_bytes: int | None) -> "MemoryPolicy":
        """The policy.

        Raises:
            ValueError: there are too few frames for it.
        """
        from stm_fast.memory import presets

        make = getattr(presets, self.name.replace("-", "_"))
        frames = {} if self.frames is None else {"frames": self.frames}
        policy: MemoryPolicy = make(**frames, every=every, max_bytes=max_bytes)
        return policy


def parse_bytes(text: str) -> int:
    """The number of bytes of a text such as "4GB", "500 MB" or "1.5GiB".

    Raises:
        ValueError: it is no such text.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?", text.strip().lower())
    if match is None:
        raise ValueError(f"--memory-limit must be a number of bytes such as 4GB, 500MB or 1.5GiB, got {text}")
    number, prefix, binary = match.groups()
    found = float(number) * (1024 if binary else 1000) ** " kmgt".index(prefix or " ")
    if not 1 <= found <= _MOST_BYTES:
        raise ValueError(f"--memory-limit must be at least 1 byte and at most 2^60, got {text}")
    return int(found)


class Offload(str, Enum):
    """Where kept frames go: they stay on the device, or move to the host's memory or to the output's disk."""

    none = "none"
    host = "host"
    disk = "disk"


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
        help="What stays when frames are many: official (all), window:N (the last N), least-used:N, long-term "
        "(prototypes of what has gone) or diverse (frames that differ).",
        rich_help_panel=MODEL_PANEL,
    ),
]
MemoryLimit = Annotated[
    str | None,
    typer.Option(
        metavar="BYTES",
        help="Most bytes remembered, such as 4GB; no bound if left out.",
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


@dataclass(frozen=True)
class SegmenterOptions:
    """What makes a segmenter; the fields are the options above."""

    model: str = "compact"
    weights: str | None = None
    size: int | None = None
    memory_every: int = 5
    memory: str = "official"
    memory_limit: str | None = None
    top_k: int | None = None
    device: str = "auto"
    dtype: Dtype = Dtype.auto
    backend: str = "auto"
    offload: Offload = Offload.none

    def load(self) -> "STM":
        """Load the model.

        Raises:
            CheckpointError: a file of weights cannot be used.
            ValueError: an option is out of range, or the model has no weights.
        """
        import stm_fast

        if self.model == "resnet50" and self.weights is None:
            raise ValueError("--model resnet50 comes without weights: give --weights STM_weights.pth as well")
        device = resolve_device(self.device)
        dtype = resolve_dtype(self.dtype, device)
        return stm_fast.load_model(self.model, weights=self.weights, device=device, dtype=dtype)

    def segmenter(self, model: "STM", frame_size: tuple[int, int], folder: Path | None = None) -> "ResumableSegmenter":
        """A segmenter for frames of a size.

        Args:
            model: see `load`.
            frame_size: height and width; frames whose shorter side is not above a `size` that was given keep theirs.
            folder: where a memory goes that moves to disk.

        Raises:
            ValueError: an option is out of range.
        """
        from stm_fast.inference.resumable import ResumableSegmenter

        most = None if self.memory_limit is None else parse_bytes(self.memory_limit)
        return ResumableSegmenter(
            model,
            policy=MemoryOption.parse(self.memory).policy(self.memory_every, most),
            size=self._size(model, min(frame_size)),
            top_k=self.top_k,
            backend=self.backend,
            store=self._store(next(model.parameters()).device.type, folder),
        )

    def _store(self, device: str, folder: Path | None) -> "Store | None":
        """Where remembered frames move to."""
        from stm_fast.memory.offload import DiskStore, HostStore

        if self.offload is Offload.none:
            return None
        if self.memory != "official" or self.memory_limit is not None:
            raise ValueError(
                f"--offload {self.offload.value} goes with a memory without bound: leave out --memory and "
                "--memory-limit"
            )
        if self.top_k is not None:
            raise ValueError(f"--offload {self.offload.value} goes with reads of the whole memory: leave out --top-k")
        if self.offload is Offload.host:
            if device == "cpu":
                raise ValueError("--offload host is for a GPU: on a CPU the memory is there already; allowed is disk")
            return HostStore()
        if folder is None:
            raise ValueError("--offload disk needs a folder to write to")
        return DiskStore(folder)

    def _size(self, model: "STM", shorter_side: int) -> int | None:
        """The shorter side that the network sees; None for the frames' own."""
        if self.size is None:
            best = model.best_size(shorter_side)
            return None if best == shorter_side or best < model.stride else best
        return self.size if 0 < self.size < shorter_side else None

    def settings(self) -> dict[str, object]:
        """The options as they were given, for reports and to compare runs."""
        return asdict(self) | {"dtype": self.dtype.value, "offload": self.offload.value}


def resolve_device(name: str) -> str:
    """The device of a name: for "auto" the first GPU if there is one.

    Raises:
        ValueError: torch knows no such device, or this machine has none.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"device {name!r} cannot be used ({reason}); allowed are auto, cpu, cuda, cuda:1 ..."
        ) from None
    return name


def resolve_dtype(dtype: Dtype, device: str) -> "torch.dtype":
    """The torch dtype of an option on a device."""
    import torch

    if dtype is not Dtype.auto:
        resolved: torch.dtype = getattr(torch, dtype.value)
        return resolved
    return torch.bfloat16 if computes_bfloat16(device) else torch.float32


def computes_bfloat16(device: str) -> bool:
    """Whether a device has instructions for bfloat16, so that it is faster there than float32."""
    import torch

    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device == "cpu" and bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
