// Scores of tiles of 64 queries x 32 tokens, and the softmax over them: what the reads have in common.
#pragma once

#include "cuda/fragments.h"
#include "cuda/tile.h"

namespace stm::cuda {

constexpr float kLog2E = 1.4426950408889634f;
constexpr float kLn2 = 0.6931471805599453f;
constexpr float kMinusInfinity = -__builtin_huge_valf();

// The tiles [begin, end) of a split of the memory. Splits are equally long but for the last ones, which may be empty.
struct TileRange {
  int64_t begin;
  int64_t end;

  STM_DEVICE TileRange(int64_t items, int tile, int splits, int split) {
    const int64_t tiles = (items + tile - 1) / tile;
    const int64_t tiles_per_split = (tiles + splits - 1) / splits;
    begin = split * tiles_per_split;
    end = begin + tiles_per_split < tiles ? begin + tiles_per_split : tiles;
  }
};

// The part of a tile of 64 rows that a warp computes: 16 rows and half of the columns, in kBlocks blocks of 8 columns.
// A lane holds sum[block][2 * r + i] of row(r) and column(block, i), r and i in 0..1.
template <int kBlocks>
struct WarpTile {
  int band = simt::warp() / 2 * 16;
  int half = simt::warp() % 2;
  int lane_row = simt::lane() / 4;
  int lane_column = simt::lane() % 4 * 2;

  STM_DEVICE int row(int r) const { return band + lane_row + r * 8; }
  STM_DEVICE int first_column() const { return half * kBlocks * 8; }
  STM_DEVICE int column(int block, int i) const { return first_column() + block * 8 + lane_column + i; }
};

// Adds the products of two tiles, `rows[k * row_stride + row]` and `columns[k * column_stride + column]`, over `depth`
// k's, a multiple of 16.
template <class T, int kBlocks>
STM_DEVICE void add_products(float (&sum)[kBlocks][4], const WarpTile<kBlocks>& warp, const T* rows, int row_stride,
                             const T* columns, int column_stride, int depth) {
  using Operands = Fragments<T>;
  for (int k = 0; k < depth; k += 16) {
    const auto a = Operands::a_transposed(rows + k * row_stride + warp.band, row_stride);
    STM_UNROLL
    for (int block = 0; block < kBlocks; block += 2) {
      typename Operands::B b[2];
      Operands::b_transposed(b, columns + k * column_stride + warp.first_column() + block * 8, column_stride);
      STM_UNROLL
      for (int j = 0; j < 2; ++j) Operands::multiply(sum[block + j], a, b[j]);
    }
  }
}

// The products of 64 queries with tiles of 32 tokens, one tile after another. Their channels pass through shared
// memory, all at once, or where that is too much in chunks of `depth`, the queries' again with every tile. While a
// chunk is computed the next is copied.
template <class Key>
struct ScoreStream {
  static constexpr int kStages = 2;
  static constexpr int kQueryStride = stride_of<Key>(kScoreQueries);
  static constexpr int kTokenStride = stride_of<Key>(kScoreTokens);

  Channels<Key> query;
  Channels<Key> key;
  int64_t first_query;
  int depth;
  int chunks;
  Key* query_chunks;
  Key* key_chunks;
  // The chunk that is computed next, counted from 0 over all tiles; -1 before the first is asked for.
  int step = -1;

  // Shared memory of so many channels, a multiple of 16.
  static constexpr std::size_t bytes(int channels, int depth) {
    const int query_stages = depth < channels ? kStages : 1;
    return sizeof(Key) * static_cast<std::size_t>(depth) * (query_stages * kQueryStride + kStages * kTokenStride);
  }

