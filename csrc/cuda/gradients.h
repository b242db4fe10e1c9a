// Gradients of the dense read, and usage: all that a second pass over the scores, with lse, can make.
//
// A block owns 64 queries, or 64 tokens, and meets the others in tiles of 64, so that each number is summed by one
// block in one order. For a tile it computes scores; from them weights, or with products of grad_out and values
// gradients of scores; and multiplies these with the other side's keys, queries or grad_out. All of them pass in chunks
// of channels through one ring of stages in shared memory.
#pragma once

#include "cuda/gradient_stream.h"

namespace stm::cuda {

// From the products of a tile to weights or gradients of scores, and their sums.
template <class Policy>
struct ScorePass {
  using Memory = GradientMemory<Policy>;

  // What is known of a query, in units of log 2: weights are exp2(score - origin).
  struct QueryTerms {
    float offset, origin, delta;
  };

  const Affine& affine;
  const WarpTile<4> warp;
  const float* lse;
  const float* delta;
  int64_t own;
  QueryTerms own_query[2];
  float sum[2] = {}, gain_sum[2] = {};

  STM_DEVICE ScorePass(const GradientArguments& arguments, const Affine& of_batch, int64_t batch, int64_t first_own)
      : affine(of_batch), lse(arguments.lse + batch * of_batch.queries), own(first_own) {
    delta = Policy::kGradScores ? arguments.delta + batch * affine.queries : nullptr;
    if constexpr (Policy::kOwnsQueries) {
      const int queries = remaining(affine.queries, own, kGradientTile);
      STM_UNROLL
      for (int r = 0; r < 2; ++r) own_query[r] = terms_of(own, warp.row(r), queries);
    }
  }

  // Turns the scores of a tile of the other side into weights or gradients of scores, adds them to their sums, and
  // leaves them as operand in shared memory. `grad_weight` are the products of grad_out and values.
  STM_DEVICE void weigh_tile(float (&score)[4][4], const float (&grad_weight)[4][4], int64_t other,
                             typename Policy::Operand* operand) {
    const int64_t first_query = Policy::kOwnsQueries ? own : other, first_token = Policy::kOwnsQueries ? other : own;
    const int queries = remaining(affine.queries, first_query, kGradientTile);
    const int tokens = remaining(affine.tokens, first_token, kGradientTile);
    STM_UNROLL
    for (int j = 0; j < 16; ++j) {
      const int r = j / 2 % 2, column = warp.column(j / 4, j % 2);
      const int query = Policy::kOwnsQueries ? warp.row(r) : column;
      const int token = Policy::kOwnsQueries ? column : warp.row(r);
      float& x = score[j / 4][j % 4];
      const QueryTerms terms = Policy::kOwnsQueries ? own_query[r] : terms_of(first_query, query, queries);
      const float before_gain = affine.before_gain(x, terms.offset);
      x = query < queries ? simt::exp2(affine.score(before_gain, first_token, token, tokens) - terms.origin) : 0;
      if constexpr (Policy::kGradScores) x *= query < queries ? grad_weight[j / 4][j % 4] - terms.delta : 0;
      x = Policy::term(x, affine, first_token, token, tokens);
      if constexpr (Policy::kGainSums) gain_sum[r] += x * before_gain;
      if constexpr (Policy::kSums) sum[r] += x;
    }
    if constexpr (Policy::kChunks > 0) {
      STM_UNROLL
      for (int j = 0; j < 8; ++j)
        store_pair(operand + warp.row(j % 2) * Memory::kOperandStride + warp.column(j / 2, 0), score[j / 2][j % 2 * 2],
                   score[j / 2][j % 2 * 2 + 1]);
    }
  }

