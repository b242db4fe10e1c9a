"""STCN's memory bank and reader."""

import torch
from torch import Tensor


def _similarity(mk: Tensor, qk: Tensor) -> Tensor:
    return (2 * mk.mT @ qk - mk.square().sum(1)[..., None]) / mk.shape[1] ** 0.5


class MemoryBank:
    def __init__(self, k: int, top_k: int = 20) -> None:
        self.num_objects, self.top_k = k, top_k

    def _global_matching(self, mk: Tensor, qk: Tensor) -> Tensor:
        similarity = _similarity(mk, qk)
        best, tokens = similarity.topk(self.top_k, dim=1)
        return torch.zeros_like(similarity).scatter_(1, tokens, best.exp() / best.exp().sum(1, keepdim=True))

    def match(self, mk: Tensor, mv: Tensor, qk: Tensor) -> Tensor:
        return torch.bmm(mv, self._global_matching(mk, qk).expand(self.num_objects, -1, -1))


class MemoryReader(torch.nn.Module):
    def get_affinity(self, mk: Tensor, qk: Tensor) -> Tensor:
        return _similarity(mk.flatten(2), qk.flatten(2)).softmax(1)

    def readout(self, affinity: Tensor, mv: Tensor, qv: Tensor) -> Tensor:
        return torch.cat([torch.bmm(mv.flatten(2), affinity).view_as(mv[:, :, 0]), qv], 1)
