"""The fused read inside other people's video object segmentation: STM, STCN, XMem, Cutie, AOT and DeAOT.

`patch` and `patched` patch their modules; `stm_fast.integrations.stm.STM` replaces the official class. See
docs/drop-in.md.
"""

from stm_fast.integrations.patching import Patch, patch, patched

__all__ = ["Patch", "patch", "patched"]
