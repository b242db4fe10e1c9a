"""Tiles of scores: what all kernels have in common."""

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)
LN_2 = tl.constexpr(0.6931471805599453)


@triton.jit
def affine(product, gain, offset, bias, scale, batch, m, n, queries, tokens):
    """Scores in units of log 2, and what gain multiplies in them, from products of queries and keys `[M, N]`.

    S = gain · (scale · product + offset) + bias; −inf beyond the last token. `scale` is in units of log 2 already.
    What is rounded once is said, not left to the compiler, so that two loops of a kernel make the same scores.
    """
    inside = n < tokens  # [N]
    raw = product * scale
    if offset is not None:
        more = tl.load(offset + batch * queries + m, mask=m < queries, other=0.0) * LOG2_E  # [M]
        raw = tl.fma(product, scale, more[:, None])
    score = raw
    if gain is not None:
        factor = tl.load(gain + batch * tokens + n, mask=inside, other=0.0)[None, :]
        score = raw * factor
    if bias is not None:
        added = tl.load(bias + batch * tokens + n, mask=inside, other=0.0)[None, :] * LOG2_E
        if gain is not None:
            score = tl.fma(raw, factor, added)
        elif offset is not None:
            score = raw + added
        else:
            score = tl.fma(product, scale, added)
    return tl.where(inside[None, :], score, float("-inf")), raw  # [M, N], [M, N]


@triton.jit
def products(
    q, query, key, query_place, key_place, query_channel, key_channel, query_mask, key_mask,
    CHANNELS: tl.constexpr, BLOCK_C: tl.constexpr, OFFSET: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """<query, key> of a tile `[M, N]`, whose channels are read in blocks of BLOCK_C.

    Args:
        q: the first BLOCK_C channels of the queries, from `first_queries`: a loop reads them once.
        query: where the tile's queries begin.
        key: where the tile's keys begin.
        query_place: each query's distance from there `[M]`.
        key_place: each key's distance from there `[N]`.
        query_channel: stride of a query's channels.
        key_channel: stride of a key's channels.
        query_mask: which queries there are `[M]`.
        key_mask: which tokens there are `[N]`.
    """
    channel = tl.arange(0, BLOCK_C).to(OFFSET)  # [C]
    k = load_block(key, key_place[None, :], channel[:, None], key_channel, key_mask[None, :], CHANNELS)  # [C, N]
    product = tl.dot(q, k, input_precision=PRECISION)
    if CHANNELS > BLOCK_C:
        for first in range(BLOCK_C, CHANNELS, BLOCK_C):
            block = channel + first
            more = load_block(
                query, query_place[:, None], block[None, :], query_channel, query_mask[:, None], CHANNELS
            )  # [M, C]
            k = load_block(key, key_place[None, :], block[:, None], key_channel, key_mask[None, :], CHANNELS)  # [C, N]
            product = tl.dot(more, k, product, input_precision=PRECISION)
    return product  # [M, N]


@triton.jit
def first_queries(
    query, query_place, query_channel, query_mask, CHANNELS: tl.constexpr, BLOCK_C: tl.constexpr, OFFSET: tl.constexpr
):  # fmt: skip
    """The first BLOCK_C channels of a tile of queries `[M, BLOCK_C]`; see `products`."""
    channel = tl.arange(0, BLOCK_C).to(OFFSET)  # [C]
    return load_block(query, query_place[:, None], channel[None, :], query_channel, query_mask[:, None], CHANNELS)


@triton.jit
def load_block(base, place, channel, stride, mask, CHANNELS: tl.constexpr):
    """Some channels of some vectors, zero where there are none; `place` and `channel` broadcast against each other."""
    return tl.load(base + (place + channel * stride), mask=mask & (channel < CHANNELS), other=0.0)


@triton.jit
def load_scattered(base, place, mask, CHANNELS_ADJACENT: tl.constexpr):
    """Some channels of scattered tokens `[C, M]`, at their distances `place` from `base`; zero where there are none.

    Threads side by side read channels side by side where these are adjacent in memory. Else they read tokens that
    neighbours chose: versions of triton differ in what they make of pointers of which they know nothing.
    """
    if CHANNELS_ADJACENT:
        return tl.load(base + place, mask=mask, other=0.0)
    else:
        size: tl.constexpr = place.shape[0] * place.shape[1]
        flat = tl.load(base + tl.reshape(place, [size]), mask=tl.reshape(mask, [size]), other=0.0)
        return tl.reshape(flat, place.shape)


@triton.jit
def row_place(row, object_stride, channel_stride, CHANNELS: tl.constexpr):
    """Where row o·CHANNELS + c of the values of all objects begins."""
    return (row // CHANNELS) * object_stride + (row % CHANNELS) * channel_stride


@triton.jit
def strided(stride, UNIT: tl.constexpr, OFFSET: tl.constexpr):
    """A stride in numbers from one in units."""
    return tl.cast(stride, OFFSET) * UNIT


@triton.jit
def begin(base, batch, batch_stride, item, item_stride, UNIT: tl.constexpr):
    """Where an item of a batch begins; 64-bit however far that is."""
    return base + (batch * batch_stride * UNIT + tl.cast(item, tl.int64) * item_stride)


@triton.jit
def normalised(score, lse):
    """Softmax weights from scores `[M, N]` in units of log 2 and lse `[M]`; zeros for a query without tokens."""
    level = tl.where(lse == float("-inf"), 0.0, lse * LOG2_E)
    return tl.exp2(score - level[:, None])  # [M, N]
