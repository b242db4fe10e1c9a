"""The memory of a video: which frames are kept, and where.

The names below are imported when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stm_fast.memory.bank import MemoryBank
    from stm_fast.memory.distributed import ShardedMemory
    from stm_fast.memory.frames import Role
    from stm_fast.memory.policies import presets
    from stm_fast.memory.stores import DiskStore, HostStore

__all__ = ["DiskStore", "HostStore", "MemoryBank", "Role", "ShardedMemory", "presets"]

_HOMES = {
    "DiskStore": "stm_fast.memory.stores",
    "HostStore": "stm_fast.memory.stores",
    "MemoryBank": "stm_fast.memory.bank",
    "Role": "stm_fast.memory.frames",
    "ShardedMemory": "stm_fast.memory.distributed",
}


def __getattr__(name: str) -> object:
    if name == "presets":
        return import_module("stm_fast.memory.policies.presets")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
