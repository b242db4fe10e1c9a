"""Cases as calls of the public read and of other ways to do the same."""

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.read import contenders
from benchmarks.read.cases import TOP_K, Case
from stm_fast.ops import memory_read, read_memory

OURS, PLAIN = "stm-fast", "plain"
MAX_FUSED_FRAMES = 20
"""Maximum number of memory frames for fused attention, which is slow on a CPU."""


def runners(case: Case) -> dict[str, Callable[[], Tensor]]:
    """Return the contenders of a case, ours first. Each returns a result that can be compared with ours."""
    query, key, value = case.tensors()
    if case.operation == "top_k":
        return {
            OURS: lambda: memory_read(query, key, value, similarity="l2", top_k=TOP_K),
            "XMem's top-k": lambda: contenders.top_k(query, key, value, TOP_K),
        }
    if case.operation == "usage":
        return {
            OURS: read_memory(query, key, value, backend="cpu").usage,
            "dense read": lambda: memory_read(query, key, value),
        }
    if case.operation == "backward":
        return {OURS: backward(memory_read, case), PLAIN: backward(contenders.plain, case)}
    others = {PLAIN: contenders.plain}
    if case.objects == 1 and case.frames <= MAX_FUSED_FRAMES:
        others |= {
            "SDPA": contenders.sdpa,
            "SDPA, padded keys": contenders.padded_sdpa,
            "FlexAttention": contenders.flex,
        }
    runs: dict[str, Callable[[], Tensor]] = {OURS: lambda: memory_read(query, key, value)}
    for name, function in others.items():
        runs[name] = lambda function=function: function(query, key, value)
    return runs


def backward(function: Callable[..., Tensor], case: Case) -> Callable[[], Tensor]:
    """Return a backward pass whose forward pass is done. The gradient of the keys is compared."""
    query, key, value = (tensor.requires_grad_() for tensor in case.tensors())
    result = function(query, key, value)
    upstream = torch.randn(result.shape, generator=torch.Generator().manual_seed(1))

    def run() -> Tensor:
        return torch.autograd.grad(result, [query, key, value], upstream, retain_graph=True)[1]

    return run
