"""STCN (Cheng et al., NeurIPS 2021): the affinity of its memory bank, and of its memory reader in training."""

from collections.abc import Iterator
from typing import Any, TypeAlias

import torch
from torch import Tensor

from stm_fast.errors import IntegrationError
from stm_fast.integrations.affinity import FusedAffinity
from stm_fast.integrations.families.likeness import check_alike
from stm_fast.integrations.families.replacement import Function, Replacement
from stm_fast.integrations.targets import Target

Shape: TypeAlias = tuple[int, ...]

READS = "STCN's MemoryBank and MemoryReader"

_EVALUATION = "segment_with_query"
"""A method of the network for evaluation, which reads with a bank that is passed to it."""


def find(target: Target) -> Iterator[Replacement]:
    """Yield the methods that make an affinity: of the memory bank for inference, and of the reader for training."""
    banks = [owner for owner in target.classes("MemoryBank") if "_global_matching" in vars(owner)]
    if not banks and any(hasattr(kind, _EVALUATION) for kind in target.kinds):
        banks = [owner for owner in target.relatives().classes("MemoryBank") if "_global_matching" in vars(owner)]
        if not banks:
            raise IntegrationError(
                f"target {target.label} is or holds STCN's network for evaluation, which reads with the MemoryBank "
                f"that it is given, and no module of its code with one is loaded; import inference_memory_bank first, "
                f"or give it"
            )
    for owner in target.with_overrides(banks, "_global_matching"):
        target.refuse_bypasses(("match_memory",), ("_global_matching",))
        replacement = Replacement(owner, "_global_matching", _global_matching)
        target.refuse_hidden(replacement)
        yield _checked(replacement, (12,), (6,), 1, 3)
    readers = [
        owner for owner in target.classes("MemoryReader") if "get_affinity" in vars(owner) and target.uses(owner)
    ]
    for owner in target.with_overrides(readers, "get_affinity"):
        replacement = Replacement(owner, "get_affinity", _get_affinity)
        target.refuse_hidden(replacement)
        yield _checked(replacement, (2, 3, 2), (3, 2))


def _checked(replacement: Replacement, memory_grid: Shape, query_grid: Shape, *arguments: int) -> Replacement:
    """Return the replacement of a method after checking that an instance made with `arguments` reads as ours does."""

    def reads(method: Function) -> list[Tensor]:
        key, query = torch.randn(1, 8, *memory_grid), torch.randn(1, 8, *query_grid)
        affinity = method(replacement.instance(*arguments), key, query)
        return [torch.randn(1, 4, key[0, 0].numel()) @ affinity]

    check_alike(replacement.label, lambda: reads(replacement.original), lambda: reads(replacement.fused))
    return replacement


def _global_matching(replacement: Replacement) -> Function:
    def _global_matching(self: Any, mk: Tensor, qk: Tensor) -> FusedAffinity:
        return FusedAffinity(mk, qk, similarity="l2", top_k=self.top_k)

    return _global_matching


def _get_affinity(replacement: Replacement) -> Function:
    def get_affinity(self: Any, mk: Tensor, qk: Tensor) -> FusedAffinity:
        return FusedAffinity(mk.flatten(2), qk.flatten(2), similarity="l2")

    return get_affinity
