// What a second pass over the scores can make: gradients of queries, keys or values, or usage.
//
// A policy says which side of the scores a block owns, what the scores become (weights, or gradients of scores), and
// what those are multiplied with.
#pragma once

#include "cuda/scores.h"

namespace stm::cuda {

// Channels of a chunk in shared memory.
template <class T>
constexpr int kChunkChannels = 128 / static_cast<int>(sizeof(T));

// The defaults of the policies.
template <class KeyType, class ValueType>
struct GradientPolicy {
  using Key = KeyType;
  using Value = ValueType;
  // The block owns 64 queries, and meets the tokens; else the other way round.
  static constexpr bool kOwnsQueries = false;
  // Scores become gradients of scores, by products of grad_out and values; else weights.
  static constexpr bool kGradScores = false;
  // Sums of these over all that an owned item meets are wanted, or those of gradients of scores times what gain
  // multiplies.
  static constexpr bool kSums = false;
  static constexpr bool kGainSums = false;
  // They are multiplied with grad_out; else with the other side's keys or queries.
  static constexpr bool kTimesGradOut = false;

  // What is summed and multiplied, of a weight or a gradient of a score, for token `first + index`, which is one of
  // `count`.
  STM_DEVICE static float term(float x, const Affine&, int64_t, int, int) { return x; }
  // What the gradient of an owned item is multiplied with in the end.
  STM_DEVICE static float scale(float, const Affine&, int64_t, bool) { return 1; }
};

// Gradients of queries and offsets: sums over tokens of grad_scores times gain times key.
template <class KeyType, class ValueType>
struct QueryGradient : GradientPolicy<KeyType, ValueType> {
  // What is multiplied with, and the chunks of its channels whose gradients a block holds in registers.
  using Operand = KeyType;
  static constexpr int kChunks = 128 / kChunkChannels<Operand>;
  static constexpr int kChannels = kChunks * kChunkChannels<Operand>;
  static constexpr bool kOwnsQueries = true;
  static constexpr bool kGradScores = true;
  static constexpr bool kSums = true;

  STM_DEVICE static float term(float x, const Affine& affine, int64_t first, int index, int count) {
    return affine.gain && index < count ? x * affine.gain[first + index] : x;
  }
  STM_DEVICE static float scale(float of_scores, const Affine&, int64_t, bool) { return of_scores; }
};

// Gradients of keys, gains and biases: sums over queries of grad_scores times query.
template <class KeyType, class ValueType>
struct KeyGradient : GradientPolicy<KeyType, ValueType> {
  using Operand = KeyType;
  static constexpr int kChunks = 128 / kChunkChannels<Operand>;
  static constexpr int kChannels = kChunks * kChunkChannels<Operand>;
  static constexpr bool kGradScores = true;
  static constexpr bool kSums = true;
  static constexpr bool kGainSums = true;

  STM_DEVICE static float scale(float of_scores, const Affine& affine, int64_t token, bool inside) {
    return affine.gain && inside ? of_scores * affine.gain[token] : of_scores;
  }
};

// Gradients of values: sums over queries of weights times grad_out.
template <class KeyType, class ValueType>
struct ValueGradient : GradientPolicy<KeyType, ValueType> {
  using Operand = ValueType;
  static constexpr int kChunks = 8;
  static constexpr int kChannels = kChunks * kChunkChannels<Operand>;
  static constexpr bool kTimesGradOut = true;
};

// Usage: sums of weights over queries.
template <class KeyType>
struct UsageSum : GradientPolicy<KeyType, KeyType> {
  using Operand = KeyType;
  static constexpr int kChunks = 0;
  static constexpr int kChannels = 0;
  static constexpr bool kSums = true;
};

}  // namespace stm::cuda
