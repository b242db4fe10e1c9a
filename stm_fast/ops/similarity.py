"""Similarities, each as a differentiable preparation of the operands that every backend reads.

A new similarity is a function from keys to `Operands`; kernels never know which one was asked for.
"""

import torch
from torch import Tensor

from stm_fast.kernels.operands import Operands, statistics_dtype


def dot(query: Tensor, key: Tensor, scale: float) -> Operands:
    """S = scale · <q, k> (STM's released code; attention).

    Args:
        query: `(B, C, Nq)`.
        key: `(B, C, Nk)`.
        scale: STM takes 1/√C.
    """
    return Operands(query, key, None, None, None, scale)


def l2(
    query: Tensor, key: Tensor, scale: float, shrinkage: Tensor | None, selection: Tensor | None, mask: Tensor | None
) -> Operands:
    """Prepare XMem's anisotropic distance (section 3.2), S = −scale · s_j · Σ_c e_ci (k_cj − q_ci)².

    Without s and e it is STCN's (section 4).

    Args:
        query: `(B, C, Nq)`.
        key: `(B, C, Nk)`.
        scale: STCN and XMem take 1/√C.
        shrinkage: s, `(B, 1, Nk)`, or None for ones.
        selection: e, `(B, C, Nq)`, or None for ones.
        mask: `(B, Nk)`, True where a token takes part, or None for all. The keys of others are not looked at where they
            would reach beyond their own score; their scores are for the caller to mask.
    """
    if selection is None:
        return _l2(query, key, scale, shrinkage)
    return _selective_l2(query, key, scale, shrinkage, selection, mask)


def _l2(query: Tensor, key: Tensor, scale: float, shrinkage: Tensor | None) -> Operands:
    """The keys are read where they lie, uncentred: the score is as accurate as 2<q, k> − |k|², which STCN computes."""
    dtype = statistics_dtype(key)
    query_norm = query.to(dtype).square().sum(1)
    key_norm = key.to(dtype).square().sum(1)
    if shrinkage is None:
        return Operands(query, key, None, -scale * query_norm, -scale * key_norm, 2 * scale)
    gain = scale * shrinkage.squeeze(1).to(dtype)
    return Operands(query, key, gain, -query_norm, -gain * key_norm, 2.0)


def _selective_l2(
    query: Tensor, key: Tensor, scale: float, shrinkage: Tensor | None, selection: Tensor, mask: Tensor | None
) -> Operands:
    """The selection weighs each channel for each query, so the squares of the keys become channels of their own.

    The distance is then a difference of terms that grow with the square of the keys. It stays the same when one vector
    is subtracted from all keys and queries: around the mean key the terms are small, and a mean of whole numbers is
    subtracted without rounding. Squares rounded to 16 bits would cost more accuracy than the rounding of the keys did,
    so these operands are float32.
    """
    dtype = statistics_dtype(key)
    key = key.to(dtype)
    if mask is not None:
        key = key.masked_fill(~mask[:, None], 0)
    centre = _mean(key.detach(), mask).round()
    centred_query = query.to(dtype) - centre
    weight = selection.to(dtype)
    weighted_query = weight * centred_query
    offset = -(weighted_query * centred_query).sum(1)
    wide_query = torch.cat([2 * weighted_query, -weight], 1)
    wide_key = _beside_its_square(key, centre)
    if shrinkage is None:
        return Operands(wide_query, wide_key, None, scale * offset, None, scale)
    return Operands(wide_query, wide_key, scale * shrinkage.squeeze(1).to(dtype), offset, None, 1.0)


def _beside_its_square(key: Tensor, centre: Tensor) -> Tensor:
    """The centred key and its square `(B, 2C, Nk)`; where no gradient is wanted, in the room of the result alone."""
    if torch.compiler.is_compiling() or (torch.is_grad_enabled() and key.requires_grad):
        centred_key = key - centre
        return torch.cat([centred_key, centred_key.square()], 1)
    batch, channels, tokens = key.shape
    wide_key = key.new_empty(batch, 2 * channels, tokens)
    centred_key, square = wide_key[:, :channels], wide_key[:, channels:]
    torch.sub(key, centre, out=centred_key)
    torch.mul(centred_key, centred_key, out=square)
    return wide_key


def _mean(key: Tensor, mask: Tensor | None) -> Tensor:
    """Mean key `(B, C, 1)` of the tokens that take part; those that do not are zeros already."""
    if mask is None:
        return key.mean(-1, keepdim=True)
    return key.sum(-1, keepdim=True) / mask.sum(-1).clamp_min(1)[:, None, None]
