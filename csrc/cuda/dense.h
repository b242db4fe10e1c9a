// The dense read: a softmax over all tokens of a split of the memory, tile by tile.
//
// A block reads one split for 64 queries and all value channels, or a slice of 512 or fewer of them. Its eight warps
// divide the work in two ways: of the scores of a tile of 32 tokens each makes 16 queries x 16 tokens; of the readout
// each holds a stripe of value channels for all queries, in registers. Between the two the weights pass through shared
// memory.
#pragma once

#include "cuda/scores.h"
#include "cuda/tile.h"

namespace stm::cuda {

// The running maximum follows the scores, in base 2, once they exceed it by 8. Until then weights of up to 2^8 are as
// exact as those below one, and the readout need not be rescaled.
constexpr float kRescaleAt = 8;

struct DenseArguments {
  Sizes sizes;
  Scores scores;
  ObjectMatrix value;
  // Of each split, `out_split_stride` and `lse_split_stride` numbers apart; float32 if there are several splits.
  ObjectMatrix out;
  Vector lse;
  int64_t out_split_stride = 0;
  int64_t lse_split_stride = 0;
  int splits = 1;
  // Channels of a chunk of keys, a multiple of 16.
  int depth = 0;
  CopyWidth query_width;
  CopyWidth key_width;
  CopyWidth value_width;
};

// A block's shared memory behind that of its ScoreStream.
template <class Key, class Value, int kValueChannels>
struct DenseMemory {
  Value* value;
  Value* weights;
  // Maxima and sums of weights of each query, over either half of a tile's tokens.
  float* half_max;
  float* half_sum;
  float* rescale;

  static constexpr int kValueStride = stride_of<Value>(kTokenTile);

  static constexpr std::size_t bytes(int channels, int depth) {
    return ScoreStream<Key>::bytes(channels, depth) +
           sizeof(Value) * kValueStride * (kValueStages * kValueChannels + kQueryTile) + sizeof(float) * 5 * kQueryTile;
  }

  STM_DEVICE explicit DenseMemory(char* memory) {
    value = reinterpret_cast<Value*>(memory);
    weights = value + kValueStages * kValueChannels * kValueStride;
    half_max = reinterpret_cast<float*>(weights + kQueryTile * kValueStride);
    half_sum = half_max + 2 * kQueryTile;
    rescale = half_sum + 2 * kQueryTile;
  }

  STM_DEVICE Value* value_stage(int64_t step) const {
    return value + static_cast<int>(step % kValueStages) * kValueChannels * kValueStride;
  }

  // The softmax of a query, once both halves have left what they know of it.
  STM_DEVICE SoftmaxState softmax_of(int query) const {
    return {half_max[query], half_sum[query] + half_sum[kQueryTile + query]};
  }
};

// A warp's scores of a tile, and what its lanes know of the softmax of their two queries. Sums are over the lane's own
// tokens; maxima are those of all tokens.
struct TileSoftmax {
  const Affine& affine;
  const WarpTile<2> warp;
  float offset[2];
  SoftmaxState state[2];

  STM_DEVICE TileSoftmax(const Affine& of_batch, int64_t first_query)
      : affine(of_batch),
        offset{of_batch.offset_of(first_query + warp.row(0)), of_batch.offset_of(first_query + warp.row(1))} {}

  // Makes scores of the products of a tile, and leaves their maxima over this half of its tokens in shared memory.
  STM_DEVICE void score_tile(float (&score)[2][4], float (&tile_max)[2], int64_t tile, float* half_max) const {
    const int64_t first_token = tile * kTokenTile;
    const int tokens = remaining(affine.tokens, first_token, kTokenTile);
    STM_UNROLL
    for (int r = 0; r < 2; ++r) {
      tile_max[r] = kMinusInfinity;
      STM_UNROLL
      for (int j = 0; j < 4; ++j) {
        float& x = score[j / 2][2 * r + j % 2];
        x = affine.score(affine.before_gain(x, offset[r]), first_token, warp.column(j / 2, j % 2), tokens);
        tile_max[r] = x > tile_max[r] ? x : tile_max[r];
      }
      STM_UNROLL
      for (int mask = 1; mask <= 2; mask *= 2) {
        const float other = simt::shuffle_xor(tile_max[r], mask);
        tile_max[r] = other > tile_max[r] ? other : tile_max[r];
      }
      if (simt::lane() % 4 == 0) half_max[warp.half * kQueryTile + warp.row(r)] = tile_max[r];
    }
  }

