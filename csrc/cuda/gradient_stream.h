// What passes through shared memory in a second pass over the scores.
#pragma once

#include <type_traits>

#include "cuda/gradient_policies.h"

namespace stm::cuda {

struct GradientArguments {
  Sizes sizes;
  Scores scores;
  ObjectMatrix value;
  ObjectMatrix grad_out;
  // (batches, queries), dense, as delta is.
  const float* lse = nullptr;
  // Sum of grad_out times out over the value channels, minus grad_lse; for gradients of scores only.
  const float* delta = nullptr;
  // The gradients, of each split `out_split_stride` numbers apart; those of keys and queries as of one object.
  ObjectMatrix out;
  int64_t out_split_stride = 0;
  // Gradients of offset or bias, or usage; absent if not wanted.
  Vector sums;
  int64_t sums_split_stride = 0;
  Vector grad_gain;
  int splits = 1;
  CopyWidth query_width;
  CopyWidth key_width;
  CopyWidth value_width;
  CopyWidth grad_width;
};

// A block's shared memory: a ring of stages, weights or gradients of scores as operand, and their sums.
template <class Policy>
struct GradientMemory {
  using Key = typename Policy::Key;
  using Value = typename Policy::Value;
  using Operand = typename Policy::Operand;

  static constexpr int kStages = 3;
  static constexpr int kOperandStride = stride_of<Operand>(kGradientTile);
  // A chunk of both sides.
  template <class T>
  static constexpr int kPairBytes = 2 * kChunkChannels<T> * stride_of<T>(kGradientTile) * static_cast<int>(sizeof(T));
  static constexpr int kStageBytes = kPairBytes<Key> > kPairBytes<Value> ? kPairBytes<Key> : kPairBytes<Value>;
  static constexpr std::size_t kBytes =
      kStages * kStageBytes + kGradientTile * kOperandStride * sizeof(Operand) + 4 * kGradientTile * sizeof(float);

  char* ring;
  Operand* operand;
  // Of each owned item, from either half of a tile: its sum, then its sum for gain.
  float* sums;

  STM_DEVICE explicit GradientMemory(char* memory)
      : ring(memory),
        operand(reinterpret_cast<Operand*>(memory + kStages * kStageBytes)),
        sums(reinterpret_cast<float*>(operand + kGradientTile * kOperandStride)) {}
};

// The chunks of a tile, one step each: key channels of both sides; for gradients of scores value channels of both
// sides; then channels of the factor, which weights or gradients of scores are multiplied with.
template <class Policy>
struct GradientStream {
  using Key = typename Policy::Key;
  using Value = typename Policy::Value;
  using Operand = typename Policy::Operand;
  using Memory = GradientMemory<Policy>;

  Channels<Key> own_key, other_key;
  Channels<Value> own_value, other_value;
  Channels<Operand> factor;
  char* ring;
  int64_t own;
  int64_t end_tile;
  int first_channel;
  int key_steps, score_steps, steps;
  // The step that is fetched next, kStages - 1 ahead of the one that is computed.
  int64_t ahead_tile;
  int ahead_step = 0, ahead_stage = 0, stage = 0;

  STM_DEVICE GradientStream(const GradientArguments& arguments, char* memory, int64_t batch, int64_t first_own,
                            const TileRange& tiles, int first_channel_of_block)
      : own_key(key_channels(arguments, batch, Policy::kOwnsQueries)),
        other_key(key_channels(arguments, batch, !Policy::kOwnsQueries)),
        own_value(value_channels(arguments, batch, Policy::kOwnsQueries)),
        other_value(value_channels(arguments, batch, !Policy::kOwnsQueries)),
        factor(factor_of(other_key, other_value)),
        ring(memory),
        own(first_own),
        end_tile(tiles.end),
        first_channel(first_channel_of_block),
        key_steps(chunks_of<Key>(own_key.count)),
        score_steps(key_steps + (Policy::kGradScores ? chunks_of<Value>(own_value.count) : 0)),
        ahead_tile(tiles.begin) {
    const int left = chunks_of<Operand>(factor.count - first_channel);
    steps = score_steps + (left < Policy::kChunks ? left : Policy::kChunks);
  }

  // Asks for the first chunks.
  STM_DEVICE void begin() {
    STM_ROLLED
    for (int ahead = 1; ahead < Memory::kStages; ++ahead) prefetch();
  }

  // Waits for the next chunk and returns it, and asks for another.
  STM_DEVICE const char* next() {
    simt::wait_copies<Memory::kStages - 2>();
    simt::sync_block();
    prefetch();
    const char* const chunk = ring + stage * Memory::kStageBytes;
    stage = (stage + 1) % Memory::kStages;
    return chunk;
  }

 private:
  template <class T>
  STM_DEVICE static int chunks_of(int channels) {
    return round_up(channels, kChunkChannels<T>) / kChunkChannels<T>;
  }

  STM_DEVICE static Channels<Key> key_channels(const GradientArguments& a, int64_t batch, bool of_queries) {
    const int channels = static_cast<int>(a.sizes.key_channels);
    return of_queries ? channels_of<Key>(a.scores.query, batch, channels, a.sizes.queries, a.query_width)
                      : channels_of<Key>(a.scores.key, batch, channels, a.sizes.tokens, a.key_width);
  }

  STM_DEVICE static Channels<Value> value_channels(const GradientArguments& a, int64_t batch, bool of_queries) {
    const int per_object = static_cast<int>(a.sizes.value_channels),
              channels = static_cast<int>(a.sizes.total_value_channels());
    return of_queries ? channels_of<Value>(a.grad_out, batch, per_object, channels, a.sizes.queries, a.grad_width)
                      : channels_of<Value>(a.value, batch, per_object, channels, a.sizes.tokens, a.value_width);
  }

  STM_DEVICE static Channels<Operand> factor_of(const Channels<Key>& key, const Channels<Value>& value) {
    if constexpr (Policy::kTimesGradOut) {
      return value;
    } else {
      return key;
    }
  }

  template <class T>
  STM_DEVICE void load_pair(char* to, const Channels<T>& own_side, const Channels<T>& other_side, int step,
                            int64_t other) const {
    constexpr int kChannels = kChunkChannels<T>;
    T* const chunk = reinterpret_cast<T*>(to);
    load_tile<kGradientTile>(chunk, own_side, step * kChannels, kChannels, own);
    load_tile<kGradientTile>(chunk + kChannels * stride_of<T>(kGradientTile), other_side, step * kChannels, kChannels,
                             other);
  }

  STM_DEVICE void prefetch() {
    char* const to = ring + ahead_stage * Memory::kStageBytes;
    const int64_t other = ahead_tile * kGradientTile;
    if (ahead_tile < end_tile) {
      if (ahead_step < key_steps) {
        load_pair<Key>(to, own_key, other_key, ahead_step, other);
      } else if (ahead_step < score_steps) {
        load_pair<Value>(to, own_value, other_value, ahead_step - key_steps, other);
      } else {
        constexpr int kChannels = kChunkChannels<Operand>;
        load_tile<kGradientTile>(reinterpret_cast<Operand*>(to), factor,
                                 first_channel + (ahead_step - score_steps) * kChannels, kChannels, other);
      }
    }
    simt::commit_copies();
    ahead_stage = (ahead_stage + 1) % Memory::kStages;
    if (++ahead_step == steps) ahead_step = 0, ++ahead_tile;
  }
};

}  // namespace stm::cuda
