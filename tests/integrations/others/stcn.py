"""STCN's memory bank, which inference reads with."""

import torch
from torch import Tensor

from tests.integrations.others.stcn_similarity import _similarity


class MemoryBank:
    def __init__(self, k: int, top_k: int = 20) -> None:
        self.num_objects, self.top_k = k, top_k
        self.mem_k = self.mem_v = None

    def _global_matching(self, mk: Tensor, qk: Tensor) -> Tensor:
        similarity = _similarity(mk, qk)
        best, tokens = similarity.topk(self.top_k, dim=1)
        return torch.zeros_like(similarity).scatter_(1, tokens, best.exp() / best.exp().sum(1, keepdim=True))

    def match_memory(self, qk: Tensor) -> Tensor:
        affinity = self._global_matching(self.mem_k, qk.flatten(2))
        return torch.bmm(self.mem_v, affinity.expand(self.num_objects, -1, -1)).unflatten(2, qk.shape[2:])
