"""Other ways to read a memory: the plain formula, torch's attention, and the top-k read of STCN's and XMem's papers.

Each takes query key (1, C, N), memory key (1, C, M) and memory value (1, O, V, M), and returns (1, O, V, N).
"""

from collections.abc import Callable
from functools import cache, partial
from importlib.util import find_spec

import torch
from torch import Tensor
from torch.nn import functional as F


def plain(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Read with the three lines of the original: affinity, softmax over the memory, weighted sum."""
    affinity = torch.bmm(key.mT, query) / query.shape[1] ** 0.5
    readout = torch.bmm(value.flatten(1, 2), torch.softmax(affinity, dim=1).to(value.dtype))
    return readout.unflatten(1, value.shape[1:3])


def products(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Compute the plain read's two matrix products without the softmax: not a read, but its practical limit."""
    scores = torch.bmm(key.mT, query)
    return torch.bmm(value.flatten(1, 2), scores.to(value.dtype)).unflatten(1, value.shape[1:3])


def sdpa(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Read by `scaled_dot_product_attention`; its CPU kernel needs keys and values tokens-first."""
    return _attend(F.scaled_dot_product_attention, query, key, value)


def padded_sdpa(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Do the same with keys zero-padded to the values' channels: the fused kernel requires equal numbers."""
    missing = value.shape[1] * value.shape[2] - key.shape[1]
    scale = query.shape[1] ** -0.5
    query, key = F.pad(query, (0, 0, 0, missing)), F.pad(key, (0, 0, 0, missing))
    return _attend(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, scale=scale), query, key, value)


def flex(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Read by FlexAttention, compiled."""
    return _attend(_compiled_flex(), query, key, value)


def top_k(query: Tensor, key: Tensor, value: Tensor, k: int = 30) -> Tensor:
    """Read as XMem: L2 similarity, softmax over the best k, scattered into the affinity, one matrix product."""
    similarity = (2 * key.mT @ query - key.square().sum(1)[..., None]) / query.shape[1] ** 0.5
    values, indices = torch.topk(similarity, k, dim=1)
    weights = torch.softmax(values, dim=1)
    affinity = similarity.zero_().scatter_(1, indices, weights)
    return (value.flatten(1, 2) @ affinity).unflatten(1, value.shape[1:3])


def tokens_first(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return the tensors with their channels adjacent in memory, as fused attention requires."""
    return tuple(tensor.mT.contiguous().mT for tensor in tensors)


def on_gpu() -> dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]]:
    """Return every attention of torch that a GPU may have."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    def forced(backend: SDPBackend) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        def run(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            with sdpa_kernel(backend):
                return sdpa(query, key, value)

        return run

    named = {"flash": "FLASH_ATTENTION", "efficient": "EFFICIENT_ATTENTION", "cudnn": "CUDNN_ATTENTION", "math": "MATH"}
    return {f"SDPA {name}": forced(getattr(SDPBackend, backend)) for name, backend in named.items()}


def others() -> dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]]:
    """Return FlexAttention in tiles that fit, compiled at the first call, and xformers' attention if installed."""
    ways = {"FlexAttention": lambda query, key, value: _attend(_flex_in_tiles(), query, key, value)}
    if find_spec("xformers") is not None:
        ways["xformers"] = _xformers
    return ways


def _xformers(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    from xformers.ops import memory_efficient_attention

    rows = value.flatten(1, 2)
    out = memory_efficient_attention(query.mT[:, :, None], key.mT[:, :, None], rows.mT[:, :, None])
    return out[:, :, 0].mT.unflatten(1, value.shape[1:3])


def _flex_in_tiles() -> Callable[..., Tensor]:
    """Return FlexAttention with tiles that leave room for 512 value channels; it raises if it is not fused."""
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    return partial(_compiled_flex(), kernel_options={"BLOCK_M": 64, "BLOCK_N": 32, "num_stages": 2})


def _attend(attention: Callable[..., Tensor], query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    rows = value.flatten(1, 2)
    out = attention(query.mT[:, None], key.mT[:, None], rows.mT[:, None])
    return out[:, 0].mT.unflatten(1, value.shape[1:3])


@cache
def _compiled_flex() -> Callable[..., Tensor]:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention)