  STM_DEVICE ScoreStream(char* memory, const Scores& scores, const Sizes& sizes, int64_t batch, int64_t query_begin,
                         int depth_of_chunks, CopyWidth query_width, CopyWidth key_width)
      : query(channels_of<Key>(scores.query, batch, static_cast<int>(sizes.key_channels), sizes.queries, query_width)),
        key(channels_of<Key>(scores.key, batch, static_cast<int>(sizes.key_channels), sizes.tokens, key_width)),
        first_query(query_begin),
        depth(depth_of_chunks),
        chunks(round_up(sizes.key_channels, depth) / depth),
        query_chunks(reinterpret_cast<Key*>(memory)),
        key_chunks(query_chunks + (chunks > 1 ? kStages : 1) * depth * kQueryStride) {}

  // Shared memory behind that of the stream.
  STM_DEVICE char* end() const { return reinterpret_cast<char*>(query_chunks) + bytes(chunks * depth, depth); }

  // Adds the products of a tile to `sum`. `prefetch_more(tile)` copies what else belongs to the tile that is asked for;
  // tiles from `end_tile` on are not.
  template <class PrefetchMore>
  STM_DEVICE void add_tile(float (&sum)[2][4], const WarpTile<2>& warp, int64_t tile, int64_t end_tile,
                           PrefetchMore prefetch_more) {
    // Before the first chunk comes a step that only asks for it.
    STM_ROLLED
    for (int chunk = step < 0 ? -1 : 0; chunk < chunks; ++chunk, ++step) {
      if (step >= 0) {
        simt::wait_copies<0>();
        simt::sync_block();
      }
      const bool last = chunk + 1 == chunks;
      const int64_t next_tile = last ? tile + 1 : tile;
      const int next_chunk = last ? 0 : chunk + 1;
      if (next_tile < end_tile) {
        prefetch(next_tile, next_chunk, step + 1);
        if (next_chunk == 0) prefetch_more(next_tile);
      }
      simt::commit_copies();
      if (step >= 0) add_chunk(sum, warp);
    }
  }

 private:
  STM_DEVICE void prefetch(int64_t tile, int chunk, int its_step) const {
    const int stage = its_step % kStages * depth, channel = chunk * depth;
    load_tile<kScoreTokens>(key_chunks + stage * kTokenStride, key, channel, depth, tile * kScoreTokens);
    if (chunks > 1 || its_step == 0)
      load_tile<kScoreQueries>(query_chunks + (chunks > 1 ? stage : 0) * kQueryStride, query, channel, depth,
                               first_query);
  }

  STM_DEVICE void add_chunk(float (&sum)[2][4], const WarpTile<2>& warp) const {
    const int stage = step % kStages * depth;
    add_products(sum, warp, query_chunks + (chunks > 1 ? stage : 0) * kQueryStride, kQueryStride,
                 key_chunks + stage * kTokenStride, kTokenStride, depth);
  }
};

// From products to scores, in units of log 2, for one batch.
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

  // A query's offset; 0 beyond the last query.
  STM_DEVICE float offset_of(int64_t query) const { return offset && query < queries ? offset[query] * kLog2E : 0; }

  // What gain multiplies.
  STM_DEVICE float before_gain(float product, float query_offset) const { return product * scale + query_offset; }

  // The score of token `first + index`; -inf if there are only `count` tokens from `first` on.
  STM_DEVICE float score(float before_gain, int64_t first, int index, int count) const {
    if (index >= count) return kMinusInfinity;
    const float scaled = gain ? before_gain * gain[first + index] : before_gain;
    return bias ? scaled + bias[first + index] * kLog2E : scaled;
  }
};

// The softmax of one query over the scores it has met, in units of log 2: weights are exp2(score - origin()).
struct SoftmaxState {
  float running_max = kMinusInfinity;
  float running_sum = 0;

  // The running maximum, or 0 where all scores are -inf.
  STM_DEVICE float origin() const { return running_max == kMinusInfinity ? 0 : running_max; }
  STM_DEVICE float lse() const { return (origin() + simt::log2(running_sum)) * kLn2; }
  // What turns the sum of weighted values into a readout: zeros where there is no weight.
  STM_DEVICE float normalizer() const { return running_sum == 0 ? 1 : 1 / running_sum; }
};

}  // namespace stm::cuda
