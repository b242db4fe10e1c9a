// The online softmax of a panel of queries.
#pragma once

#include "cpu/simd.h"

namespace stm {
inline namespace STM_ISA {

// Running maximum of the scores, and sum of the weights relative to it, of each query of a panel.
struct SoftmaxState {
  float running_max[kWidth];
  float running_sum[kWidth];

  void clear() {
    for (int i = 0; i < kWidth; ++i) {
      running_max[i] = kLowest;
      running_sum[i] = 0;
    }
  }

  // Merges the state of other tokens into this one. What was read of the two then adds up to this one's times `scale`
  // plus the other's times `other_scale`.
  STM_INLINE void merge(const SoftmaxState& other, Floats* scale, Floats* other_scale) {
    for (int v = 0; v < kVectors; ++v) {
      const int64_t at = v * kLanes;
      const Floats a = load(running_max + at), b = load(other.running_max + at);
      const Floats merged_max = maximum(a, b);
      scale[v] = exponential(a - merged_max);
      other_scale[v] = exponential(b - merged_max);
      store(running_max + at, merged_max);
      store(running_sum + at, load(running_sum + at) * scale[v] + load(other.running_sum + at) * other_scale[v]);
    }
  }
};

// Finds the highest of each query's scores in a tile.
STM_INLINE void find_max(const float* tile, int64_t tokens, Floats* tile_max) {
  for (int v = 0; v < kVectors; ++v) tile_max[v] = load(tile + v * kLanes);
  for (int64_t j = 1; j < tokens; ++j) {
#pragma GCC unroll 3
    for (int v = 0; v < kVectors; ++v) tile_max[v] = maximum(tile_max[v], load(tile + j * kWidth + v * kLanes));
  }
}

// What a tile does to a readout: nothing, as all weights are negligible; it adds to it; or the readout is rescaled
// first.
enum class Effect { kNone, kAdd, kRescaleAndAdd };

// Turns a tile of scores into softmax weights and updates the state; `rescale` are the factors of earlier sums.
inline Effect exponentiate(float* tile, int64_t tokens, SoftmaxState& state, Floats* rescale) {
  Floats tile_max[kVectors], new_max[kVectors];
  find_max(tile, tokens, tile_max);
  bool counts = false, rises = false;
  for (int v = 0; v < kVectors; ++v) {
    const Floats old_max = load(state.running_max + v * kLanes);
    new_max[v] = maximum(old_max, tile_max[v]);
    counts |= any(~(tile_max[v] - new_max[v] < broadcast(kNegligibleExponent)));
    rises |= any(~(new_max[v] <= old_max));
  }
  if (!counts) return Effect::kNone;
  Floats sum[kVectors];
  for (int v = 0; v < kVectors; ++v) {
    rescale[v] = exponential(load(state.running_max + v * kLanes) - new_max[v]);
    sum[v] = load(state.running_sum + v * kLanes) * rescale[v];
    store(state.running_max + v * kLanes, new_max[v]);
  }
  for (int64_t j = 0; j < tokens; ++j) {
#pragma GCC unroll 3
    for (int v = 0; v < kVectors; ++v) {
      float* const scores = tile + j * kWidth + v * kLanes;
      const Floats weight = exponential(load(scores) - new_max[v]);
      sum[v] += weight;
      store(scores, weight);
    }
  }
  for (int v = 0; v < kVectors; ++v) store(state.running_sum + v * kLanes, sum[v]);
  return rises ? Effect::kRescaleAndAdd : Effect::kAdd;
}

// Turns scores into weights where the log-sum-exp of a panel's queries is known. Columns beyond the last query get
// weights of zero, whatever their scores.
class Normalizer {
 public:
  Normalizer() = default;
  Normalizer(const Vector& lse, int64_t first, int64_t count) {
    float values[kWidth];
    for (int64_t i = 0; i < kWidth; ++i) values[i] = i < count ? lse[first + i] : 0.0f;
    for (int64_t i = 0; i < kWidth; ++i) in_range_[i / kLanes][i % kLanes] = i < count ? -1 : 0;
    // Finite, so that a query that reads nothing has weights exp(-inf - finite) = 0.
    for (int v = 0; v < kVectors; ++v) lse_[v] = maximum(broadcast(kLowest), load(values + v * kLanes));
  }

  STM_INLINE Floats weight(Floats scores, int v) const {
    return select(in_range_[v], exponential(scores - lse_[v]), broadcast(0.0f));
  }

 private:
  Floats lse_[kVectors];
  Ints in_range_[kVectors];
};

}  // namespace STM_ISA
}  // namespace stm
