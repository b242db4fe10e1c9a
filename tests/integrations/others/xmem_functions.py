"""The functions of XMem and Cutie."""

import torch
from torch import Tensor


def get_similarity(mk: Tensor, ms: Tensor | None, qk: Tensor, qe: Tensor | None) -> Tensor:
    key, query = mk.flatten(2).mT, qk.flatten(2)
    weight = torch.ones_like(query) if qe is None else qe.flatten(2)
    scores = 2 * key @ (query * weight) - key.square() @ weight
    if qe is not None:
        scores = scores - (weight * query.square()).sum(1, keepdim=True)
    shrinkage = 1 if ms is None else ms.flatten(2).mT
    return scores * shrinkage / key.shape[2] ** 0.5


def do_softmax(similarity: Tensor, top_k: int | None = None, inplace: bool = False, return_usage: bool = False):
    if top_k is None:
        affinity = similarity.softmax(1)
    else:
        best, tokens = similarity.topk(top_k, dim=1)
        weights = best.exp() / best.exp().sum(1, keepdim=True)
        affinity = (similarity.zero_() if inplace else torch.zeros_like(similarity)).scatter_(1, tokens, weights)
    return (affinity, affinity.sum(2)) if return_usage else affinity


def get_affinity(mk: Tensor, ms: Tensor, qk: Tensor, qe: Tensor) -> Tensor:
    return do_softmax(get_similarity(mk, ms, qk, qe))


def readout(affinity: Tensor, mv: Tensor) -> Tensor:
    return torch.bmm(mv.flatten(2), affinity).unflatten(2, mv.shape[3:])
