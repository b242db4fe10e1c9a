"""Replace the memory read of STCN- and XMem-style code by `memory_read`, without the matrix of queries × memory.

Each pair of functions computes the same, first as the family writes it, then with one call.

Run: python examples/swap_the_read.py
"""

import math

import torch
from torch import Tensor

from stm_fast import MemoryReadout, memory_read


def stcn_plain(query_key: Tensor, memory_key: Tensor, memory_value: Tensor, top_k: int) -> Tensor:
    """Read with one affinity for all objects; each query reads its `top_k` most similar memory tokens.

    Args:
        query_key: `(1, Ck, H, W)`.
        memory_key: `(1, Ck, T, H, W)`.
        memory_value: `(1, O, Cv, T, H, W)`.
        top_k: tokens read by each query.

    Returns:
        `(1, O, Cv, H, W)`.
    """
    query, key, value = query_key.flatten(2), memory_key.flatten(2), memory_value.flatten(3)
    similarity = (2 * key.mT @ query - key.square().sum(1)[..., None]) / math.sqrt(key.shape[1])
    best, tokens = similarity.topk(top_k, dim=1)
    affinity = torch.zeros_like(similarity).scatter_(1, tokens, best.softmax(1))
    return (value @ affinity[:, None]).unflatten(-1, query_key.shape[2:])


def stcn_fused(query_key: Tensor, memory_key: Tensor, memory_value: Tensor, top_k: int) -> Tensor:
    """Do the same as `stcn_plain`."""
    return memory_read(query_key, memory_key, memory_value, similarity="l2", top_k=top_k)


def xmem_plain(
    query_key: Tensor, selection: Tensor, memory_key: Tensor, shrinkage: Tensor, memory_value: Tensor
) -> tuple[Tensor, Tensor]:
    """Read with the anisotropic L2 similarity; also return the usage of each memory token.

    Args:
        query_key: `(1, Ck, H, W)`.
        selection: `(1, Ck, H, W)`.
        memory_key: `(1, Ck, T, H, W)`.
        shrinkage: `(1, 1, T, H, W)`.
        memory_value: `(1, O, Cv, T, H, W)`.

    Returns:
        `(1, O, Cv, H, W)` and `(1, T, H, W)`.
    """
    query, weight, key = query_key.flatten(2), selection.flatten(2), memory_key.flatten(2)
    distance = key.square().mT @ weight - 2 * key.mT @ (query * weight) + (query.square() * weight).sum(1, keepdim=True)
    affinity = (-shrinkage.flatten(2).mT * distance / math.sqrt(key.shape[1])).softmax(1)
    readout = (memory_value.flatten(3) @ affinity[:, None]).unflatten(-1, query_key.shape[2:])
    return readout, affinity.sum(2).unflatten(-1, memory_key.shape[2:])


def xmem_fused(
    query_key: Tensor, selection: Tensor, memory_key: Tensor, shrinkage: Tensor, memory_value: Tensor
) -> MemoryReadout:
    """Do the same as `xmem_plain`."""
    return memory_read(
        query_key,
        memory_key,
        memory_value,
        similarity="l2",
        selection=selection,
        shrinkage=shrinkage,
        return_usage=True,
    )


def main() -> None:
    """Read a small random memory both ways and compare."""
    torch.manual_seed(0)
    objects, frames, height, width = 3, 4, 12, 20
    query_key, memory_key = torch.randn(1, 64, height, width), torch.randn(1, 64, frames, height, width)
    memory_value = torch.randn(1, objects, 512, frames, height, width)
    selection = torch.rand(1, 64, height, width)
    shrinkage = 1 + torch.rand(1, 1, frames, height, width)

    plain = stcn_plain(query_key, memory_key, memory_value, top_k=20)
    fused = stcn_fused(query_key, memory_key, memory_value, top_k=20)
    torch.testing.assert_close(fused, plain, rtol=1e-4, atol=1e-4)
    print(f"STCN: readout {tuple(fused.shape)} equal")

    plain, plain_usage = xmem_plain(query_key, selection, memory_key, shrinkage, memory_value)
    readout = xmem_fused(query_key, selection, memory_key, shrinkage, memory_value)
    torch.testing.assert_close(readout.value, plain, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(readout.usage.flatten(), plain_usage.flatten(), rtol=1e-4, atol=1e-4)
    print(f"XMem: readout {tuple(readout.value.shape)} and usage equal")


if __name__ == "__main__":
    main()
