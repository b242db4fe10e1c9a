"""What all kernels have in common: how tiles are loaded, and scores from products.

A tensor of queries, keys, values or gradients of a readout is rows × items: rows are its channels, of all objects;
items are queries or memory tokens. Kernels call it a source:

    (base, descriptor, by_item, batch_stride, object_stride, channel_stride, item_stride)

`by_item` is True where the descriptor is of items × rows, else None: of constants, a tuple keeps only None one. The
strides of batches, objects and channels are in multiples of the source's UNIT. A tile is loaded by the tensor
descriptor where there is one (see `stm_fast.kernels.layouts`), by pointers where it is None.
"""

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)
LN_2 = tl.constexpr(0.6931471805599453)


@triton.jit
def row_places(
    row, object_stride, channel_stride,
    ROWS: tl.constexpr, OBJECT_ROWS: tl.constexpr, UNIT: tl.constexpr, OFFSET: tl.constexpr,
):  # fmt: skip
    """How far from their batch's beginning rows lie; arguments as of `load_rows`."""
    place = (row % OBJECT_ROWS).to(OFFSET) * tl.cast(channel_stride, OFFSET)
    if OBJECT_ROWS < ROWS:
        place += (row // OBJECT_ROWS).to(OFFSET) * tl.cast(object_stride, OFFSET)
    return place * UNIT


@triton.jit
def load_rows(
    source, batch, first_row, start, items,
    ROWS: tl.constexpr, OBJECT_ROWS: tl.constexpr, UNIT: tl.constexpr, OFFSET: tl.constexpr,
    BLOCK_ROWS: tl.constexpr, BLOCK_ITEMS: tl.constexpr,
):  # fmt: skip
    """A tile of rows × items `[BLOCK_ROWS, BLOCK_ITEMS]`; zero beyond the last row and the last item.

    Args:
        source: see the module.
        batch: its number, 64-bit.
        first_row: row o · OBJECT_ROWS + c is channel c of object o.
        start: the first item.
        items: how many there are.
        ROWS: how many there are.
        OBJECT_ROWS: of one object.
        UNIT: of the strides.
        OFFSET: type of distances within a tile.
        BLOCK_ROWS: of the tile.
        BLOCK_ITEMS: of the tile.
    """
    base, descriptor, by_item, batch_stride, object_stride, channel_stride, item_stride = source
    if descriptor is not None:
        if by_item is not None:
            return descriptor.load([(batch * items).to(tl.int32) + start, first_row]).trans()
        else:
            return descriptor.load([(batch * ROWS).to(tl.int32) + first_row, start])
    else:
        row = first_row + tl.arange(0, BLOCK_ROWS)
        item = tl.arange(0, BLOCK_ITEMS)
        place = row_places(row, object_stride, channel_stride, ROWS, OBJECT_ROWS, UNIT, OFFSET)
        first = base + (batch * batch_stride * UNIT + tl.cast(start, tl.int64) * item_stride)
        return tl.load(
            first + (place[:, None] + (item.to(OFFSET) * item_stride)[None, :]),
            mask=(row < ROWS)[:, None] & (start + item < items)[None, :],
            other=0.0,
        )


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
def affine(product, gain, offset, bias, scale, batch, m, n, queries, tokens):
    """Scores in units of log 2, and what gain multiplies in them, from products of queries and keys.

    S = gain · (scale · product + offset) + bias; −inf beyond the last token. `scale` is in units of log 2 already. What
    is rounded once is said, not left to the compiler, so that two loops of a kernel make the same scores.

    Args:
        product: `[M, N]`, or `[N, M]`.
        gain: `(B, tokens)` or None.
        offset: `(B, queries)` or None.
        bias: `(B, tokens)` or None.
        scale: a number.
        batch: its number, 64-bit.
        m: numbers of the queries `[M, 1]`, or `[1, M]`.
        n: numbers of the tokens `[1, N]`, or `[N, 1]`.
        queries: how many there are.
        tokens: how many there are.
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
    CHANNELS: tl.constexpr, UNIT: tl.constexpr, OFFSET: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_ITEMS: tl.constexpr,
):  # fmt: skip
    """Channels BLOCK_C to 2 · BLOCK_C of a tile of queries or keys `[C, items]`; where there are none, `first`."""
    if CHANNELS > BLOCK_C:
        return load_rows(source, batch, BLOCK_C, start, items, CHANNELS, CHANNELS, UNIT, OFFSET, BLOCK_C, BLOCK_ITEMS)
    else:
        return first


@triton.jit
def products(
    left, second_left, right, left_source, right_source, batch, first_left, first_right, lefts, rights,
    CHANNELS: tl.constexpr, LEFT_UNIT: tl.constexpr, RIGHT_UNIT: tl.constexpr, OFFSET: tl.constexpr,
    PRECISION: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_LEFT: tl.constexpr, BLOCK_RIGHT: tl.constexpr,
):  # fmt: skip
    """Products over all channels of a tile of queries and one of keys, or of keys and queries, `[LEFT, RIGHT]`.

    The left side is the program's own: its first two blocks of channels are loaded once, further ones for every tile.
    Where operands of multiply-adds fill the registers, all blocks are loaded one after another.

    Args:
        left: first block of channels of the own side `[C, LEFT]`.
        second_left: see `second_channels`.
        right: first block of channels of the other side `[C, RIGHT]`.
        left_source: where further channels of the own side are read.
        right_source: where further channels of the other side are read.
        batch: its number, 64-bit.
        first_left: first item of the own tile.
        first_right: first item of the other tile.
        lefts: how many items there are on the own side.
        rights: how many items there are on the other side.
    """
    multiply_adds: tl.constexpr = CHANNELS > BLOCK_C and PRECISION == "ieee" and left.dtype == tl.float32
    if multiply_adds:
        product = tl.zeros([BLOCK_LEFT, BLOCK_RIGHT], tl.float32)
    else:
        product = tl.dot(left.trans(), right, input_precision=PRECISION)
        if CHANNELS > BLOCK_C:
            second_right = second_channels(
                right_source, batch, first_right, rights, right, CHANNELS, RIGHT_UNIT, OFFSET, BLOCK_C, BLOCK_RIGHT
            )
            product = tl.dot(second_left.trans(), second_right, product, input_precision=PRECISION)
    more: tl.constexpr = 0 if multiply_adds else 2 * BLOCK_C
    if more < CHANNELS:
        for row in range(more, CHANNELS, BLOCK_C):
            a = load_rows(
                left_source, batch, row, first_left, lefts, CHANNELS, CHANNELS, LEFT_UNIT, OFFSET, BLOCK_C, BLOCK_LEFT
            )  # [C, LEFT]
            b = load_rows(
                right_source, batch, row, first_right, rights,
                CHANNELS, CHANNELS, RIGHT_UNIT, OFFSET, BLOCK_C, BLOCK_RIGHT,
            )  # [C, RIGHT]  # fmt: skip
            product = tl.dot(a.trans(), b, product, input_precision=PRECISION)
    return product


@triton.jit
def value_products(
    left, left_source, right_source, batch, first_left, first_right, lefts, rights,
    ROWS: tl.constexpr, VALUE_CHANNELS: tl.constexpr, LEFT_UNIT: tl.constexpr, RIGHT_UNIT: tl.constexpr,
    OFFSET: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_V: tl.constexpr, BLOCK_LEFT: tl.constexpr, BLOCK_RIGHT: tl.constexpr,
):  # fmt: skip
    """Products of grad_out and value over all value channels `[LEFT, RIGHT]`; arguments as of `products`.

    `left` is all rows of the side that the program owns `[V, LEFT]`; where they are more than BLOCK_V, both sides are
    loaded block by block.
    """
    if ROWS <= BLOCK_V:
        right = load_rows(
            right_source, batch, 0, first_right, rights, ROWS, VALUE_CHANNELS, RIGHT_UNIT, OFFSET, BLOCK_V, BLOCK_RIGHT
        )  # [V, RIGHT]
        total = tl.dot(left.trans(), right, input_precision=PRECISION)
    else:
        total = tl.zeros([BLOCK_LEFT, BLOCK_RIGHT], tl.float32)
        for row in range(0, ROWS, BLOCK_V):
            a = load_rows(
                left_source, batch, row, first_left, lefts, ROWS, VALUE_CHANNELS, LEFT_UNIT, OFFSET, BLOCK_V, BLOCK_LEFT
            )  # [V, LEFT]
            b = load_rows(
                right_source, batch, row, first_right, rights,
                ROWS, VALUE_CHANNELS, RIGHT_UNIT, OFFSET, BLOCK_V, BLOCK_RIGHT,
            )  # [V, RIGHT]  # fmt: skip
            total = tl.dot(a.trans(), b, total, input_precision=PRECISION)
    return total


@triton.jit
def finite(level):
    """A maximum or lse to subtract from scores: 0 for −inf, where there is nothing to subtract from."""
    return tl.where(level == float("-inf"), 0.0, level)


@triton.jit
def weights_from(score, lse, batch, m, queries):
    """Softmax weights from scores in units of log 2; zeros beyond the last query and for queries without tokens.

    Args:
        score: `[M, N]`, or `[N, M]`.
        lse: of the read `(B, queries)`.
        batch: its number, 64-bit.
        m: numbers of the queries `[M, 1]`, or `[1, M]`.
        queries: how many there are.
    """
    level = finite(tl.load(lse + batch * queries + m, mask=m < queries, other=float("inf")))
    return tl.exp2(score - level * LOG2_E)
