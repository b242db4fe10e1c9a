"""Options of tracking: the model, its size and dtype, and the memory."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from stm_fast.errors import ArgumentError

if TYPE_CHECKING:
    import torch

    from stm_fast.inference.segmenter import Segmenter
    from stm_fast.memory.policies import MemoryPolicy
    from stm_fast.memory.stores import Store
    from stm_fast.models.stm import STM

DTYPES = ("auto", "float32", "bfloat16", "float16")
OFFLOADS = ("none", "host", "disk")
SOFT_BITS = (8, 16)
_MIN_FRAMES, _MAX_FRAMES = 2, 1_000_000
"""The first frame and the previous one; more than any memory holds."""
_MAX_BYTES = 1 << 60


@dataclass(frozen=True)
class TrackOptions:
    """How to track a video; the defaults are those of the command line.

    Attributes:
        model: "compact", "resnet50" with `weights`, or a file: STM_weights.pth or .safetensors.
        weights: file of the weights of a model given by name.
        size: shorter side, in pixels, that the network works at; smaller frames keep their size. "auto" for the
            model's best, None for the frames' own.
        memory_every: distance between remembered frames.
        memory: "auto", "official", "window:N", "least-used:N", "long-term", "long-term:N", "diverse" or "diverse:N";
            see `stm_fast.memory.presets`.
        memory_limit: maximum size of the memory in bytes, a number or a text such as "4GB"; None for no limit.
        top_k: read only the k best memory tokens; "auto" for as many as suit the model, None for all.
        device: "auto", "cpu", "cuda", "cuda:1" ...
        dtype: "float32", "bfloat16", "float16", or "auto": bfloat16 if the processor has instructions for it.
        backend: of the memory read, see `stm_fast.memory_read`.
        offload: where remembered frames move to: "none", "host" or "disk".
        void: an id in the masks that is no object, such as 255; None for none.
        soft: bits of the probability of each object that frames have and results keep, 8 or 16; None for none.

    Raises:
        ArgumentError: `soft` is something else.
    """

    model: str = "compact"
    weights: str | None = None
    size: int | str | None = "auto"
    memory_every: int = 5
    memory: str = "auto"
    memory_limit: int | str | None = None
    top_k: int | str | None = "auto"
    device: str = "auto"
    dtype: str = "auto"
    backend: str = "auto"
    offload: str = "none"
    void: int | None = None
    soft: int | None = None

    def __post_init__(self) -> None:
        if self.soft is not None and self.soft not in SOFT_BITS:
            raise ArgumentError("soft", f"must be 8 or 16 bits, or None, got {self.soft}")

    def load(self) -> "STM":
        """Load the model.

        Raises:
            WeightsError: a file of weights cannot be used.
            ArgumentError: an option is out of range, or the model has no weights.
        """
        import stm_fast

        if self.model == "resnet50" and self.weights is None:
            raise ArgumentError("model", "resnet50 comes without weights: give weights too, such as STM_weights.pth")
        device = resolve_device(self.device)
        dtype = resolve_dtype(self.dtype, device)
        return stm_fast.load_model(self.model, weights=self.weights, device=device, dtype=dtype)

    def segmenter(self, model: "STM", frame_size: tuple[int, int], folder: Path | None = None) -> "Segmenter":
        """Make a segmenter for frames of a size.

        Args:
            model: see `load`.
            frame_size: height and width of the frames.
            folder: for a memory that is offloaded to disk.

        Raises:
            ValueError: an option is out of range.
        """
        from stm_fast.inference.segmenter import Segmenter

        max_bytes = None if self.memory_limit is None else parse_bytes(self.memory_limit)
        store = self._store(next(model.parameters()).device.type, folder)
        memory = "official" if self.memory == "auto" and store is not None else self.memory
        return Segmenter(
            model,
            policy=parse_memory(memory, self.memory_every, max_bytes),
            size=self._size(min(frame_size)),
            top_k=self._top_k(),
            backend=self.backend,
            store=store,
        )

    def settings(self) -> dict[str, object]:
        """Return the options as given, in types of JSON, for reports and to compare runs."""
        return {name: int(value) if isinstance(value, Integral) else value for name, value in asdict(self).items()}

    def _store(self, device: str, folder: Path | None) -> "Store | None":
        """Make the store that remembered frames move to; None if they stay on the device."""
        from stm_fast.memory.stores import DiskStore, HostStore

        if self.offload not in OFFLOADS:
            raise ArgumentError("offload", f"must be one of {', '.join(OFFLOADS)}, got {self.offload}")
        if self.offload == "none":
            return None
        if self.memory not in ("auto", "official") or self.memory_limit is not None:
            raise ArgumentError(
                "offload", f"{self.offload} needs a memory without limit: leave out memory and memory limit"
            )
        if self._top_k() not in ("auto", None):
            raise ArgumentError("offload", f"{self.offload} reads the whole memory: leave out top-k")
        if self.offload == "host":
            if device == "cpu":
                raise ArgumentError(
                    "offload", "host is for a GPU: on a CPU the memory is already there; allowed is disk"
                )
            return HostStore()
        if folder is None:
            raise ArgumentError("offload", "disk needs a folder to write to")
        return DiskStore(folder)

    def _top_k(self) -> int | Literal["auto"] | None:
        if isinstance(self.top_k, str):
            if self.top_k != "auto":
                raise ArgumentError("top_k", f"must be a number, auto, or None for all, got {self.top_k}")
            return "auto"
        return self.top_k

    def _size(self, shorter_side: int) -> int | Literal["auto"] | None:
        if isinstance(self.size, str):
            if self.size != "auto":
                raise ArgumentError("size", f"must be a number of pixels or auto, got {self.size}")
            return "auto"
        if self.size is not None and self.size < 1:
            raise ArgumentError("size", f"must be at least 1 pixel, auto, or None for the frames' own, got {self.size}")
        return self.size if self.size is not None and self.size < shorter_side else None


@contextmanager
def memory_limit_by_its_name() -> Iterator[None]:
    """Say memory_limit, as callers do, in errors about the bound on a memory's bytes that it becomes."""
    try:
        yield
    except ArgumentError as error:
        if error.argument != "max_bytes":
            raise
        raise ArgumentError("memory_limit", f"{error.problem}; resume continues with more") from error


