"""Reads by top-k of a memory that has fewer tokens than are asked for.

`memory_read` asks for no more than there are, but where it is compiled it does not know the memory's size. The outputs
of the op then have more places than there are tokens. Those left free have index 0 and weight 0; backends see none.
"""

from dataclasses import replace

from torch.nn.functional import pad

from stm_fast.ops.calls import Call, Outputs, TopKOutputs, TopKRead, TopKReadBackward


def without_free_places(call: Call) -> Call:
    """Return the call as a backend sees it: with no more places for a query than the memory has tokens."""
    tokens = call.operands.key.shape[2]
    if isinstance(call, TopKRead) and call.top_k > tokens:
        return replace(call, top_k=tokens)
    if isinstance(call, TopKReadBackward) and call.indices.shape[2] > tokens:
        return replace(call, indices=call.indices[..., :tokens], weights=call.weights[..., :tokens])
    return call


def with_free_places(call: Call, outputs: Outputs) -> Outputs:
    """Return the outputs of a call `without_free_places`, with as many places as the call itself asks for."""
    if not isinstance(call, TopKRead) or not isinstance(outputs, TopKOutputs):
        return outputs
    free = call.top_k - outputs.indices.shape[2]
    if free <= 0:
        return outputs
    return outputs._replace(indices=pad(outputs.indices, (0, free)), weights=pad(outputs.weights, (0, free)))
