"""Reads by top-k of a memory that has fewer tokens than are asked for.

`memory_read` asks for no more than there are, but where it is compiled it does not know the memory's size. The outputs
of the op then have more places than there are tokens. Those left free have index 0 and weight 0; backends see none.
"""

from typing import Any

from torch.nn.functional import pad

from stm_fast.ops.backends.registry import Call


def without_free_places(call: Call) -> Call:
    """The call as a backend sees it: with no more places for a query than the memory has tokens."""
    tokens = call.operands.key.shape[2]
    if call.operation == "top_k_read":
        value, top_k = call.arguments
        return call if top_k <= tokens else call._replace(arguments=(value, tokens))
    if call.operation == "top_k_read_backward":
        value, out, indices, weights, *rest = call.arguments
        if indices.shape[2] > tokens:
            return call._replace(arguments=(value, out, indices[..., :tokens], weights[..., :tokens], *rest))
    return call


def with_free_places(call: Call, outputs: Any) -> Any:
    """The outputs of a call `without_free_places`, with as many places as the call itself asks for."""
    if call.operation != "top_k_read":
        return outputs
    out, lse, indices, weights = outputs
    free = call.arguments[1] - indices.shape[2]
    return outputs if free <= 0 else (out, lse, pad(indices, (0, free)), pad(weights, (0, free)))
