"""Memory that a read needs beyond its inputs and outputs.

This is the peak resident memory of a process that only reads, less that of one that only makes inputs and outputs.
"""

import multiprocessing
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks import process_memory
from benchmarks.read import contenders
from benchmarks.read.cases import QUERIES, TOP_K, Case
from stm_fast.ops import memory_read

Read = Callable[..., Tensor]

READS: dict[str, Read] = {
    "stm-fast": memory_read,
    "plain": contenders.plain,
    "SDPA": contenders.sdpa,
    "SDPA, padded keys": contenders.padded_sdpa,
}
OPTIONS = {"top_k": {"top_k": TOP_K}, "usage": {"return_usage": True}}


def extra_memory(case: Case, contender: str = "stm-fast") -> float:
    """Return the MB that one operation of a contender needs."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1, maxtasksperchild=1) as pool:
        peak, base = pool.starmap(_peak_memory, [(case, contender, run) for run in (True, False)], chunksize=1)
    return max(0.0, peak - base)


def _peak_memory(case: Case, contender: str, run: bool) -> float:
    """Return the peak resident MB of a process with an operation's inputs and outputs, which runs it if `run`."""
    read = READS[contender]
    options = OPTIONS.get(case.operation, {})
    inputs = list(case.tensors())
    small = [tensor[..., :100].clone() for tensor in inputs]
    if case.operation == "backward":
        for tensor in (*inputs, *small):
            tensor.requires_grad_()
        read(*small).sum().backward()
        if run:
            read(*inputs).sum().backward()
        else:
            out = torch.ones(1, case.objects, case.value_channels, QUERIES)
            outputs = [out, torch.ones_like(out), *(torch.ones_like(x) for x in inputs)]
            assert outputs
    else:
        read(*small, **options)
        if run:
            read(*inputs, **options)
        else:
            out = torch.ones(1, case.objects, case.value_channels, QUERIES, dtype=case.dtype)
            outputs = [out, torch.ones(inputs[1].shape[-1] if case.operation == "usage" else 1)]
            assert outputs
    return process_memory.peak() / process_memory.MEGABYTE
