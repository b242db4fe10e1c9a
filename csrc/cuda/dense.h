// The dense read: a softmax over all memory tokens, split over blocks, and the exact merge of the parts.
//
// A block reads one part of the memory for 64 queries and all rows of the values, or a slice of 512 or 256 of them.
// Eight warps share the work twice over: of the scores of a tile of 32 tokens each makes 16 queries x 16 tokens; of the
// readout each holds a stripe of rows for all queries, in registers. Between the two the weights pass through shared
// memory.
#pragma once

#include "cuda/scores.h"
#include "cuda/tile.h"

namespace stm::cuda {

constexpr int kQueryTile = ScoreStream<float>::kQueries;
constexpr int kTokenTile = ScoreStream<float>::kTokens;
constexpr int kStages = 2;

// The running maximum follows the scores once they pass it by a factor of 2^8: until then weights above one are as
// exact as those below, and the readout need not be rescaled.
constexpr float kRescaleAt = 8;

struct DenseArguments {
  Sizes sizes;
  Scores scores;
  ObjectMatrix value;
  // For each part, `out_part_stride` and `lse_part_stride` numbers apart: float32 if there are several parts.
  ObjectMatrix out;
  Vector lse;
  int64_t out_part_stride = 0;
  int64_t lse_part_stride = 0;
  int parts = 1;
  // Channels of a chunk of keys, a multiple of 16.
  int depth = 0;
  Unit query_unit;
  Unit key_unit;
  Unit value_unit;
};

// A block's shared memory, behind that of its ScoreStream.
template <class Key, class Value, int kRows>
struct DenseMemory {
  Value* value;
  Value* weights;
  // Best scores and sums of weights of each query, from either half of a tile's tokens.
  float* best;
  float* total;
  float* decay;

  static constexpr int kValueStride = stride_of<Value>(kTokenTile);

  static constexpr std::size_t bytes(int channels, int depth) {
    return ScoreStream<Key>::bytes(channels, depth) + sizeof(Value) * kValueStride * (kStages * kRows + kQueryTile) +
           sizeof(float) * 5 * kQueryTile;
  }

  STM_DEVICE explicit DenseMemory(char* memory) {
    value = reinterpret_cast<Value*>(memory);
    weights = value + kStages * kRows * kValueStride;
    best = reinterpret_cast<float*>(weights + kQueryTile * kValueStride);
    total = best + 2 * kQueryTile;
    decay = total + 2 * kQueryTile;
  }

