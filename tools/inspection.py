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

from tools import sass

MATRIX_INSTRUCTIONS = ("HMMA", "IMMA", "QMMA", "HGMMA", "UTCHMMA", "UTCQMMA", "UTCIMMA")
"""Products on tensor cores: mma.sync, wgmma, tcgen05."""
DESCRIPTOR_BYTES = 128
"""What a copy by a tensor descriptor (TMA) counts as."""
STREAMED = {
    "dense_kernel": ("key", "value"),
    "query_gradient_kernel": ("key", "value"),
    "key_gradient_kernel": ("query", "grad_out"),
    "value_gradient_kernel": ("query", "grad_out"),
    "usage_kernel": ("query",),
    "candidates_kernel": ("key",),
}
"""What a kernel loads for every tile of its main loop."""
MAX_STATISTICS = 4
"""Copies of 4 bytes in a loop that may be of gain, bias, lse and delta."""
NVIDIA_TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


class Resources(NamedTuple):
    """What one launch of a kernel needs of the chip, and what one turn of its main loop does.

    Attributes:
        kernel: its name.
        registers: of a thread.
        spilled: bytes of registers that a thread keeps in memory.
        shared: bytes of shared memory of a program.
        warps: of a program.
        instructions: of the main loop; of the whole kernel on AMD.
        matrix: products on tensor cores among them.
        waits: for asynchronous products among them.
        barriers: of all warps among them.
        copy_bytes: of the narrowest asynchronous copy of a thread among them, 0 without one; `DESCRIPTOR_BYTES` where
            descriptors copy.
        code: instructions of the whole kernel.
        serialized: 1 where ptxas makes asynchronous products wait for one another (remarks C7510 to C7519).
    """

    kernel: str
    registers: int
    spilled: int
    shared: int
    warps: int
    instructions: int
    matrix: int
    waits: int = 0
    barriers: int = 0
    copy_bytes: int = 0
    code: int = 0
    serialized: int = 0


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
        listing = _run("cuobjdump", "-sass", str(binary))
    registers, stack = (int(re.search(rf"{name}:(\d+)", usage)[1]) for name in ("REG", "STACK"))
    (_, _, code), *_ = sass.kernels_of(listing)
    serialized = int(sass.count(code, "HGMMA") > 0 and _is_serialized(kernel))
    loop = _of_main_loop(code)
    if _streams_by_descriptors(kernel):
        loop["copy_bytes"] = DESCRIPTOR_BYTES
    return {"registers": registers, "spilled": stack, **loop, "code": len(code), "serialized": serialized}


def _streams_by_descriptors(kernel: Any) -> bool:
    """Whether descriptors read all that a kernel loads tile by tile; statistics are copied beside, a few bytes each."""
    streamed = STREAMED.get(kernel.metadata.name, ())
    signature = kernel.src.signature
    return bool(streamed) and all(signature[f"{name}_descriptor"] != "constexpr" for name in streamed)


def _of_main_loop(code: list[sass.Instruction]) -> dict[str, int]:
    """What one turn of the loop with most products does; of several such the innermost."""
    loop = max(
        sass.loops(code), key=lambda body: (_products(body), -len(body) if _products(body) else len(body)), default=code
    )
    return {
        "instructions": len(loop),
        "matrix": _products(loop),
        "waits": sass.count(loop, "WARPGROUP.DEPBAR"),
        "barriers": sass.count(loop, "BAR"),
        "copy_bytes": _narrowest_copy(loop),
    }


def _products(code: list[sass.Instruction]) -> int:
    return sum(sass.count(code, name) for name in MATRIX_INSTRUCTIONS)


def _narrowest_copy(loop: list[sass.Instruction]) -> int:
    """Bytes of the narrowest copy of tiles; a few of 4 bytes among wider ones are of statistics, a number a query."""
    widths = {**sass.widths(loop), DESCRIPTOR_BYTES: sass.count(loop, "UTMALDG")}
    found = [width for width, copies in widths.items() if copies]
    wider = [width for width in found if width > 4]
    return min(wider if wider and widths.get(4, 0) <= MAX_STATISTICS else found, default=0)


def _is_serialized(kernel: Any) -> bool:
    """Whether ptxas says so, which triton does not pass on."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "kernel.ptx"
        source.write_text(kernel.asm["ptx"])
        target = f"--gpu-name=sm_{kernel.metadata.target.arch}a"
        said = _run("ptxas", "-v", target, str(source), "-o", str(Path(folder) / "kernel.cubin"))
    return re.search(r"\bC751\d\b", said) is not None


def _amd(kernel: Any) -> dict[str, int]:
    code = kernel.asm["amdgcn"]
    registers, spilled = (
        int(re.search(rf"\.{name}:\s+(\d+)", code)[1]) for name in ("vgpr_count", "private_segment_fixed_size")
    )
    return {
        "registers": registers,
        "spilled": spilled,
        "instructions": len(re.findall(r"^\s+[a-z]+_\w+", code, re.MULTILINE)),
        "code": len(re.findall(r"^\s+[a-z]+_\w+", code, re.MULTILINE)),
        "matrix": len(re.findall(r"\bv_mfma\w*", code)),
    }


def _run(tool: str, *arguments: str) -> str:
    """What a tool of CUDA's prints, its remarks included."""
    command = [NVIDIA_TOOLS / tool, *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout
