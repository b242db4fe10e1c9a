// Scores of tiles: what all kernels have in common.
#pragma once

#include "cuda/fragments.h"
#include "cuda/tile.h"

namespace stm::cuda {

constexpr float kLog2E = 1.4426950408889634f;
constexpr float kLn2 = 0.6931471805599453f;
constexpr float kNothing = -__builtin_huge_valf();

// The part of a tile of 64 rows that a warp computes: 16 rows and half of the columns, in kParts blocks of 8 columns. A
// lane holds sum[part][2 * r + i] of row(r) and column(part, i), r and i in 0..1.
template <int kParts>
struct Piece {
  int band = simt::warp() / 2 * 16;
  int half = simt::warp() % 2;
  int lane_row = simt::lane() / 4;
  int lane_column = simt::lane() % 4 * 2;

  STM_DEVICE int row(int r) const { return band + lane_row + r * 8; }
  STM_DEVICE int first_column() const { return half * kParts * 8; }
  STM_DEVICE int column(int part, int i) const { return first_column() + part * 8 + lane_column + i; }
};

// Adds the products of the rows of two tiles, `rows[k * row_stride + row]` and `columns[k * column_stride + column]`,
// over `depth` k's, a multiple of 16.
template <class T, int kParts>
STM_DEVICE void add_products(float (&sum)[kParts][4], const Piece<kParts>& piece, const T* rows, int row_stride,
                             const T* columns, int column_stride, int depth) {
  using Operands = Fragments<T>;
  for (int k = 0; k < depth; k += 16) {
    const auto a = Operands::a_transposed(rows + k * row_stride + piece.band, row_stride);
    STM_UNROLL
    for (int part = 0; part < kParts; part += 2) {
      typename Operands::B b[2];
      Operands::b_transposed(b, columns + k * column_stride + piece.first_column() + part * 8, column_stride);
      STM_UNROLL
      for (int j = 0; j < 2; ++j) Operands::multiply(sum[part + j], a, b[j]);
    }
  }
}

// 64 queries, and tiles of 32 tokens one after another, as their channels pass through shared memory: all of them at
// once, or where that is too much in chunks of `depth`, the queries' again with every tile. Chunk by chunk, the next is
// copied while one is computed.
template <class Key>
struct ScoreStream {
  static constexpr int kQueries = 64;
  static constexpr int kTokens = 32;
  static constexpr int kStages = 2;
  static constexpr int kQueryStride = stride_of<Key>(kQueries);
  static constexpr int kTokenStride = stride_of<Key>(kTokens);

  Rows<Key> query;
  Rows<Key> key;
  int64_t first_query;
  int depth;
  int chunks;
  Key* query_chunks;
  Key* key_chunks;

  // Shared memory of so many channels, a multiple of 16.
  static constexpr std::size_t bytes(int channels, int depth) {
    const int query_stages = depth < channels ? kStages : 1;
    return sizeof(Key) * static_cast<std::size_t>(depth) * (query_stages * kQueryStride + kStages * kTokenStride);
  }

  STM_DEVICE ScoreStream(char* memory, const Scores& scores, const Sizes& sizes, int64_t batch, int64_t query_begin,
                         int depth_of_chunks, Unit query_unit, Unit key_unit)
      : query(rows_of<Key>(scores.query, batch, static_cast<int>(sizes.key_channels), sizes.queries, query_unit)),
        key(rows_of<Key>(scores.key, batch, static_cast<int>(sizes.key_channels), sizes.tokens, key_unit)),
        first_query(query_begin),
        depth(depth_of_chunks),
        chunks(whole(sizes.key_channels, depth) / depth),
        query_chunks(reinterpret_cast<Key*>(memory)),
        key_chunks(query_chunks + (chunks > 1 ? kStages : 1) * depth * kQueryStride) {}

  // Asks for a chunk of a tile of tokens; `step` counts chunks from 0.
  STM_DEVICE void fetch(int64_t tile, int chunk, int step) const {
    const int stage = step % kStages * depth, row = chunk * depth;
    load_tile<kTokens>(key_chunks + stage * kTokenStride, key, row, depth, tile * kTokens);
    if (chunks > 1 || step == 0)
      load_tile<kQueries>(query_chunks + (chunks > 1 ? stage : 0) * kQueryStride, query, row, depth, first_query);
  }

  // Adds what a chunk gives to the scores.
  STM_DEVICE void add(float (&score)[2][4], const Piece<2>& piece, int step) const {
    const int stage = step % kStages * depth;
    add_products(score, piece, query_chunks + (chunks > 1 ? stage : 0) * kQueryStride, kQueryStride,
                 key_chunks + stage * kTokenStride, kTokenStride, depth);
  }
};

// The vectors of one batch's scores.
struct Affine {
  Vector gain;
  Vector offset;
  Vector bias;
  float scale;
  int64_t queries;
  int64_t tokens;

  STM_DEVICE Affine(const Scores& scores, const Sizes& sizes, int64_t batch)
      : gain(scores.gain.batch(batch)),
        offset(scores.offset.batch(batch)),
        bias(scores.bias.batch(batch)),
        scale(scores.scale * kLog2E),
        queries(sizes.queries),
        tokens(sizes.tokens) {}

  // A query's offset, in units of log 2; 0 beyond the last query.
  STM_DEVICE float offset_of(int64_t query) const { return offset && query < queries ? offset[query] * kLog2E : 0; }

  // What gain multiplies, in units of log 2, of a product.
  STM_DEVICE float raw(float product, float query_offset) const { return product * scale + query_offset; }

  // A score in units of log 2, of the token `index` places behind `first`; -inf if no more than `index` are left there.
  STM_DEVICE float score(float raw, int64_t first, int index, int left) const {
    if (index >= left) return kNothing;
    const float scaled = gain ? raw * gain[first + index] : raw;
    return bias ? scaled + bias[first + index] * kLog2E : scaled;
  }
};

}  // namespace stm::cuda
