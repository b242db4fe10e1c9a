"""Building blocks of the kernels: loading tiles, and computing scores and weights.

Queries, keys, values and gradients of readouts are tensors of channels × items. Items are queries or memory tokens; the
channels are those of all objects. Kernels refer to such a tensor as a source:

    (base, descriptor, by_item, batch_stride, object_stride, channel_stride, item_stride)

A tile is loaded by the descriptor, or through pointers if the descriptor is None; see `stm_fast.kernels.layouts`.
`by_item` is True if the matrix of the descriptor is items × channels, else None: None is the only constant that a tuple
of triton keeps. All strides but that of items are multiples of the source's UNIT, and are passed divided by it.
"""

import triton
import triton.language as tl

from stm_fast.kernels.softmax import LOG2_E, finite


@triton.jit
def channel_offsets(
    channel, object_stride, channel_stride,
    CHANNELS: tl.constexpr, OBJECT_CHANNELS: tl.constexpr, UNIT: tl.constexpr, INDEX: tl.constexpr,
):  # fmt: skip
    """Return the offsets of channels from the start of their batch. The arguments are those of `load_tile`."""
    offsets = (channel % OBJECT_CHANNELS).to(INDEX) * tl.cast(channel_stride, INDEX)
    if OBJECT_CHANNELS < CHANNELS:
        offsets += (channel // OBJECT_CHANNELS).to(INDEX) * tl.cast(object_stride, INDEX)
    return offsets * UNIT


@triton.jit
def load_tile(
    source, batch, first_channel, start, items,
    CHANNELS: tl.constexpr, OBJECT_CHANNELS: tl.constexpr, UNIT: tl.constexpr, INDEX: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr, BLOCK_ITEMS: tl.constexpr,
):  # fmt: skip
    """Load a tile `[BLOCK_CHANNELS, BLOCK_ITEMS]`, with zeros beyond the last channel and the last item.

    Args:
        source: see the module.
        batch: batch index, 64-bit.
        first_channel: first channel of the tile. Channel c of object o is o · OBJECT_CHANNELS + c.
        start: first item of the tile.
        items: number of items.
        CHANNELS: number of channels, of all objects.
        OBJECT_CHANNELS: number of channels of one object.
        UNIT: unit of the strides.
        INDEX: integer type of offsets within a batch.
        BLOCK_CHANNELS: channels of the tile.
        BLOCK_ITEMS: items of the tile.
    """
    base, descriptor, by_item, batch_stride, object_stride, channel_stride, item_stride = source
    if descriptor is not None:
        if by_item is not None:
            return descriptor.load([(batch * items).to(tl.int32) + start, first_channel]).trans()
        else:
            return descriptor.load([(batch * CHANNELS).to(tl.int32) + first_channel, start])
    else:
        channel = first_channel + tl.arange(0, BLOCK_CHANNELS)
        item = tl.arange(0, BLOCK_ITEMS)
        offsets = channel_offsets(channel, object_stride, channel_stride, CHANNELS, OBJECT_CHANNELS, UNIT, INDEX)
        first = base + (batch * batch_stride * UNIT + tl.cast(start, tl.int64) * item_stride)
        return tl.load(
            first + (offsets[:, None] + (item.to(INDEX) * item_stride)[None, :]),
            mask=(channel < CHANNELS)[:, None] & (start + item < items)[None, :],
            other=0.0,
        )


@triton.jit
def load_scattered(base, offsets, mask, CHANNELS_ADJACENT: tl.constexpr):
    """Load channels of scattered tokens `[C, M]` at offsets from `base`, with zeros where the mask is False.

    If channels are adjacent in memory, adjacent threads read adjacent channels. Otherwise they read tokens that
    adjacent queries chose; the flat form makes all versions of triton choose this layout.
    """
    if CHANNELS_ADJACENT:
        return tl.load(base + offsets, mask=mask, other=0.0)
    else:
        size: tl.constexpr = offsets.shape[0] * offsets.shape[1]
        flat = tl.load(base + tl.reshape(offsets, [size]), mask=tl.reshape(mask, [size]), other=0.0)
        return tl.reshape(flat, offsets.shape)


@triton.jit
def affine(product, gain, offset, bias, scale, batch, m, n, queries, tokens):
    """Return scores in units of log 2, and the term that gain multiplies in them, from products of queries and keys.

    S = gain · (scale · product + offset) + bias; −inf beyond the last token. Fused multiply-adds are spelled out, so
    that two loops of a kernel compute the same scores.

    Args:
        product: `[M, N]`, or `[N, M]`.
        gain: `(B, tokens)` or None.
        offset: `(B, queries)` or None.
        bias: `(B, tokens)` or None.
        scale: a number, in units of log 2 already.
        batch: batch index, 64-bit.
        m: indices of the queries `[M, 1]`, or `[1, M]`.
        n: indices of the tokens `[1, N]`, or `[N, 1]`.
        queries: number of queries.
        tokens: number of tokens.
    """
    if bias is None:
        addend = tl.where(n < tokens, 0.0, float("-inf"))
    else:
        addend = tl.load(bias + batch * tokens + n, mask=n < tokens, other=float("-inf")) * LOG2_E
    if offset is None:
        raw = product * scale
    else:
        shift = tl.load(offset + batch * queries + m, mask=m < queries, other=0.0) * LOG2_E
        raw = tl.fma(product, scale, shift)
    if gain is not None:
        score = tl.fma(raw, tl.load(gain + batch * tokens + n, mask=n < tokens, other=0.0), addend)
    elif offset is None:
        score = tl.fma(product, scale, addend)
    else:
        score = raw + addend
    return score, raw


@triton.jit
def second_channels(
    source, batch, start, items, first,
    CHANNELS: tl.constexpr, UNIT: tl.constexpr, INDEX: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_ITEMS: tl.constexpr,
):  # fmt: skip
    """Load the second block of channels of a tile of queries or keys `[C, items]`, or return the first if it is all."""
    if CHANNELS > BLOCK_C:
        return load_tile(source, batch, BLOCK_C, start, items, CHANNELS, CHANNELS, UNIT, INDEX, BLOCK_C, BLOCK_ITEMS)
    else:
        return first


@triton.jit
def products(
    left, second_left, right, left_source, right_source, batch, first_left, first_right, lefts, rights,
    CHANNELS: tl.constexpr, LEFT_UNIT: tl.constexpr, RIGHT_UNIT: tl.constexpr, INDEX: tl.constexpr,
    PRECISION: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_LEFT: tl.constexpr, BLOCK_RIGHT: tl.constexpr,
):  # fmt: skip
    """Return products of queries and keys, or of keys and queries, over all channels `[LEFT, RIGHT]`.

    The left side belongs to the program: its first two blocks of channels are loaded once, the others for every tile.
    If operands of multiply-adds fill the registers, all blocks are loaded one after another.

    Args:
        left: first block of channels of the left side `[C, LEFT]`.
        second_left: see `second_channels`.
        right: first block of channels of the right side `[C, RIGHT]`.
        left_source: source of the left side's other channels.
        right_source: source of the right side's other channels.
        batch: batch index, 64-bit.
        first_left: first item of the left tile.
        first_right: first item of the right tile.
        lefts: number of items of the left side.
        rights: number of items of the right side.
    """
    multiply_adds: tl.constexpr = CHANNELS > BLOCK_C and PRECISION == "ieee" and left.dtype == tl.float32
    if multiply_adds:
        product = tl.zeros([BLOCK_LEFT, BLOCK_RIGHT], tl.float32)
    else:
        product = tl.dot(left.trans(), right, input_precision=PRECISION)
        if CHANNELS > BLOCK_C:
            second_right = second_channels(
                right_source, batch, first_right, rights, right, CHANNELS, RIGHT_UNIT, INDEX, BLOCK_C, BLOCK_RIGHT
            )
            product = tl.dot(second_left.trans(), second_right, product, input_precision=PRECISION)
    more: tl.constexpr = 0 if multiply_adds else 2 * BLOCK_C
    if more < CHANNELS:
        for channel in range(more, CHANNELS, BLOCK_C):
            a = load_tile(
                left_source, batch, channel, first_left, lefts,
                CHANNELS, CHANNELS, LEFT_UNIT, INDEX, BLOCK_C, BLOCK_LEFT,
            )  # [C, LEFT]  # fmt: skip
            b = load_tile(
                right_source, batch, channel, first_right, rights,
                CHANNELS, CHANNELS, RIGHT_UNIT, INDEX, BLOCK_C, BLOCK_RIGHT,
            )  # [C, RIGHT]  # fmt: skip
            product = tl.dot(a.trans(), b, product, input_precision=PRECISION)
    return product


@triton.jit
def value_products(
    left, left_source, right_source, batch, first_left, first_right, lefts, rights,
    TOTAL_VALUE_CHANNELS: tl.constexpr, VALUE_CHANNELS: tl.constexpr, LEFT_UNIT: tl.constexpr, RIGHT_UNIT: tl.constexpr,
    INDEX: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_V: tl.constexpr, BLOCK_LEFT: tl.constexpr, BLOCK_RIGHT: tl.constexpr,
):  # fmt: skip
    """Return products of grad_out and value over all value channels `[LEFT, RIGHT]`. Arguments are as for `products`.

    `left` has all value channels of the side that belongs to the program `[V, LEFT]`. If they are more than BLOCK_V,
    both sides are loaded block by block.
    """
    if TOTAL_VALUE_CHANNELS <= BLOCK_V:
        right = load_tile(
            right_source, batch, 0, first_right, rights,
            TOTAL_VALUE_CHANNELS, VALUE_CHANNELS, RIGHT_UNIT, INDEX, BLOCK_V, BLOCK_RIGHT,
        )  # [V, RIGHT]  # fmt: skip
        total = tl.dot(left.trans(), right, input_precision=PRECISION)
    else:
        total = tl.zeros([BLOCK_LEFT, BLOCK_RIGHT], tl.float32)
        for channel in range(0, TOTAL_VALUE_CHANNELS, BLOCK_V):
            a = load_tile(
                left_source, batch, channel, first_left, lefts,
                TOTAL_VALUE_CHANNELS, VALUE_CHANNELS, LEFT_UNIT, INDEX, BLOCK_V, BLOCK_LEFT,
            )  # [V, LEFT]  # fmt: skip
            b = load_tile(
                right_source, batch, channel, first_right, rights,
                TOTAL_VALUE_CHANNELS, VALUE_CHANNELS, RIGHT_UNIT, INDEX, BLOCK_V, BLOCK_RIGHT,
            )  # [V, RIGHT]  # fmt: skip
            total = tl.dot(a.trans(), b, total, input_precision=PRECISION)
    return total


@triton.jit
def weights_from(score, lse, batch, m, queries):
    """Return softmax weights from scores in units of log 2: zeros beyond the last query and for queries without tokens.

    Args:
        score: `[M, N]`, or `[N, M]`.
        lse: lse of the read `(B, queries)`.
        batch: batch index, 64-bit.
        m: indices of the queries `[M, 1]`, or `[1, M]`.
        queries: number of queries.
    """
    maximum = finite(tl.load(lse + batch * queries + m, mask=m < queries, other=float("inf")))
    return tl.exp2(score - maximum * LOG2_E)