  STM_DEVICE Value* value_stage(int stage) const { return value + stage * kRows * kValueStride; }
};

// Adds weights times values to a warp's readout: 64 queries x its stripe of kColumns blocks of 8 rows.
template <class Value, int kColumns>
STM_DEVICE void add_readout(float (&readout)[kQueryTile / 16][kColumns][4], const Value* weights, const Value* values) {
  using Operands = Fragments<Value>;
  constexpr int kStride = stride_of<Value>(kTokenTile);
  STM_UNROLL
  for (int k = 0; k < kTokenTile; k += 16) {
    typename Operands::A a[kQueryTile / 16];
    STM_UNROLL
    for (int m = 0; m < kQueryTile / 16; ++m) a[m] = Operands::a(weights + m * 16 * kStride + k, kStride);
    STM_UNROLL
    for (int column = 0; column < kColumns; column += 2) {
      typename Operands::B b[2];
      Operands::b(b, values + column * 8 * kStride + k, kStride);
      STM_UNROLL
      for (int m = 0; m < kQueryTile / 16; ++m) {
        STM_UNROLL
        for (int j = 0; j < 2; ++j) Operands::multiply(readout[m][column + j], a[m], b[j]);
      }
    }
  }
}

template <class Key, class Value, int kRows>
STM_KERNEL void dense_kernel(const DenseArguments arguments) {
  using Memory = DenseMemory<Key, Value, kRows>;
  constexpr int kMine = kRows / kWarps;
  constexpr int kColumns = kMine / 8;
  static_assert(kMine % 16 == 0);

  const Sizes& sizes = arguments.sizes;
  const int query_tiles = whole(sizes.queries, kQueryTile) / kQueryTile;
  const int64_t first_query = static_cast<int64_t>(simt::block_x() % query_tiles) * kQueryTile;
  const int part = simt::block_x() / query_tiles;
  const int first_row = simt::block_y() * kRows;
  const int64_t batch = simt::block_z();
  const int64_t tiles = (sizes.tokens + kTokenTile - 1) / kTokenTile;
  const int64_t tiles_a_part = (tiles + arguments.parts - 1) / arguments.parts;
  const int64_t first = part * tiles_a_part;
  const int64_t end = first + tiles_a_part < tiles ? first + tiles_a_part : tiles;

  const Affine affine(arguments.scores, sizes, batch);
  char* const shared = simt::shared_memory();
  const ScoreStream<Key> stream(shared, arguments.scores, sizes, batch, first_query, arguments.depth,
                                arguments.query_unit, arguments.key_unit);
  const Memory memory(shared + stream.bytes(stream.chunks * stream.depth, stream.depth));
  const int rows = static_cast<int>(sizes.rows());
  const auto value = rows_of<Value>(arguments.value, batch, static_cast<int>(sizes.value_channels), rows, sizes.tokens,
                                    arguments.value_unit);
  const auto fetch = [&](int64_t tile, int chunk, int step) {
    if (tile < end) {
      stream.fetch(tile, chunk, step);
      if (chunk == 0)
        load_tile<kTokenTile>(memory.value_stage(static_cast<int>((tile - first) % kStages)), value, first_row, kRows,
                              tile * kTokenTile);
    }
    simt::commit_copies();
  };

  const Piece<2> piece;
  const int stripe = simt::warp() * kMine;
  const float offset[2] = {affine.offset_of(first_query + piece.row(0)), affine.offset_of(first_query + piece.row(1))};
  float top[2] = {kNothing, kNothing}, total[2] = {0, 0};
  float readout[kQueryTile / 16][kColumns][4] = {};

  int step = -1;
  for (int64_t tile = first; tile < end; ++tile) {
    float score[2][4] = {};
    // Before the first chunk comes a step that only asks for it.
    STM_ROLLED
    for (int chunk = step < 0 ? -1 : 0; chunk < stream.chunks; ++chunk, ++step) {
      if (step >= 0) {
        simt::wait_copies<0>();
        simt::sync_block();
      }
      const bool last = chunk + 1 == stream.chunks;
      fetch(last ? tile + 1 : tile, last ? 0 : chunk + 1, step + 1);
      if (step >= 0) stream.add(score, piece, step);
    }
    float best[2] = {kNothing, kNothing};
    const int64_t first_token = tile * kTokenTile;
    const int tokens = left_of(sizes.tokens, first_token, kTokenTile);
    STM_UNROLL
    for (int r = 0; r < 2; ++r) {
      STM_UNROLL
      for (int j = 0; j < 4; ++j) {
        float& x = score[j / 2][2 * r + j % 2];
        x = affine.score(affine.raw(x, offset[r]), first_token, piece.column(j / 2, j % 2), tokens);
        best[r] = x > best[r] ? x : best[r];
      }
      STM_UNROLL
      for (int mask = 1; mask <= 2; mask *= 2) {
        const float other = simt::shuffle_xor(best[r], mask);
        best[r] = other > best[r] ? other : best[r];
      }
      if (simt::lane() % 4 == 0) memory.best[piece.half * kQueryTile + piece.row(r)] = best[r];
    }
    simt::sync_block();

    bool risen = false;
    STM_UNROLL
    for (int r = 0; r < 2; ++r) {
      const int row = piece.row(r);
      const float other = memory.best[(1 - piece.half) * kQueryTile + row];
      best[r] = other > best[r] ? other : best[r];
      float decay = 1;
      if (best[r] > top[r] + kRescaleAt) {
        decay = simt::exp2(top[r] - best[r]);
        top[r] = best[r];
        risen = true;
      }
      const float level = top[r] == kNothing ? 0 : top[r];
      total[r] *= decay;
      STM_UNROLL
      for (int j = 0; j < 2; ++j) {
        const float left = simt::exp2(score[j][2 * r] - level), right = simt::exp2(score[j][2 * r + 1] - level);
        total[r] += left + right;
        put_pair(memory.weights + row * Memory::kValueStride + piece.column(j, 0), left, right);
      }
      if (piece.half == 0 && simt::lane() % 4 == 0) memory.decay[row] = decay;
    }
    if (simt::sync_block_or(risen)) {
      STM_UNROLL
      for (int m = 0; m < kQueryTile / 16; ++m) {
        const float decay[2] = {memory.decay[m * 16 + piece.lane_row], memory.decay[m * 16 + piece.lane_row + 8]};
        STM_UNROLL
        for (auto& column : readout[m]) {
          STM_UNROLL
          for (int i = 0; i < 4; ++i) column[i] *= decay[i / 2];
        }
      }
    }
    add_readout(readout, memory.weights,
                memory.value_stage(static_cast<int>((tile - first) % kStages)) + stripe * Memory::kValueStride);
  }

  STM_UNROLL
  for (int r = 0; r < 2; ++r) {
    STM_UNROLL
    for (int mask = 1; mask <= 2; mask *= 2) total[r] += simt::shuffle_xor(total[r], mask);
    if (simt::lane() % 4 == 0) {
      memory.total[piece.half * kQueryTile + piece.row(r)] = total[r];
      if (piece.half == 0) memory.best[piece.row(r)] = top[r];
    }
  }
  simt::sync_block();

  if (simt::block_y() == 0 && simt::thread() < kQueryTile && first_query + simt::thread() < sizes.queries) {
    const int row = simt::thread();
    const float level = memory.best[row] == kNothing ? 0 : memory.best[row];
    const float sum = memory.total[row] + memory.total[kQueryTile + row];
    const Vector& lse = arguments.lse;
    const int64_t place =
        part * arguments.lse_part_stride + batch * lse.batch_stride + (first_query + row) * lse.stride;
    lse.data[place] = (level + simt::log2(sum)) * kLn2;
  }
  float scale[kQueryTile / 8];
  STM_UNROLL
  for (int i = 0; i < kQueryTile / 8; ++i) {
    const int row = i * 8 + piece.lane_row;
    const float sum = memory.total[row] + memory.total[kQueryTile + row];
    scale[i] = sum == 0 ? 1 : 1 / sum;
  }
  const int queries = left_of(sizes.queries, first_query + piece.lane_row, kQueryTile);
  const auto put = [&]<class Out>() {
    const int64_t eight_queries = 8 * arguments.out.column_stride;
    const RowStrides strides = strides_of(arguments.out, static_cast<int>(sizes.value_channels), rows);
    const int first_channel = first_row + stripe + piece.lane_column;
    RowStrides::Place place = strides.at(first_channel);
    Out* const out = static_cast<Out*>(arguments.out.data) + part * arguments.out_part_stride +
                     batch * arguments.out.batch_stride + (first_query + piece.lane_row) * arguments.out.column_stride;
    STM_UNROLL
    for (int j = 0; j < 2 * kColumns; ++j) {
      Out* at = out + place.offset;
      STM_UNROLL
      for (int i = 0; i < kQueryTile / 8; ++i) {
        if (i * 8 < queries && first_channel + j / 2 * 8 + j % 2 < rows)
          *at = simt::narrow<Out>(readout[i / 2][j / 2][2 * (i % 2) + j % 2] * scale[i]);
        at += eight_queries;
      }
      strides.advance(place, j % 2 ? 7 : 1);
    }
  };
  if (arguments.out.dtype == kDtypeOf<Value>) {
    put.template operator()<Value>();
  } else {
    put.template operator()<float>();
  }
}

struct MergeArguments {
  // (batches, parts, rows, queries) and (batches, parts, queries), dense.
  const float* part_out = nullptr;
  const float* part_lse = nullptr;
  int parts = 1;
  Sizes sizes;
  ObjectMatrix out;
  Vector lse;
};

// Reads of disjoint parts of a memory become the read of the whole. A thread makes one number.
STM_KERNEL void merge_kernel(const MergeArguments arguments) {
  const Sizes& sizes = arguments.sizes;
  const int64_t query = static_cast<int64_t>(simt::block_x()) * kThreads + simt::thread();
  const int row = simt::block_y();
  const int64_t batch = simt::block_z();
  if (query >= sizes.queries) return;
  const float* part_lse = arguments.part_lse + batch * arguments.parts * sizes.queries + query;
  const float* part_out = arguments.part_out + (batch * arguments.parts * sizes.rows() + row) * sizes.queries + query;
  float top = kNothing;
  for (int part = 0; part < arguments.parts; ++part) {
    const float lse = part_lse[part * sizes.queries];
    top = lse > top || lse != lse ? lse : top;
  }
  const float level = top == kNothing ? 0 : top;
  float total = 0, readout = 0;
  for (int part = 0; part < arguments.parts; ++part) {
    const float weight = simt::exp2((part_lse[part * sizes.queries] - level) * kLog2E);
    total += weight;
    readout += weight * part_out[part * sizes.rows() * sizes.queries];
  }
  const ObjectMatrix& out = arguments.out;
  const RowStrides strides = strides_of(out, static_cast<int>(sizes.value_channels), static_cast<int>(sizes.rows()));
  store(out, batch * out.batch_stride + strides.at(row).offset + query * out.column_stride,
        readout / (total == 0 ? 1 : total));
  if (row == 0)
    arguments.lse.data[batch * arguments.lse.batch_stride + query * arguments.lse.stride] =
        level + simt::log2(total) * kLn2;
}

}  // namespace stm::cuda
