"""Space-Time Memory video object segmentation, with a memory read that never builds the affinity matrix.

The names below are imported when they are first used: `import stm_fast` alone loads neither torch nor a video library.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stm_fast.inference.segmentation import Segmentation
    from stm_fast.inference.segmenter import Segmenter
    from stm_fast.memory.policies import MemoryPolicy
    from stm_fast.models.weight_files import load_model
    from stm_fast.ops import MemoryReadout, memory_read, merge_reads
    from stm_fast.tracking.api import track

__version__ = "0.1.0.dev0"

__all__ = [
    "MemoryPolicy",
    "MemoryReadout",
    "Segmentation",
    "Segmenter",
    "__version__",
    "load_model",
    "memory_read",
    "merge_reads",
    "track",
]

_HOMES = {
    "MemoryPolicy": "stm_fast.memory.policies",
    "MemoryReadout": "stm_fast.ops",
    "Segmentation": "stm_fast.inference.segmentation",
    "Segmenter": "stm_fast.inference.segmenter",
    "load_model": "stm_fast.models.weight_files",
    "memory_read": "stm_fast.ops",
    "merge_reads": "stm_fast.ops",
    "track": "stm_fast.tracking.api",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(globals().keys() | _HOMES.keys())
