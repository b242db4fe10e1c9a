"""Compiling the kernels for chips that are not there, and reading from the binaries what they need.

The launchers themselves run, on tensors without storage; what they would launch is compiled for the target, with the
specialisation that a launch would get, and nothing is launched.
"""

import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver
from triton.runtime.jit import JITFunction

NVIDIA_TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
MATRIX_INSTRUCTIONS = r"\b(?:[HIQ]MMA|HGMMA|UTC[A-Z]*MMA|v_mfma\w*)\b"
"""Products on tensor cores: mma.sync, wgmma, tcgen05; mfma on AMD."""


class Resources(NamedTuple):
    """What one launch of a kernel needs of the chip.

    Attributes:
        kernel: its name.
        registers: of a thread.
        spilled: bytes of registers that a thread keeps in memory.
        shared: bytes of shared memory of a program.
        matrix: instructions on tensor cores.
        copies: asynchronous copies from global to shared memory.
        warps: of a program.
    """

    kernel: str
    registers: int
    spilled: int
    shared: int
    matrix: int
    copies: int
    warps: int


class _AbsentGPU:
    """A driver for a GPU that is not there: enough of one to compile."""

    def __init__(self, target: GPUTarget) -> None:
        self.target = target

    def get_current_target(self) -> GPUTarget:
        return self.target

    def get_current_device(self) -> GPUTarget:
        """Kernels keep what is compiled for one device apart from another's: each target is one."""
        return self.target

    def get_current_stream(self, device: GPUTarget) -> int:
        return 0


@contextmanager
def compiling_for(target: GPUTarget) -> Iterator[list[Any]]:
    """A context in which kernels are compiled for `target` instead of launched; yields the list that collects them."""
    compiled: list[Any] = []
    launch = JITFunction.run

    def compile_only(self: JITFunction, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> Any:
        kernel = launch(self, *args, grid=grid, warmup=True, **kwargs)
        compiled.append(kernel)
        return kernel

    active = driver._active
    driver.set_active(_AbsentGPU(target))
    JITFunction.run = compile_only
    try:
        yield compiled
    finally:
        JITFunction.run = launch
        driver.set_active(active)


def resources(kernel: Any) -> Resources:
    """What a compiled kernel needs."""
    metadata = kernel.metadata
    read = _amd if metadata.target.backend == "hip" else _nvidia
    return Resources(kernel=metadata.name, shared=metadata.shared, warps=metadata.num_warps, **read(kernel))


def _nvidia(kernel: Any) -> dict[str, int]:
    with tempfile.TemporaryDirectory() as folder:
        binary = Path(folder) / "kernel.cubin"
        binary.write_bytes(kernel.asm["cubin"])
        usage = _run("cuobjdump", "--dump-resource-usage", str(binary))
        code = _run("nvdisasm", "-c", str(binary))
    registers, stack = (int(re.search(rf"{name}:(\d+)", usage)[1]) for name in ("REG", "STACK"))
    return {
        "registers": registers,
        "spilled": stack,
        "matrix": len(re.findall(MATRIX_INSTRUCTIONS, code)),
        "copies": len(re.findall(r"\b(?:LDGSTS|UTMALDG|UBLKCP)\b", code)),
    }


def _amd(kernel: Any) -> dict[str, int]:
    code = kernel.asm["amdgcn"]
    registers, spilled = (
        int(re.search(rf"\.{name}:\s+(\d+)", code)[1]) for name in ("vgpr_count", "private_segment_fixed_size")
    )
    return {
        "registers": registers,
        "spilled": spilled,
        "matrix": len(re.findall(MATRIX_INSTRUCTIONS, code)),
        "copies": len(re.findall(r"\bglobal_load_lds\w*|buffer_load\w* .*\blds\b", code)),
    }


def _run(tool: str, *arguments: str) -> str:
    return subprocess.run([NVIDIA_TOOLS / tool, *arguments], check=True, capture_output=True, text=True).stdout
