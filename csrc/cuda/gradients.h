// Gradients of the dense read, and usage: all that a second pass over the scores can tell, from lse.
//
// A block owns 64 queries, or 64 tokens, and goes over the others in tiles of 64, so that each number is summed by one
// block in one order. For a tile it computes scores, for slopes also the products of grad_out and value, and multiplies
// what comes of them with the rows of the other side. All rows pass by in chunks, through one ring of stages in shared
// memory.
#pragma once

#include <type_traits>

#include "cuda/scores.h"
#include "cuda/tile.h"

namespace stm::cuda {

enum class Side {
  kQuery,  // gradients of queries and offsets
  kKey,    // gradients of keys, gains and biases
  kValue,  // gradients of values
  kUsage,  // softmax weights of each token, summed over queries
};

constexpr int kSideTile = 64;
constexpr int kRing = 3;

// Rows of a chunk.
template <class T>
constexpr int kDepth = 128 / static_cast<int>(sizeof(T));

struct GradientArguments {
  Sizes sizes;
  Scores scores;
  ObjectMatrix value;
  ObjectMatrix grad_out;
  // (batches, queries), dense, as delta is.
  const float* lse = nullptr;
  // Sum of grad_out times out over the rows, minus grad_lse; of slopes only.
  const float* delta = nullptr;
  // Gradients, for each part `out_part_stride` numbers apart; those of keys and queries as of one object.
  ObjectMatrix out;
  int64_t out_part_stride = 0;
  // Sums of slopes of each row: gradients of offset or bias, or usage; absent if not wanted.
  Vector sums;
  int64_t sums_part_stride = 0;
  Vector gain_grad;
  int parts = 1;
  Unit query_unit;
  Unit key_unit;
  Unit value_unit;
  Unit grad_unit;
};

template <class Key, class Value, Side kSide>
struct GradientTraits {
  static constexpr bool kOwnsQueries = kSide == Side::kQuery;
  static constexpr bool kSlopes = kSide == Side::kQuery || kSide == Side::kKey;
  // Whether sums over a row's weights or slopes may be wanted.
  static constexpr bool kSums = kSide != Side::kValue;
  // What weights or slopes are multiplied with, and rounded to.
  using Operand = std::conditional_t<kSide == Side::kValue, Value, Key>;
  // Chunks of rows whose gradients a block holds in registers.
  static constexpr int kChunks = kSide == Side::kUsage ? 0 : kSide == Side::kValue ? 8 : 128 / kDepth<Operand>;
  static constexpr int kRows = kChunks * kDepth<Operand>;

