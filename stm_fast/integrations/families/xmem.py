"""XMem (Cheng and Schwing, ECCV 2022) and Cutie (Cheng et al., CVPR 2024): the functions that read."""

import inspect
import sys
from collections.abc import Iterator, Sequence
from functools import wraps
from types import FunctionType, ModuleType

import torch
from torch import Tensor

from stm_fast.errors import IntegrationError
from stm_fast.integrations.affinity import FusedAffinity, LazySimilarity
from stm_fast.integrations.families.replacement import Function, Replacement, check_alike, defined_in

READS = "XMem's and Cutie's get_similarity, do_softmax and get_affinity"

_SIMILARITY = ("mk", "ms", "qk", "qe")
_SOFTMAX = ("similarity", "top_k", "inplace", "return_usage")


def find(modules: Sequence[ModuleType]) -> Iterator[Replacement]:
    """The three functions of each module that defines them."""
    for function in defined_in(modules, "get_similarity", FunctionType):
        home = sys.modules[getattr(function, "stm_fast_replaces", function).__module__]
        if "do_softmax" not in vars(home):
            continue
        found = [
            Replacement.of(home, "get_similarity", _get_similarity),
            Replacement.of(home, "do_softmax", _do_softmax),
        ]
        if "get_affinity" in vars(home):
            found.append(Replacement.of(home, "get_affinity", _get_affinity))
        _check(found[0], found[1])
        yield from found


def _get_similarity(original: Function) -> Function:
    @wraps(original)
    def get_similarity(
        mk: Tensor, ms: Tensor | None, qk: Tensor, qe: Tensor | None, add_batch_dim: bool = False
    ) -> LazySimilarity:
        if add_batch_dim:
            mk, qk = mk.unsqueeze(0), qk.unsqueeze(0)
            ms, qe = (None if tensor is None else tensor.unsqueeze(0) for tensor in (ms, qe))
        shrinkage = None if ms is None else ms.flatten(1).unsqueeze(1)
        selection = None if qe is None else qe.flatten(2)
        return LazySimilarity(mk.flatten(2), shrinkage, qk.flatten(2), selection)

    return get_similarity


def _do_softmax(original: Function) -> Function:
    @wraps(original)
    def do_softmax(
        similarity: LazySimilarity | Tensor, top_k: int | None = None, inplace: bool = False, return_usage: bool = False
    ) -> object:
        if not isinstance(similarity, LazySimilarity):
            return original(similarity, top_k=top_k, inplace=inplace, return_usage=return_usage)
        affinity = similarity.affinity(top_k)
        return (affinity, affinity.usage()) if return_usage else affinity

    return do_softmax


def _get_affinity(original: Function) -> Function:
    similarity_of = _get_similarity(original)

    @wraps(original)
    def get_affinity(mk: Tensor, ms: Tensor | None, qk: Tensor, qe: Tensor | None) -> FusedAffinity:
        similarity: LazySimilarity = similarity_of(mk, ms, qk, qe)
        return similarity.affinity()

    return get_affinity


def _check(similarity: Replacement, softmax: Replacement) -> None:
    for replacement, known in ((similarity, _SIMILARITY), (softmax, _SOFTMAX)):
        names = tuple(inspect.signature(replacement.original).parameters)
        if names[: len(known)] != known:
            raise IntegrationError(
                f"{replacement.label} is of a version that is not known: its parameters are {', '.join(names)}; known "
                f"are {', '.join(known)}"
            )

    def reads(get_similarity: Function, do_softmax: Function) -> list[Tensor]:
        mk, ms, qk, qe = (
            torch.randn(1, 6, 2, 3, 2),
            1 + torch.rand(1, 1, 2, 3, 2),
            torch.randn(1, 6, 3, 2),
            torch.rand(1, 6, 3, 2),
        )
        values, results = torch.randn(2, 4, 12), []
        for shrinkage, selection, top_k in ((ms, qe, None), (ms, qe, 3), (None, None, None)):
            scores = get_similarity(mk, shrinkage, qk, selection)
            affinity, usage = do_softmax(scores, top_k=top_k, return_usage=True)
            results += [values @ affinity, usage]
        return results

    check_alike(
        similarity.label,
        lambda: reads(similarity.original, softmax.original),
        lambda: reads(similarity.ours, softmax.ours),
    )
