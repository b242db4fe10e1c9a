"""Which chip the kernels run on, as far as it decides about tiles."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple

import torch


class Chip(NamedTuple):
    """A class of chips that take the same tiles.

    Attributes:
        name: of the class.
        backend: "cuda" or "hip".
        arch: what kernels are compiled for where no chip of the class is at hand: a compute capability or a gfx name.
        warp: threads of a warp.
        shared: bytes of shared memory that one program can have.
        processors: of the chip that stands for its class; a real one's are counted.
        flops_16: operations of products of 16 bits that one processor does in a microsecond at most, by its data sheet.
        flops_32: those of multiply-adds of float32.
        bytes_per_microsecond: from memory, by its data sheet.
        descriptors: whether tiles are best loaded by tensor descriptors (TMA).
    """

    name: str
    backend: str
    arch: int | str
    warp: int
    shared: int
    processors: int
    flops_16: float
    flops_32: float
    bytes_per_microsecond: float
    descriptors: bool = False


CHIPS = {
    chip.name: chip
    for chip in (
        Chip("sm_80", "cuda", 80, 32, 163 * 1024, 108, 2.9e6, 0.18e6, 2.0e6),
        Chip("sm_86", "cuda", 86, 32, 99 * 1024, 128, 1.3e6, 0.6e6, 1.0e6),
        Chip("sm_90", "cuda", 90, 32, 227 * 1024, 132, 7.5e6, 0.5e6, 4.8e6, descriptors=True),
        Chip("sm_100", "cuda", 100, 32, 227 * 1024, 148, 15.2e6, 0.5e6, 8.0e6, descriptors=True),
        Chip("gfx90a", "hip", "gfx90a", 64, 64 * 1024, 104, 1.7e6, 0.2e6, 1.6e6),
        Chip("gfx942", "hip", "gfx942", 64, 64 * 1024, 304, 4.3e6, 0.5e6, 5.3e6),
    )
}
"""sm_86 stands for all with 99 KB, Ada and consumer Blackwell among them; sm_100 for those with tensor memory.

Rates are those of A100, RTX 4090, H200, B200, one half of MI250, and MI300X.
"""


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
"""Class of each compute capability."""

_pretended: list[Chip] = []


def of_backend(backend: str) -> tuple[str, ...]:
    """Names of the chips that triton's backend "cuda" or "hip" compiles for."""
    return tuple(chip.name for chip in CHIPS.values() if chip.backend == backend)


@contextmanager
def pretending(chip: Chip) -> Iterator[None]:
    """A context in which tensors without a GPU are taken to be on this chip."""
    _pretended.append(chip)
    try:
        yield
    finally:
        _pretended.pop()


def chip_of(device: torch.device) -> Chip:
    """The class of a GPU; of the smallest where the kernels are interpreted."""
    if device.type != "cuda":
        return _pretended[-1] if _pretended else CHIPS["sm_86"]
    return _chip_of_gpu(device)


@cache
def refused(device: torch.device) -> str | None:
    """Why the kernels do not run on a GPU, too old or unknown, or None."""
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
    """The name of a GPU's class; what the GPU calls itself where it has none."""
    properties = torch.cuda.get_device_properties(device)
    if torch.version.hip:
        return str(properties.gcnArchName).split(":")[0]
    return CAPABILITIES.get((properties.major, properties.minor), f"{properties.major}.{properties.minor}")
