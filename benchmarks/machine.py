"""What this machine can do at best: multiply-adds in registers, bytes from memory."""

import statistics
import threading
import time

import torch

from stm_fast.ops import compiled

UNITS = ("float32 vectors", "bfloat16 vectors", "bfloat16 tiles")
ROUNDS = 2_000_000
COPIED_BYTES = 1 << 28


def flops(unit: int, threads: int) -> float:
    """Floating-point operations a second in registers, all threads together; zero where there is no such unit."""
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
    """Bytes a second that a copy reads and writes."""
    source = torch.ones(COPIED_BYTES // 4)
    target = torch.empty_like(source)
    seconds = []
    for _ in range(5):
        begin = time.perf_counter()
        target.copy_(source)
        seconds.append(time.perf_counter() - begin)
    return 2 * COPIED_BYTES / statistics.median(seconds)
