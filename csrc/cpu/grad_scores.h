// Gradients of a tile of scores, [token][query]: of the tile's tokens and one panel of queries.
#pragma once

#include "cpu/softmax.h"

namespace stm {
inline namespace STM_ISA {

// What the gradients need of a panel of queries.
struct PanelStatistics {
  Normalizer normalizer;
  Floats delta[kVectors];

  // `lse` has a number for each query of a batch, and so has `batch_delta`.
  PanelStatistics(const Vector& lse, const float* batch_delta, int64_t first, int64_t count)
      : normalizer(lse, first, count) {
    float values[kWidth] = {};
    for (int64_t i = 0; i < count; ++i) values[i] = batch_delta[first + i];
    for (int v = 0; v < kVectors; ++v) delta[v] = load(values + v * kLanes);
  }
};

// Turns scores into weights; false if the weights are zero and so are all gradients. Where a delta is not finite, an
// operand is not, and its gradients are not zero.
inline bool recompute_weights(const PanelStatistics& panel, int64_t tokens, float* tile) {
  Ints counts = {};
  for (int v = 0; v < kVectors; ++v) counts |= ~(panel.delta[v] - panel.delta[v] == broadcast(0.0f));
  for (int64_t j = 0; j < tokens; ++j) {
#pragma GCC unroll 3
    for (int v = 0; v < kVectors; ++v) {
      float* const at = tile + j * kWidth + v * kLanes;
      const Floats weight = panel.normalizer.weight(load(at), v);
      counts |= ~(weight == broadcast(0.0f));
      store(at, weight);
    }
  }
  return any(counts);
}

// grads = weights * (grads - delta): turns gradients of weights into gradients of scores.
inline void through_softmax(const PanelStatistics& panel, const float* weights, int64_t tokens, float* grads) {
  for (int64_t j = 0; j < tokens; ++j) {
#pragma GCC unroll 3
    for (int v = 0; v < kVectors; ++v) {
      const int64_t at = j * kWidth + v * kLanes;
      store(grads + at, load(weights + at) * (load(grads + at) - panel.delta[v]));
    }
  }
}

// Multiplies each token's row by its factor.
inline void scale_rows(const float* factors, int64_t tokens, float* tile) {
  for (int64_t j = 0; j < tokens; ++j) {
    for (int v = 0; v < kVectors; ++v) {
      float* const at = tile + j * kWidth + v * kLanes;
      store(at, load(at) * broadcast(factors[j]));
    }
  }
}

// Adds to each token's pair of sums those over queries of x and of x * offset.
inline void add_row_sums(const float* tile, const float* offsets, int64_t tokens, float* sums) {
  for (int64_t j = 0; j < tokens; ++j) {
    Floats plain = broadcast(0.0f), weighted = broadcast(0.0f);
    for (int v = 0; v < kVectors; ++v) {
      const Floats x = load(tile + j * kWidth + v * kLanes);
      plain += x;
      weighted += x * load(offsets + v * kLanes);
    }
    sums[2 * j] += sum(plain);
    sums[2 * j + 1] += sum(weighted);
  }
}

// Adds to each query's sum that over tokens.
inline void add_column_sums(const float* tile, int64_t tokens, float* sums) {
  for (int v = 0; v < kVectors; ++v) {
    Floats total = load(sums + v * kLanes);
    for (int64_t j = 0; j < tokens; ++j) total += load(tile + j * kWidth + v * kLanes);
    store(sums + v * kLanes, total);
  }
}

}  // namespace STM_ISA
}  // namespace stm
