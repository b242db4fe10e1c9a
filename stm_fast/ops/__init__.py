"""The memory read: a differentiable softmax read of a space-time memory that never builds the affinity matrix."""

from stm_fast.ops import schemas as _schemas  # noqa: F401  registers the ops
from stm_fast.ops.api import MemoryReadout, memory_read, merge_reads

__all__ = ["MemoryReadout", "memory_read", "merge_reads"]
