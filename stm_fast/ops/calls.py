"""The five operations, each with its arguments, and the outputs that it fills.

`allocate` makes the outputs of a call, uninitialized. It serves as the fake of the op as well, so real and traced
outputs cannot differ. Backends fill what it made and allocate no outputs of their own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, TypeAlias

import torch
from torch import Tensor

from stm_fast.kernels.operands import Gradients, Operands, Wanted, statistics_dtype

ALL_GRADIENTS = Wanted(True, True, True)


class ReadOutputs(NamedTuple):
    """Outputs of `Read`.

    Attributes:
        out: `(B, O, Cv, Nq)`, of the value's dtype. Zeros for a query without tokens.
        lse: `(B, Nq)`, of `statistics_dtype`. −inf for a query without tokens.
    """

    out: Tensor
    lse: Tensor


class UsageOutputs(NamedTuple):
    """Outputs of `Usage`.

    Attributes:
        usage: `(B, Nk)`, of lse's dtype.
    """

    usage: Tensor


class TopKOutputs(NamedTuple):
    """Outputs of `TopKRead`.

    Attributes:
        out: as of `Read`.
        lse: as of `Read`, of the chosen tokens.
        indices: `(B, Nq, k)` int64; k is the number of tokens if the memory has fewer than were asked for.
        weights: `(B, Nq, k)`, of lse's dtype.
    """

    out: Tensor
    lse: Tensor
    indices: Tensor
    weights: Tensor


@dataclass(frozen=True)
class Read:
    """Softmax over all memory tokens.

    Attributes:
        operands: operands of the scores.
        value: `(B, O, Cv, Nk)`.
    """

    operation: ClassVar = "read"
    operands: Operands
    value: Tensor

    def allocate(self) -> ReadOutputs:
        """Return uninitialized outputs."""
        batch, _, queries = self.operands.query.shape
        out = self.value.new_empty(*self.value.shape[:3], queries)
        return ReadOutputs(out, self.value.new_empty(batch, queries, dtype=statistics_dtype(self.operands.key)))


@dataclass(frozen=True)
class ReadBackward:
    """Gradients of `Read`.

    Attributes:
        operands: operands of the scores.
        value: `(B, O, Cv, Nk)`.
        out: what `Read` returned.
        lse: what `Read` returned, contiguous.
        grad_out: gradient of out, of its dtype.
        grad_lse: gradient of lse, of its dtype.
        wanted: which gradients are.
    """

    operation: ClassVar = "read_backward"
    operands: Operands
    value: Tensor
    out: Tensor
    lse: Tensor
    grad_out: Tensor
    grad_lse: Tensor
    wanted: Wanted = ALL_GRADIENTS

    def allocate(self) -> Gradients:
        """Return uninitialized gradients; None for those that are not wanted."""
        return _gradients(self.operands, self.value, self.wanted)


@dataclass(frozen=True)
class Usage:
    """How much each memory token is read: its softmax weight, summed over the queries.

    Attributes:
        operands: operands of the scores.
        lse: what `Read` returned, contiguous.
    """

    operation: ClassVar = "usage"
    operands: Operands
    lse: Tensor

    def allocate(self) -> UsageOutputs:
        """Return an uninitialized output."""
        return UsageOutputs(self.lse.new_empty(self.operands.key.shape[0], self.operands.key.shape[2]))


@dataclass(frozen=True)
class TopKRead:
    """Softmax over the best memory tokens of each query; of equal ones the lower index is better.

    Attributes:
        operands: operands of the scores.
        value: `(B, O, Cv, Nk)`.
        top_k: number of tokens, at least 1; a memory with fewer is read whole.
    """

    operation: ClassVar = "top_k_read"
    operands: Operands
    value: Tensor
    top_k: int

    def allocate(self) -> TopKOutputs:
        """Return uninitialized outputs."""
        out, lse = Read(self.operands, self.value).allocate()
        chosen = torch.sym_min(self.top_k, self.value.shape[3])  # type: ignore[no-untyped-call]
        indices = lse.new_empty(*lse.shape, chosen, dtype=torch.int64)
        return TopKOutputs(out, lse, indices, lse.new_empty(*lse.shape, chosen))


@dataclass(frozen=True)
class TopKReadBackward:
    """Gradients of `TopKRead` through the chosen tokens.

    Attributes:
        operands: operands of the scores.
        value: `(B, O, Cv, Nk)`.
        out: what `TopKRead` returned.
        indices: what `TopKRead` returned, contiguous.
        weights: what `TopKRead` returned, contiguous.
        grad_out: gradient of out, of its dtype.
        grad_lse: gradient of lse, of its dtype.
        wanted: which gradients are.
    """

    operation: ClassVar = "top_k_read_backward"
    operands: Operands
    value: Tensor
    out: Tensor
    indices: Tensor
    weights: Tensor
    grad_out: Tensor
    grad_lse: Tensor
    wanted: Wanted = ALL_GRADIENTS

    def allocate(self) -> Gradients:
        """Return uninitialized gradients; None for those that are not wanted."""
        return _gradients(self.operands, self.value, self.wanted)


Call: TypeAlias = Read | ReadBackward | Usage | TopKRead | TopKReadBackward
Outputs: TypeAlias = ReadOutputs | UsageOutputs | TopKOutputs | Gradients

OPERATIONS: dict[str, type[Call]] = {
    kind.operation: kind for kind in (Read, ReadBackward, Usage, TopKRead, TopKReadBackward)
}


def prepared(call: Call) -> Call:
    """Return the call as backends take it.

    Incoming gradients have the dtypes of their outputs, statistics and choices are contiguous, and no more tokens are
    asked for than there are.
    """
    match call:
        case ReadBackward():
            return replace(
                call,
                lse=call.lse.contiguous(),
                grad_out=call.grad_out.to(call.out.dtype),
                grad_lse=call.grad_lse.to(call.lse.dtype),
            )
        case Usage():
            return replace(call, lse=call.lse.contiguous())
        case TopKRead():
            return replace(call, top_k=min(call.top_k, call.value.shape[3]))
        case TopKReadBackward():
            return replace(
                call,
                indices=call.indices.contiguous(),
                weights=call.weights.contiguous(),
                grad_out=call.grad_out.to(call.out.dtype),
                grad_lse=call.grad_lse.to(call.weights.dtype),
            )
    return call


def of_flat(kind: type[Call], arguments: Sequence[Any]) -> Call:
    """Return the call of an op's arguments: the six operands one by one, and then its own."""
    own = list(arguments[6:])
    if kind in (ReadBackward, TopKReadBackward):
        own[-1] = Wanted(*own[-1])
    return kind(Operands(*arguments[:6]), *own)


