"""AOT (Yang et al., NeurIPS 2021) and DeAOT (Yang and Yang, NeurIPS 2022): attention over the whole memory.

Their short-term attention, which looks at a window, is not replaced.
"""

import inspect
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from stm_fast.errors import IntegrationError
from stm_fast.integrations.affinity import FusedAffinity
from stm_fast.integrations.families.likeness import check_alike, takes
from stm_fast.integrations.families.replacement import Function, Replacement
from stm_fast.integrations.targets import Target

READS = "AOT's MultiheadAttention, DeAOT's GatedPropagation"


_MULTIHEAD = ("Q", "K", "V")
_GATED = (*_MULTIHEAD, "U", "size_2d")


def find(target: Target) -> Iterator[Replacement]:
    """Yield the forward passes of both classes."""
    for owner in _owners(target, "MultiheadAttention", _MULTIHEAD):
        replacement = Replacement(owner, "forward", _multihead)
        _refuse_unchanged(target, replacement)
        _check(replacement, {"d_model": 16, "num_head": 2}, lambda _: [(5, 16), (12, 16), (12, 16)])
        yield replacement
    for owner in _owners(target, "GatedPropagation", _GATED):
        replacement = Replacement(owner, "forward", _gated)
        _refuse_unchanged(target, replacement)
        _check(replacement, {"d_qk": 8, "d_vu": 16, "num_head": 2}, _of_gated, (3, 2))
        yield replacement


def _owners(target: Target, name: str, parameters: Sequence[str]) -> Iterator[type]:
    owners = [owner for owner in target.classes(name) if takes(owner, "forward", parameters) and target.uses(owner)]
    return target.with_overrides(owners, "forward")


def _refuse_unchanged(target: Target, replacement: Replacement) -> None:
    """Refuse modules that would keep their own read, and warn about those that keep it while they train."""
    target.refuse_hidden(replacement)
    parts: list[Any] = [part for part in target.parts if isinstance(part, replacement.owner)]  # type: ignore[arg-type]
    for part in parts:
        if _is_share(_top_k(part)):
            raise IntegrationError(
                f"target {target.label} holds a {type(part).__name__} with top_k {_top_k(part)}, which may be a share "
                f"of the tokens and is left to {replacement.label}; allowed are -1 and whole numbers from 1"
            )
    trained = [part for part in parts if part.training and part.drop_prob > 0]
    if trained:
        warnings.warn(
            f"{len(trained)} of the {len(parts)} {replacement.label} of the target train with dropout, which acts on "
            f"the matrix: these keep their own read until eval() is called",
            RuntimeWarning,
            stacklevel=5,
        )


def _multihead(replacement: Replacement) -> Function:
    def forward(self: Any, Q: Tensor, K: Tensor, V: Tensor) -> tuple[Tensor, None]:
        if _needs_the_affinity(self):
            return replacement.original(self, Q, K, V)  # type: ignore[no-any-return]
        if self.use_linear:
            Q, K, V = self.linear_Q(Q), self.linear_K(K), self.linear_V(V)
        return self.projection(_attend(self, Q, K, V)), None

    return forward


def _gated(replacement: Replacement) -> Function:
    def forward(self: Any, Q: Tensor, K: Tensor, V: Tensor, U: Tensor, size_2d: tuple[int, int]) -> tuple[Tensor, None]:
        if _needs_the_affinity(self):
            return replacement.original(self, Q, K, V, U, size_2d)  # type: ignore[no-any-return]
        if self.use_linear:
            Q = K = self.linear_QK(Q)
            V = _halves(self, V, self.linear_V1, self.linear_V2)
            U = _halves(self, U, self.linear_U1, self.linear_U2)
        gated = _attend(self, Q, K, V) * U
        return self.projection(self.dw_conv(gated, size_2d)), None

    return forward


def _needs_the_affinity(module: Any) -> bool:
    """Return whether a module needs the affinity, for dropout in training or a `top_k` that is a share of tokens."""
    if module.training:
        return bool(module.drop_prob > 0)
    return _is_share(_top_k(module))


def _is_share(top_k: float) -> bool:
    return top_k != -1 and (top_k < 1 or top_k != int(top_k))


def _top_k(module: Any) -> float:
    """Return how many tokens a module reads, -1 for all; early versions always read all."""
    top_k: float = getattr(module, "top_k", -1)
    return top_k


def _attend(module: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attend with each head: queries `(Tq, B, ·)`, keys and values `(Tk, B, ·)` -> `(Tq, B, heads · channels)`."""
    heads, scale = module.num_head, 1 / module.T
    evaluates = not module.training
    longest = getattr(module, "max_mem_len_ratio", -1)
    ratio = key.shape[0] / query.shape[0]
    if evaluates and longest > 0 and ratio > longest:
        scale *= math.log(ratio) / math.log(longest)
    top_k = _top_k(module)
    distances = getattr(module, "use_dis", False)
    affinity = FusedAffinity(
        _by_head(key, heads),
        _by_head(query, heads) * (scale if distances else 1),
        similarity="l2" if distances else "dot",
        scale=1.0 if distances else scale,
        top_k=int(top_k) if evaluates and top_k > 0 else None,
    )
    readout = affinity.read(_by_head(value, heads))
    return readout.view(-1, heads, *readout.shape[1:]).permute(3, 0, 1, 2).flatten(2)


def _by_head(tokens: Tensor, heads: int) -> Tensor:
    """View `(T, B, heads · C)` as `(B · heads, C, T)`."""
    return tokens.view(*tokens.shape[:2], heads, -1).permute(1, 2, 3, 0).flatten(0, 1)


def _halves(module: Any, tokens: Tensor, first: Function, second: Function) -> Tensor:
    """Project both halves of the channels with their own layers, interleave them head by head, and apply SiLU."""
    halves = first(tokens[..., : module.d_vu // 2]), second(tokens[..., module.d_vu // 2 :])
    by_head = [half.view(*half.shape[:2], module.num_head, -1) for half in halves]
    return torch.nn.functional.silu(torch.cat(by_head, -1).flatten(2))


def _check(
    replacement: Replacement,
    arguments: dict[str, int],
    shapes: Callable[[Any], Sequence[tuple[int, int]]],
    *others: object,
) -> None:
    """Compare with all options that this version of the class knows."""
    known = inspect.signature(replacement.owner).parameters  # type: ignore[arg-type]
    apart: dict[str, object] = {"use_linear": False} if "use_linear" in known else {}
    choices: dict[str, object] = {"use_dis": True, "top_k": 3, "max_mem_len_ratio": 1.5}
    options = [{}, apart, *(apart | {name: value} for name, value in choices.items() if name in known)]

    def reads(forward: Function) -> list[Tensor]:
        results = []
        for option in options:
            module = replacement.instance(**arguments, **option).eval()
            tokens = [torch.randn(length, 2, channels) for length, channels in shapes(module)]
            results.append(forward(module, *tokens, *others)[0])
        return results

    check_alike(replacement.label, lambda: reads(replacement.original), lambda: reads(replacement.fused))


def _of_gated(module: Any) -> list[tuple[int, int]]:
    """Return lengths and channels of the inputs of a `GatedPropagation`: a frame with itself or with a memory."""
    if module.use_linear:
        return [(6, 8), (6, 8), (6, 16), (6, 16)]
    expanded = module.expand_d_vu
    return [(6, 8), (12, 8), (12, expanded), (6, expanded)]
