"""The ops keep to their schemas: opcheck, and gradients of the ops themselves."""

import pytest
import torch
from torch import Tensor, library

from stm_fast.kernels.operands import Operands
from tests.ops.cases import random_operands

OPS = torch.ops.stm_fast


@pytest.mark.parametrize("affine", [True, False])
def test_ops_keep_to_their_schemas(affine: bool) -> None:
    torch.manual_seed(0)
    op = random_operands() if affine else Operands(*random_operands()[:2], None, None, None, 0.5)
    value = torch.randn(2, 3, 6, 7, dtype=torch.bfloat16)
    out, lse = OPS.read(*op, value, "auto")
    chosen, top_lse, indices, weights = OPS.top_k_read(*op, value, 3, "auto")
    calls = {
        OPS.read: (value,),
        OPS.read_backward: (value, out, lse, out, lse, [True, True, False]),
        OPS.usage: (lse,),
        OPS.top_k_read: (value, 9),
        OPS.top_k_read_backward: (value, chosen, indices, weights, chosen, top_lse, [False, True, True]),
    }
    for op_packet, arguments in calls.items():
        library.opcheck(op_packet.default, (*op, *arguments, "reference"))
    library.opcheck(OPS.top_k_usage.default, (indices, weights, 7))


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_ops_are_differentiable_by_themselves(backend: str) -> None:
    """So programs that hold the ops alone, such as exported ones, have gradients."""
    torch.manual_seed(0)
    op = random_operands(torch.float32)
    op = Operands(*(part.requires_grad_() if isinstance(part, Tensor) else part for part in op))
    value = torch.randn(2, 3, 6, 7, requires_grad=True)
    library.opcheck(OPS.read.default, (*op, value, backend))
    library.opcheck(OPS.top_k_read.default, (*op, value, 3, backend))


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_the_op_reads_no_more_tokens_than_there_are(backend: str) -> None:
    op, value = random_operands(), torch.randn(2, 1, 6, 7)
    exact = OPS.top_k_read(*op, value, 7, backend)
    outputs = OPS.top_k_read(*op, value, 200, backend)
    assert outputs[2].shape == outputs[3].shape == (2, 5, 7)
    assert all(map(torch.equal, outputs, exact))
