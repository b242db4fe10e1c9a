"""STCN (Cheng et al., NeurIPS 2021): the affinity of its memory bank, and of its reader for training."""

from collections.abc import Iterator, Sequence
from functools import wraps
from types import ModuleType
from typing import Any, TypeAlias

import torch
from torch import Tensor

from stm_fast.integrations.affinity import FusedAffinity
from stm_fast.integrations.families.replacement import Function, Replacement, check_alike, defined_in

Shape: TypeAlias = tuple[int, ...]

READS = "STCN's MemoryBank and MemoryReader"


def find(modules: Sequence[ModuleType]) -> Iterator[Replacement]:
    """The methods that make an affinity."""
    for owner in defined_in(modules, "MemoryBank", type):
        if "_global_matching" in vars(owner):
            yield _checked(Replacement.of(owner, "_global_matching", _global_matching), (12,), (6,), 1, 3)
    for owner in defined_in(modules, "MemoryReader", type):
        if "get_affinity" in vars(owner):
            yield _checked(Replacement.of(owner, "get_affinity", _get_affinity), (2, 3, 2), (3, 2))


def _checked(replacement: Replacement, memory_grid: Shape, query_grid: Shape, *arguments: int) -> Replacement:
    """The replacement of a method, once an instance made with `arguments` reads as we do."""

    def reads(method: Function) -> list[Tensor]:
        key, query = torch.randn(1, 8, *memory_grid), torch.randn(1, 8, *query_grid)
        affinity = method(replacement.instance(*arguments), key, query)
        return [torch.randn(1, 4, key[0, 0].numel()) @ affinity]

    check_alike(replacement.label, lambda: reads(replacement.original), lambda: reads(replacement.ours))
    return replacement


def _global_matching(original: Function) -> Function:
    @wraps(original)
    def _global_matching(self: Any, mk: Tensor, qk: Tensor) -> FusedAffinity:
        return FusedAffinity(mk, qk, similarity="l2", top_k=self.top_k)

    return _global_matching


def _get_affinity(original: Function) -> Function:
    @wraps(original)
    def get_affinity(self: Any, mk: Tensor, qk: Tensor) -> FusedAffinity:
        return FusedAffinity(mk.flatten(2), qk.flatten(2), similarity="l2")

    return get_affinity
