"""Call an engine and do little else, for tools that watch a process.

    python -m benchmarks.read.gpu.watched ENGINE small     every op at small odd sizes, checked
    python -m benchmarks.read.gpu.watched ENGINE dense     the dense read at a real shape, three times

Tensors are made and compared on the CPU, so that few kernels run besides the engine's own.
"""

import sys
from dataclasses import replace

import torch
from torch import Tensor

from benchmarks.harness import relative_error
from benchmarks.read.cases import Case
from benchmarks.read.gpu.calls import launches, operands, upstream_of
from benchmarks.read.gpu.cases import BFLOAT16, FLOAT32, OPERATIONS, STM, TOY, each
from benchmarks.read.gpu.stages import rehearsing
from stm_fast.kernels.operands import Operands
from stm_fast.ops import memory_read

CALLS = 3


def small(toy: bool) -> list[Case]:
    """Return every op, with sizes that no tile divides, in 16 and 32 bits."""
    if toy:
        return each(TOY, ["read"], (2,))
    odd = Case("read", BFLOAT16, 24, 40, 2, 3, queries=77, affine=True, top_k=5)
    return [*each(odd, frames=(3,)), *each(replace(odd, dtype=FLOAT32, affine=False), OPERATIONS, (3,))]


def check_small(engine: str, device: torch.device) -> bool:
    """Return whether the results of all of them are right."""
    right = True
    for case in small(device.type == "cpu"):
        parts, value = operands(case, torch.device("cpu"))
        upstream = upstream_of(value.new_empty(*value.shape[:3], case.queries))
        found = launches(case, _moved(parts, device), value.to(device), engine, upstream.to(device))()
        wide = Operands(*(part.double() if isinstance(part, Tensor) else part for part in parts))
        exact = launches(case, wide, value.double(), "reference", upstream.double())()
        error = relative_error([tensor.cpu() for tensor in found], exact)
        right &= error < case.tolerance
        print(f"{case}: error {error:.1e}", flush=True)
    return right


def _moved(parts: Operands, device: torch.device) -> Operands:
    return Operands(*(part.to(device) if isinstance(part, Tensor) else part for part in parts))


def dense(engine: str, device: torch.device) -> None:
    """Run a dense read of a real size."""
    case = replace(TOY, frames=2) if device.type == "cpu" else replace(STM, frames=20)
    query, key, value = (tensor.to(device) for tensor in case.tensors("cpu"))
    for _ in range(CALLS):
        memory_read(query, key, value, backend=engine).flatten()[:1].cpu()


def main(engine: str, what: str) -> int:
    """Run the command; return 1 if a result was wrong."""
    device = torch.device("cpu" if rehearsing() else "cuda")
    if what == "small":
        return int(not check_small(engine, device))
    dense(engine, device)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
