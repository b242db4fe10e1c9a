"""Compiled reads by top-k of a memory that has fewer tokens than are asked for."""

import torch

from stm_fast.ops import memory_read
from tests.kernels.conftest import Engine
from tests.ops.cases import make_case

TOP_K = 200
"""More than there are, and than the kernels choose."""


def test_a_small_memory_is_read_as_it_is_eagerly(engine: Engine) -> None:
    """A graph for any number of tokens asks the op for all 200. That for one number is as eager: see tests/ops."""
    torch.compiler.reset()
    case = make_case("dot")
    tensors = [tensor.to(engine.device) for tensor in case.tensors]

    compiled = torch.compile(memory_read, fullgraph=True, backend="aot_eager", dynamic=True)
    for frames in (1, 2):
        parts = [tensors[0], *(tensor[:, :, :frames] for tensor in tensors[1:])]
        results = []
        for function in (memory_read, compiled):
            leaves = [part.detach().clone().requires_grad_() for part in parts]
            options = {"top_k": TOP_K, "return_usage": True, "return_lse": True, "backend": engine.name}
            result = function(*leaves, **options)
            (result.value.square().sum() + result.lse.sum()).backward()
            results.append([*result, *(leaf.grad for leaf in leaves)])
        for eager, mine in zip(*results, strict=True):
            assert torch.equal(eager, mine)
