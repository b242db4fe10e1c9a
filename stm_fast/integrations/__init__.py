"""The fused read inside other people's video object segmentation: STM, STCN, XMem, Cutie, AOT and DeAOT.

`patch` and `patched` put it into their modules; `stm_fast.integrations.stm.STM` takes the place of the official class.
See docs/drop-in.md.
"""

from stm_fast.integrations.patching import Patch, patch, patched

__all__ = ["Patch", "patch", "patched"]
