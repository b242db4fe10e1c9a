"""XMem (Cheng and Schwing, ECCV 2022) and Cutie (Cheng et al., CVPR 2024): the functions that read."""

import inspect
import sys
from collections.abc import Iterator

import torch
from torch import Tensor

from stm_fast.errors import IntegrationError
from stm_fast.integrations.affinity import FusedAffinity, LazySimilarity
from stm_fast.integrations.families.likeness import check_alike
from stm_fast.integrations.families.replacement import Function, Replacement
from stm_fast.integrations.targets import Target

READS = "XMem's and Cutie's get_similarity, do_softmax and get_affinity"

_KEYS = ("mk", "ms", "qk", "qe")
_KNOWN = {
    "get_similarity": (_KEYS, (*_KEYS, "add_batch_dim")),
    "do_softmax": (("similarity", "top_k", "inplace", "return_usage"),),
    "get_affinity": (_KEYS,),
}


def find(target: Target) -> Iterator[Replacement]:
    """Yield the three functions of each module that defines them."""
    homes = dict.fromkeys(sys.modules.get(function.__module__) for function in target.functions("get_similarity"))
    for home in homes:
        if home is None or not {"get_similarity", "do_softmax"} <= {*vars(home)}:
            continue
        target.refuse_bypasses(("match_memory", "read"), _KNOWN)
        # In order of installation: do_softmax must take both kinds of similarity before get_similarity returns ours.
        makers = {"do_softmax": _do_softmax, "get_similarity": _get_similarity, "get_affinity": _get_affinity}
        found = {name: Replacement(home, name, make) for name, make in makers.items() if name in vars(home)}
        _check(found)
        yield from found.values()


def _get_similarity(replacement: Replacement) -> Function:
    original = replacement.original

    def get_similarity(
        mk: Tensor, ms: Tensor | None, qk: Tensor, qe: Tensor | None, add_batch_dim: bool = False
    ) -> LazySimilarity | Tensor:
        if ms is not None and qe is None:
            # Their formula then leaves out |q|². The softmax does not cancel it, because a shrinkage multiplies it.
            options = {"add_batch_dim": True} if add_batch_dim else {}
            return original(mk, ms, qk, qe, **options)  # type: ignore[no-any-return]
        if add_batch_dim:
            mk, qk = mk.unsqueeze(0), qk.unsqueeze(0)
            ms, qe = (None if tensor is None else tensor.unsqueeze(0) for tensor in (ms, qe))
        shrinkage = None if ms is None else ms.flatten(1).unsqueeze(1)
        selection = None if qe is None else qe.flatten(2)
        return LazySimilarity(mk.flatten(2), shrinkage, qk.flatten(2), selection, matrix_of=matrix_of)

    def matrix_of(*keys: Tensor | None) -> Tensor | None:
        """Return the matrix, for a read that began before the original was restored."""
        return None if replacement.in_force else original(*keys)

    return get_similarity


def _do_softmax(replacement: Replacement) -> Function:
    def do_softmax(
        similarity: LazySimilarity | Tensor, top_k: int | None = None, inplace: bool = False, return_usage: bool = False
    ) -> object:
        if not isinstance(similarity, LazySimilarity):
            return replacement.original(similarity, top_k=top_k, inplace=inplace, return_usage=return_usage)
        affinity = similarity.affinity(top_k)
        return (affinity, affinity.usage()) if return_usage else affinity

    return do_softmax


def _get_affinity(replacement: Replacement) -> Function:
    similarity_of = _get_similarity(replacement)

    def get_affinity(mk: Tensor, ms: Tensor | None, qk: Tensor, qe: Tensor | None) -> FusedAffinity | Tensor:
        if ms is not None and qe is None:
            return replacement.original(mk, ms, qk, qe)  # type: ignore[no-any-return]
        similarity: LazySimilarity = similarity_of(mk, ms, qk, qe)
        return similarity.affinity()

    return get_affinity


def _check(found: dict[str, Replacement]) -> None:
    for name, replacement in found.items():
        known, names = _KNOWN[name], tuple(inspect.signature(replacement.original).parameters)
        if names not in known:
            raise IntegrationError(
                f"{replacement.label} is of an unknown version: its parameters are {', '.join(names)}; known "
                f"are {' or '.join(', '.join(each) for each in known)}"
            )

    def reads(functions: dict[str, Function]) -> list[Tensor]:
        memory_key, query_key = torch.randn(1, 6, 2, 3, 2), torch.randn(1, 6, 3, 2)
        shrinkage, selection = 1 + torch.rand(1, 1, 2, 3, 2), torch.rand(1, 6, 3, 2)
        values, results = torch.randn(2, 4, 12), []
        for ms, qe, top_k in (
            (shrinkage, selection, None),
            (shrinkage, selection, 3),
            (None, selection, None),
            (None, None, 3),
        ):
            scores = functions["get_similarity"](memory_key, ms, query_key, qe)
            affinity, usage = functions["do_softmax"](scores, top_k=top_k, return_usage=True)
            results += [values @ affinity, usage]
        if "get_affinity" in functions:
            results.append(values @ functions["get_affinity"](memory_key, shrinkage, query_key, selection))
        return results

    check_alike(
        found["get_similarity"].label,
        lambda: reads({name: replacement.original for name, replacement in found.items()}),
        lambda: reads({name: replacement.fused for name, replacement in found.items()}),
    )
