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
    """

    name: str
    backend: str
    arch: int | str
    warp: int
    shared: int


CHIPS = {
    chip.name: chip
    for chip in (
        Chip("sm_80", "cuda", 80, 32, 163 * 1024),
        Chip("sm_86", "cuda", 86, 32, 99 * 1024),
        Chip("sm_90", "cuda", 90, 32, 227 * 1024),
        Chip("sm_100", "cuda", 100, 32, 227 * 1024),
        Chip("gfx90a", "hip", "gfx90a", 64, 64 * 1024),
        Chip("gfx942", "hip", "gfx942", 64, 64 * 1024),
    )
}
"""sm_86 stands for all with 99 KB, Ada and consumer Blackwell among them."""


LEAST_CAPABILITY = (8, 0)

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
    if torch.version.hip:
        name = _amd_name(device)
        return None if name in of_backend("hip") else f"it runs on AMD's {', '.join(of_backend('hip'))}, not on {name}"
    capability = torch.cuda.get_device_capability(device)
    if capability >= LEAST_CAPABILITY:
        return None
    least, seen = (".".join(map(str, pair)) for pair in (LEAST_CAPABILITY, capability))
    return f"it needs compute capability {least}, not {seen}"


@cache
def _chip_of_gpu(device: torch.device) -> Chip:
    if torch.version.hip:
        return CHIPS[_amd_name(device)]
    properties = torch.cuda.get_device_properties(device)
    match properties.major, properties.minor:
        case 8, 0:
            return CHIPS["sm_80"]
        case 9, _:
            return CHIPS["sm_90"]
        case 10, _:
            return CHIPS["sm_100"]
        case _:
            return CHIPS["sm_86"]


def _amd_name(device: torch.device) -> str:
    return str(torch.cuda.get_device_properties(device).gcnArchName).split(":")[0]
