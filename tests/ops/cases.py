"""Reads of every kind, small and odd-sized."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from stm_fast.kernels.operands import Operands


@dataclass
class Case:
    """Arguments of a read."""

    query_key: Tensor
    memory_key: Tensor
    memory_value: Tensor
    options: dict[str, object] = field(default_factory=dict)

    @property
    def tensors(self) -> list[Tensor]:
        """Everything that a gradient can reach."""
        optional = [self.options.get(name) for name in ("shrinkage", "selection")]
        return [self.query_key, self.memory_key, self.memory_value, *(t for t in optional if isinstance(t, Tensor))]

    def read(self, function: Callable[..., object], **options: object) -> object:
        return function(self.query_key, self.memory_key, self.memory_value, **{**self.options, **options})

    def requires_grad(self) -> "Case":
        for tensor in self.tensors:
            tensor.requires_grad_()
        return self


KINDS = ("dot", "l2", "shrinkage", "selection", "xmem", "shared", "masked")


def make_case(
    kind: str, dtype: torch.dtype = torch.float32, value_dtype: torch.dtype | None = None, seed: int = 0
) -> Case:
    """A read of one of `KINDS`: B=2, Ck=5, Cv=6, a query grid of 3×5 and a memory grid of 2×3×5."""
    random = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random).to(dtype)

    def positive(*shape: int) -> Tensor:
        return torch.rand(shape, generator=random).add(0.5).to(dtype)

    options: dict[str, object] = {"similarity": "dot" if kind in ("dot", "shared") else "l2"}
    value = normal(2, 3, 6, 2, 3, 5) if kind == "shared" else normal(2, 6, 2, 3, 5)
    case = Case(normal(2, 5, 3, 5), normal(2, 5, 2, 3, 5), value.to(value_dtype or dtype), options)
    if kind in ("shrinkage", "xmem", "masked"):
        options["shrinkage"] = positive(2, 1, 2, 3, 5)
    if kind in ("selection", "xmem", "masked"):
        options["selection"] = positive(2, 5, 3, 5)
    if kind == "masked":
        options["memory_mask"] = torch.rand(2, 2, 3, 5, generator=random) < 0.6
        options["memory_mask"][1] = False
    return case


def random_operands(dtype: torch.dtype = torch.float32) -> Operands:
    """Return operands of every kind, of 5 queries and 7 tokens in 2 batches."""
    gain, bias = torch.rand(2, 7), torch.randn(2, 7)
    return Operands(torch.randn(2, 4, 5).to(dtype), torch.randn(2, 4, 7).to(dtype), gain, torch.randn(2, 5), bias, 0.5)
