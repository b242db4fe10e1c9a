// The online softmax of a panel of queries.
#pragma once

#include "cpu/simd.h"

namespace stm {
inline namespace STM_ISA {

// Maximum and sum of the weights of a panel's queries.
struct Statistics {
  float maximum[kWidth];
  float total[kWidth];
};

inline void clear(Statistics& x) {
  for (int i = 0; i < kWidth; ++i) {
    x.maximum[i] = kLowest;
    x.total[i] = 0;
  }
}

// The highest of each query's scores in a tile.
STM_INLINE void find_highest(const float* tile, int64_t tokens, Floats* highest) {
  for (int v = 0; v < kVectors; ++v) highest[v] = load(tile + v * kLanes);
  for (int64_t j = 1; j < tokens; ++j) {
#pragma GCC unroll 3
    for (int v = 0; v < kVectors; ++v) highest[v] = maximum(highest[v], load(tile + j * kWidth + v * kLanes));
  }
}

enum class Change { kNothing, kWeights, kWeightsAndDecay };

// Turns a tile of scores into softmax weights, and says whether any counts and whether what was read so far decays.
inline Change weigh(float* tile, int64_t tokens, Statistics& statistics, Floats* decay) {
  Floats highest[kVectors], maximum_now[kVectors];
  find_highest(tile, tokens, highest);
  bool counts = false, moves = false;
  for (int v = 0; v < kVectors; ++v) {
    const Floats before = load(statistics.maximum + v * kLanes);
    maximum_now[v] = maximum(before, highest[v]);
    counts |= any(~(highest[v] - maximum_now[v] < broadcast(kNegligibleExponent)));
    moves |= any(~(maximum_now[v] <= before));
  }
  if (!counts) return Change::kNothing;
  Floats total[kVectors];
  for (int v = 0; v < kVectors; ++v) {
    decay[v] = exponential(load(statistics.maximum + v * kLanes) - maximum_now[v]);
    total[v] = load(statistics.total + v * kLanes) * decay[v];
    store(statistics.maximum + v * kLanes, maximum_now[v]);
  }
  for (int64_t j = 0; j < tokens; ++j) {
#pragma GCC unroll 3
    for (int v = 0; v < kVectors; ++v) {
      float* const scores = tile + j * kWidth + v * kLanes;
      const Floats weight = exponential(load(scores) - maximum_now[v]);
      total[v] += weight;
      store(scores, weight);
    }
  }
  for (int v = 0; v < kVectors; ++v) store(statistics.total + v * kLanes, total[v]);
  return moves ? Change::kWeightsAndDecay : Change::kWeights;
}

// Turns scores into weights where the log-sum-exp of a panel's queries is known. Places beyond the last query weigh
// nothing, whatever their scores.
class Normalizer {
 public:
  Normalizer() = default;
  Normalizer(const Vector& lse, int64_t first, int64_t count) {
    float values[kWidth];
    for (int64_t i = 0; i < kWidth; ++i) values[i] = i < count ? lse[first + i] : 0.0f;
    for (int64_t i = 0; i < kWidth; ++i) there_[i / kLanes][i % kLanes] = i < count ? -1 : 0;
    // Finite, so that a query that reads nothing has weights exp(-inf - finite) = 0.
    for (int v = 0; v < kVectors; ++v) lse_[v] = maximum(broadcast(kLowest), load(values + v * kLanes));
  }

  STM_INLINE Floats weight(Floats scores, int v) const {
    return select(there_[v], exponential(scores - lse_[v]), broadcast(0.0f));
  }

 private:
  Floats lse_[kVectors];
  Ints there_[kVectors];
};

// Adds a later split's readout of one panel to that of the earlier ones.
inline void merge_panel(Statistics& into, float* rows, const Statistics& other, const float* other_rows,
                        int64_t row_count) {
  Floats keep[kVectors], take[kVectors];
  for (int v = 0; v < kVectors; ++v) {
    const int64_t at = v * kLanes;
    const Floats a = load(into.maximum + at), b = load(other.maximum + at);
    const Floats highest = maximum(a, b);
    keep[v] = exponential(a - highest);
    take[v] = exponential(b - highest);
    store(into.maximum + at, highest);
    store(into.total + at, load(into.total + at) * keep[v] + load(other.total + at) * take[v]);
  }
  for (int64_t r = 0; r < row_count; ++r) {
#pragma GCC unroll 3
    for (int v = 0; v < kVectors; ++v) {
      const int64_t at = r * kWidth + v * kLanes;
      store(rows + at, load(rows + at) * keep[v] + load(other_rows + at) * take[v]);
    }
  }
}

}  // namespace STM_ISA
}  // namespace stm
