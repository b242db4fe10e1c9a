"""The classes of chips that the kernels run on, with the properties that decide about tiles and splits."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple

import torch


class Chip(NamedTuple):
    """A class of chips that use the same tiles, represented by one of them.

    Attributes:
        name: name of the class.
        backend: "cuda" or "hip".
        arch: target of the compiler, a compute capability or a gfx name.
        warp: threads of a warp.
        shared_kb: KB of shared memory that one program can use.
        processors: multiprocessors. They are counted on the GPU itself if there is one.
        tflops_16: peak TFLOP/s of dense matrix products of bfloat16.
        tflops_32: peak TFLOP/s of multiply-adds of float32.
        terabytes_per_second: peak bandwidth of memory.
        descriptors: whether tiles are best loaded by tensor descriptors (TMA).
    """

    name: str
    backend: str
    arch: int | str
    warp: int
    shared_kb: int
    processors: int
    tflops_16: float
    tflops_32: float
    terabytes_per_second: float
    descriptors: bool = False

    @property
    def shared(self) -> int:
        """Bytes of shared memory that one program can use."""
        return 1024 * self.shared_kb

    @property
    def flops_16(self) -> float:
        """Peak rate of one processor in products of bfloat16, in operations per microsecond."""
        return 1e6 * self.tflops_16 / self.processors

    @property
    def flops_32(self) -> float:
        """Peak rate of one processor in multiply-adds of float32, in operations per microsecond."""
        return 1e6 * self.tflops_32 / self.processors

    @property
    def bytes_per_microsecond(self) -> float:
        """Peak bandwidth of memory."""
        return 1e6 * self.terabytes_per_second


CHIPS = {
    chip.name: chip
    for chip in (
        # NVIDIA A100 80GB SXM data sheet. Shared memory of all NVIDIA chips: "Compute Capabilities" in the CUDA C++
        # Programming Guide, maximum per thread block.
        Chip("sm_80", "cuda", 80, 32, 163, 108, 312, 19.5, 2.0),
        # GeForce RTX 4090, in NVIDIA's "Ada GPU Architecture" whitepaper; products that accumulate in float32.
        Chip("sm_86", "cuda", 86, 32, 99, 128, 165, 82.6, 1.0),
        # NVIDIA H200 SXM data sheet, without sparsity; processors: "H100 Tensor Core GPU Architecture" whitepaper.
        Chip("sm_90", "cuda", 90, 32, 227, 132, 989, 67, 4.8, descriptors=True),
        # One B200, an eighth of NVIDIA's HGX B200 data sheet, without sparsity.
        Chip("sm_100", "cuda", 100, 32, 227, 148, 2250, 75, 8.0, descriptors=True),
        # One of the two dies of an AMD Instinct MI250 data sheet. LDS of both AMD chips: their ISA reference guides.
        Chip("gfx90a", "hip", "gfx90a", 64, 64, 104, 181, 22.6, 1.6),
        # AMD Instinct MI300X data sheet, without sparsity.
        Chip("gfx942", "hip", "gfx942", 64, 64, 304, 1307, 163.4, 5.3),
    )
}
"""sm_86 represents all chips with 99 KB, including Ada and consumer Blackwell; sm_100 those with tensor memory."""

CAPABILITIES = {
    (8, 0): "sm_80",
    (8, 6): "sm_86",
    (8, 7): "sm_86",
    (8, 9): "sm_86",
    (9, 0): "sm_90",
    (10, 0): "sm_100",
    (10, 3): "sm_100",
    (11, 0): "sm_100",
    (12, 0): "sm_86",
    (12, 1): "sm_86",
}
"""The class of each compute capability, by the shared memory of a thread block."""

_pretended: list[Chip] = []


def of_backend(backend: str) -> tuple[str, ...]:
    """Return the names of the chips of triton's backend "cuda" or "hip"."""
    return tuple(chip.name for chip in CHIPS.values() if chip.backend == backend)


@contextmanager
def pretending(chip: Chip) -> Iterator[None]:
    """Return a context in which tensors that are not on a GPU count as tensors on this chip."""
    _pretended.append(chip)
    try:
        yield
    finally:
        _pretended.pop()


def chip_of(device: torch.device) -> Chip:
    """Return the class of a GPU, or the class with the smallest tiles if the kernels are interpreted."""
    if device.type != "cuda":
        return _pretended[-1] if _pretended else CHIPS["sm_86"]
    return _chip_of_gpu(device)


@cache
def refused(device: torch.device) -> str | None:
    """Return why the kernels do not support a GPU, or None if they do."""
    name = _name_of(device)
    if name in CHIPS:
        return None
    if torch.version.hip:
        return f"it runs on AMD's {', '.join(of_backend('hip'))}, not on {name}"
    known = ", ".join(f"{major}.{minor}" for major, minor in CAPABILITIES)
    return f"it runs on compute capabilities {known}, not on {name}"


@cache
def _chip_of_gpu(device: torch.device) -> Chip:
    return CHIPS[_name_of(device)]


def _name_of(device: torch.device) -> str:
    """Return the name of a GPU's class, or the GPU's own name if it has none."""
    properties = torch.cuda.get_device_properties(device)
    if torch.version.hip:
        return str(properties.gcnArchName).split(":")[0]
    return CAPABILITIES.get((properties.major, properties.minor), f"{properties.major}.{properties.minor}")
