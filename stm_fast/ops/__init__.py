"""The memory read: a differentiable softmax read of a space-time memory that never builds the affinity matrix."""

from stm_fast.ops import schemas as _schemas  # noqa: F401  registers the ops
from stm_fast.ops.api import MemoryReadout, Reading, memory_read, read_memory
from stm_fast.ops.merge import merge_reads

__all__ = ["MemoryReadout", "Reading", "memory_read", "merge_reads", "read_memory"]