  template <class T>
  static constexpr int chunk_bytes = 2 * kDepth<T> * stride_of<T>(kSideTile) * static_cast<int>(sizeof(T));
  static constexpr int kStageBytes = chunk_bytes<Key> > chunk_bytes<Value> ? chunk_bytes<Key> : chunk_bytes<Value>;
  static constexpr int kOperandStride = stride_of<Operand>(kSideTile);
  static constexpr std::size_t kSharedBytes =
      kRing * kStageBytes + kSideTile * kOperandStride * sizeof(Operand) + 4 * kSideTile * sizeof(float);
};

// Adds the products of a 64 x 64 operand, row by row, with a chunk of rows: 16 rows of the operand x half of the chunk.
template <class T, int kParts>
STM_DEVICE void add_chunk(float (&sum)[kParts][4], const T* operand, const T* chunk) {
  using Operands = Fragments<T>;
  constexpr int kStride = stride_of<T>(kSideTile);
  const Piece<kParts> piece;
  STM_UNROLL
  for (int k = 0; k < kSideTile; k += 16) {
    const auto a = Operands::a(operand + piece.band * kStride + k, kStride);
    STM_UNROLL
    for (int part = 0; part < kParts; part += 2) {
      typename Operands::B b[2];
      Operands::b(b, chunk + (piece.first_column() + part * 8) * kStride + k, kStride);
      STM_UNROLL
      for (int j = 0; j < 2; ++j) Operands::multiply(sum[part + j], a, b[j]);
    }
  }
}

// Adds the products of the two sides' rows of a chunk.
template <class T>
STM_DEVICE void add_pair(float (&sum)[4][4], const Piece<4>& piece, const char* chunk) {
  constexpr int kStride = stride_of<T>(kSideTile);
  const T* const own = reinterpret_cast<const T*>(chunk);
  add_products(sum, piece, own, kStride, own + kDepth<T> * kStride, kStride, kDepth<T>);
}

template <class Key, class Value, Side kSide>
STM_KERNEL void gradient_kernel(const GradientArguments arguments) {
  using Traits = GradientTraits<Key, Value, kSide>;
  using Operand = typename Traits::Operand;
  constexpr bool kOwnsQueries = Traits::kOwnsQueries;
  constexpr int kChunkParts = kDepth<Operand> / 16;

  const Sizes& sizes = arguments.sizes;
  const int64_t own_items = kOwnsQueries ? sizes.queries : sizes.tokens;
  const int64_t other_items = kOwnsQueries ? sizes.tokens : sizes.queries;
  const int own_tiles = whole(own_items, kSideTile) / kSideTile;
  const int64_t own = static_cast<int64_t>(simt::block_x() % own_tiles) * kSideTile;
  const int part = simt::block_x() / own_tiles;
  const int first_row = simt::block_y() * Traits::kRows;
  const int64_t batch = simt::block_z();
  const int64_t tiles = (other_items + kSideTile - 1) / kSideTile;
  const int64_t tiles_a_part = (tiles + arguments.parts - 1) / arguments.parts;
  const int64_t first = part * tiles_a_part;
  const int64_t end = first + tiles_a_part < tiles ? first + tiles_a_part : tiles;

  const Affine affine(arguments.scores, sizes, batch);
  const int channels = static_cast<int>(sizes.key_channels), rows = static_cast<int>(sizes.rows());
  const int object_channels = static_cast<int>(sizes.value_channels);
  const auto query = rows_of<Key>(arguments.scores.query, batch, channels, sizes.queries, arguments.query_unit);
  const auto key = rows_of<Key>(arguments.scores.key, batch, channels, sizes.tokens, arguments.key_unit);
  const auto value = rows_of<Value>(arguments.value, batch, object_channels, rows, sizes.tokens, arguments.value_unit);
  const auto grad =
      rows_of<Value>(arguments.grad_out, batch, object_channels, rows, sizes.queries, arguments.grad_unit);
  const Rows<Operand> factor = [&] {
    if constexpr (kSide == Side::kValue) {
      return grad;
    } else {
      return kOwnsQueries ? key : query;
    }
  }();
  const float* lse = arguments.lse + batch * sizes.queries;
  [[maybe_unused]] const float* delta = Traits::kSlopes ? arguments.delta + batch * sizes.queries : nullptr;

  char* const ring = simt::shared_memory();
  auto* const operand = reinterpret_cast<Operand*>(ring + kRing * Traits::kStageBytes);
  [[maybe_unused]] auto* const row_sums = reinterpret_cast<float*>(operand + kSideTile * Traits::kOperandStride);

  const int key_steps = whole(channels, kDepth<Key>) / kDepth<Key>;
  const int value_steps = Traits::kSlopes ? whole(rows, kDepth<Value>) / kDepth<Value> : 0;
  const int left = whole(factor.count - first_row, kDepth<Operand>) / kDepth<Operand>;
  const int factor_steps = left < Traits::kChunks ? left : Traits::kChunks;
  const int steps = key_steps + value_steps + factor_steps;

  // The step that is fetched next, `kRing` - 1 ahead of the one that is computed.
  int64_t ahead_tile = first;
  int ahead_step = 0, ahead_stage = 0;
  const auto fetch = [&] {
    char* const stage = ring + ahead_stage * Traits::kStageBytes;
    const int64_t other = ahead_tile * kSideTile;
    if (ahead_tile < end) {
      if (ahead_step < key_steps) {
        Key* const chunk = reinterpret_cast<Key*>(stage);
        const int row = ahead_step * kDepth<Key>;
        load_tile<kSideTile>(chunk, kOwnsQueries ? query : key, row, kDepth<Key>, own);
        load_tile<kSideTile>(chunk + kDepth<Key> * stride_of<Key>(kSideTile), kOwnsQueries ? key : query, row,
                             kDepth<Key>, other);
      } else if (ahead_step < key_steps + value_steps) {
        Value* const chunk = reinterpret_cast<Value*>(stage);
        const int row = (ahead_step - key_steps) * kDepth<Value>;
        load_tile<kSideTile>(chunk, kOwnsQueries ? grad : value, row, kDepth<Value>, own);
        load_tile<kSideTile>(chunk + kDepth<Value> * stride_of<Value>(kSideTile), kOwnsQueries ? value : grad, row,
                             kDepth<Value>, other);
      } else {
        const int row = first_row + (ahead_step - key_steps - value_steps) * kDepth<Operand>;
        load_tile<kSideTile>(reinterpret_cast<Operand*>(stage), factor, row, kDepth<Operand>, other);
      }
    }
    simt::commit_copies();
    ahead_stage = (ahead_stage + 1) % kRing;
    if (++ahead_step == steps) ahead_step = 0, ++ahead_tile;
  };
  int stage = 0;
  const auto next = [&] {
    simt::wait_copies<kRing - 2>();
    simt::sync_block();
    fetch();
    const char* const chunk = ring + stage * Traits::kStageBytes;
    stage = (stage + 1) % kRing;
    return chunk;
  };

  const Piece<4> piece;
  [[maybe_unused]] float sum[2] = {}, gain_sum[2] = {};
  [[maybe_unused]] float result[Traits::kChunks ? Traits::kChunks : 1][kChunkParts][4] = {};

  // What is known of a query, in units of log 2: its level is that of its softmax.
  struct Query {
    float offset, level, delta;
  };
  const auto query_of = [&](int64_t first_query, int index, int left) {
    if (index >= left) return Query{};
    const int64_t place = first_query + index;
    const float offset = affine.offset ? affine.offset[place] * kLog2E : 0;
    return Query{offset, lse[place] != kNothing ? lse[place] * kLog2E : 0, Traits::kSlopes ? delta[place] : 0};
  };
  [[maybe_unused]] Query own_query[2];
  if constexpr (kOwnsQueries) {
    const int left = left_of(sizes.queries, own, kSideTile);
    STM_UNROLL
    for (int r = 0; r < 2; ++r) own_query[r] = query_of(own, piece.row(r), left);
  }

  // Scores of a tile become weights or slopes, and go to shared memory.
  const auto weigh = [&](int64_t tile, float (&score)[4][4], const float (&slope)[4][4]) {
    const int64_t other = tile * kSideTile;
    const int64_t first_query = kOwnsQueries ? own : other, first_token = kOwnsQueries ? other : own;
    const int queries = left_of(sizes.queries, first_query, kSideTile);
    const int tokens = left_of(sizes.tokens, first_token, kSideTile);
    STM_UNROLL
    for (int j = 0; j < 16; ++j) {
      const int r = j / 2 % 2, column = piece.column(j / 4, j % 2);
      const int i = kOwnsQueries ? piece.row(r) : column, token = kOwnsQueries ? column : piece.row(r);
      float& x = score[j / 4][j % 4];
      const Query its = kOwnsQueries ? own_query[r] : query_of(first_query, i, queries);
      const float raw = affine.raw(x, its.offset);
      x = i < queries ? simt::exp2(affine.score(raw, first_token, token, tokens) - its.level) : 0;
      if constexpr (Traits::kSlopes) {
        x *= i < queries ? slope[j / 4][j % 4] - its.delta : 0;
        if constexpr (kOwnsQueries) {
          if (affine.gain && token < tokens) x *= affine.gain[first_token + token];
        } else {
          gain_sum[r] += x * raw;
        }
      }
      if constexpr (Traits::kSums) sum[r] += x;
    }
    if constexpr (kSide != Side::kUsage) {
      STM_UNROLL
      for (int j = 0; j < 8; ++j)
        put_pair(operand + piece.row(j % 2) * Traits::kOperandStride + piece.column(j / 2, 0), score[j / 2][j % 2 * 2],
                 score[j / 2][j % 2 * 2 + 1]);
    }
  };

  STM_ROLLED
  for (int step = 1; step < kRing; ++step) fetch();
  for (int64_t tile = first; tile < end; ++tile) {
    float score[4][4] = {}, slope[4][4] = {};
    STM_ROLLED
    for (int step = 0; step < steps; ++step) {
      const char* const chunk = next();
      if (step < key_steps) {
        add_pair<Key>(score, piece, chunk);
      } else if (step < key_steps + value_steps) {
        add_pair<Value>(slope, piece, chunk);
      }
      if (step + 1 == key_steps + value_steps) weigh(tile, score, slope);
      if constexpr (kSide != Side::kUsage) {
        STM_UNROLL
        for (int factor_step = 0; factor_step < Traits::kChunks; ++factor_step)
          if (step == key_steps + value_steps + factor_step)
            add_chunk(result[factor_step], operand, reinterpret_cast<const Operand*>(chunk));
      }
    }
  }

  if constexpr (Traits::kSums) {
    STM_UNROLL
    for (int r = 0; r < 2; ++r) {
      STM_UNROLL
      for (int mask = 1; mask <= 2; mask *= 2) {
        sum[r] += simt::shuffle_xor(sum[r], mask);
        gain_sum[r] += simt::shuffle_xor(gain_sum[r], mask);
      }
      if (simt::lane() % 4 == 0) {
        row_sums[piece.half * kSideTile + piece.row(r)] = sum[r];
        row_sums[(2 + piece.half) * kSideTile + piece.row(r)] = gain_sum[r];
      }
    }
    simt::sync_block();
    const int64_t item = own + simt::thread();
    if (simt::block_y() == 0 && simt::thread() < kSideTile && item < own_items) {
      const float* from = row_sums + simt::thread();
      const auto put = [&](const Vector& to, int64_t part_stride, float x) {
        if (to) to.data[part * part_stride + batch * to.batch_stride + item * to.stride] = x;
      };
      put(arguments.sums, arguments.sums_part_stride, from[0] + from[kSideTile]);
      put(arguments.gain_grad, 0, (from[2 * kSideTile] + from[3 * kSideTile]) * kLn2);
    }
  }
  if constexpr (kSide != Side::kUsage) {
    if (!arguments.out) return;
    const Piece<kChunkParts> within;
    const int64_t begin = part * arguments.out_part_stride + batch * arguments.out.batch_stride +
                          (own + within.row(0)) * arguments.out.column_stride;
    const RowStrides strides =
        strides_of(arguments.out, kSide == Side::kValue ? object_channels : channels, factor.count);
    const int mine = left_of(own_items, own + within.row(0), kSideTile);
    float scale[2] = {1, 1};
    if constexpr (kSide != Side::kValue) {
      STM_UNROLL
      for (int r = 0; r < 2; ++r) {
        scale[r] = arguments.scores.scale;
        if (kSide == Side::kKey && affine.gain && r * 8 < mine) scale[r] *= affine.gain[own + within.row(r)];
      }
    }
    const auto put = [&]<class Out>() {
      Out* const out = static_cast<Out*>(arguments.out.data) + begin;
      STM_UNROLL
      for (int chunk = 0; chunk < Traits::kChunks; ++chunk) {
        STM_UNROLL
        for (int j = 0; j < 2 * kChunkParts; ++j) {
          const int row = first_row + chunk * kDepth<Operand> + within.column(j / 2, j % 2);
          if (row >= factor.count) continue;
          Out* const at = out + strides.at(row).offset;
          STM_UNROLL
          for (int r = 0; r < 2; ++r)
            if (r * 8 < mine)
              at[r * 8 * arguments.out.column_stride] =
                  simt::narrow<Out>(result[chunk][j / 2][2 * r + j % 2] * scale[r]);
        }
      }
    };
    // Of the operand's dtype, or float32 if there are several parts; of any if the operand may have been widened.
    if constexpr (std::is_same_v<Operand, float>) {
      with_numbers_of(arguments.out.dtype, put);
    } else if (arguments.out.dtype == kDtypeOf<Operand>) {
      put.template operator()<Operand>();
    } else {
      put.template operator()<float>();
    }
  }
}

struct DeltaArguments {
  Sizes sizes;
  ObjectMatrix out;
  ObjectMatrix grad_out;
  Vector grad_lse;
  float* delta = nullptr;
};

// delta `(batches, queries)`: a lane has a query, a warp every eighth row.
template <class Value>
STM_KERNEL void delta_kernel(const DeltaArguments arguments) {
  const Sizes& sizes = arguments.sizes;
  float* const sums = reinterpret_cast<float*>(simt::shared_memory());
  const int64_t query = static_cast<int64_t>(simt::block_x()) * 32 + simt::lane(), batch = simt::block_z();
  const int channels = static_cast<int>(sizes.value_channels), rows = static_cast<int>(sizes.rows());
  const Value* out = static_cast<const Value*>(arguments.out.data) + batch * arguments.out.batch_stride;
  const Value* grad = static_cast<const Value*>(arguments.grad_out.data) + batch * arguments.grad_out.batch_stride;
  float sum = 0;
  if (query < sizes.queries && simt::warp() < rows) {
    const RowStrides of_out = strides_of(arguments.out, channels, rows);
    const RowStrides of_grad = strides_of(arguments.grad_out, channels, rows);
    RowStrides::Place out_place = of_out.at(simt::warp()), grad_place = of_grad.at(simt::warp());
    out += query * arguments.out.column_stride;
    grad += query * arguments.grad_out.column_stride;
    for (int row = simt::warp(); row < rows; row += kWarps) {
      sum += simt::widen(out[out_place.offset]) * simt::widen(grad[grad_place.offset]);
      of_out.advance(out_place, kWarps);
      of_grad.advance(grad_place, kWarps);
    }
  }
  sums[simt::thread()] = sum;
  simt::sync_block();
  if (simt::warp() != 0 || query >= sizes.queries) return;
  const Vector& grad_lse = arguments.grad_lse;
  float total = grad_lse ? -grad_lse.data[batch * grad_lse.batch_stride + query * grad_lse.stride] : 0;
  for (int warp = 0; warp < kWarps; ++warp) total += sums[warp * 32 + simt::lane()];
  arguments.delta[batch * sizes.queries + query] = total;
}

struct SumArguments {
  // (batches, parts, rows, columns), dense.
  const float* parts_data = nullptr;
  int parts = 1;
  int channels = 1;
  int64_t columns = 0;
  ObjectMatrix out;
};

// Sums of parts, a number a thread.
STM_KERNEL void sum_kernel(const SumArguments arguments) {
  const int64_t column = static_cast<int64_t>(simt::block_x()) * kThreads + simt::thread(), batch = simt::block_z();
  const int row = simt::block_y();
  if (column >= arguments.columns) return;
  const float* from = arguments.parts_data + (batch * arguments.parts * arguments.channels + row) * arguments.columns;
  float total = 0;
  for (int part = 0; part < arguments.parts; ++part)
    total += from[part * arguments.channels * arguments.columns + column];
  const RowStrides strides = strides_of(arguments.out, arguments.channels, arguments.channels);
  store(arguments.out,
        batch * arguments.out.batch_stride + strides.at(row).offset + column * arguments.out.column_stride, total);
}

}  // namespace stm::cuda
