"""The state of a softmax, written once for all kernels.

The state of a query is a running maximum of its scores, in units of log 2, and the running sum of 2^(score − maximum).
A maximum of −inf means that there was no token yet. A readout that goes with a state is relative to the same maximum.
"""

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)
LN_2 = tl.constexpr(0.6931471805599453)


@triton.jit
def finite(maximum):
    """Return a maximum or lse that can be subtracted from scores: 0 instead of −inf."""
    return tl.where(maximum == float("-inf"), 0.0, maximum)


@triton.jit
def rescale(running_max, running_sum, readout, finite_max):
    """Return the running sum `[M]` and the readout `[M, V]` relative to a new maximum `[M]`, which is `finite`."""
    decay = tl.exp2(running_max - finite_max)
    return running_sum * decay, readout * decay[:, None]


@triton.jit
def nonzero(running_sum):
    """Return a running sum to divide by: 1 instead of 0, so that queries without tokens read zeros."""
    return tl.where(running_sum == 0.0, 1.0, running_sum)


@triton.jit
def lse_of(running_max, running_sum):
    """Return log Σ exp of the scores, in natural units: −inf without tokens."""
    return (finite(running_max) + tl.log2(running_sum)) * LN_2
