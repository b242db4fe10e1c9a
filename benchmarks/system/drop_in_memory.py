"""Measure the memory of Cutie's read, original and patched, at sizes where the matrix is small.

    pip install rf-cutie; python -m benchmarks.system.drop_in_memory

Keys of 64 and values of 256 channels of three objects, float32, are read with top-k 30. Each read has its own process,
which has run a convolution and a matrix product before, as a network does. Own memory is the peak of anonymous memory
beyond inputs. Code is memory of libraries that the process newly maps: all processes share these pages, and the system
takes them back when memory is short. A patch includes its check. Reports medians of three and prints Markdown.
"""

import multiprocessing
import statistics
from typing import NamedTuple

import torch

from benchmarks import machine, process_memory
from benchmarks.read.cases import TOP_K
from stm_fast.integrations import patched

KEY, VALUES, ROUNDS, THREADS = 64, 3 * 256, 3, 2
SIZES = [("240p", 15 * 27, frames) for frames in (1, 5, 20)] + [("480p", 30 * 54, 20)]
WAYS = ("plain", "patched", "patch alone")


class Memory(NamedTuple):
    """MB that a read takes: own memory, and libraries' code."""

    own: float
    code: float


def main() -> None:
    """Print the table."""
    print(machine.line(threads=f"{THREADS} threads") + "\n")
    print("| size | memory frames | one matrix | plain: own, code | patched: own, code | the patch alone: own, code |")
    print("|---|---|---|---|---|---|")
    for name, queries, frames in SIZES:
        measured = [_median(way, queries, frames) for way in WAYS]
        cells = " | ".join(f"{memory.own:.1f}, {memory.code:.1f}" for memory in measured)
        print(f"| {name} | {frames} | {4 * frames * queries**2 / 2**20:.1f} | {cells} |")


def _median(way: str, queries: int, frames: int) -> Memory:
    context = multiprocessing.get_context("spawn")
    with context.Pool(1, maxtasksperchild=1) as pool:
        results = pool.starmap(measure, [(way, queries, frames)] * ROUNDS, chunksize=1)
    return Memory(*(statistics.median(column) for column in zip(*results, strict=True)))


def measure(way: str, queries: int, frames: int) -> Memory:
    """Return the memory that one read takes in this process, which must not have read before."""
    from cutie.inference import memory_manager

    torch.set_num_threads(THREADS)
    tokens = frames * queries
    memory_key, shrinkage = torch.randn(1, KEY, tokens), 1 + torch.rand(1, 1, tokens)
    query_key, selection = torch.randn(1, KEY, queries), torch.rand(1, KEY, queries)
    values = torch.randn(1, VALUES, tokens)

    def read() -> None:
        similarity = memory_manager.get_similarity(memory_key, shrinkage, query_key, selection)
        values @ memory_manager.do_softmax(similarity, top_k=TOP_K, inplace=True)

    with torch.inference_mode():
        torch.nn.functional.conv2d(torch.randn(1, 64, 30, 54), torch.randn(64, 64, 3, 3)).flatten(1) @ torch.randn(
            64 * 28 * 52, 8
        )
        before = process_memory.held()
        process_memory.reset_peak()
        if way == "plain":
            read()
        else:
            with patched(memory_manager):
                if way == "patched":
                    read()
        after = process_memory.held()
    code = after["RssFile"] - before["RssFile"]
    own = max(0, after["VmHWM"] - before["VmRSS"] - code)
    return Memory(own / process_memory.MEGABYTE, code / process_memory.MEGABYTE)


if __name__ == "__main__":
    main()
