"""What this CPU can do at best: multiply-adds in registers, bytes from memory."""

import statistics
import threading
import time

import torch

from benchmarks.harness import Turns, in_turns
from stm_fast.ops import compiled

UNITS = ("float32 vectors", "bfloat16 vectors", "bfloat16 tiles")
ROUNDS = 2_000_000
COPIED_BYTES = 1 << 28


def flops(unit: int, threads: int) -> float:
    """Return floating-point operations per second in registers, of all threads; zero where there is no such unit."""
    library = compiled.functions()
    assert library is not None, compiled.failure()
    done = [0.0] * threads

    def work(index: int) -> None:
        done[index] = library.stm_fast_multiply_add(unit, ROUNDS)

    workers = [threading.Thread(target=work, args=(index,)) for index in range(threads)]
    begin = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(done) / (time.perf_counter() - begin)


def bandwidth() -> float:
    """Return bytes per second that a copy reads and writes."""
    source = torch.ones(COPIED_BYTES // 4)
    target = torch.empty_like(source)
    seconds = in_turns({"copy": lambda: target.copy_(source)}, Turns(5))["copy"]
    return 2 * COPIED_BYTES / statistics.median(seconds)