  // Stores the sums of the owned items.
  STM_DEVICE void store_sums(const GradientArguments& arguments, int64_t batch, int split, float* shared_sums) {
    STM_UNROLL
    for (int r = 0; r < 2; ++r) {
      STM_UNROLL
      for (int mask = 1; mask <= 2; mask *= 2) {
        sum[r] += simt::shuffle_xor(sum[r], mask);
        gain_sum[r] += simt::shuffle_xor(gain_sum[r], mask);
      }
      if (simt::lane() % 4 == 0) {
        shared_sums[warp.half * kGradientTile + warp.row(r)] = sum[r];
        shared_sums[(2 + warp.half) * kGradientTile + warp.row(r)] = gain_sum[r];
      }
    }
    simt::sync_block();
    const int64_t item = own + simt::thread();
    const int64_t items = Policy::kOwnsQueries ? affine.queries : affine.tokens;
    if (simt::block_y() != 0 || simt::thread() >= kGradientTile || item >= items) return;
    const float* from = shared_sums + simt::thread();
    const auto store = [&](const Vector& to, int64_t split_stride, float x) {
      if (to) to.data[split * split_stride + batch * to.batch_stride + item * to.stride] = x;
    };
    store(arguments.sums, arguments.sums_split_stride, from[0] + from[kGradientTile]);
    store(arguments.grad_gain, 0, (from[2 * kGradientTile] + from[3 * kGradientTile]) * kLn2);
  }

 private:
  STM_DEVICE QueryTerms terms_of(int64_t first_query, int index, int queries) const {
    if (index >= queries) return {};
    const int64_t query = first_query + index;
    const float offset = affine.offset ? affine.offset[query] * kLog2E : 0;
    return {offset, lse[query] != kMinusInfinity ? lse[query] * kLog2E : 0, Policy::kGradScores ? delta[query] : 0};
  }
};

// Adds the products of the two sides' channels of a chunk.
template <class T>
STM_DEVICE void add_pair(float (&sum)[4][4], const WarpTile<4>& warp, const char* chunk) {
  constexpr int kStride = stride_of<T>(kGradientTile);
  const T* const own = reinterpret_cast<const T*>(chunk);
  add_products(sum, warp, own, kStride, own + kChunkChannels<T> * kStride, kStride, kChunkChannels<T>);
}

// A warp's gradients: 16 owned items x half of the channels of each chunk.
template <class Policy>
struct GradientTile {
  using Operand = typename Policy::Operand;
  static constexpr int kBlocks = kChunkChannels<Operand> / 16;

  float sum[Policy::kChunks > 0 ? Policy::kChunks : 1][kBlocks][4] = {};

  // Adds the products of the operand with a chunk of the factor.
  STM_DEVICE void add(int chunk, const Operand* operand, const Operand* factor) {
    using Operands = Fragments<Operand>;
    constexpr int kStride = stride_of<Operand>(kGradientTile);
    const WarpTile<kBlocks> warp;
    STM_UNROLL
    for (int k = 0; k < kGradientTile; k += 16) {
      const auto a = Operands::a(operand + warp.band * kStride + k, kStride);
      STM_UNROLL
      for (int block = 0; block < kBlocks; block += 2) {
        typename Operands::B b[2];
        Operands::b(b, factor + (warp.first_column() + block * 8) * kStride + k, kStride);
        STM_UNROLL
        for (int j = 0; j < 2; ++j) Operands::multiply(sum[chunk][block + j], a, b[j]);
      }
    }
  }

