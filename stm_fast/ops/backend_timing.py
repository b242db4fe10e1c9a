"""How long backends take on a GPU, for `stm-fast tune`; what it finds is kept by `stm_fast.ops.preference`."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from stm_fast.kernels.operands import Operands
from stm_fast.ops import preference
from stm_fast.ops.calls import (
    Call,
    Outputs,
    Read,
    ReadBackward,
    ReadOutputs,
    TopKOutputs,
    TopKRead,
    TopKReadBackward,
    Usage,
)
from stm_fast.ops.dispatch import run_op

TOP_K = 30
MAX_SHARE = 0.95
"""A backend goes before the first if it takes less than this share of its time."""


def every_call(operands: Operands, value: Tensor, top_k: int, run: Callable[[Call], Outputs]) -> list[Call]:
    """Return a call of every operation; `run` is asked for what the backward passes have saved.

    Args:
        operands: operands of the scores.
        value: `(B, O, Cv, Nk)`.
        top_k: number of tokens of a top-k read.
        run: does what a call asks for, such as `run_op`.
    """
    read, best = Read(operands, value), TopKRead(operands, value, top_k)
    found, chosen = run(read), run(best)
    assert isinstance(found, ReadOutputs)
    assert isinstance(chosen, TopKOutputs)
    grads = torch.ones_like(found.out), torch.ones_like(found.lse)
    return [
        read,
        ReadBackward(operands, value, found.out, found.lse, *grads),
        Usage(operands, found.lse),
        best,
        TopKReadBackward(operands, value, chosen.out, chosen.indices, chosen.weights, *grads),
    ]


def measure(
    operands: Operands, value: Tensor, backends: list[str], seconds_of: Callable[[Callable[[], object]], float]
) -> dict[str, dict[str, float]]:
    """Measure every operation with every backend; return seconds by operation and backend.

    Args:
        operands: operands of the scores, at the shape that matters.
        value: `(B, O, Cv, Nk)`.
        backends: their names; all must serve these tensors.
        seconds_of: measures a call.
    """
    calls = every_call(operands, value, TOP_K, partial(run_op, backend=backends[0]))
    return {
        call.operation: {backend: seconds_of(partial(run_op, call, backend)) for backend in backends} for call in calls
    }


def winners(seconds: dict[str, dict[str, float]]) -> dict[str, str]:
    """Return the backend to prefer for each operation: the first, unless another is clearly faster."""
    chosen = {}
    for operation, times in seconds.items():
        first, best = next(iter(times)), min(times, key=times.__getitem__)
        chosen[operation] = best if times[best] < MAX_SHARE * times[first] else first
    return chosen


def with_winners(file: Path, chosen: dict[str, str], operands: Operands, value: Tensor) -> str:
    """Return what a file of preferences is to hold: what it holds of other dtypes, and the winners."""
    found = {preference.key_of(operation, operands.key.dtype, value.dtype): name for operation, name in chosen.items()}
    return json.dumps(preference.read(file) | found, indent=1) + "\n"
