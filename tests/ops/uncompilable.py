"""A read whose kernel triton cannot compile."""

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.backends.compiler import GPUTarget

from tools.inspection import compiling_for


@triton.jit
def store_nothing(out):
    tl.store(out, None)


@triton.jit
def uncompilable_kernel(out):
    store_nothing(out)


def read(operands: object, value: Tensor, out: Tensor, lse: Tensor) -> None:
    """Stand in for the read of the kernels; compiles as for an H100, which need not be there."""
    with compiling_for(GPUTarget("cuda", 90, 32)):
        uncompilable_kernel[1,](torch.empty(1, device="meta"))
