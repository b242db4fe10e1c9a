"""A memory in XMem's manner: object groups of different age, a long-term part, usage, consolidation."""

import torch
from torch import Tensor

from tests.integrations.others.xmem_functions import *  # noqa: F403


class MemoryManager:
    def __init__(self, key: Tensor, shrinkage: Tensor, long: int, top_k: int | None) -> None:
        self.key, self.shrinkage, self.long, self.top_k = key, shrinkage, long, top_k

    def match(self, query: Tensor, selection: Tensor, groups: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Groups of values `(O, C, n)`: the first has all tokens, others the last n of the long and working part."""
        similarity = get_similarity(self.key, self.shrinkage, query, selection)  # noqa: F405
        long, work = similarity[:, : self.long], similarity[:, self.long :]
        affinity, usage = do_softmax(  # noqa: F405
            torch.cat([long, work], 1), top_k=self.top_k, inplace=len(groups) == 1, return_usage=True
        )
        reads = [groups[0] @ affinity]
        for group in groups[1:]:
            tokens = group.shape[2] // 2
            affinity = do_softmax(torch.cat([long[:, -tokens:], work[:, -tokens:]], 1), top_k=self.top_k)  # noqa: F405
            reads.append(group @ affinity)
        return torch.cat(reads), usage

    def consolidate(self, selection: Tensor, prototypes: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        key, shrinkage = self.key[:, :, self.long :], self.shrinkage[:, :, self.long :]
        similarity = get_similarity(key, shrinkage, key[:, :, prototypes], selection[:, :, prototypes])  # noqa: F405
        affinity = do_softmax(similarity[:, -values.shape[2] :, prototypes % 2 == 0])  # noqa: F405
        return values @ affinity, shrinkage[:, :, -values.shape[2] :] @ affinity