  // Leaves the weights of a tile in shared memory, and what readouts are to be multiplied by before they are added to.
  // Returns whether any is not 1.
  template <class Memory>
  STM_DEVICE bool weigh_tile(const float (&score)[2][4], float (&tile_max)[2], const Memory& memory) {
    bool rescales = false;
    STM_UNROLL
    for (int r = 0; r < 2; ++r) {
      const int query = warp.row(r);
      const float other = memory.half_max[(1 - warp.half) * kQueryTile + query];
      tile_max[r] = other > tile_max[r] ? other : tile_max[r];
      float rescale = 1;
      if (tile_max[r] > state[r].running_max + kRescaleAt) {
        rescale = simt::exp2(state[r].running_max - tile_max[r]);
        state[r].running_max = tile_max[r];
        rescales = true;
      }
      const float origin = state[r].origin();
      state[r].running_sum *= rescale;
      STM_UNROLL
      for (int j = 0; j < 2; ++j) {
        const float left = simt::exp2(score[j][2 * r] - origin), right = simt::exp2(score[j][2 * r + 1] - origin);
        state[r].running_sum += left + right;
        store_pair(memory.weights + query * Memory::kValueStride + warp.column(j, 0), left, right);
      }
      if (warp.half == 0 && simt::lane() % 4 == 0) memory.rescale[query] = rescale;
    }
    return rescales;
  }

  // Leaves the softmax of each query in shared memory.
  template <class Memory>
  STM_DEVICE void finish(const Memory& memory) {
    STM_UNROLL
    for (int r = 0; r < 2; ++r) {
      STM_UNROLL
      for (int mask = 1; mask <= 2; mask *= 2) state[r].running_sum += simt::shuffle_xor(state[r].running_sum, mask);
      if (simt::lane() % 4 == 0) {
        memory.half_sum[warp.half * kQueryTile + warp.row(r)] = state[r].running_sum;
        if (warp.half == 0) memory.half_max[warp.row(r)] = state[r].running_max;
      }
    }
  }
};

// A warp's readout: 64 queries x its stripe of kBlocks blocks of 8 value channels.
template <class Value, int kBlocks>
struct StripeReadout {
  float sum[kQueryTile / 16][kBlocks][4] = {};

  STM_DEVICE void rescale(const float* by_query, int lane_row) {
    STM_UNROLL
    for (int m = 0; m < kQueryTile / 16; ++m) {
      const float factor[2] = {by_query[m * 16 + lane_row], by_query[m * 16 + lane_row + 8]};
      STM_UNROLL
      for (auto& block : sum[m]) {
        STM_UNROLL
        for (int i = 0; i < 4; ++i) block[i] *= factor[i / 2];
      }
    }
  }

  // Adds weights times values.
  STM_DEVICE void add(const Value* weights, const Value* values) {
    using Operands = Fragments<Value>;
    constexpr int kStride = stride_of<Value>(kTokenTile);
    STM_UNROLL
    for (int k = 0; k < kTokenTile; k += 16) {
      typename Operands::A a[kQueryTile / 16];
      STM_UNROLL
      for (int m = 0; m < kQueryTile / 16; ++m) a[m] = Operands::a(weights + m * 16 * kStride + k, kStride);
      STM_UNROLL
      for (int block = 0; block < kBlocks; block += 2) {
        typename Operands::B b[2];
        Operands::b(b, values + block * 8 * kStride + k, kStride);
        STM_UNROLL
        for (int m = 0; m < kQueryTile / 16; ++m) {
          STM_UNROLL
          for (int j = 0; j < 2; ++j) Operands::multiply(sum[m][block + j], a[m], b[j]);
        }
      }
    }
  }

  // Stores the sums times `scale` from the lane's first query on, of which there are `queries` left. `out` points to
  // that query in channel 0; the lane's channels begin at `first_channel`, of `channels`.
  template <class Out>
  STM_DEVICE void store(Out* out, const float (&scale)[kQueryTile / 8], int queries, int64_t query_stride,
                        const ChannelStrides& strides, int first_channel, int channels) const {
    const int64_t eight_queries = 8 * query_stride;
    ChannelStrides::Position position = strides.at(first_channel);
    STM_UNROLL
    for (int j = 0; j < 2 * kBlocks; ++j) {
      Out* at = out + position.offset;
      STM_UNROLL
      for (int i = 0; i < kQueryTile / 8; ++i) {
        if (i * 8 < queries && first_channel + j / 2 * 8 + j % 2 < channels)
          *at = simt::narrow<Out>(sum[i / 2][j / 2][2 * (i % 2) + j % 2] * scale[i]);
        at += eight_queries;
      }
      strides.advance(position, j % 2 ? 7 : 1);
    }
  }
};

template <class Key, class Value, int kValueChannels>
STM_KERNEL void dense_kernel(const DenseArguments arguments) {
  using Memory = DenseMemory<Key, Value, kValueChannels>;
  constexpr int kStripe = kValueChannels / kWarps;
  static_assert(kStripe % 16 == 0);

  const Sizes& sizes = arguments.sizes;
  const int query_tiles = round_up(sizes.queries, kQueryTile) / kQueryTile;
  const int64_t first_query = static_cast<int64_t>(simt::block_x() % query_tiles) * kQueryTile;
  const int split = simt::block_x() / query_tiles;
  const int slice = simt::block_y() * kValueChannels, stripe = simt::warp() * kStripe;
  const int64_t batch = simt::block_z();
  const TileRange tiles(sizes.tokens, kTokenTile, arguments.splits, split);
  const int per_object = static_cast<int>(sizes.value_channels),
            channels = static_cast<int>(sizes.total_value_channels());

  const Affine affine(arguments.scores, sizes, batch);
  ScoreStream<Key> stream(simt::shared_memory(), arguments.scores, sizes, batch, first_query, arguments.depth,
                          arguments.query_width, arguments.key_width);
  const Memory memory(stream.end());
  const auto value =
      channels_of<Value>(arguments.value, batch, per_object, channels, sizes.tokens, arguments.value_width);
  TileSoftmax softmax(affine, first_query);
  StripeReadout<Value, kStripe / 8> readout;

  for (int64_t tile = tiles.begin; tile < tiles.end; ++tile) {
    float score[2][4] = {}, tile_max[2];
    stream.add_tile(score, softmax.warp, tile, tiles.end, [&](int64_t next) {
      load_tile<kTokenTile>(memory.value_stage(next - tiles.begin), value, slice, kValueChannels, next * kTokenTile);
    });
    softmax.score_tile(score, tile_max, tile, memory.half_max);
    simt::sync_block();
    const bool rescales = softmax.weigh_tile(score, tile_max, memory);
    if (simt::sync_block_or(rescales)) readout.rescale(memory.rescale, softmax.warp.lane_row);
    readout.add(memory.weights, memory.value_stage(tile - tiles.begin) + stripe * Memory::kValueStride);
  }
  softmax.finish(memory);
  simt::sync_block();

  if (simt::block_y() == 0 && simt::thread() < kQueryTile && first_query + simt::thread() < sizes.queries) {
    const Vector& lse = arguments.lse;
    lse.data[split * arguments.lse_split_stride + batch * lse.batch_stride +
             (first_query + simt::thread()) * lse.stride] = memory.softmax_of(simt::thread()).lse();
  }
  const int lane_row = softmax.warp.lane_row;
  float scale[kQueryTile / 8];
  STM_UNROLL
  for (int i = 0; i < kQueryTile / 8; ++i) scale[i] = memory.softmax_of(i * 8 + lane_row).normalizer();
  const auto store = [&]<class Out>() {
    Out* const out = static_cast<Out*>(arguments.out.data) + split * arguments.out_split_stride +
                     batch * arguments.out.batch_stride + (first_query + lane_row) * arguments.out.column_stride;
    readout.store(out, scale, remaining(sizes.queries, first_query + lane_row, kQueryTile), arguments.out.column_stride,
                  strides_of(arguments.out, per_object, channels), slice + stripe + softmax.warp.lane_column, channels);
  };
  if (arguments.out.dtype == kDtypeOf<Value>) {
    store.template operator()<Value>();
  } else {
    store.template operator()<float>();
  }
}

}  // namespace stm::cuda