  STM_DEVICE void store(const GradientArguments& arguments, const Affine& affine, int64_t batch, int split, int64_t own,
                        int first_channel, int per_object, int channels) const {
    const WarpTile<kBlocks> warp;
    const int64_t begin = split * arguments.out_split_stride + batch * arguments.out.batch_stride +
                          (own + warp.row(0)) * arguments.out.column_stride;
    const ChannelStrides strides = strides_of(arguments.out, per_object, channels);
    const int items =
        remaining(Policy::kOwnsQueries ? affine.queries : affine.tokens, own + warp.row(0), kGradientTile);
    float scale[2];
    STM_UNROLL
    for (int r = 0; r < 2; ++r)
      scale[r] = Policy::scale(arguments.scores.scale, affine, own + warp.row(r), r * 8 < items);
    const auto put = [&]<class Out>() {
      Out* const out = static_cast<Out*>(arguments.out.data) + begin;
      STM_UNROLL
      for (int chunk = 0; chunk < Policy::kChunks; ++chunk) {
        STM_UNROLL
        for (int j = 0; j < 2 * kBlocks; ++j) {
          const int channel = first_channel + chunk * kChunkChannels<Operand> + warp.column(j / 2, j % 2);
          if (channel >= channels) continue;
          Out* const at = out + strides.at(channel).offset;
          STM_UNROLL
          for (int r = 0; r < 2; ++r)
            if (r * 8 < items)
              at[r * 8 * arguments.out.column_stride] = simt::narrow<Out>(sum[chunk][j / 2][2 * r + j % 2] * scale[r]);
        }
      }
    };
    // Of the operand's dtype, or float32 if there are several splits; of any if the operand may have been widened.
    if constexpr (std::is_same_v<Operand, float>) {
      with_numbers_of(arguments.out.dtype, put);
    } else if (arguments.out.dtype == kDtypeOf<Operand>) {
      put.template operator()<Operand>();
    } else {
      put.template operator()<float>();
    }
  }
};

template <class Policy>
STM_KERNEL void gradient_kernel(const GradientArguments arguments) {
  using Operand = typename Policy::Operand;
  const Sizes& sizes = arguments.sizes;
  const int64_t own_items = Policy::kOwnsQueries ? sizes.queries : sizes.tokens;
  const int64_t other_items = Policy::kOwnsQueries ? sizes.tokens : sizes.queries;
  const int own_tiles = round_up(own_items, kGradientTile) / kGradientTile;
  const int64_t own = static_cast<int64_t>(simt::block_x() % own_tiles) * kGradientTile;
  const int split = simt::block_x() / own_tiles;
  const int first_channel = simt::block_y() * Policy::kChannels;
  const int64_t batch = simt::block_z();
  const TileRange tiles(other_items, kGradientTile, arguments.splits, split);

  const Affine affine(arguments.scores, sizes, batch);
  const GradientMemory<Policy> memory(simt::shared_memory());
  ScorePass<Policy> pass(arguments, affine, batch, own);
  GradientStream<Policy> stream(arguments, memory.ring, batch, own, tiles, first_channel);
  [[maybe_unused]] GradientTile<Policy> gradient;

  stream.begin();
  for (int64_t tile = tiles.begin; tile < tiles.end; ++tile) {
    float score[4][4] = {}, grad_weight[4][4] = {};
    STM_ROLLED
    for (int step = 0; step < stream.steps; ++step) {
      const char* const chunk = stream.next();
      if (step < stream.key_steps) {
        add_pair<typename Policy::Key>(score, pass.warp, chunk);
      } else if (step < stream.score_steps) {
        add_pair<typename Policy::Value>(grad_weight, pass.warp, chunk);
      }
      if (step + 1 == stream.score_steps) pass.weigh_tile(score, grad_weight, tile * kGradientTile, memory.operand);
      STM_UNROLL
      for (int factor_chunk = 0; factor_chunk < Policy::kChunks; ++factor_chunk)
        if (step == stream.score_steps + factor_chunk)
          gradient.add(factor_chunk, memory.operand, reinterpret_cast<const Operand*>(chunk));
    }
  }
  if constexpr (Policy::kSums) pass.store_sums(arguments, batch, split, memory.sums);
  if constexpr (Policy::kChunks > 0) {
    if (!arguments.out) return;
    const int channels = stream.factor.count;
    const int per_object = Policy::kTimesGradOut ? static_cast<int>(sizes.value_channels) : channels;
    gradient.store(arguments, affine, batch, split, own, first_channel, per_object, channels);
  }
}

}  // namespace stm::cuda
