"""Peaks of this CPU: multiply-adds in registers, and bytes from memory."""

import ctypes
import platform
import shlex
import statistics
import subprocess
import tempfile
import threading
import time
from functools import cache
from pathlib import Path

import torch

from benchmarks.harness import Turns, in_turns
from stm_fast.ops import compiled
from stm_fast.ops.compiled import recipe

UNITS = ("float32 vectors", "bfloat16 vectors", "bfloat16 tiles")
ROUNDS = 2_000_000
COPIED_BYTES = 1 << 28
SOURCE = Path(__file__).with_suffix(".cpp")
CSRC = Path(__file__).parents[2] / "csrc"


def flops(unit: int, threads: int) -> float:
    """Return floating-point operations per second in registers, of all threads; zero if there is no such unit."""
    library = _library()
    done = [0.0] * threads

    def work(index: int) -> None:
        done[index] = library.multiply_add(unit, ROUNDS)

    workers = [threading.Thread(target=work, args=(index,)) for index in range(threads)]
    begin = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(done) / (time.perf_counter() - begin)


@cache
def _library() -> ctypes.CDLL:
    """Compile `cpu_peaks.cpp` for the best instruction set that this machine executes, and load it."""
    executed = compiled.instruction_sets()
    assert executed, compiled.failure("cpu")
    best = executed[0]
    flags = (*recipe.KERNEL_FLAGS, f"-DSTM_ISA={best}", *recipe.INSTRUCTION_SETS[platform.machine()][best])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cpu_peaks.so"
        compiler = shlex.split(recipe.find_compiler())
        command = [*compiler, *recipe.common_flags(CSRC), *flags, "-shared", str(SOURCE), "-o", str(path)]
        subprocess.run(command, check=True)
        library = ctypes.CDLL(str(path))
    library.multiply_add.argtypes = (ctypes.c_int, ctypes.c_int64)
    library.multiply_add.restype = ctypes.c_double
    return library


def bandwidth() -> float:
    """Return the bytes per second that a copy reads and writes."""
    source = torch.ones(COPIED_BYTES // 4)
    target = torch.empty_like(source)
    seconds = in_turns({"copy": lambda: target.copy_(source)}, Turns(5))["copy"]
    return 2 * COPIED_BYTES / statistics.median(seconds)