def flattened(call: Call, outputs: Outputs) -> tuple[Tensor, ...] | Tensor:
    """Return outputs as the op's schema has them: an empty tensor for a gradient that is not wanted."""
    if isinstance(outputs, UsageOutputs):
        return outputs.usage
    return tuple(call.operands.query.new_empty(0) if output is None else output for output in outputs)


def chosen_of(call: Call) -> int | None:
    """Return the number of tokens that a call chooses for a query; None if it reads all."""
    match call:
        case TopKRead():
            return call.top_k
        case TopKReadBackward():
            return call.indices.shape[2]
    return None


def inputs_of(call: Call) -> tuple[Tensor, Tensor, Tensor]:
    """Return query, key and value of a call; usage reads no values, and has lse in their place."""
    return call.operands.query, call.operands.key, call.lse if isinstance(call, Usage) else call.value


def _gradients(operands: Operands, value: Tensor, wanted: Wanted) -> Gradients:
    def like(tensor: Tensor | None, is_wanted: bool) -> Tensor | None:
        return tensor.new_empty(tensor.shape) if tensor is not None and is_wanted else None

    return Gradients(
        query=like(operands.query, wanted.query),
        key=like(operands.key, wanted.key),
        gain=like(operands.gain, wanted.key),
        offset=like(operands.offset, wanted.query),
        bias=like(operands.bias, wanted.key),
        value=like(value, wanted.value),
    )
