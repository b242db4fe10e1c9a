"""Compile the kernels for chips that are not present, and read their resources from the binaries.

The launchers run on tensors without storage. Kernels that they would launch are compiled for the target, with the same
specialization as for a launch, but not launched.
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
"""Width that a copy by a tensor descriptor (TMA) counts as."""
STREAMED = {
    "dense_kernel": ("key", "value"),
    "query_gradient_kernel": ("key", "value"),
    "key_gradient_kernel": ("query", "grad_out"),
    "value_gradient_kernel": ("query", "grad_out"),
    "usage_kernel": ("query",),
    "candidates_kernel": ("key",),
}
"""Tensors that a kernel loads for every tile of its main loop."""
MAX_STATISTICS = 4
"""Maximum number of 4-byte copies in a loop that are taken for copies of gain, bias, lse and delta."""
NVIDIA_TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


class Resources(NamedTuple):
    """Resources of one launch of a kernel, and instructions of one iteration of its main loop.

    Attributes:
        kernel: name of the kernel.
        registers: registers per thread.
        spilled: bytes that each thread spills to memory.
        shared: bytes of shared memory per program.
        warps: warps per program.
        instructions: instructions of the main loop; on AMD, of the whole kernel.
        matrix: matrix products among them.
        waits: waits for asynchronous products among them.
        barriers: barriers of all warps among them.
        copy_bytes: bytes of a thread's narrowest asynchronous copy among them; 0 if there is none, `DESCRIPTOR_BYTES`
            if descriptors copy.
        code: instructions of the whole kernel.
        serialized: 1 if ptxas serializes asynchronous products (remarks C7510 to C7519), else 0.
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
    """A driver for a GPU that is not present, which suffices for compiling."""

    def __init__(self, target: GPUTarget) -> None:
        self.target = target

    def get_current_target(self) -> GPUTarget:
        return self.target

    def get_current_device(self) -> GPUTarget:
        """Return the target: triton caches compiled kernels by device."""
        return self.target

    def get_current_stream(self, device: GPUTarget) -> int:
        return 0


@contextmanager
def compiling_for(target: GPUTarget) -> Iterator[list[Any]]:
    """Return a context that compiles kernels for `target` instead of launching them, and yields the list of them."""
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
    """Return the resources of a compiled kernel."""
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
    """Return whether descriptors read all tensors, except statistics, that a kernel loads tile by tile."""
    streamed = STREAMED.get(kernel.metadata.name, ())
    signature = kernel.src.signature
    return bool(streamed) and all(signature[f"{name}_descriptor"] != "constexpr" for name in streamed)


def _of_main_loop(code: list[sass.Instruction]) -> dict[str, int]:
    """Count the instructions of the main loop, which is the innermost loop with most products."""
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
    """Return the bytes of the narrowest copy of tiles. A few 4-byte copies among wider ones are statistics."""
    widths = {**sass.widths(loop), DESCRIPTOR_BYTES: sass.count(loop, "UTMALDG")}
    found = [width for width, copies in widths.items() if copies]
    wider = [width for width in found if width > 4]
    return min(wider if wider and widths.get(4, 0) <= MAX_STATISTICS else found, default=0)


def _is_serialized(kernel: Any) -> bool:
    """Return whether ptxas remarks that it serializes products. Triton does not pass these remarks on."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "kernel.ptx"
        source.write_text(kernel.asm["ptx"])
        target = f"--gpu-name=sm_{kernel.metadata.target.arch}a"
        remarks = _run("ptxas", "-v", target, str(source), "-o", str(Path(folder) / "kernel.cubin"))
    return re.search(r"\bC751\d\b", remarks) is not None


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
    """Run a CUDA tool and return what it prints, with its remarks."""
    command = [NVIDIA_TOOLS / tool, *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout
