"""The official STM (Oh et al., ICCV 2019) and code that copied its `Memory` module."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from stm_fast.integrations.affinity import FusedAffinity
from stm_fast.integrations.families.likeness import check_alike, takes
from stm_fast.integrations.families.replacement import Function, Replacement
from stm_fast.integrations.targets import Target

READS = "STM's Memory"

_FORWARD = ("m_in", "m_out", "q_in", "q_out")


def find(target: Target) -> Iterator[Replacement]:
    """Yield the forward pass of each `Memory` with the parameters of the official one."""
    owners = [owner for owner in target.classes("Memory") if takes(owner, "forward", _FORWARD) and target.uses(owner)]
    for owner in target.with_overrides(owners, "forward"):
        replacement = Replacement(owner, "forward", _forward)
        target.refuse_hidden(replacement)
        target.refuse_bypasses(("segment",), target.attributes(owner))
        _check(replacement)
        yield replacement


def _forward(replacement: Replacement) -> Function:
    def forward(self: Any, m_in: Tensor, m_out: Tensor, q_in: Tensor, q_out: Tensor) -> tuple[Tensor, FusedAffinity]:
        affinity = FusedAffinity(m_in.flatten(2), q_in.flatten(2), similarity="dot")
        readout = affinity.read(m_out.flatten(2)).view(*m_out.shape[:2], *q_in.shape[2:])
        return torch.cat([readout, q_out], 1), affinity

    return forward


def _check(replacement: Replacement) -> None:
    def reads(forward: Function) -> list[Tensor]:
        keys, values = torch.randn(2, 8, 2, 3, 2), torch.randn(2, 4, 2, 3, 2)
        query, query_value = torch.randn(2, 8, 3, 2), torch.randn(2, 4, 3, 2)
        return [forward(replacement.instance(), keys, values, query, query_value)[0]]

    check_alike(replacement.label, lambda: reads(replacement.original), lambda: reads(replacement.fused))
