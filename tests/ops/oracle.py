"""The read as its definition says, every score at once, and the bound that results are held to.

In float64 it is the oracle, in other dtypes the formula done plainly.

The oracle sums the squared differences of a distance. Done plainly it is what others compute: with a selection XMem's
matrix products, without one STCN's (2<q, k> − |k|²) · scale, less |q|² · scale, which lse has and STCN leaves out.
"""

import math

import torch
from torch import Tensor

from stm_fast.ops import MemoryReadout


def direct_read(
    query_key: Tensor,
    memory_key: Tensor,
    memory_value: Tensor,
    *,
    similarity: str = "dot",
    scale: float | None = None,
    shrinkage: Tensor | None = None,
    selection: Tensor | None = None,
    top_k: int | None = None,
    memory_mask: Tensor | None = None,
    dtype: torch.dtype = torch.float64,
) -> MemoryReadout:
    """`memory_read` with value, usage and lse, by the direct formula in `dtype`."""
    shared = memory_value.ndim == memory_key.ndim + 1
    q, k = query_key.flatten(2).to(dtype), memory_key.flatten(2).to(dtype)
    v = (memory_value if shared else memory_value.unsqueeze(1)).flatten(3).to(dtype)
    scale = q.shape[1] ** -0.5 if scale is None else scale
    if similarity == "dot":
        scores = scale * (q.mT @ k)
    else:
        e = torch.ones_like(q) if selection is None else selection.flatten(2).to(dtype)
        if dtype == torch.float64:
            scores = -scale * (e[..., None] * (k[:, :, None] - q[..., None]).square()).sum(1)
        elif selection is None and shrinkage is None:
            scores = scale * (2 * (q.mT @ k) - k.square().sum(1)[:, None]) - scale * q.square().sum(1)[..., None]
        else:
            scores = -scale * (e.mT @ k.square() - 2 * (e * q).mT @ k + (e * q.square()).sum(1)[..., None])
        if shrinkage is not None:
            scores = shrinkage.flatten(2).to(dtype) * scores
    if memory_mask is not None:
        scores = scores.masked_fill(~memory_mask.flatten(1)[:, None], -math.inf)
    if top_k is not None:
        order = scores.detach().argsort(dim=-1, descending=True, stable=True)
        chosen = torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, order[..., :top_k], True)
        scores = scores.masked_fill(~chosen, -math.inf)
    empty = (scores == -math.inf).all(-1, keepdim=True)
    weights = scores.masked_fill(empty, 0).softmax(-1).masked_fill(empty, 0)
    lse = scores.masked_fill(empty, 0).logsumexp(-1).masked_fill(empty[..., 0], -math.inf)
    out = torch.einsum("boci,bqi->bocq", v, weights)
    out = out.reshape(*memory_value.shape[: memory_value.ndim - memory_key.ndim + 2], *query_key.shape[2:])
    usage = weights.sum(1).reshape(memory_key.shape[0], *memory_key.shape[2:])
    return MemoryReadout(out, usage, lse.reshape(lse.shape[0], *query_key.shape[2:]))


def assert_accurate(fast: Tensor, oracle: Tensor, plain: Tensor, amplification: float = 1.0) -> None:
    """The error is at most twice that of the plain formula in the same precision, plus an (amplified) rounding band."""
    assert fast.dtype == plain.dtype
    assert fast.shape == oracle.shape == plain.shape
    finite = oracle.isfinite()
    assert torch.equal(fast[~finite].double(), oracle[~finite])
    exact = oracle[finite]
    band = amplification * 2 * torch.finfo(fast.dtype).eps * exact.abs().max()
    assert (fast[finite] - exact).abs().max() <= 2 * (plain[finite] - exact).abs().max() + band


def assert_close_gradients(fast: Tensor, oracle: Tensor, relative: float) -> None:
    """Gradients agree in relative L2 distance and in direction."""
    difference = (fast.double() - oracle).norm()
    assert difference <= relative * oracle.norm()
    assert torch.cosine_similarity(fast.double().flatten(), oracle.flatten(), dim=0) >= 1 - relative
