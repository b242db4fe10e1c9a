"""Give Cutie the fused read, and compare the memory that it takes.

Cutie's own functions read 20 frames at 480p for three objects, once unchanged and once patched. Each read runs in its
own process, and the peak memory of both is printed. Patch an `InferenceCore` in the same way: `with
patched(processor):`.

Run: pip install rf-cutie; python examples/drop_in.py
"""

import multiprocessing
import resource
import sys
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from stm_fast.integrations import patched

FRAMES, HEIGHT, WIDTH, OBJECTS, TOP_K = 20, 30, 54, 3, 30
MEGABYTE = 2**20


def read(fused: bool) -> tuple[NDArray[np.float32], float]:
    """Cutie's read of random keys and values `(OBJECTS, 256, HEIGHT * WIDTH)`, and the memory it took in MB."""
    from cutie.inference import memory_manager

    torch.manual_seed(0)
    tokens, queries = FRAMES * HEIGHT * WIDTH, HEIGHT * WIDTH
    memory_key, shrinkage = torch.randn(1, 64, tokens), 1 + torch.rand(1, 1, tokens)
    query_key, selection = torch.randn(1, 64, queries), torch.rand(1, 64, queries)
    values = torch.randn(1, OBJECTS * 256, tokens)
    before = memory_in_use()
    with torch.inference_mode(), patched(memory_manager) if fused else nullcontext():
        similarity = memory_manager.get_similarity(memory_key, shrinkage, query_key, selection)
        affinity = memory_manager.do_softmax(similarity, top_k=TOP_K, inplace=True)
        readout = values @ affinity
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return readout.view(OBJECTS, 256, queries).numpy(), peak - before


def memory_in_use() -> float:
    """Memory that this process holds now, in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / MEGABYTE


def main() -> None:
    """Read both ways, compare the results, and print the memory that each took."""
    if find_spec("cutie") is None:
        sys.exit("this example patches Cutie: pip install rf-cutie")
    if not sys.platform.startswith("linux"):
        sys.exit("this example measures memory as Linux counts it")
    spawn = multiprocessing.get_context("spawn")
    results = []
    for fused in (False, True):
        with spawn.Pool(1) as process:
            results.append(process.apply(read, (fused,)))
    (plain, plain_memory), (fused_read, fused_memory) = results
    np.testing.assert_allclose(fused_read, plain, rtol=1e-3, atol=1e-4)
    matrix = 4 * FRAMES * (HEIGHT * WIDTH) ** 2 / MEGABYTE
    print(f"readouts {plain.shape} are equal; one affinity of this size has {matrix:.0f} MB")
    print(f"Cutie as it is: {plain_memory:.0f} MB beyond keys and values; with the fused read: {fused_memory:.0f} MB")


if __name__ == "__main__":
    main()
