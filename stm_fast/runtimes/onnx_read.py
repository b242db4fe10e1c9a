"""The memory read in standard ONNX operators.

`torch.onnx.export(..., custom_translation_table=translations())` exports any network that calls
`stm_fast.memory_read`, with any similarity. A dense read becomes MatMul, Softmax, MatMul; a top-k read MatMul, TopK,
Softmax and a weighted sum of the chosen values.

The scores are held as a whole, 4 bytes for each pair of query and memory token, and the dense read holds their softmax
beside them. Queries do not depend on one another, so a caller bounds this by reading some of them at a time.
"""

from collections.abc import Callable
from typing import Any

import torch

from stm_fast.runtimes.packages import onnxscript

OPSET = 18
"""The ONNX opset of the translations."""


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Return the translations of both reads, for `torch.onnx.export` with opset 18 or later.

    Usage and gradients have none. A query whose memory is masked away as a whole reads NaN, where `memory_read` returns
    zeros.

    Raises:
        StmFastError: onnxscript is not installed.
    """
    op = onnxscript().opset18
    tensor = onnxscript().FLOAT

    def axis(index: int) -> Any:
        return op.Constant(value_ints=[index])

    def scores(query: Any, key: Any, gain: Any, offset: Any, bias: Any, scale: float) -> Any:
        """Return `(B, Nq, Nk)`, see `stm_fast.kernels.operands.Operands`."""
        scaled = op.Mul(op.Transpose(query, perm=[0, 2, 1]), op.Constant(value_float=scale))
        similar = op.MatMul(scaled, key)
        if offset is not None:
            similar = op.Add(similar, op.Unsqueeze(offset, axis(2)))
        if gain is not None:
            similar = op.Mul(similar, op.Unsqueeze(gain, axis(1)))
        return similar if bias is None else op.Add(similar, op.Unsqueeze(bias, axis(1)))

    def by_token(value: Any) -> Any:
        """`(B, O, Cv, Nk)` -> `(B, Nk, O·Cv)`: all objects are one matrix, and what is read of a token is together."""
        rows = op.Reshape(value, op.Concat(op.Shape(value, end=1), axis(-1), op.Shape(value, start=3), axis=0))
        return op.Transpose(rows, perm=[0, 2, 1])

    def by_object(out: Any, value: Any) -> Any:
        """`(B, Nq, O·Cv)` -> `(B, O, Cv, Nq)`."""
        rows = op.Transpose(out, perm=[0, 2, 1])
        return op.Reshape(rows, op.Concat(op.Shape(value, end=3), op.Shape(rows, start=2), axis=0))

    def read(query, key, gain, offset, bias, scale, value, backend):  # type: ignore[no-untyped-def]
        similar = scores(query, key, gain, offset, bias, scale)
        out = op.MatMul(op.Softmax(similar, axis=-1), by_token(value))
        return by_object(out, value), op.ReduceLogSumExp(similar, axis(-1), keepdims=0)

    def top_k_read(query, key, gain, offset, bias, scale, value, top_k, backend):  # type: ignore[no-untyped-def]
        count = op.Min(axis(top_k), op.Shape(key, start=2))
        best, indices = op.TopK(scores(query, key, gain, offset, bias, scale), count, axis=-1)
        weights = op.Softmax(best, axis=-1)
        chosen = op.GatherND(by_token(value), op.Unsqueeze(indices, axis(-1)), batch_dims=1)
        out = op.Squeeze(op.MatMul(op.Unsqueeze(weights, axis(2)), chosen), axis(2))
        return by_object(out, value), op.ReduceLogSumExp(best, axis(-1), keepdims=0), indices, weights

    # The exporter sees by the annotations which arguments of an op are tensors.
    operands = dict.fromkeys(("query", "key", "value"), tensor)
    operands |= dict.fromkeys(("gain", "offset", "bias"), tensor | None)
    read.__annotations__ = {**operands, "scale": float, "backend": str}
    top_k_read.__annotations__ = {**operands, "scale": float, "top_k": int, "backend": str}
    return {torch.ops.stm_fast.read.default: read, torch.ops.stm_fast.top_k_read.default: top_k_read}