def parse_memory(text: str, every: int = 5, max_bytes: int | None = None) -> "MemoryPolicy":
    """Make the policy of a name, such as "auto" or "window:20".

    Args:
        text: a name of `stm_fast.memory.policies.presets.PRESETS`, and for some a number of frames after a colon.
        every: distance between remembered frames.
        max_bytes: limit of the memory; None for no limit.

    Raises:
        ArgumentError: there is no such policy.
    """
    from stm_fast.memory.policies.presets import PRESETS

    name, colon, frames = text.partition(":")
    preset = PRESETS.get(name)
    digits = bool(re.fullmatch("[0-9]+", frames))
    if preset and preset.frames != "never" and digits:
        if len(frames) > 9 or not _MIN_FRAMES <= int(frames) <= _MAX_FRAMES:
            raise ArgumentError("memory", f"{name}:N must have N from {_MIN_FRAMES} to {_MAX_FRAMES}, got {text}")
        return preset.make(frames=int(frames), every=every, max_bytes=max_bytes)
    if preset and preset.frames != "always" and not colon:
        return preset.make(every=every, max_bytes=max_bytes)
    *forms, last = (f"{each}:N" if entry.frames == "always" else each for each, entry in PRESETS.items())
    raise ArgumentError(
        "memory",
        f"must be {', '.join(forms)} or {last} (also with :N), N being a number of frames, got {text}",
    )


def parse_bytes(size: int | str) -> int:
    """Return the number of bytes of a text such as "4GB", "500 MB" or "1.5GiB".

    Raises:
        ArgumentError: the text is not a number of bytes, or out of range.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?", str(size).strip().lower())
    if match is None:
        raise ArgumentError("memory_limit", f"must be a number of bytes such as 4GB, 500MB or 1.5GiB, got {size}")
    number, prefix, binary = match.groups()
    found = float(number) * (1024 if binary else 1000) ** " kmgt".index(prefix or " ")
    if not 1 <= found <= _MAX_BYTES:
        raise ArgumentError("memory_limit", f"must be at least 1 byte and at most 2^60, got {size}")
    return int(found)


def resolve_device(name: str) -> str:
    """Return the device of a name; "auto" is the first GPU, or the CPU if there is none.

    Raises:
        ArgumentError: torch knows no such device, or this machine has none.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        if torch.device(name).type == "meta":
            raise RuntimeError("it holds no numbers")
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, ImportError) as error:
        # For an operator that a device lacks, torch's message lists every device that has it.
        lacking = isinstance(error, NotImplementedError)
        reason = "this torch does not serve it" if lacking else str(error).splitlines()[0].partition(". ")[0]
        raise ArgumentError(
            "device", f"{name!r} cannot be used ({reason}); allowed are auto, cpu, cuda, cuda:1 ..."
        ) from None
    return name


def resolve_dtype(dtype: str, device: str) -> "torch.dtype":
    """Return the torch dtype of a name on a device.

    Raises:
        ArgumentError: there is no such dtype.
    """
    import torch

    if dtype not in DTYPES:
        raise ArgumentError("dtype", f"must be one of {', '.join(DTYPES)}, got {dtype}")
    if dtype != "auto":
        resolved: torch.dtype = getattr(torch, dtype)
        return resolved
    return torch.bfloat16 if computes_bfloat16(device) else torch.float32


def computes_bfloat16(device: str) -> bool:
    """Return whether a device has instructions for bfloat16, which make it faster than float32."""
    import torch

    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device == "cpu" and bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
